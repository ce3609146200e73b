//! Every answer the proxy makes itself: one enum, turned into a response in one place.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use super::body::Answer;

/// Why a request got no answer from a backend. The order is that of the `reason` cells in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request cannot be told apart from another one, or breaks a rule safety hangs on; the text says which.
    BadRequest(&'static str),
    UnknownHost,
    SlowHead,
    SlowBody,
    BodyTooLarge,
    TargetTooLong,
    Misdirected,
    HeadTooLarge,
    NotImplemented(&'static str),
    /// The backend's answer breaks HTTP, or ended before its head did.
    BadAnswer,
    ConnectFailed,
    NoEndpoint,
    /// Both colors were closed while the request looked for one.
    NoColor,
    ConnectTimeout,
    FirstByteTimeout,
    /// The client left in the middle of its request; this is for the figures only.
    ClientGone,
    /// There are as many HTTP/2 requests as there may be.
    Overloaded,
    /// The invitation to a preview has expired, is forged, or leads to a color that is closed.
    PreviewOver,
}

impl Refusal {
    /// Every reason, in the order of [`Refusal::number`].
    pub const REASONS: [&str; 18] = [
        "bad-request",
        "unknown-host",
        "slow-head",
        "slow-body",
        "body-too-large",
        "target-too-long",
        "misdirected",
        "head-too-large",
        "not-implemented",
        "bad-answer",
        "connect-failed",
        "no-endpoint",
        "no-color",
        "connect-timeout",
        "first-byte-timeout",
        "client-gone",
        "overloaded",
        "preview-over",
    ];

    pub fn reason(self) -> &'static str {
        Refusal::REASONS[self.number()]
    }

    pub fn number(self) -> usize {
        self.row().0
    }

    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// The response, marked as the proxy's own. It closes the connection where the request was not understood.
    pub fn response(self) -> Response<Answer> {
        let (_, status, _) = self.row();
        let mut response = Response::new(Answer::own(Bytes::from(self.text())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(MARK, HeaderValue::from_static(self.reason()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same as bytes, for a connection on which no request was ever read whole.
    pub fn bytes(self) -> String {
        let (_, status, _) = self.row();
        let text = self.text();
        format!(
            "HTTP/1.1 {status}\r\n{MARK}: {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            self.reason(),
            text.len(),
        )
    }

    /// One line for people.
    pub fn text(self) -> String {
        let (_, status, says) = self.row();
        let detail = match self {
            Refusal::BadRequest(detail) | Refusal::NotImplemented(detail) => format!(": {detail}"),
            _ => String::new(),
        };
        format!("{} {}: {says}{detail}\n", status.as_u16(), self.reason())
    }

    fn closes(self) -> bool {
        use Refusal::*;
        match self {
            // Where a request was not understood, what follows it may be part of it.
            BadRequest(_) | NotImplemented(_) => true,
            SlowHead | SlowBody | BodyTooLarge | TargetTooLong | HeadTooLarge | ClientGone => true,
            _ => false,
        }
    }

    fn row(self) -> (usize, StatusCode, &'static str) {
        match self {
            Refusal::BadRequest(_) => (0, StatusCode::BAD_REQUEST, "the request is ambiguous or malformed"),
            Refusal::UnknownHost => (1, StatusCode::NOT_FOUND, "no service answers for this host and path"),
            Refusal::SlowHead => (2, StatusCode::REQUEST_TIMEOUT, "the request's head took too long"),
            Refusal::SlowBody => (3, StatusCode::REQUEST_TIMEOUT, "the request's body paused for too long"),
            Refusal::BodyTooLarge => (4, StatusCode::PAYLOAD_TOO_LARGE, "the request's body is larger than allowed"),
            Refusal::TargetTooLong => (5, StatusCode::URI_TOO_LONG, "the request's target is longer than allowed"),
            Refusal::Misdirected => {
                (6, StatusCode::MISDIRECTED_REQUEST, "this connection was opened under another certificate's name")
            }
            Refusal::HeadTooLarge => {
                (7, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is larger than allowed")
            }
            Refusal::NotImplemented(_) => (8, StatusCode::NOT_IMPLEMENTED, "this proxy does not do that"),
            Refusal::BadAnswer => (9, StatusCode::BAD_GATEWAY, "the backend's answer was broken or cut short"),
            Refusal::ConnectFailed => (10, StatusCode::BAD_GATEWAY, "no backend could be connected to"),
            Refusal::NoEndpoint => (11, StatusCode::SERVICE_UNAVAILABLE, "the live color has no healthy endpoint"),
            Refusal::NoColor => (12, StatusCode::SERVICE_UNAVAILABLE, "no color is open"),
            Refusal::ConnectTimeout => (13, StatusCode::GATEWAY_TIMEOUT, "connecting to the backend took too long"),
            Refusal::FirstByteTimeout => (14, StatusCode::GATEWAY_TIMEOUT, "the backend did not answer in time"),
            Refusal::ClientGone => (15, client_gone(), "the client left before its request was whole"),
            Refusal::Overloaded => (16, StatusCode::SERVICE_UNAVAILABLE, "there are too many requests at this time"),
            Refusal::PreviewOver => (
                17,
                StatusCode::FORBIDDEN,
                "this preview is over, or never was: ask for another link (cutover preview)",
            ),
        }
    }
}

/// What a request counts as whose client left before there was an answer: a fault of the client's, class 4xx. nginx has
/// made the number known.
pub fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The field every answer of the proxy's own carries, and no other.
pub const MARK: &str = "cutover-error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_our_own_says_what_it_is() {
        let response = Refusal::BadRequest("two Host fields").response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["cutover-error"], "bad-request");
        assert_eq!(response.headers()["connection"], "close");
        assert!(Refusal::NoEndpoint.response().headers().get("connection").is_none());
        assert!(Refusal::SlowHead.bytes().starts_with("HTTP/1.1 408 Request Timeout\r\ncutover-error: slow-head\r\n"));
    }
}
