//! Heads on their way through: vetted, written for a backend, read from one.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use cutover::config::Limits;
use cutover::proxy::headers::{self, Client, Framing, RequestId};
use http::{HeaderValue, Request, request};

use super::scene;

pub fn bench(criterion: &mut Criterion) {
    let edge = scene::config(1, 1).edge;
    let head = request();
    let vetted = headers::vet(&head, &edge).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let (client, mut out, held) = (client(), Vec::new(), Limits::default());
    let answer = Bytes::from(answer());
    let mut group = criterion.benchmark_group("heads");
    group.bench_function("vet", |bencher| bencher.iter(|| headers::vet(black_box(&head), &edge).is_ok()));
    group.bench_function("to-backend", |bencher| {
        bencher.iter(|| {
            out.clear();
            let id = RequestId::of(&head.headers, vetted);
            headers::to_backend(black_box(&head), vetted, &client, &id, Framing::None, &mut out);
        });
    });
    group.bench_function("to-client", |bencher| {
        bencher.iter_batched_ref(
            || answer.clone(),
            |input| headers::read(input, false, &held).is_ok(),
            BatchSize::SmallInput,
        );
    });
}

/// What a browser asks for a page with.
fn request() -> request::Parts {
    let mut request = Request::get("/catalogue/shoes?page=3");
    for (name, value) in BROWSER {
        request = request.header(name, value);
    }
    request.body(()).expect("the head is valid").into_parts().0
}

/// What a common application answers with.
fn answer() -> String {
    let fields: String = APPLICATION.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

fn client() -> Client {
    let text = HeaderValue::from_static;
    Client::new(text("203.0.113.7"), text("https"), text("443"), false, Arc::default())
}

const BROWSER: [(&str, &str); 13] = [
    ("host", "s0.test"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://s0.test/catalogue?page=2"),
    ("connection", "keep-alive"),
    ("cookie", "session=6f1c0d5e7b8a4c2f9e3d1b0a; theme=dark; consent=all"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("priority", "u=0, i"),
];

const APPLICATION: [(&str, &str); 10] = [
    ("date", "Tue, 24 Nov 2026 12:00:00 GMT"),
    ("server", "application"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "10240"),
    ("connection", "keep-alive"),
    ("cache-control", "private, no-cache"),
    ("etag", "\"5f1c0d5e7b8a4c2f\""),
    ("vary", "Accept-Encoding"),
    ("set-cookie", "session=6f1c0d5e7b8a4c2f9e3d1b0a; Path=/; HttpOnly; Secure"),
    ("x-content-type-options", "nosniff"),
];
