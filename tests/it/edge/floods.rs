//! Floods of HTTP/2 frames that cost their sender little: the connection ends, the next client notices nothing.

use super::held;
use crate::harness::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head,
};
use crate::harness::{Backend, Client, Cutover};

const PRIORITY: u8 = 2;

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
    ];
    for flood in floods {
        let mut client = Frames::connect(&proxy, 65_535).await;
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
    let mut client = Frames::connect(&proxy, 65_535).await;
    ends(&proxy, &mut client, |stream| [get(stream, END_STREAM), reset(stream)].concat()).await;
    // The other way round: the client breaks the rules so that the proxy resets.
    let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    let mut client = Frames::connect(&proxy, 65_535).await;
    ends(&proxy, &mut client, |stream| [get(stream, END_STREAM), overflow(stream), overflow(stream)].concat()).await;
    let mut client = Frames::connect(&proxy, 65_535).await;
    ends(&proxy, &mut client, |stream| get(stream, END_STREAM)).await;
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
    let mut client = Frames::connect(&proxy, 65_535).await;
    for stream in (1..400).step_by(2) {
        client.request(stream, "GET", "/", END_STREAM).await;
        let answer = client.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0).await;
        assert!(answer.is_some(), "after {} requests", stream / 2);
        assert!(client.send(PING, 0, 0, b"12345678").await);
    }
}
