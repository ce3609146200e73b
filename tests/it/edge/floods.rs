//! Floods of HTTP/2 frames that cost their sender little: the connection ends, the next client notices nothing.

use std::net::SocketAddr;

use futures_util::future::join_all;

use super::{held, open};
use crate::harness::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, field, frame,
    head,
};
use crate::harness::{Backend, Client, Crowd, Cutover, PATIENCE, eventually};

#[tokio::test]
async fn a_flood_of_frames_that_carry_nothing_ends_its_connection() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "http2_controls = 100", "", "").start().await;
    let floods = [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0, &[]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
        frame(DATA, 0, 1, &[]),
        frame(0x42, 0, 0, b"x"),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(GOAWAY, 0, 0, &[0; 8]),
    ];
    for flood in floods {
        let mut client = Frames::connect(&proxy).await;
        client.request(1, "POST", "/slow", 0).await;
        ends(&proxy, &mut client, |_| flood.clone()).await;
    }
}

#[tokio::test]
async fn requests_that_are_begun_to_be_reset_end_their_connection() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "http2_controls = 200", "", "").start().await;
    let get = |stream, flags| frame(HEADERS, END_HEADERS | flags, stream, &head("GET", "/slow"));
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let mut client = Frames::connect(&proxy).await;
    ends(&proxy, &mut client, |stream| [get(stream, END_STREAM), reset(stream)].concat()).await;
    // The other way round: the client breaks the rules so that the proxy resets.
    let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    let mut client = Frames::connect(&proxy).await;
    ends(&proxy, &mut client, |stream| [get(stream, END_STREAM), overflow(stream), overflow(stream)].concat()).await;
    let mut client = Frames::connect(&proxy).await;
    ends(&proxy, &mut client, |stream| get(stream, END_STREAM)).await;
}

#[tokio::test]
async fn heads_that_become_no_request_end_their_connection() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "http2_controls = 10\nhttp2_streams = 1", "", "").start().await;
    // Such a head is answered or reset before anybody but the connection has seen it, as often as one likes.
    let large = [head("GET", "/"), field("x", "").repeat(2200)].concat();
    let list_of_lists = [vec![0x20; 5000], head("GET", "/"), field("x", "").repeat(2200)].concat();
    for lost in [large, list_of_lists] {
        let mut client = Frames::connect(&proxy).await;
        let mut heads = 0;
        while client.send(HEADERS, END_HEADERS | END_STREAM, 2 * heads + 1, &lost).await
            && client.until(|frame| frame.flags & END_STREAM != 0 && frame.kind == HEADERS).await.is_some()
        {
            heads += 1;
            assert!(heads < 10_000, "it goes on for ever");
        }
        assert!(heads >= 10, "{heads}");
    }
    assert_eq!(Client::http2(&proxy).await.get("/").await.status, 200);
    assert_eq!(blue.requests(), 1);
}

#[tokio::test]
async fn who_opens_windows_for_each_piece_that_comes_is_no_flood() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "http2_controls = 20", "", "").start().await;
    let mut client = Frames::connect(&proxy).await;
    client.request(1, "GET", "/bytes/4000000", END_STREAM).await;
    let mut more = 4_000_000;
    while more > 0 {
        let piece =
            client.until(|frame| frame.kind == DATA && !frame.payload.is_empty()).await.expect("the next piece");
        let length = u32::try_from(piece.payload.len()).unwrap();
        more -= piece.payload.len();
        for stream in [0, 1] {
            client.send(WINDOW_UPDATE, 0, stream, &length.to_be_bytes()).await;
        }
    }
}

#[tokio::test]
async fn nobody_fails_beside_floods() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let address = proxy.address();
    let crowds = [Crowd::of(2).start(address), Crowd::of(2).http2().start(address)];
    for crowd in &crowds {
        crowd.seen(10).await;
    }
    let window = |stream| frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]);
    let get = |stream, path| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET", path));
    // Answers and windows that nobody wants, heads too large to be heard, of sizes without end, begun and not ended.
    let large = [head("GET", "/"), field("x", "").repeat(2200)].concat();
    let resized = [[0x20, 0x3f, 0xe1, 0x1f].repeat(3900), head("GET", "/")].concat();
    let flooders = join_all([
        flood(address, 100, &|stream| get(stream, "/bytes/1000000")),
        flood(address, 400, &|stream| {
            if stream == 1 { get(1, "/bytes/1000000") } else { [window(1), window(0)].concat() }
        }),
        flood(address, 200, &|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &large)),
        flood(address, 100, &|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &resized)),
        flood(address, 100, &|stream| frame(HEADERS, END_STREAM, stream, &large)),
        flood(address, 100, &|stream| frame(HEADERS, END_HEADERS, stream, &head("POST", "/echo"))),
    ])
    .await;
    for crowd in &crowds {
        crowd.seen_more(10).await;
    }
    for crowd in crowds {
        crowd.stop().await.assert_nothing_lost();
    }
    drop(flooders);
    assert!(eventually(PATIENCE, || async { open(&proxy).await == 0.0 }).await);
}

/// Sends so many pieces to who has no window for an answer, as fast as they are taken and for as long as they are. The
/// connection stays.
async fn flood(address: SocketAddr, pieces: u32, piece: &dyn Fn(u32) -> Vec<u8>) -> Frames {
    let mut client = Frames::with_window(address, 0).await;
    for n in 0..pieces {
        if !client.bytes(&piece(2 * n + 1)).await {
            break;
        }
    }
    client
}

/// Sends and sends until the connection ends; then a new client is served.
async fn ends(proxy: &Cutover, client: &mut Frames, piece: impl Fn(u32) -> Vec<u8>) {
    let mut stream = 3;
    while client.bytes(&piece(stream)).await {
        stream += 2;
        assert!(stream < 2_000_000, "it goes on for ever");
    }
    let mut next = Client::http2(proxy).await;
    assert_eq!(next.get("/").await.status, 200);
}

#[tokio::test]
async fn who_measures_the_way_with_a_ping_for_each_answer_is_no_flood() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "http2_controls = 20", "", "").start().await;
    let mut client = Frames::connect(&proxy).await;
    for stream in (1..400).step_by(2) {
        client.request(stream, "GET", "/", END_STREAM).await;
        let answer = client.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0).await;
        assert!(answer.is_some(), "after {} requests", stream / 2);
        assert!(client.send(PING, 0, 0, b"12345678").await);
    }
}

const PRIORITY: u8 = 2;
