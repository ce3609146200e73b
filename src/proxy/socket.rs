//! A client's socket under hyper: tells the pulse when bytes come, watches that the client takes what it asked for, and
//! holds back the answers hyper makes itself.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio_rustls::server::TlsStream;

use super::arrival::Arrival;
use super::loss::Loss;
use super::meter::Meter;
use super::pulse::Pulse;
use super::refusal::Refusal;
use super::stall::Stall;

/// First hands out the bytes that were read ahead, then those of the stream.
pub struct Watched<S> {
    stream: S,
    ahead: Vec<u8>,
    pulse: Arc<Pulse>,
    /// The runtime may not have been told of the socket.
    is_unheard: bool,
    /// Runs while the client takes nothing of what is written.
    stall: Stall,
    /// On HTTP/2, where what comes is not always a request's head, and hyper makes no answers.
    meter: Option<Meter>,
    refusal: Option<Refusal>,
}

impl<S: Socketed> Watched<S> {
    /// An HTTP/1.1 connection's socket.
    pub fn http1(mut stream: S, ahead: Vec<u8>, pulse: Arc<Pulse>, stall: Stall) -> Watched<S> {
        let is_unheard = stream.socket().is_unheard();
        Watched { stream, ahead, pulse, is_unheard, stall, meter: None, refusal: None }
    }
}

impl<S> Watched<S> {
    /// An HTTP/2 connection's.
    pub fn http2(stream: S, ahead: Vec<u8>, pulse: Arc<Pulse>, stall: Stall, meter: Meter) -> Watched<S> {
        Watched { stream, ahead, pulse, is_unheard: false, stall, meter: Some(meter), refusal: None }
    }

    /// The stream, and why the connection ended where hyper could not read a head: what to tell the client is ours.
    pub fn into_parts(self) -> (S, Option<Refusal>) {
        (self.stream, self.refusal)
    }

    fn failed(&self, error: io::Error) -> io::Error {
        if let Some(loss) = Loss::of(&error) {
            self.pulse.loses(loss);
        }
        error
    }

    fn went(&mut self, bytes: &[u8]) {
        if self.meter.as_mut().is_none_or(|meter| meter.went(bytes)) {
            self.pulse.went();
        }
    }

