//! The first words on a connection: what tells the protocol, a TLS handshake where there is one, and a time for both.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::Station;
use super::arrival::Arrival;
use super::converse::Visitor;
use super::leave::Stage;
use super::loss::Loss;
use super::meter::PREFACE;
use super::tls::Identity;

/// Waits for the first bytes, which tell the protocol.
pub async fn hear(mut stream: Arrival, visitor: Visitor, station: &Station) -> Option<(Arrival, Vec<u8>, Rc<Visitor>)> {
    let opening = visitor.edge.rules.timeouts.opening;
    let sniffed = match in_time(station, opening, sniff(&mut stream)).await {
        Ok(sniffed) => sniffed,
        Err(missed) => return visitor.loses(missed.loss(Loss::Silent)),
    };
    let (ahead, http2) = sniffed.ok()?;
    if !http2 && is_foreign(&ahead) {
        return visitor.loses(Some(Loss::Foreign));
    }
    Some((stream, ahead, Rc::new(visitor.speaking(http2))))
}

/// Shakes hands, which tells the protocol and the certificate.
pub async fn greet(
    stream: Arrival,
    visitor: Visitor,
    station: &Station,
    identity: Arc<Identity>,
) -> Option<(TlsStream<Arrival>, Rc<Visitor>)> {
    let handshake = visitor.edge.rules.timeouts.handshake;
    let accepted = TlsAcceptor::from(identity.server.clone()).accept(stream);
    let stream = match in_time(station, handshake, accepted).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(client = ?visitor.client.address, "the TLS handshake failed: {error}");
            // Who only looks whether somebody listens, as load balancers do, has failed at nothing.
            let is_failure = error.kind() == io::ErrorKind::InvalidData;
            return visitor.loses(is_failure.then_some(Loss::HandshakeFailed));
        }
        Err(missed) => return visitor.loses(missed.loss(Loss::HandshakeSlow)),
    };
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let certificates = identity.certificates.clone();
    let greeted = (certificates.clone(), certificates.choose(session.server_name()));
    let visitor = visitor.greeted(greeted).speaking(http2);
    Some((stream, Rc::new(visitor)))
}

/// What comes of `step` in its time. Whoever has said nothing yet leaves when another needs its place, and once the worker
/// closes gets only a moment.
async fn in_time<T>(station: &Station, within: Duration, step: impl Future<Output = T>) -> Result<T, Missed> {
    let hurry = async {
        station.leave.reached(Stage::Closing).await;
        tokio::time::sleep(HURRY.min(within)).await;
    };
    tokio::select! {
        biased;
        done = tokio::time::timeout(within, step) => done.map_err(|_| Missed::Late),
        () = hurry => Err(Missed::Leaving),
        () = station.capacity.evicted() => Err(Missed::Evicted),
    }
}

/// Why a step did not come to its end.
enum Missed {
    Late,
    Leaving,
    Evicted,
}

impl Missed {
    /// What the connection is lost for; `late` where it was too late.
    fn loss(&self, late: Loss) -> Option<Loss> {
        match self {
            Missed::Late => Some(late),
            Missed::Leaving => None,
            Missed::Evicted => Some(Loss::MadeRoom),
        }
    }
}

/// Reads just enough to tell HTTP/2 with prior knowledge from HTTP/1.1 (RFC 9113, 3.4); what was read comes along.
async fn sniff(stream: &mut Arrival) -> io::Result<(Vec<u8>, bool)> {
    let mut ahead = Vec::with_capacity(SNIFF);
    while ahead.len() < PREFACE.len() {
        if stream.read_buf(&mut ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let both = ahead.len().min(PREFACE.len());
        if ahead[..both] != PREFACE[..both] {
            return Ok((ahead, false));
        }
    }
    Ok((ahead, true))
}

/// Whether this is the first line of another protocol: none in which an answer could be given. What HTTP/1 writes, well
/// or badly, has a version somewhere behind the second word, or nothing there.
fn is_foreign(ahead: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', ahead) else { return false };
    let line = ahead[..end].trim_ascii();
    let mut rest = line.split(|byte| *byte == b' ').skip(2).filter(|word| !word.is_empty()).peekable();
    rest.peek().is_some() && rest.all(|word| !word.contains(&b'/'))
}

/// Room for the first read of a cleartext connection: most heads fit.
const SNIFF: usize = 2048;
/// What a connection has for its first byte once the worker closes.
const HURRY: Duration = Duration::from_secs(1);
