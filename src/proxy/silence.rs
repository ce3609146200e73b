//! Clients that vanish without a word: what the system is told, so that it asks whether they are there.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::config;

/// What the system is told of how long a client's machine may be silent. What is accepted inherits it (tcp(7)), so that it
/// costs no connection a call.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Silence {
    /// Nothing for so long: it is asked whether it is there.
    probe: Duration,
    /// What was sent has not arrived for so long: it is gone.
    unheard: Duration,
}

impl Silence {
    pub fn of(timeouts: &config::EdgeTimeouts) -> Silence {
        // A client that is there and has its window shut is for `send` to judge.
        Silence { probe: timeouts.probe, unheard: timeouts.send.max(2 * timeouts.probe) }
    }

    /// Takes over what a reload has changed; whether there was anything.
    pub fn follow(&mut self, socket: &impl AsFd, timeouts: &config::EdgeTimeouts) -> bool {
        let now = Silence::of(timeouts);
        let is_other = *self != now;
        if is_other {
            *self = now;
            self.bound(socket);
        }
        is_other
    }

    /// Where the system does not know of it, other timers still bound the connection.
    pub fn bound(&self, socket: &impl AsFd) {
        let socket = SockRef::from(socket);
        // The system counts whole seconds.
        let interval = (self.probe / PROBES).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(self.probe).with_interval(interval).with_retries(PROBES);
        let set = socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_user_timeout(Some(self.unheard)));
        if let Err(error) = set {
            tracing::debug!("a client that vanishes will be noticed late: {error}");
        }
    }
}

/// Questions within the time that a silent client has to answer.
const PROBES: u32 = 4;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn timeouts(probe: u64) -> config::EdgeTimeouts {
        let (probe, send) = (Duration::from_secs(probe), Duration::from_secs(60));
        config::EdgeTimeouts { probe, send, ..config::EdgeTimeouts::default() }
    }

    /// Whether a silent machine is asked, after how long, how often then, and how long what was sent may be on its way.
    fn told(socket: &impl AsFd) -> (bool, Duration, Duration, u32, Option<Duration>) {
        let socket = SockRef::from(socket);
        let (time, interval) = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
        let retries = socket.tcp_keepalive_retries().unwrap();
        (socket.keepalive().unwrap(), time, interval, retries, socket.tcp_user_timeout().unwrap())
    }

    fn seconds(probe: u64, interval: u64, unheard: u64) -> (bool, Duration, Duration, u32, Option<Duration>) {
        let [probe, interval, unheard] = [probe, interval, unheard].map(Duration::from_secs);
        (true, probe, interval, PROBES, Some(unheard))
    }

    async fn client(address: SocketAddr, socket: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(address).await.unwrap();
        (client, socket.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_comes_after_the_socket_was_told_inherits_it_and_who_waited_is_told_apart() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        // Taken here, as the one way to be sure that the system has let him in before the socket is told.
        let (_waits, early) = client(address, &socket).await;
        let mut silence = Silence::default();
        assert!(silence.follow(&socket, &timeouts(60)) && !silence.follow(&socket, &timeouts(60)));
        assert!(!told(&early).0, "what is told later reaches none of those who wait");
        silence.bound(&early);
        assert_eq!(told(&early), seconds(60, 15, 120));
        assert_eq!(told(&client(address, &socket).await.1), seconds(60, 15, 120));
        // A reload.
        assert!(silence.follow(&socket, &timeouts(2)));
        assert_eq!(told(&early), seconds(60, 15, 120), "who is in keeps what he came with");
        assert_eq!(told(&client(address, &socket).await.1), seconds(2, 1, 60));
    }
}