    /// Whether the client takes what is written, and for how long it has not.
    fn taken<T>(&mut self, written: Poll<io::Result<T>>, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.pulse.set_blocked(written.is_pending());
        match written {
            Poll::Pending => {
                ready!(self.stall.poll(cx));
                self.pulse.loses(Loss::SlowReader);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(error))),
            written => {
                self.stall.moved(bytes as u64);
                written
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.meter.is_some() && self.pulse.has_had_its_turn() {
            // Not before the runtime has heard what else has come.
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        if self.ahead.is_empty() {
            if self.is_unheard && self.pulse.stays_deaf() {
                return Poll::Pending;
            }
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf)).map_err(|error| self.failed(error))?;
        } else {
            let take = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..take]);
            match take == self.ahead.len() {
                true => self.ahead = Vec::new(),
                false => drop(self.ahead.drain(..take)),
            }
        }
        let came = &buf.filled()[before..];
        let Watched { meter, pulse, .. } = &mut *self;
        match meter {
            Some(meter) => {
                pulse.takes(came.len());
                if let Err(loss) = meter.came(came, pulse.accepted()) {
                    pulse.loses(loss);
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                pulse.set_in_block(meter.is_in_head());
            }
            None => pulse.came(came),
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socketed + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.meter.is_none()
            && self.pulse.owes_nothing()
            && let Some(refusal) = hypers_own(buf)
        {
            self.refusal = Some(refusal);
            return Poll::Ready(Ok(buf.len()));
        }
        let is_last = self.pulse.ends_with_this();
        let stream = Pin::new(&mut self.stream);
        let written = if is_last { stream.poll_write_last(cx, buf) } else { stream.poll_write(cx, buf) };
        let bytes = if let Poll::Ready(Ok(bytes)) = written { bytes } else { 0 };
        let written = ready!(self.taken(written, bytes, cx))?;
        self.went(&buf[..written]);
        if written == buf.len() {
            self.pulse.owes_no_more();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.taken(flushed, 0, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Our own words are still to be said on it, or another request to be heard.
        if self.refusal.is_some() || self.pulse.is_parking() {
            return Poll::Ready(Ok(()));
        }
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.taken(ended, 0, cx)
    }
}

/// A stream over a client's socket.
pub trait Socketed: AsyncWrite {
    fn socket(&mut self) -> &mut Arrival;

    /// Writes what the end of the connection comes right behind.
    fn poll_write_last(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, buf)
    }
}

impl Socketed for Arrival {
    fn socket(&mut self) -> &mut Arrival {
        self
    }

    fn poll_write_last(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_last(cx, buf)
    }
}

impl Socketed for TlsStream<Arrival> {
    fn socket(&mut self) -> &mut Arrival {
        self.get_mut().0
    }
}

/// What hyper writes when it cannot read a head: a bare status that closes. A backend's answer may look the same, but
/// then it is one that is owed. Of a head that is read before the answer in front of it has gone out whole it is not seen.
fn hypers_own(written: &[u8]) -> Option<Refusal> {
    let code = written.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    let line = written.iter().position(|byte| *byte == b'\n')?;
    if !written[line + 1..].starts_with(b"connection: close\r\ncontent-length: 0\r\n") {
        return None;
    }
    Some(match code {
        b"14" => Refusal::TargetTooLong,
        b"31" => Refusal::HeadTooLarge,
        _ => Refusal::BadRequest("the head cannot be read"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::metrics::ConnectionSheet;
    use crate::proxy::meter::PREFACE;
    use crate::proxy::watch::{self, Connection};

    /// Reads all there is, and notes how much it had when it had to wait.
    struct Reader {
        socket: Watched<&'static [u8]>,
        read: usize,
        waits: Vec<usize>,
    }

    impl Future for Reader {
        type Output = hyper::Result<()>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
            loop {
                let mut piece = [0; 1024];
                let mut buf = ReadBuf::new(&mut piece);
                let read = Pin::new(&mut self.socket).poll_read(cx, &mut buf);
                match (read, buf.filled().len()) {
                    (Poll::Ready(read), 0) => return Poll::Ready(read.map_err(|error| panic!("{error}"))),
                    (Poll::Ready(_), bytes) => self.read += bytes,
                    (Poll::Pending, _) => {
                        let read = self.read;
                        self.waits.push(read);
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    impl Connection for Reader {
        fn leave(self: Pin<&mut Self>) {}
    }

    #[tokio::test]
    async fn who_sends_without_end_has_his_turn_and_then_others_have_theirs() {
        let data = [0, 0xff, 0xff, 0, 0, 0, 0, 0, 1].into_iter().chain(std::iter::repeat_n(0, 0xffff));
        let all = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat().into_iter().chain(data).collect::<Vec<u8>>();
        let (pulse, stall) = (Arc::new(Pulse::default()), Stall::new(Duration::from_secs(1), 0));
        let meter = Meter::new(10, 1, Arc::new(ConnectionSheet::new(0)));
        let socket = Watched::http2(&*all.leak(), Vec::new(), pulse.clone(), stall, meter);
        let mut reader = Reader { socket, read: 0, waits: Vec::new() };
        watch::finish(&mut reader, &pulse).await;
        assert_eq!((reader.read, &*reader.waits), (24 + 9 + 9 + 0xffff, &[16, 32, 48, 64].map(|kib| kib * 1024)[..]));
    }

    #[test]
    fn only_hypers_own_answers_are_held_back() {
        let own =
            |status: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n");
        let reason = |text: &str| hypers_own(text.as_bytes()).map(Refusal::reason);
        assert_eq!(reason(&own("400 Bad Request")), Some("bad-request"));
        assert_eq!(reason(&own("414 URI Too Long")), Some("target-too-long"));
        assert_eq!(reason(&own("431 Request Header Fields Too Large")), Some("head-too-large"));
        assert_eq!(reason("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), None);
        assert_eq!(reason(&own("200 OK")), None);
        assert_eq!(reason(""), None);
    }
}
