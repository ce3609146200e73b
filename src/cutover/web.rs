//! The client that webhooks are called with: HTTP/1.1 or, against the system's certificates, HTTPS.

use std::error::Error;
use std::fmt::Write;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;

/// Made for one question: a cutover asks seldom, and certificates may have changed since.
pub struct Web;

impl Web {
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let answer = if request.uri().scheme_str() == Some("https") {
            let connector = HttpsConnectorBuilder::new().with_tls_config(trust().await?).https_only().enable_http1();
            client(connector.build()).request(request).await
        } else {
            client(HttpConnector::new()).request(request).await
        };
        answer.map_err(|error| in_words(&error))
    }
}

fn client<C: Connect + Clone + Send + Sync + 'static>(connector: C) -> Client<C, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
}

/// The system's certificates are files: they are not read on a thread that others wait for.
async fn trust() -> Result<ClientConfig, String> {
    let read = tokio::task::spawn_blocking(|| {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
        let roots = builder.map_err(|error| error.to_string())?.with_native_roots();
        let config = roots.map_err(|error| format!("the system's certificates cannot be read: {error}"))?;
        Ok(config.with_no_client_auth())
    });
    read.await.map_err(|error| error.to_string())?
}

/// The whole chain: the outermost error only says that there was one.
fn in_words(error: &dyn Error) -> String {
    let mut text = String::from("it cannot be asked");
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
