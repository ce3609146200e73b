//! An HTTP/2 client of frames: writes any, in any order, and tells which came back.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Address, PATIENCE, within};

pub struct Frames {
    socket: TcpStream,
    ahead: Vec<u8>,
    /// What the windows have left for what is sent: each stream's, and as 0 the connection's.
    rooms: HashMap<u32, usize>,
}

/// One frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What the proxy lets a stream begin with, where nothing else is configured.
const STREAM_WINDOW: usize = 256 << 10;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Frames {
    /// A connection that has only said that it speaks HTTP/2.
    pub async fn greeting(address: impl Address) -> Frames {
        let socket = within("a connection", TcpStream::connect(address.address())).await.unwrap();
        let mut client = Frames { socket, ahead: Vec::new(), rooms: HashMap::from([(0, 65_535)]) };
        client.bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client
    }

    /// A connection past the greeting.
    pub async fn connect(address: impl Address) -> Frames {
        Frames::with_window(address, 65_535).await
    }

    /// The same; `window` is what each stream may be sent before it says more.
    pub async fn with_window(address: impl Address, window: u32) -> Frames {
        let mut client = Frames::greeting(address).await;
        client.send(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()).await;
        client.until(|frame| frame.kind == SETTINGS && frame.flags & ACK == 0).await.expect("settings");
        client.send(SETTINGS, ACK, 0, &[]).await;
        client
    }

    /// Whether the other side still took it.
    pub async fn bytes(&mut self, bytes: &[u8]) -> bool {
        within("the proxy to take frames", self.socket.write_all(bytes)).await.is_ok()
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.bytes(&frame(kind, flags, stream, payload)).await
    }

    /// A whole request's head.
    pub async fn request(&mut self, stream: u32, method: &str, path: &str, flags: u8) -> bool {
        self.send(HEADERS, END_HEADERS | flags, stream, &head(method, path)).await
    }

    /// Sends so many bytes of a body, once the windows have room for them.
    pub async fn upload(&mut self, stream: u32, bytes: usize) {
        let stream_room = *self.rooms.entry(stream).or_insert(STREAM_WINDOW);
        let mut rooms = (self.rooms[&0], stream_room);
        while rooms.0.min(rooms.1) < bytes {
            self.next().await.expect("more room");
            rooms = (self.rooms[&0], self.rooms[&stream]);
        }
        self.rooms.extend([(0, rooms.0 - bytes), (stream, rooms.1 - bytes)]);
        self.send(DATA, 0, stream, &vec![b'x'; bytes]).await;
    }

    /// Whether there was room for so many bytes of a body within a while, in which they were sent.
    pub async fn could_upload(&mut self, stream: u32, bytes: usize) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.upload(stream, bytes)).await.is_ok()
    }

    /// Reads, and answers pings, until such a frame comes; none where the connection ends before.
    pub async fn until(&mut self, mut is_it: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let frame = self.next().await?;
                if frame.kind == PING && frame.flags & ACK == 0 {
                    self.send(PING, ACK, 0, &frame.payload).await;
                }
                if is_it(&frame) {
                    return Some(frame);
                }
            }
        });
        found.await.expect("such a frame, or the connection's end")
    }

    /// Reads, and answers pings, until the connection ends.
    pub async fn until_closed(&mut self) {
        assert!(self.until(|_| false).await.is_none());
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, stream @ ..] = &self.ahead[..] {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if self.ahead.len() >= 9 + length {
                    let stream = u32::from_be_bytes(stream[..4].try_into().unwrap());
                    let (kind, flags, payload) = (*kind, *flags, self.ahead[9..9 + length].to_vec());
                    self.ahead.drain(..9 + length);
                    if kind == WINDOW_UPDATE {
                        let more = u32::from_be_bytes(payload[..4].try_into().unwrap()) as usize;
                        *self.rooms.entry(stream).or_insert(STREAM_WINDOW) += more;
                    }
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            if !self.socket.read_buf(&mut self.ahead).await.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A head for `shop.test`, each field written out.
pub fn head(method: &str, path: &str) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "shop.test"), (":path", path)];
    pseudo.into_iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A literal field that is never indexed (RFC 7541, 6.2.3); both parts shorter than 127 bytes.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [&[0x10][..], &text(name), &text(value)].concat()
}
