//! Message bodies as stories and backends write them: empty, whole, generated, or fed piece by piece.

use std::io;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

type Piece = io::Result<Frame<Bytes>>;

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Sent with a `Content-Length`.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Sent chunked, unless the head says otherwise.
pub fn streamed(pieces: impl Stream<Item = Piece> + Send + 'static) -> Body {
    StreamBody::new(pieces).boxed_unsync()
}

/// `length` zeros made as they are asked for; `each` hears the size of every piece taken.
pub fn zeros(length: u64, mut each: impl FnMut(u64) + Send + 'static) -> Body {
    static BLOCK: [u8; 64 << 10] = [0; 64 << 10];
    let mut left = length;
    let next = std::iter::from_fn(move || {
        let size = left.min(BLOCK.len() as u64);
        left -= size;
        each(size);
        (size > 0).then(|| Ok(Frame::data(Bytes::from_static(&BLOCK[..size as usize]))))
    });
    streamed(stream::iter(next))
}

/// A body whose pieces come from the story; it ends when the feed is dropped.
pub fn fed() -> (Feed, Body) {
    let (feed, mut pieces) = mpsc::channel(1);
    (Feed(feed), streamed(stream::poll_fn(move |cx| pieces.poll_recv(cx))))
}

pub struct Feed(mpsc::Sender<Piece>);

impl Feed {
    /// Says whether anyone still takes it.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    pub async fn trailers(self, fields: &[(&str, &str)]) {
        let _ = self.0.send(Ok(Frame::trailers(headers(fields)))).await;
    }

    /// Breaks the body off, so that whoever reads it must see that it is not whole.
    pub async fn fail(self) {
        let _ = self.0.send(Err(io::Error::other("broken off on purpose"))).await;
    }

    /// Resolves when the last piece was taken; hyper then has nothing to wait for and writes it.
    pub async fn taken(&self) {
        let _ = self.0.reserve().await;
    }

    /// Resolves when nobody reads the body any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

pub fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let parse = |text: &str| HeaderName::from_bytes(text.as_bytes()).unwrap();
    fields.iter().map(|(name, value)| (parse(name), HeaderValue::from_str(value).unwrap())).collect()
}
