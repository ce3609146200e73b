//! A sighting: which color a worker would admit a request to, told to the proxy itself where it asks through its listeners.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde::{Deserialize, Serialize};

use super::body::Answer;
use crate::names::{Color, ServiceName};

/// What a worker sees of a service, by the table it reads and the turnstile it would step through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub worker: usize,
    /// Of the table.
    pub version: u64,
    pub service: ServiceName,
    pub color: Color,
    /// How many times the service has been switched.
    pub generation: u64,
}

impl Sighting {
    pub fn response(&self) -> Response<Answer> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let mut response = Response::new(Answer::own(Bytes::from(text)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
