//! Errors as RFC 9457 problem documents: a type for programs, a title and a detail for people.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::reload::ReloadError;
use crate::cutover::Denied;
use crate::dns;
use crate::stack;

/// One problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:cutover:problem:` and a word.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// More that programs may want, such as the cutover that holds the service.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub fn wrong_method(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub fn too_large(most: usize) -> Problem {
        let detail = format!("the body is larger than the {most} bytes allowed (`body` under [admin.limits])");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    pub fn slow() -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body took too long (`idle` under [admin.timeouts])")
    }

    /// A cutover that has ended otherwise than it was meant to, or could not be done.
    pub fn failed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "failed", detail)
    }

    /// With what it is for.
    pub fn because(self, reasons: Vec<String>) -> Problem {
        let detail = format!("{}: {}", self.detail, reasons.join("; "));
        Problem { detail, ..self }.with(json!({ "reasons": reasons }))
    }

    /// With the fields of this too.
    pub fn with(mut self, more: impl Serialize) -> Problem {
        if let Ok(Value::Object(more)) = serde_json::to_value(more) {
            self.more.extend(more);
        }
        self
    }

    fn new(status: StatusCode, word: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("{PREFIX}{word}"),
            title: status.canonical_reason().unwrap_or(word).to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            more: Map::new(),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Problem {
        let detail = denied.to_string();
        match denied {
            Denied::Held(cutover) => {
                let switched = !cutover.comes_to_its_switch();
                let more = json!({
                    "holder": cutover.by, "since": cutover.started, "cutover": cutover.id, "switched": switched,
                });
                Problem::new(StatusCode::CONFLICT, "held", detail).with(more)
            }
            Denied::Left { live, since, .. } => {
                let more = json!({ "live": live, "since": since });
                Problem::new(StatusCode::CONFLICT, "back-already", detail).with(more)
            }
            Denied::BackAlready(cutover) => {
                let more = json!({ "live": cutover.live(), "since": cutover.ended, "cutover": cutover.id });
                Problem::new(StatusCode::CONFLICT, "back-already", detail).with(more)
            }
            Denied::Unhealthy { reasons, .. } => Problem::failed(detail).with(json!({ "reasons": reasons })),
            Denied::Stuck(cutover) => Problem::failed(detail).with(json!({ "reasons": cutover.evidence.reasons })),
            Denied::NothingToAbort | Denied::NothingToApprove(_) | Denied::TooLate(_) | Denied::LiveAlready(_) => {
                Problem::failed(detail)
            }
            Denied::TakenBack { .. } => Problem::failed(detail),
            Denied::NotBegun(_) | Denied::Crowded(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-begun", detail)
            }
            Denied::Journal(_) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "journal", detail),
            Denied::Gone => Problem::not_found(detail),
            Denied::Stopping => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail),
        }
    }
}

impl From<dns::Denied> for Problem {
    fn from(denied: dns::Denied) -> Problem {
        let detail = denied.to_string();
        match denied {
            dns::Denied::NoProxy(_) => Problem::bad_request(detail),
            dns::Denied::Moving(_) => Problem::failed(detail),
            dns::Denied::Journal(_) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "journal", detail),
            dns::Denied::Zone(_) => Problem::new(StatusCode::BAD_GATEWAY, "zone", detail),
            dns::Denied::Gone => Problem::not_found(detail),
        }
    }
}

impl From<stack::Denied> for Problem {
    fn from(denied: stack::Denied) -> Problem {
        let detail = denied.to_string();
        match denied {
            stack::Denied::Held(order) => {
                let more = json!({ "holder": order.by, "since": order.started, "order": order.id });
                Problem::new(StatusCode::CONFLICT, "held", detail).with(more)
            }
            stack::Denied::Barred { obstacles, .. } => Problem::failed(detail).with(json!({ "obstacles": obstacles })),
            stack::Denied::NoStack { .. } | stack::Denied::Ended | stack::Denied::NotOfGroups(..) => {
                Problem::bad_request(detail)
            }
            stack::Denied::NothingToAbort => Problem::failed(detail),
            stack::Denied::Journal(_) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "journal", detail),
            stack::Denied::Provider(_) => Problem::new(StatusCode::BAD_GATEWAY, "provider", detail),
            stack::Denied::Gone => Problem::not_found(detail),
        }
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Problem {
        let detail = format!("{error}; nothing has changed");
        match error {
            ReloadError::Config(report) => {
                let detail = format!("the config is not right, and nothing has changed\n\n{report}");
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "config", detail).with(json!({ "report": report }))
            }
            ReloadError::Denied { service, denied } => {
                let remedy = match &denied {
                    Denied::Held(cutover) => {
                        let end = if cutover.comes_to_its_switch() { "abort" } else { "rollback" };
                        format!("; reload again once it is over, or undo it with `cutover {end} {service}`")
                    }
                    _ => String::new(),
                };
                Problem { detail: detail + &remedy, ..Problem::from(denied) }.with(json!({ "service": service }))
            }
            ReloadError::Stopping => Problem::from(Denied::Stopping),
            ReloadError::Bereft { .. }
            | ReloadError::Listen(_)
            | ReloadError::Tls(_)
            | ReloadError::AccessLog(_)
            | ReloadError::Token(_)
            | ReloadError::NoFile => Problem::failed(detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

const PREFIX: &str = "urn:cutover:problem:";
/// The type of the problem that another cutover holds the service.
pub const HELD: &str = "urn:cutover:problem:held";
/// The type of the problem that somebody else was quicker to go back.
pub const BACK_ALREADY: &str = "urn:cutover:problem:back-already";
/// The type of the problem that the config file is not right.
pub const BAD_CONFIG: &str = "urn:cutover:problem:config";
