//! The keys under `[edge]`: what every client's connection is held to, before and beside the service it is for.

use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::{FieldNames, diff};

/// What every client's connection is held to, before and beside the service it is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Edge {
    /// Peers whose forwarding fields are believed and appended to.
    pub trusted_proxies: Vec<IpNet>,
    /// Fields that only a trusted proxy may send, beside X-Forwarded-* and Forwarded.
    pub proxy_fields: FieldNames,
    /// Whether backends are told of the client by Forwarded (RFC 7239) as well.
    pub forwarded: bool,
    pub limits: EdgeLimits,
    pub timeouts: EdgeTimeouts,
}

/// How much one connection, and all of them, may bring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeLimits {
    /// Client connections open at one time.
    pub connections: usize,
    /// Of those, from one client: an IPv4 address or an IPv6 /64. Trusted proxies are not counted.
    pub connections_per_client: usize,
    /// Bytes of a method.
    #[serde(serialize_with = "diff::size")]
    pub method: usize,
    /// Bytes of a target: path and query.
    #[serde(serialize_with = "diff::size")]
    pub target: usize,
    /// Bytes of a head, each field counting 32 more (RFC 9113, 6.5.2).
    #[serde(serialize_with = "diff::size")]
    pub head: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Bytes of a body's trailers, counted as those of a head.
    #[serde(serialize_with = "diff::size")]
    pub trailers: usize,
    /// Requests at one time on one HTTP/2 connection.
    pub http2_streams: u32,
    /// HTTP/2 requests at one time on all connections, shared out evenly to the workers.
    pub http2_requests: usize,
    /// What a client may send of one HTTP/2 request before it is read, and of all on one connection.
    #[serde(serialize_with = "diff::size")]
    pub http2_stream_window: u32,
    #[serde(serialize_with = "diff::size")]
    pub http2_window: u32,
    /// The largest HTTP/2 frame a client may send.
    #[serde(serialize_with = "diff::size")]
    pub http2_frame: u32,
    /// What is read of an HTTP/2 request's answer ahead of its client.
    #[serde(serialize_with = "diff::size")]
    pub http2_send_buffer: usize,
    /// HTTP/2 frames that carry nothing forward, from one connection in ten seconds.
    pub http2_controls: u32,
    /// HTTP/2 requests that their client has reset before they were looked at, at one time.
    pub http2_early_resets: usize,
    /// Streams that had to be reset for a client's mistakes, over the life of its connection.
    pub http2_faults: usize,
    /// Bytes a second that a client has to take of what waits for it; 0: any progress will do.
    #[serde(serialize_with = "diff::size")]
    pub send_rate: u64,
}

impl Default for EdgeLimits {
    fn default() -> EdgeLimits {
        EdgeLimits {
            connections: 20_000,
            connections_per_client: 5_000,
            method: 64,
            target: 8 << 10,
            head: 32 << 10,
            fields: 100,
            trailers: 8 << 10,
            http2_streams: 128,
            http2_requests: 20_000,
            http2_stream_window: 256 << 10,
            http2_window: 256 << 10,
            http2_frame: 16 << 10,
            http2_send_buffer: 16 << 10,
            http2_controls: 2_000,
            http2_early_resets: 20,
            http2_faults: 1_024,
            send_rate: 100,
        }
    }
}

/// How long a connection may take over what belongs to no service yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeTimeouts {
    /// From accept to the first byte.
    pub opening: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// The period in which a client has to take some of what waits for it.
    pub send: Duration,
    /// Idle for so long, an HTTP/1.1 connection gives its buffers back.
    pub park: Duration,
    /// How long a client that is still sending has to hear a last answer.
    pub linger: Duration,
    /// Silence after which the system asks whether the client's machine is still there; then it has as long to answer.
    pub probe: Duration,
    /// Silence on an HTTP/2 connection after which the client is asked whether it is still there.
    pub http2_ping: Duration,
    /// What an HTTP/2 connection may grow old; then it is asked to end, and ends with its last request.
    pub http2_age: Duration,
    /// How long clients are told to leave before idle connections are closed, when the proxy ends.
    pub notice: Duration,
    /// How long requests under way may take to finish, when the proxy ends.
    pub finish: Duration,
}

impl Default for EdgeTimeouts {
    fn default() -> EdgeTimeouts {
        EdgeTimeouts {
            opening: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            send: Duration::from_secs(60),
            park: Duration::from_secs(1),
            linger: Duration::from_secs(1),
            probe: Duration::from_mins(1),
            http2_ping: Duration::from_secs(30),
            http2_age: Duration::from_hours(1),
            notice: Duration::from_secs(2),
            finish: Duration::from_secs(30),
        }
    }
}
