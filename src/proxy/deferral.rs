//! Where many connections come, the system is told to let a client in only once it has said something (`TCP_DEFER_ACCEPT`,
//! tcp(7)): nobody is woken twice for a connection that carries one request, which saves a third of what it costs, measured.
//!
//! Where few come it is not: who says nothing would be let in a second late. Nor before the socket is shut, which whoever is
//! held back by the system would be turned away with.

use std::future::pending;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::SetSockOpt;
use nix::sys::socket::sockopt::SetUsize;
use tokio::time::{Instant, Sleep};

use super::capacity::{Capacity, Held};

/// Seconds that a client which says nothing is not let in; 0 lets in everybody.
#[derive(Clone, Copy)]
struct DeferAccept;
nix::setsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize, SetUsize);

/// Whether a listening socket's clients have to speak first, as far as one worker has told it.
pub struct Deferral {
    capacity: Arc<Capacity>,
    is_on: bool,
    is_over: bool,
    /// The system may hold clients back: while it is on, and for a moment after.
    held: Option<Held>,
    /// Connections since `since`.
    count: usize,
    since: Instant,
    /// Rings while clients may be held back.
    clock: Pin<Box<Sleep>>,
}

impl Deferral {
    /// Whoever had the socket before may have left it on.
    pub fn new(capacity: Arc<Capacity>, socket: &impl AsFd) -> Deferral {
        let now = Instant::now();
        let clock = Box::pin(tokio::time::sleep_until(now));
        let deferral = Deferral { capacity, is_on: false, is_over: false, held: None, count: 0, since: now, clock };
        deferral.tell(0, socket);
        deferral
    }

    /// So many have come by the socket. No clock is looked at for most of them.
    pub fn came(&mut self, connections: usize, socket: &impl AsFd) {
        self.count += connections;
        if self.is_on || self.is_over || self.count < MANY {
            return;
        }
        if self.since.elapsed() < WINDOW {
            self.is_on = self.tell(1, socket);
            self.held = Some(Held::of(&self.capacity));
            self.rings_after(WINDOW);
        }
        self.begin();
    }

    /// Resolves when it is time for a look: never where nobody is held back.
    pub async fn due(&mut self) {
        match self.held {
            Some(_) => self.clock.as_mut().await,
            None => pending().await,
        }
    }

    pub fn look(&mut self, socket: &impl AsFd) {
        match self.is_on {
            true if self.count < MANY / 2 => self.release(socket),
            true => self.rings_after(WINDOW),
            false => self.held = None,
        }
        self.begin();
    }

    /// Everybody is let in, from now on and for good.
    pub fn stop(&mut self, socket: &impl AsFd) {
        self.is_over = true;
        if self.is_on {
            self.release(socket);
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether there may be clients that take themselves for connected and are not let in yet.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    fn release(&mut self, socket: &impl AsFd) {
        self.tell(0, socket);
        self.is_on = false;
        self.rings_after(HELD);
    }

    fn begin(&mut self) {
        (self.count, self.since) = (0, Instant::now());
    }

    fn rings_after(&mut self, time: Duration) {
        self.clock.as_mut().reset(Instant::now() + time);
    }

    fn tell(&self, seconds: usize, socket: &impl AsFd) -> bool {
        let told = DeferAccept.set(socket, &seconds);
        if let Err(error) = told {
            tracing::debug!("whether clients speak first cannot be set: {error}");
        }
        told.is_ok()
    }
}

/// So many within [`WINDOW`] are many: below that it would save less than a hundredth of a core.
const MANY: usize = 1000;
const WINDOW: Duration = Duration::from_secs(1);
/// The system asks whoever it has held back for a second whether he is there, and lets him in with his answer. Where the
/// question is lost, it is asked again two seconds later: that is not waited for.
const HELD: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use nix::sys::socket::GetSockOpt;
    use nix::sys::socket::sockopt::GetUsize;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    use super::*;
    use crate::proxy::arrival::Entrance;

    nix::getsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, usize, GetUsize);

    fn is_on(entrance: &Entrance) -> bool {
        DeferAccept.get(entrance).unwrap() > 0
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_on_for_as_long_as_many_come() {
        let (entrance, _) = Entrance::somewhere();
        let capacity = Arc::new(Capacity::default());
        DeferAccept.set(&entrance, &1).unwrap();
        let mut deferral = Deferral::new(capacity.clone(), &entrance);
        assert!(!is_on(&entrance), "another process had left it on");
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
        let emptied = async |within| tokio::time::timeout(within, capacity.emptied()).await.is_ok();
        assert!(!emptied(WINDOW / 2).await, "somebody may be held back");
        deferral.came(MANY / 2 - 1, &entrance);
        deferral.due().await;
        deferral.look(&entrance);
        assert!(!is_on(&entrance) && deferral.holds() && !emptied(HELD / 2).await);
        deferral.due().await;
        deferral.look(&entrance);
        assert!(!deferral.holds() && emptied(Duration::ZERO).await);
        let never = tokio::time::timeout(10 * WINDOW, deferral.due()).await;
        assert!(never.is_err(), "it is looked at again only once many come");
        deferral.came(MANY, &entrance);
        deferral.came(MANY, &entrance);
        assert!(is_on(&entrance));
        deferral.stop(&entrance);
        assert!(!is_on(&entrance) && deferral.holds());
        deferral.came(MANY, &entrance);
        assert!(!is_on(&entrance), "for good");
    }

    #[tokio::test]
    async fn who_says_nothing_is_let_in_a_second_late_and_not_lost_when_it_ends() {
        let (entrance, address) = Entrance::somewhere();
        let mut deferral = Deferral::new(Arc::default(), &entrance);
        deferral.since = Instant::now() + WINDOW;
        deferral.came(MANY, &entrance);
        let silent = TcpStream::connect(address).await.unwrap();
        let mut speaks = TcpStream::connect(address).await.unwrap();
        speaks.write_all(b"GET /").await.unwrap();
        assert_eq!(entrance.accept().await.unwrap().1, speaks.local_addr().unwrap());
        assert!(entrance.accept_now().is_none());
        deferral.stop(&entrance);
        let late = tokio::select! {
            biased;
            accepted = entrance.accept() => accepted.unwrap().1,
            () = deferral.due() => panic!("he is held back for longer"),
        };
        assert_eq!(late, silent.local_addr().unwrap());
    }
}
