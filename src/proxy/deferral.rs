//! Where many connections come, the system is told to let a client in only once it has said something (`TCP_DEFER_ACCEPT`,
//! tcp(7)): nobody is woken twice for a connection that carries one request, which saves a third of what it costs, measured.
//!
//! Where few come it is not: who says nothing would be let in a second late.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::SetSockOpt;
use nix::sys::socket::sockopt::SetUsize;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Seconds that a client which says nothing is not let in; nothing lets in everybody.
#[derive(Clone, Copy)]
struct DeferAccept;
nix::setsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize, SetUsize);

/// Whether a listening socket's clients have to speak first, as far as one worker has told it.
pub struct Deferral {
    is_on: bool,
    /// Connections since the last tick; while it is off, since `since`.
    count: usize,
    since: Instant,
    tick: Interval,
    /// When it was last turned off.
    off: Option<Instant>,
}

impl Deferral {
    pub fn new() -> Deferral {
        let mut tick = tokio::time::interval(WINDOW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Deferral { is_on: false, count: 0, since: Instant::now(), tick, off: None }
    }

    /// So many have come by the socket. No clock is looked at for most of them.
    pub fn came(&mut self, connections: usize, socket: &impl AsFd) {
        self.count += connections;
        if self.is_on || self.count < MANY {
            return;
        }
        if self.since.elapsed() < WINDOW {
            self.set(true, socket);
            self.tick.reset();
        }
        self.begin();
    }

    /// Resolves when it is to be asked whether still so many come: never while it is off.
    pub async fn due(&mut self) {
        if !self.is_on {
            std::future::pending::<()>().await;
        }
        self.tick.tick().await;
    }

    /// A second has passed.
    pub fn look(&mut self, socket: &impl AsFd) {
        if self.count < MANY / 2 {
            self.set(false, socket);
        }
        self.begin();
    }

    /// Has everybody let in from now on, and says until when those will have come whom the system still holds.
    pub fn end(mut self, socket: &impl AsFd) -> Option<Instant> {
        if self.is_on {
            self.set(false, socket);
        }
        self.off.map(|off| off + HELD)
    }

    fn begin(&mut self) {
        (self.count, self.since) = (0, Instant::now());
    }

    fn set(&mut self, on: bool, socket: &impl AsFd) {
        if let Err(error) = DeferAccept.set(socket, &usize::from(on)) {
            tracing::debug!("clients cannot be made to speak first: {error}");
            return;
        }
        self.is_on = on;
        if !on {
            self.off = Some(Instant::now());
        }
    }
}

/// So many within [`WINDOW`] are many: below that it would save less than a hundredth of a core.
const MANY: usize = 1000;
const WINDOW: Duration = Duration::from_secs(1);
/// Who has not spoken is asked again by the system after a second, and let in with his answer.
const HELD: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use nix::sys::socket::GetSockOpt;
    use nix::sys::socket::sockopt::GetUsize;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::proxy::arrival::Entrance;

    nix::getsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize, GetUsize);

    fn entrance() -> (Entrance, SocketAddr) {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (Entrance::new(socket).unwrap(), address)
    }

    fn is_on(entrance: &Entrance) -> bool {
        DeferAccept.get(entrance).unwrap() > 0
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_on_for_as_long_as_many_come() {
        let (entrance, _) = entrance();
        let mut deferral = Deferral::new();
        deferral.came(MANY - 1, &entrance);
        tokio::time::advance(WINDOW).await;
        deferral.came(1, &entrance);
        assert!(!is_on(&entrance), "that was more than a second");
        deferral.came(MANY - 1, &entrance);
        assert!(!is_on(&entrance));
        deferral.came(1, &entrance);
        assert!(is_on(&entrance));
        for came in [MANY, MANY / 2] {
            deferral.came(came, &entrance);
            deferral.due().await;
            deferral.look(&entrance);
            assert!(is_on(&entrance));
        }
        deferral.came(MANY / 2 - 1, &entrance);
        deferral.due().await;
        deferral.look(&entrance);
        assert!(!is_on(&entrance));
        let never = tokio::time::timeout(10 * WINDOW, deferral.due()).await;
        assert!(never.is_err(), "it is looked at again only once many come");
        assert!(deferral.end(&entrance).is_some_and(|until| until < Instant::now()));
        assert_eq!(Deferral::new().end(&entrance), None);
    }

    #[tokio::test]
    async fn who_says_nothing_is_let_in_a_second_late_and_not_lost_when_it_ends() {
        let (entrance, address) = entrance();
        let mut deferral = Deferral::new();
        deferral.since = Instant::now() + WINDOW;
        deferral.came(MANY, &entrance);
        let silent = TcpStream::connect(address).await.unwrap();
        let mut speaks = TcpStream::connect(address).await.unwrap();
        speaks.write_all(b"GET /").await.unwrap();
        assert_eq!(entrance.accept().await.unwrap().1, speaks.local_addr().unwrap());
        assert!(entrance.accept_now().is_none());
        let until = deferral.end(&entrance).unwrap();
        assert!(!is_on(&entrance));
        let late = tokio::time::timeout_at(until, entrance.accept()).await.unwrap().unwrap();
        assert_eq!(late.1, silent.local_addr().unwrap());
    }
}
