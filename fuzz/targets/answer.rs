//! Any bytes as a backend's answer: never a panic, the same however they are cut into pieces, and nothing of the hop goes on.
#![no_main]

use bytes::Bytes;
use cutover::config::Limits;
use cutover::proxy::headers::{self, Extent, Reply};
use cutover::proxy::inflow::Inflow;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, bytes)) = data.split_first() else { return };
    let headless = mode.is_ascii_uppercase();
    let (whole, reply) = answer(bytes, bytes.len().max(1), headless);
    for piece in [1, 2, 1 + usize::from(*mode)] {
        assert_eq!(answer(bytes, piece, headless).0, whole, "in pieces of {piece}");
    }
    if let Some(reply) = &reply {
        is_framed_once(reply, headless, &whole);
        hop_has_ended(reply.response.headers());
    }
});

/// What came of the bytes.
#[derive(Debug, Default, PartialEq)]
struct Told {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    end: End,
}

#[derive(Debug, Default, PartialEq)]
enum End {
    #[default]
    More,
    /// With so many bytes behind it.
    Done(usize),
    /// Whole because the connection ended.
    Closed,
    Broken,
}

fn answer(bytes: &[u8], piece: usize, headless: bool) -> (Told, Option<Reply>) {
    let (mut input, mut told) = (Bytes::new(), Told::default());
    let mut reply: Option<(Reply, Inflow)> = None;
    for piece in bytes.chunks(piece) {
        input = [&input, piece].concat().into();
        if reply.is_none() {
            match headers::read(&mut input, headless, &Limits::default()) {
                Ok(None) => continue,
                Ok(Some(read)) => {
                    told.status = read.response.status().as_u16();
                    told.headers = read.response.headers().clone();
                    let inflow = Inflow::new(read.extent);
                    reply = Some((read, inflow));
                }
                Err(_) => {
                    told.end = End::Broken;
                    return (told, None);
                }
            }
        }
        let Some((_, inflow)) = &mut reply else { continue };
        loop {
            match inflow.next(&mut input) {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => told.body.extend_from_slice(&data),
                    Err(frame) => told.trailers = frame.into_trailers().ok(),
                },
                Ok(None) => break,
                Err(_) => {
                    told.end = End::Broken;
                    return (told, reply.map(|(reply, _)| reply));
                }
            }
        }
    }
    let Some((reply, mut inflow)) = reply else { return (told, None) };
    told.end = match (inflow.is_done(), inflow.end()) {
        (true, _) => End::Done(input.len()),
        (false, Ok(())) => End::Closed,
        (false, Err(_)) => End::More,
    };
    (told, Some(reply))
}

fn is_framed_once(reply: &Reply, headless: bool, told: &Told) {
    let lengths: Vec<_> = reply.response.headers().get_all("content-length").iter().collect();
    let says = lengths.first().and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    assert!(lengths.len() <= 1 && lengths.len() == usize::from(says.is_some()), "{lengths:?}");
    match reply.extent {
        Extent::Length(length) => {
            assert!(told.body.len() as u64 <= length);
            let empty = headless || matches!(told.status, 101 | 204 | 304);
            assert!(empty && length == 0 || says == Some(length), "{length} bytes, though it says {says:?}");
        }
        Extent::Chunked => assert_eq!(says, None),
        Extent::Close => assert!(!reply.keeps && says.is_none()),
    }
    assert!(told.status == 101 || told.status >= 200, "an interim answer is no answer");
    assert!(told.trailers.is_none() || reply.extent == Extent::Chunked);
}

fn hop_has_ended(headers: &HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "upgrade"] {
        assert!(!headers.contains_key(name), "{name} is passed on");
    }
}
