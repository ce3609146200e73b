//! What the fake answers: XML, and errors in the two forms there are.

use axum::body::Body;
use axum::response::Response;

use crate::harness::reception::Turned;

/// An error, as Amazon words it.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub status: u16,
    pub code: String,
    pub messages: Vec<String>,
}

impl Wrong {
    pub fn new(status: u16, code: &str, message: &str) -> Wrong {
        Wrong { status, code: code.to_owned(), messages: vec![message.to_owned()] }
    }

    pub fn batch(messages: Vec<String>) -> Wrong {
        Wrong { status: 400, code: "InvalidChangeBatch".to_owned(), messages }
    }

    pub fn input(message: &str) -> Wrong {
        Wrong::new(400, "InvalidInput", message)
    }

    pub fn response(self, older_form: bool) -> Response {
        let Wrong { status, code, messages } = self;
        let is_batch = code == "InvalidChangeBatch";
        let text = if is_batch && older_form {
            let all: String = messages.iter().map(|text| element("Message", text)).collect();
            format!("<InvalidChangeBatch {NAMESPACE}><Messages>{all}</Messages></InvalidChangeBatch>")
        } else {
            let all = messages.join(", ");
            let message = element("Message", &if is_batch { format!("[{all}]") } else { all });
            let kind = if status < 500 { "Sender" } else { "Receiver" };
            format!(
                "<ErrorResponse {NAMESPACE}><Error><Type>{kind}</Type>{}{message}</Error>\
                 <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>",
                element("Code", &code)
            )
        };
        respond(status, text)
    }
}

impl From<Turned> for Wrong {
    fn from(turned: Turned) -> Wrong {
        Wrong::new(turned.status, &turned.code, &turned.message)
    }
}

pub fn xml(text: String) -> Response {
    respond(200, text)
}

/// `<name>text</name>`.
pub fn element(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<{name}>{text}</{name}>")
}

fn respond(status: u16, text: String) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}");
    Response::builder().status(status).header("content-type", "text/xml").body(Body::from(body)).unwrap()
}

pub const NAMESPACE: &str = "xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"";
