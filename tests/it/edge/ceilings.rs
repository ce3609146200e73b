//! Memory has a ceiling: so much for a connection or a request in the worst state its client can bring it to.

use futures_util::future::join_all;

use super::held;
use crate::harness::frames::{END_STREAM, Frames, WINDOW_UPDATE};
use crate::harness::{Backend, Cutover, PATIENCE, Raw, RawBackend, eventually};

#[tokio::test]
async fn a_half_read_head_takes_as_much_as_heads_may() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let head = format!("GET / HTTP/1.1\r\nHost: shop.test\r\nX: {}", "x".repeat(64_000));
    crowd(&proxy, 100, 160, head.as_bytes()).await;
}

#[tokio::test]
async fn the_beginning_of_an_upload_takes_what_it_has_whatever_its_pieces() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let head = "POST / HTTP/1.1\r\nHost: shop.test\r\n";
    let plain = format!("{head}Content-Length: 100000\r\n\r\n{}", "x".repeat(65_000));
    crowd(&proxy, 50, 200, plain.as_bytes()).await;
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(30_000));
    crowd(&proxy, 50, 200, chunks.as_bytes()).await;
}

#[tokio::test]
async fn a_slow_reader_takes_a_few_buffers() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    crowd(&proxy, 50, 400, b"GET /bytes/67108864 HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
}

#[tokio::test]
async fn a_connection_full_of_answers_that_nobody_reads_takes_a_few_buffers_for_each() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let before = proxy.memory_kib();
    let mut client = Frames::with_window(&proxy, 0x7fff_ffff).await;
    client.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
    for stream in 0..128 {
        client.request(2 * stream + 1, "GET", "/bytes/67108864", END_STREAM).await;
    }
    assert!(eventually(PATIENCE, || async { blue.requests() == 128 }).await);
    settled(&proxy).await;
    assert_ceiling(&proxy, before, 128, 96);
}

#[tokio::test]
async fn a_connection_full_of_uploads_that_have_stopped_takes_what_they_have_and_its_window() {
    let blue = Backend::start("blue").await;
    let proxy = held(&blue, "", "", "").start().await;
    let before = proxy.memory_kib();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Frames::connect(&proxy).await;
        for stream in 0..64 {
            client.request(2 * stream + 1, "POST", "/echo", 0).await;
            // A byte less than is waited for.
            for piece in [16_384, 16_384, 16_384, 16_383] {
                client.upload(2 * stream + 1, piece).await;
            }
        }
        clients.push(client);
    }
    settled(&proxy).await;
    assert_ceiling(&proxy, before, 4 * 64, 160);
}

#[tokio::test]
async fn what_a_backend_does_not_read_of_uploads_stops_at_the_windows() {
    let blue = RawBackend::start(|_, _| std::thread::park_timeout(PATIENCE));
    let proxy = held(&blue, "", "", "").start().await;
    let before = proxy.memory_kib();
    let crowd = (0..16).map(async |_| {
        let mut client = Frames::connect(&proxy).await;
        for stream in [1, 3] {
            client.request(stream, "POST", "/echo", 0).await;
            while client.could_upload(stream, 16_384).await {}
        }
        client
    });
    let _clients = join_all(crowd).await;
    settled(&proxy).await;
    assert_ceiling(&proxy, before, 16, 400 + 2 * 160);
}

/// So many clients send this, and nothing more; each may take so many KiB, allowing for what the allocator keeps.
async fn crowd(proxy: &Cutover, clients: usize, ceiling: u64, bytes: &[u8]) {
    let before = proxy.memory_kib();
    let mut crowd = Vec::new();
    for _ in 0..clients {
        crowd.push(Raw::saying(proxy, bytes).await);
    }
    settled(proxy).await;
    assert_ceiling(proxy, before, clients as u64, ceiling);
}

/// Resolves when the proxy's memory has not grown for a while.
async fn settled(proxy: &Cutover) {
    let mut last = proxy.memory_kib();
    while eventually(std::time::Duration::from_millis(200), || async { proxy.memory_kib() > last }).await {
        last = proxy.memory_kib();
    }
}

fn assert_ceiling(proxy: &Cutover, before: u64, count: u64, each: u64) {
    let grown = proxy.memory_kib().saturating_sub(before);
    assert!(grown < count * each + 8 * 1024, "{count} take {grown} KiB");
}
