//! The fixed backend: the same bytes for every proxy, from memory, for one read and one write each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub async fn serve(port: u16, addresses: u16, stack: &str) -> anyhow::Result<()> {
    let answers = Rc::new(Answers::new(stack));
    for n in 0..addresses {
        let listener = TcpListener::bind(address(n, port)).await?;
        tokio::task::spawn_local(accept(listener, answers.clone()));
    }
    std::future::pending().await
}

/// 127.0.0.1, then 250 of each following network.
fn address(n: u16, port: u16) -> SocketAddr {
    let [net, host] = n.checked_sub(1).map_or([0, 1], |n| [1 + n / 250, 1 + n % 250]).map(|part| part as u8);
    SocketAddr::from((Ipv4Addr::new(127, 0, net, host), port))
}

async fn accept(listener: TcpListener, answers: Rc<Answers>) {
    while let Ok((stream, _)) = listener.accept().await {
        let answers = answers.clone();
        // A connection that breaks ends, and the load counts what it has lost.
        tokio::task::spawn_local(async move { converse(stream, &answers).await.ok() });
    }
}

/// Answers one request after another; none of them has a body.
async fn converse(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::with_capacity(READ);
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        // Through the relay comes what the client says itself; a proxy keeps that from its backends.
        let last = read.windows(CLOSE.len()).any(|field| field.eq_ignore_ascii_case(CLOSE));
        let mut answer = answers.to(&read, last);
        if read.starts_with(b"GET /slow ") {
            // It begins, and then hesitates: who waits for the head only would believe it finished.
            let half = Duration::from_millis(fastrand::u64(SLOW)) / 2;
            tokio::time::sleep(half).await;
            stream.write_all(&answer[..answer.len() - 10]).await?;
            tokio::time::sleep(half).await;
            answer = &answer[answer.len() - 10..];
        }
        stream.write_all(answer).await?;
        if last {
            return stream.shutdown().await;
        }
        read.clear();
    }
}

/// Heads and bodies in one piece, made once.
struct Answers {
    kept: [Vec<u8>; 3],
    last: [Vec<u8>; 3],
}

impl Answers {
    fn new(stack: &str) -> Answers {
        let all = |connection: &str| SIZES.map(|size| answer(size, stack, connection));
        Answers { kept: all(""), last: all("Connection: close\r\n") }
    }

    fn to(&self, request: &[u8], last: bool) -> &[u8] {
        let place = match request {
            _ if request.starts_with(b"GET /10k ") => 1,
            _ if request.starts_with(b"GET /1m ") => 2,
            _ => 0,
        };
        if last { &self.last[place] } else { &self.kept[place] }
    }
}

fn answer(size: usize, stack: &str, connection: &str) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nServer: backend\r\nX-Stack: {stack}\r\nContent-Type: text/plain\r\n{connection}\
         Content-Length: {size}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + size, b'x');
    answer
}

/// Of the bodies of `/`, `/10k` and `/1m`.
const SIZES: [usize; 3] = [100, 10 << 10, 1 << 20];
const CLOSE: &[u8] = b"\r\nconnection: close\r\n";
/// How long `/slow` takes, in milliseconds.
const SLOW: RangeInclusive<u64> = 500..=1500;
const READ: usize = 4096;
