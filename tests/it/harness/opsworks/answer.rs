//! What the double answers: JSON 1.1, and errors in the form of that protocol.

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};

use crate::harness::reception::Turned;

/// An error, as Amazon words it.
#[derive(Clone, Debug)]
pub struct Wrong {
    status: u16,
    pub code: String,
    message: String,
}

impl Wrong {
    pub fn invalid(message: impl Into<String>) -> Wrong {
        Wrong::new("ValidationException", message)
    }

    pub fn missing(message: impl Into<String>) -> Wrong {
        Wrong::new("ResourceNotFoundException", message)
    }

    /// `stack`, `layer`, `app`, `instance`, `deployment`.
    pub fn no(kind: &str, id: &str) -> Wrong {
        Wrong::missing(format!("Unable to find {kind} with ID {id}"))
    }

    pub fn new(code: &str, message: impl Into<String>) -> Wrong {
        Wrong { status: 400, code: code.to_owned(), message: message.into() }
    }

    pub fn response(self) -> Response {
        let Wrong { status, code, message } = self;
        respond(status, json!({ "__type": code, "message": message }).to_string())
    }
}

impl From<Turned> for Wrong {
    fn from(turned: Turned) -> Wrong {
        Wrong { status: turned.status, code: turned.code, message: turned.message }
    }
}

/// `Null`: the operation answers with an empty body.
pub fn answer(value: Value) -> Response {
    respond(200, if value.is_null() { String::new() } else { value.to_string() })
}

fn respond(status: u16, text: String) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Body::from(text))
        .unwrap()
}
