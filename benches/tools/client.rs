//! A client on one kept connection that never sends a request twice, and reads answers with as little work as it can.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Client<S> {
    stream: S,
    request: Vec<u8>,
    read: Vec<u8>,
}

/// What an answer's head said; its body has been read and counted.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// The value of `X-Stack`.
    pub stack: String,
    /// It said `Connection: close`.
    pub closes: bool,
    length: usize,
}

impl Client<TcpStream> {
    pub async fn connect(address: SocketAddr, path: &str) -> io::Result<Client<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client::over(stream, path, ""))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// `fields` are whole lines.
    pub fn over(stream: S, path: &str, fields: &str) -> Client<S> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes();
        Client { stream, request, read: Vec::with_capacity(READ) }
    }

    /// Sends the request and reads the whole answer, which has a Content-Length.
    pub async fn ask(&mut self) -> io::Result<Answer> {
        self.stream.write_all(&self.request).await?;
        self.read.clear();
        let end = loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer's head"));
            }
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let answer = Answer::parse(&self.read[..end])?;
        while self.read.len() < end + answer.length {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed inside the answer's body"));
            }
        }
        if self.read.len() > end + answer.length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more came than the answer"));
        }
        Ok(answer)
    }
}

impl Answer {
    fn parse(head: &[u8]) -> io::Result<Answer> {
        let unread = || io::Error::new(io::ErrorKind::InvalidData, "the answer's head cannot be read");
        let head = str::from_utf8(head).map_err(|_| unread())?;
        let status = head.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(unread)?;
        let mut answer = Answer { status, ..Answer::default() };
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("content-length") {
                answer.length = value.parse().map_err(|_| unread())?;
            } else if name.eq_ignore_ascii_case("x-stack") {
                answer.stack = value.to_owned();
            } else if name.eq_ignore_ascii_case("connection") {
                answer.closes = value.eq_ignore_ascii_case("close");
            }
        }
        Ok(answer)
    }
}

const READ: usize = 4096;
