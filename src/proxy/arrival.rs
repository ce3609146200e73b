//! A client's connection as it arrives: the runtime is told of it only once it has to be waited for.
//!
//! Whoever asks one thing and leaves is most often never waited for, where he has spoken before he is let in: to tell the
//! runtime of him and have it forget him again would be two system calls and a wake-up.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream as StdStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A listening socket, and who arrives by it.
pub struct Entrance(AsyncFd<TcpListener>);

impl Entrance {
    /// Of a socket that does not block.
    #[expect(deprecated, reason = "safe code may name another descriptor from call to call; std's listener does not")]
    pub fn new(socket: TcpListener) -> io::Result<Entrance> {
        AsyncFd::with_interest(socket, Interest::READABLE).map(Entrance)
    }

    pub async fn accept(&self) -> io::Result<(Arrival, SocketAddr)> {
        self.0.async_io(Interest::READABLE, accept).await
    }

    /// Who has arrived by now, as far as the runtime has heard.
    pub fn accept_now(&self) -> Option<io::Result<(Arrival, SocketAddr)>> {
        unless_it_would_block(self.0.try_io(Interest::READABLE, accept))
    }

    /// Shuts it once everybody is in whom the system has let in. It is asked itself, as the runtime may not have heard of
    /// the last of them.
    pub fn shut(self, mut receive: impl FnMut(Arrival, SocketAddr)) {
        let socket = self.0.into_inner();
        while let Ok((arrival, peer)) = accept(&socket) {
            receive(arrival, peer);
        }
    }
}

#[cfg(test)]
impl Entrance {
    /// One for a test, and where it is.
    pub fn somewhere() -> (Entrance, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (Entrance::new(socket).unwrap(), address)
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

fn accept(socket: &TcpListener) -> io::Result<(Arrival, SocketAddr)> {
    let (arrived, peer) = rustix::net::acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.ok_or(io::ErrorKind::AddrNotAvailable)?.try_into()?;
    Ok((Arrival { known: Known::ToSystem(Some(arrived.into())), was_read: false }, peer))
}

/// A client's socket.
pub struct Arrival {
    known: Known,
    /// It has been tried whether something has come already.
    was_read: bool,
}

enum Known {
    /// Nothing where the runtime could not be told of it.
    ToSystem(Option<StdStream>),
    ToRuntime(TcpStream),
}

impl Arrival {
    /// Whether nobody would be woken for what comes on it.
    pub fn is_unheard(&self) -> bool {
        matches!(self.known, Known::ToSystem(_))
    }

    /// The socket, which the runtime is told of from now on.
    pub fn heard(&mut self) -> io::Result<&mut TcpStream> {
        if let Known::ToSystem(socket) = &mut self.known {
            let socket = socket.take().ok_or(io::ErrorKind::NotConnected)?;
            self.known = Known::ToRuntime(TcpStream::from_std(socket)?);
        }
        match &mut self.known {
            Known::ToRuntime(stream) => Ok(stream),
            Known::ToSystem(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// For its options; nothing where the runtime could not be told of it.
    pub fn options(&self) -> Option<SockRef<'_>> {
        match &self.known {
            Known::ToSystem(socket) => socket.as_ref().map(SockRef::from),
            Known::ToRuntime(stream) => Some(SockRef::from(stream)),
        }
    }

    fn unheard(&self) -> Option<&StdStream> {
        match &self.known {
            Known::ToSystem(socket) => socket.as_ref(),
            Known::ToRuntime(_) => None,
        }
    }

    /// Writes what the end of the connection comes right behind: both go in one packet, and the client acknowledges them
    /// with one.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.write_now(|socket| send(socket, buf, SendFlags::MORE)) {
            return Poll::Ready(written);
        }
        let stream = self.heard()?;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let sent = stream.try_io(Interest::WRITABLE, || send(&*stream, buf, SendFlags::MORE));
            if let Some(written) = unless_it_would_block(sent) {
                return Poll::Ready(written);
            }
        }
    }

    /// Whether something has come that has not been read. To close on that would reset the connection, and take from the
    /// client what he has not read yet.
    pub fn has_unread(&self) -> bool {
        let peeked = self.options().map(|socket| socket.peek(&mut [MaybeUninit::uninit()]));
        peeked.is_some_and(|peeked| peeked.is_ok_and(|bytes| bytes > 0))
    }

    /// Reads what has come. Nothing has, or the runtime knows of the socket: it is to be waited for.
    fn read_now(&self, buf: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let read = rustix::net::recv(self.unheard()?, buf.initialize_unfilled(), RecvFlags::empty());
        unless_it_would_block(read.map(|(read, _)| buf.advance(read)).map_err(io::Error::from))
    }

    /// Writes what there is room for. There is none, or the runtime knows of the socket: it is to be waited for.
    fn write_now(&self, write: impl FnOnce(&StdStream) -> io::Result<usize>) -> Option<io::Result<usize>> {
        unless_it_would_block(write(self.unheard()?))
    }
}

impl AsyncRead for Arrival {
    /// The first time what has come by now is taken at once: under load most have spoken before they are let in.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.was_read, true)
            && let Some(read) = self.read_now(buf)
        {
            return Poll::Ready(read);
        }
        Pin::new(self.heard()?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Arrival {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.write_now(|socket| send(socket, buf, SendFlags::empty())) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(self.heard()?).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A last word, such as a TLS alert, is said once: the runtime, just told, would not know yet that it can be.
        match self.write_now(|mut socket| socket.write_vectored(bufs)) {
            Some(written) => Poll::Ready(written),
            None => Pin::new(self.heard()?).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket holds nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.unheard() {
            Some(socket) => Poll::Ready(socket.shutdown(Shutdown::Write)),
            None => Pin::new(self.heard()?).poll_shutdown(cx),
        }
    }
}

fn send(socket: impl AsFd, buf: &[u8], flags: SendFlags) -> io::Result<usize> {
    Ok(rustix::net::send(socket, buf, flags | SendFlags::NOSIGNAL)?)
}

fn unless_it_would_block<T>(done: io::Result<T>) -> Option<io::Result<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        done => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_has_spoken_and_takes_his_answer_is_served_without_the_runtime() {
        let (entrance, address) = Entrance::somewhere();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"a question").await.unwrap();
        let (mut arrival, peer) = entrance.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(arrival.read(&mut [0; 64]).await.unwrap(), "a question".len());
        std::future::poll_fn(|cx| arrival.poll_write_last(cx, b"an answer")).await.unwrap();
        arrival.shutdown().await.unwrap();
        assert!(arrival.is_unheard());
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "an answer");
    }

