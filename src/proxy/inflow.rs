//! The body of an answer as it comes from a backend: pure, over the bytes at hand; who reads them is another matter.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::headers::Extent;

/// How much of a body has come.
pub struct Inflow {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Length(u64),
    /// The line with a chunk's size comes next.
    Size,
    /// So many bytes of the chunk are left.
    Chunk(u64),
    /// The end of a chunk's last line comes next.
    ChunkEnd,
    Trailers,
    Close,
    Done,
}

/// A body that is none, or was cut short.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Inflow {
    pub fn new(extent: Extent) -> Inflow {
        let state = match extent {
            Extent::Length(0) => State::Done,
            Extent::Length(length) => State::Length(length),
            Extent::Chunked => State::Size,
            Extent::Close => State::Close,
        };
        Inflow { state }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// The next piece of what is at hand; `None`: there is more to come, or it is done.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, Broken> {
        loop {
            match self.state {
                State::Done => return Ok(None),
                _ if input.is_empty() => return Ok(None),
                State::Close => return Ok(Some(Frame::data(std::mem::take(input)))),
                State::Length(left) => {
                    let (piece, left) = take(input, left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Some(piece));
                }
                State::Chunk(left) => {
                    let (piece, left) = take(input, left);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Ok(Some(piece));
                }
                State::ChunkEnd => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [b'\r'] => return Ok(None),
                    _ => return Err(Broken),
                },
                State::Size => match size(input)? {
                    None => return Ok(None),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Chunk(size),
                },
                State::Trailers => return self.trailers(input),
            }
        }
    }

    /// The connection has ended: only a body that ends with it is whole.
    pub fn end(&mut self) -> Result<(), Broken> {
        match self.state {
            State::Close | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Broken),
        }
    }

    fn trailers(&mut self, input: &mut Bytes) -> Result<Option<Frame<Bytes>>, Broken> {
        if input.starts_with(b"\r\n") {
            input.advance(2);
            self.state = State::Done;
            return Ok(None);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
        let (end, trailers) = match httparse::parse_headers(input, &mut fields) {
            Ok(httparse::Status::Complete((end, fields))) => (end, map(fields)?),
            Ok(httparse::Status::Partial) if input.len() <= MAX_LINES => return Ok(None),
            _ => return Err(Broken),
        };
        input.advance(end);
        self.state = State::Done;
        Ok(Some(Frame::trailers(trailers)))
    }
}

fn take(input: &mut Bytes, left: u64) -> (Frame<Bytes>, u64) {
    let both = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    (Frame::data(input.split_to(both)), left - both as u64)
}

/// The size of the chunk that follows; `None`: its line is not whole. Extensions are passed over (RFC 9112, 7.1.1).
fn size(input: &mut Bytes) -> Result<Option<u64>, Broken> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > MAX_SIZE_LINE { Err(Broken) } else { Ok(None) };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or(Broken)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    let is_plain = rest.is_empty() || rest[0] == b';' && rest.iter().all(|byte| *byte >= b' ' && *byte != 127);
    if digits == 0 || digits > 15 || end > MAX_SIZE_LINE || !is_plain {
        return Err(Broken);
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| Broken)?;
    let size = u64::from_str_radix(text, 16).map_err(|_| Broken)?;
    input.advance(end + 1);
    Ok(Some(size))
}

fn map(fields: &[httparse::Header]) -> Result<HeaderMap, Broken> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Broken)?;
        map.append(name, HeaderValue::from_bytes(field.value).map_err(|_| Broken)?);
    }
    Ok(map)
}

/// The longest line with a size, extensions included: a few digits, and extensions that nobody uses, so no key.
const MAX_SIZE_LINE: usize = 1024;
/// The most trailers, and the most bytes of them: as many as `trailers` can be configured to allow.
const MAX_TRAILERS: usize = 64;
const MAX_LINES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a body in pieces of `piece` bytes: its data and trailers, and what is left behind it.
    fn whole(extent: Extent, bytes: &[u8], piece: usize, closes: bool) -> Result<(String, usize), Broken> {
        let (mut inflow, mut input, mut text) = (Inflow::new(extent), Bytes::new(), String::new());
        for piece in bytes.chunks(piece) {
            input = [&input, piece].concat().into();
            while let Some(frame) = inflow.next(&mut input)? {
                match frame.into_data() {
                    Ok(data) => text += std::str::from_utf8(&data).unwrap(),
                    Err(frame) => text += &format!("{:?}", frame.into_trailers().unwrap()),
                }
            }
        }
        if closes {
            inflow.end()?;
        }
        if inflow.is_done() { Ok((text, input.len())) } else { Err(Broken) }
    }

    #[test]
    fn bodies_of_every_extent_are_read_however_they_are_cut() {
        for piece in [1, 2, 3, 1000] {
            let read = |extent, bytes: &str, closes| whole(extent, bytes.as_bytes(), piece, closes);
            assert_eq!(read(Extent::Length(3), "abcde", false).map(|it| it.0), Ok("abc".into()));
            assert_eq!(read(Extent::Close, "abc", true), Ok(("abc".into(), 0)));
            let chunks = "3\r\nabc\r\n0A;ext=\"1\"\r\n0123456789\r\n0\r\n\r\nnext";
            assert_eq!(read(Extent::Chunked, chunks, false), Ok(("abc0123456789".into(), 4)));
            let trailers = "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n";
            assert_eq!(read(Extent::Chunked, trailers, false), Ok(("a{\"x-sum\": \"1\"}".into(), 0)));
        }
        assert_eq!(whole(Extent::Length(0), b"", 1, false), Ok((String::new(), 0)));
    }

    #[test]
    fn a_body_cut_short_is_never_whole() {
        for (extent, bytes) in [
            (Extent::Length(3), "ab"),
            (Extent::Chunked, "3\r\nab"),
            (Extent::Chunked, "3\r\nabc\r\n"),
            (Extent::Chunked, "3\r\nabc\r\n0\r\n"),
            (Extent::Chunked, "3\r\nabc\r\n0\r\nX: 1\r\n"),
        ] {
            assert_eq!(whole(extent, bytes.as_bytes(), 1000, true), Err(Broken), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bytes in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\r\n0\r\n\r\n",
            "1 1\r\n",
            "1;a\0b\r\n",
            "1;a\rb\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "1000000000000000\r\n",
            "0\r\nX : 1\r\n\r\n",
            "0\r\n X: 1\r\n\r\n",
        ] {
            for piece in [1, 1000] {
                assert_eq!(whole(Extent::Chunked, bytes.as_bytes(), piece, true), Err(Broken), "{bytes:?}");
            }
        }
        let long = format!("1;{}", "x".repeat(MAX_SIZE_LINE));
        assert_eq!(whole(Extent::Chunked, long.as_bytes(), 10_000, true), Err(Broken));
    }
}
