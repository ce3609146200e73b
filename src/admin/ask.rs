//! What routes are asked with: of what of a service, and where something is to be done, the body and by whom.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::access::Peer;
use super::api::{State, read};
use super::problem::Problem;

/// What of a service a route may be about.
pub trait Subject: Sized + Send {
    /// That of the service of this name, or a problem that says what there is.
    fn find(state: &State, service: &str) -> Result<Self, Problem>;
}

/// Of a look: that of the service which the path names.
pub struct Of<S>(pub S);

/// Of an order, and of a look that costs something: for those only who may write.
pub struct Asked<S, A> {
    pub of: S,
    pub ask: A,
    /// As the journal names him.
    pub by: String,
}

/// The body where there is nothing to say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<S: Subject> FromRequestParts<Arc<State>> for Of<S> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Of<S>, Response> {
        let service = Path::<String>::from_request_parts(parts, state).await;
        let Path(service) = service.map_err(IntoResponse::into_response)?;
        S::find(state, &service).map(Of).map_err(IntoResponse::into_response)
    }
}

/// Who asks is told first that there is no such thing, then that it is not said well, then that he may not.
impl<S: Subject, A: DeserializeOwned + Default> FromRequest<Arc<State>> for Asked<S, A> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Asked<S, A>, Response> {
        let (mut parts, body) = request.into_parts();
        let Of(of) = Of::from_request_parts(&mut parts, state).await?;
        let peer = ConnectInfo::<Peer>::from_request_parts(&mut parts, state).await;
        let ConnectInfo(peer) = peer.map_err(IntoResponse::into_response)?;
        let by = state.writer(&peer, &parts.headers);
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await;
        let ask = read(&body.map_err(IntoResponse::into_response)?).map_err(IntoResponse::into_response)?;
        Ok(Asked { of, ask, by: by.map_err(IntoResponse::into_response)? })
    }
}
