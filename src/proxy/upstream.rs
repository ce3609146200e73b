//! One worker's connections to one endpoint: idle ones are kept and used again, the newest first.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::metrics::ColorSheet;
use crate::pool::Endpoint;

/// An endpoint as one worker knows it.
pub struct Upstream {
    endpoint: Arc<Endpoint>,
    /// Its address as text.
    name: String,
    idle: RefCell<Vec<Idle>>,
    busy: Cell<usize>,
    /// The lane's age when it came up.
    since: u64,
    sheet: Arc<ColorSheet>,
    basin: Basin,
}

struct Idle {
    wire: Wire,
    /// The lane's age when the connection was put here.
    since: u64,
}

impl Upstream {
    /// One that comes up when its lane is of this age.
    pub fn new(endpoint: Arc<Endpoint>, since: u64, sheet: Arc<ColorSheet>, basin: Basin) -> Upstream {
        let name = endpoint.address.to_string();
        Upstream { endpoint, name, idle: RefCell::default(), busy: Cell::new(0), since, sheet, basin }
    }

    pub fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.endpoint, endpoint)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn busy(&self) -> usize {
        self.busy.get()
    }

    /// How much of its share it gets, where that takes so many seconds to be all of it: a tenth at first.
    pub fn warmth(&self, age: u64, slow_start: u64) -> f32 {
        match age.saturating_sub(self.since) {
            gone if gone >= slow_start => 1.0,
            gone => (gone as f32 / slow_start as f32).max(COLDEST),
        }
    }

    /// A request's turn at this endpoint, counted from now on.
    pub fn turn(self: &Rc<Upstream>) -> Turn {
        self.busy.set(self.busy.get() + 1);
        Turn(self.clone())
    }

    /// Lets go of idle connections that have died, or have not been used for `keep` seconds.
    pub fn sweep(&self, age: u64, keep: u64) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|one| one.wire.is_quiet() && age.saturating_sub(one.since) < keep);
        self.sheet.upstream_idle.change(idle.len() as i64 - before as i64);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.sheet.upstream_idle.change(-(self.idle.get_mut().len() as i64));
    }
}

/// One request's turn at an endpoint: it makes the endpoint busier for as long as it lasts.
pub struct Turn(Rc<Upstream>);

impl Turn {
    pub fn upstream(&self) -> &Rc<Upstream> {
        &self.0
    }

    /// An idle connection that, as far as this side knows, is still open.
    ///
    /// `age` is the lane's. The system is asked as well, which costs a call, where the connection has idled for a while
    /// or the request could not be repeated: elsewhere the runtime has heard of it but for once in 10,000, and an end is
    /// then made good by another try.
    pub fn reuse(&self, age: u64, is_repeatable: bool) -> Option<Wire> {
        loop {
            let Idle { wire, since } = self.0.idle.borrow_mut().pop()?;
            self.0.sheet.upstream_idle.change(-1);
            if wire.is_quiet() && (is_repeatable && since == age || wire.is_silent()) {
                return Some(wire);
            }
        }
    }

    /// The idle connection that has not been used for the longest time, where it is still open: so that whoever asks again
    /// and again goes round all of them.
    pub fn reuse_oldest(&self) -> Option<Wire> {
        loop {
            let mut idle = self.0.idle.borrow_mut();
            let Idle { wire, .. } = if idle.is_empty() { return None } else { idle.remove(0) };
            self.0.sheet.upstream_idle.change(-1);
            if wire.is_quiet() && wire.is_silent() {
                return Some(wire);
            }
        }
    }

    /// A new connection.
    pub async fn connect(&self, within: Duration) -> io::Result<Wire> {
        let stream = tokio::time::timeout(within, TcpStream::connect(self.0.endpoint.address)).await??;
        stream.set_nodelay(true)?;
        let basin = self.0.basin.clone();
        Ok(Wire { socket: Socket::Whole(stream), input: Bytes::new(), own: BytesMut::new(), is_large: false, basin })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
    }
}

/// One connection to an endpoint, and what has come on it and has not been taken yet.
///
/// No task of its own reads it: the request that uses it does, and in between nobody has to.
pub struct Wire {
    pub socket: Socket,
    pub input: Bytes,
    /// A large answer is read into this, in large pieces: of those the client still has some when the next comes, so that
    /// in the basin they would take room from each other (measured, with the size of the pieces: 10 % of the CPU for 1 MiB).
    own: BytesMut,
    is_large: bool,
    basin: Basin,
}

