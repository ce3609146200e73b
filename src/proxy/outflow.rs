//! A request on its way onto a connection to a backend: its head, then its body, each piece as it comes.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::body::Fault;
use super::headers::Framing;
use super::upload::Upload;

/// What has still to be written: `out`, then `piece`. Small pieces are copied, so that they go with what is before them.
pub struct Outflow {
    out: Vec<u8>,
    written: usize,
    piece: Bytes,
    upload: Option<Box<Upload>>,
    framing: Framing,
    /// The piece is a chunk, and its last line goes behind it.
    in_chunk: bool,
    /// Nothing follows what is held.
    is_last: bool,
    /// How often something has been written.
    writes: u64,
}

/// Why a request was not sent whole.
#[derive(Debug)]
pub enum Unsent {
    /// The client's side.
    Upload(Fault),
    /// The backend's.
    Socket,
}

impl Outflow {
    /// `out` begins with the head.
    pub fn new(out: Vec<u8>, upload: Option<Box<Upload>>, framing: Framing) -> Outflow {
        let is_last = upload.is_none() || matches!(framing, Framing::None | Framing::Length(0));
        Outflow { out, written: 0, piece: Bytes::new(), upload, framing, in_chunk: false, is_last, writes: 0 }
    }

    /// Nothing has been written: another connection may be tried.
    pub fn is_whole(&self) -> bool {
        self.writes == 0
    }

    /// Grows as long as something is written.
    pub fn moved(&self) -> u64 {
        self.writes
    }

    /// Writes on; ready when everything has been handed to the socket.
    pub fn poll<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut S) -> Poll<Result<(), Unsent>> {
        loop {
            let more = self.gather(cx)?;
            ready!(self.flush(cx, socket)).map_err(|_| Unsent::Socket)?;
            match more {
                Poll::Ready(()) if self.is_last => return Poll::Ready(Ok(())),
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes of the body what is there, as long as there is room. Pending: it is the client's turn.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Unsent> {
        while !self.is_last && self.piece.is_empty() && self.out.len() < ROOM {
            let Some(upload) = &mut self.upload else { break };
            match Pin::new(&mut **upload).poll_frame(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(Ok(frame))) => self.add(frame),
                Poll::Ready(Some(Err(fault))) => return Err(Unsent::Upload(fault)),
                Poll::Ready(None) => self.end(None),
            }
        }
        Ok(Poll::Ready(()))
    }

    fn flush<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut S) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let wrote = ready!(Pin::new(&mut *socket).poll_write(cx, &self.out[self.written..]))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote;
            self.writes += 1;
        }
        while !self.piece.is_empty() {
            let wrote = ready!(Pin::new(&mut *socket).poll_write(cx, &self.piece))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(self.piece.split_to(wrote));
            self.writes += 1;
        }
        self.out.clear();
        self.written = 0;
        // With what comes next, and by itself where that has to be waited for: whoever reads by chunks waits for its end.
        if std::mem::take(&mut self.in_chunk) {
            self.out.extend_from_slice(b"\r\n");
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return,
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok()),
        };
        let (is_chunk, is_small) = (self.framing == Framing::Chunked, data.len() <= SMALL);
        if is_chunk {
            // Writing to a Vec cannot fail.
            let _ = write!(self.out, "{:x}\r\n", data.len());
        }
        if is_small {
            self.out.extend_from_slice(&data);
        } else {
            self.piece = data;
        }
        if is_chunk && is_small {
            self.out.extend_from_slice(b"\r\n");
        }
        self.in_chunk = is_chunk && !is_small;
        self.is_last = !is_chunk && self.upload.as_ref().is_none_or(|upload| upload.is_end_stream());
    }

    fn end(&mut self, trailers: Option<HeaderMap>) {
        self.is_last = true;
        if self.framing != Framing::Chunked {
            return;
        }
        self.out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.iter().flatten() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                self.out.extend_from_slice(part);
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The largest piece worth copying to save a call.
const SMALL: usize = 4 * 1024;
/// So much is collected for one call.
const ROOM: usize = 16 * 1024;