    #[tokio::test]
    async fn who_has_to_be_waited_for_is_heard() {
        let (entrance, address) = Entrance::somewhere();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut arrival, _) = entrance.accept().await.unwrap();
        let mut first = [0; 64];
        let (read, wrote) = tokio::join!(arrival.read(&mut first), client.write_all(b"late"));
        assert_eq!((read.unwrap(), wrote.is_ok(), arrival.is_unheard()), (4, true, false));
        // More than any socket takes at once.
        let long = vec![b'x'; 16 << 20];
        let mut back = vec![0; long.len()];
        let (wrote, read) = tokio::join!(arrival.write_all(&long), client.read_exact(&mut back));
        assert_eq!((wrote.is_ok(), read.unwrap(), back), (true, long.len(), long));
    }

    #[tokio::test]
    async fn whoever_takes_nothing_is_waited_for_too() {
        let (entrance, address) = Entrance::somewhere();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut arrival, _) = entrance.accept().await.unwrap();
        let long = vec![b'x'; 16 << 20];
        let mut back = Vec::new();
        let wrote = async {
            let mut left = &long[..];
            while !left.is_empty() {
                let sent = std::future::poll_fn(|cx| arrival.poll_write_last(cx, left)).await.unwrap();
                left = &left[sent..];
            }
            arrival.shutdown().await
        };
        let (wrote, read) = tokio::join!(wrote, client.read_to_end(&mut back));
        assert_eq!((wrote.is_ok(), read.unwrap(), arrival.is_unheard()), (true, long.len(), false));
    }

    #[tokio::test]
    async fn whoever_is_in_the_queue_when_it_is_shut_is_let_in() {
        let (entrance, address) = Entrance::somewhere();
        assert!(entrance.accept_now().is_none());
        let _clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut came = 0;
        entrance.shut(|_, _| came += 1);
        assert_eq!(came, 2);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