/// What all of a worker's connections are read into, one after the other. An answer has most often gone on to the client
/// when the next is read, and all of it is free again: so that the same few lines of the processor's cache serve hundreds
/// of connections, where a buffer for each would have to be fetched from memory.
#[derive(Clone, Default)]
pub struct Basin(Rc<RefCell<BytesMut>>);

/// A connection's socket; only its reading half where the rest of a request is still being sent beside the answer.
pub enum Socket {
    Whole(TcpStream),
    Reading(OwnedReadHalf),
}

impl Wire {
    /// Whether nothing has come that nobody asked for, and nothing is being sent.
    fn is_whole(&self) -> bool {
        self.input.is_empty() && matches!(self.socket, Socket::Whole(_))
    }

    /// Whether it is open as far as this side knows, and nothing has come on it while it was idle.
    fn is_quiet(&self) -> bool {
        let Socket::Whole(stream) = &self.socket else { return false };
        // No system call: the readiness is what the runtime has heard since the last read.
        stream.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// The same, asked of the system: what has come since the runtime last looked would be taken for the answer to the next
    /// request, and an end would cost a POST its answer.
    fn is_silent(&self) -> bool {
        let Socket::Whole(stream) = &self.socket else { return false };
        let peeked = socket2::SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads more, at most so much at one time; 0 where the endpoint has ended the connection.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            return self.poll_append(cx, most);
        }
        // Even of nothing it would hold on to where it was read.
        self.input = Bytes::new();
        let mut shared;
        let (input, size) = match self.is_large {
            true => (&mut self.own, READ_MOST),
            false => {
                shared = self.basin.0.borrow_mut();
                (&mut *shared, READ)
            }
        };
        // Half of it will do where somebody still holds the rest.
        if !input.try_reclaim(size) && input.capacity() < size / 2 {
            input.reserve(size);
        }
        let room = size.min(most).min(input.capacity());
        let read = ready!(pin!(self.socket.read_buf(&mut (&mut *input).limit(room))).poll(cx))?;
        self.input = input.split().freeze();
        // An answer that fills what there is room for has more behind it, and is read in large pieces to its end.
        self.is_large |= read == room;
        Poll::Ready(Ok(read))
    }

    /// Reads more of what can only be understood as a whole: it moves to a buffer of its own, where it has none yet.
    fn poll_append(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let input = std::mem::take(&mut self.input).try_into_mut();
        let mut input = input.unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let want = READ.min(most);
        input.reserve(want);
        let read = pin!(self.socket.read_buf(&mut (&mut input).limit(want))).poll(cx);
        self.input = input.freeze();
        read
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Whole(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Reading(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

/// One connection in the hands of one request. Dropping it closes the connection; [`Link::release`] keeps it.
pub struct Link {
    turn: Turn,
    pub wire: Wire,
    active: Active,
}

impl Link {
    pub fn new(turn: Turn, wire: Wire) -> Link {
        let active = Active::new(turn.0.sheet.clone());
        Link { turn, wire, active }
    }

    /// The half that the rest of the request is written to. The connection carries no other request after that.
    pub fn split(self) -> (Link, Option<OwnedWriteHalf>) {
        let Link { turn, wire: Wire { socket, input, own, is_large, basin }, active } = self;
        let (socket, writing) = match socket {
            Socket::Whole(stream) => {
                let (reading, writing) = stream.into_split();
                (Socket::Reading(reading), Some(writing))
            }
            reading => (reading, None),
        };
        (Link { turn, wire: Wire { socket, input, own, is_large, basin }, active }, writing)
    }

    /// The answer has been read to its end: the connection may carry another request. `age` is the lane's.
    /// `most` are kept by one worker for one endpoint.
    pub fn release(self, age: u64, most: usize) {
        let Link { turn, mut wire, active } = self;
        drop(active);
        let mut idle = turn.0.idle.borrow_mut();
        // Whether it is still open is asked when it is needed again.
        if wire.is_whole() && idle.len() < most {
            (wire.input, wire.own, wire.is_large) = (Bytes::new(), BytesMut::new(), false);
            idle.push(Idle { wire, since: age });
            turn.0.sheet.upstream_idle.change(1);
        }
    }
}

/// Counts a connection as active.
struct Active(Arc<ColorSheet>);

impl Active {
    fn new(sheet: Arc<ColorSheet>) -> Active {
        sheet.upstream_active.change(1);
        Active(sheet)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.upstream_active.change(-1);
    }
}

/// The share of its share that an endpoint begins with.
const COLDEST: f32 = 0.1;
/// What is read at one time: little at first, more for an answer that fills it.
const READ: usize = 16 * 1024;
pub const READ_MOST: usize = 128 * 1024;
