//! A client of bytes: writes them as they are, reads what comes back, and knows when an answer was cut.

use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Address, within};

pub struct Raw {
    socket: TcpStream,
    /// Read, but not yet asked for.
    ahead: Vec<u8>,
}

impl Raw {
    pub async fn connect(address: impl Address) -> Raw {
        let socket = within("a connection", TcpStream::connect(address.address())).await.unwrap();
        Raw { socket, ahead: Vec::new() }
    }

    /// One that begins with these bytes.
    pub async fn saying(address: impl Address, bytes: impl AsRef<[u8]>) -> Raw {
        let mut raw = Raw::connect(address).await;
        raw.write(bytes).await;
        raw
    }

    /// From now on nothing reaches it, and it answers nothing: as if its cable were cut. Its end does not know either.
    pub fn vanish(&self) {
        let nothing = SockFilter::new(BPF_RETURN, 0, 0, 0);
        SockRef::from(&self.socket).attach_filter(&[nothing]).unwrap();
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within("the other side to take the bytes", self.socket.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Whether the other side still took it.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("the other side to take the bytes", self.socket.write_all(bytes.as_ref())).await.is_ok()
    }

    /// One head, up to and with its empty line; an interim answer's head is one too.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.ahead.split_off(end + 4);
                return String::from_utf8(std::mem::replace(&mut self.ahead, rest)).unwrap();
            }
            assert!(
                self.more().await,
                "the connection ended inside a head: {:?}",
                self.ahead.escape_ascii().to_string()
            );
        }
    }

    /// One final answer to a request that was not HEAD.
    pub async fn answer(&mut self) -> RawAnswer {
        let mut head = self.head().await;
        while head.starts_with("HTTP/1.1 1") {
            head = self.head().await;
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.split("\r\n").next());
        let status: u16 = head[9..12].parse().unwrap();
        let (body, complete) = if matches!(status, 204 | 304) {
            (Vec::new(), true)
        } else if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
            self.chunked().await
        } else if let Some(length) = length {
            self.bytes(length.trim().parse().unwrap()).await
        } else {
            (self.until_closed().await, true)
        };
        RawAnswer { status, head, body, complete }
    }

    /// The next `n` bytes, and whether there were as many.
    pub async fn bytes(&mut self, n: usize) -> (Vec<u8>, bool) {
        while self.ahead.len() < n && self.more().await {}
        let n_there = n.min(self.ahead.len());
        let rest = self.ahead.split_off(n_there);
        (std::mem::replace(&mut self.ahead, rest), n_there == n)
    }

    /// Everything until the other side closes or resets.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.ahead)
    }

    /// A chunked body without its frames, and whether its last chunk came.
    async fn chunked(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(size) = self.line().await else { return (body, false) };
            let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            let (chunk, whole) = self.bytes(size).await;
            body.extend(chunk);
            if !whole || self.line().await.is_none() {
                return (body, false);
            }
        }
        while let Some(trailer) = self.line().await {
            if trailer.is_empty() {
                return (body, true);
            }
        }
        (body, false)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let rest = self.ahead.split_off(end + 2);
                let line = std::mem::replace(&mut self.ahead, rest);
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let read = within("the other side to answer or close", self.socket.read_buf(&mut self.ahead)).await;
        read.is_ok_and(|n| n > 0)
    }
}

/// BPF_RET | BPF_K: how many bytes of each packet are let through.
const BPF_RETURN: u16 = 0x06;

#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body came to the end its head promised.
    pub complete: bool,
}
