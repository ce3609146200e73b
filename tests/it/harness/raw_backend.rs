//! A backend that writes its bytes itself: for answers no HTTP library would send.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use socket2::SockRef;
use tokio::sync::mpsc;

use super::{Address, PATIENCE};

/// Health checks pass; every other request's head goes to the story's closure, with the socket.
pub struct RawBackend {
    address: SocketAddr,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl RawBackend {
    pub fn start(answer: impl Fn(&str, &mut TcpStream) + Clone + Send + 'static) -> RawBackend {
        RawBackend::start_at((Ipv4Addr::LOCALHOST, 0).into(), answer)
    }

    /// The same at this address.
    pub fn start_at(address: SocketAddr, answer: impl Fn(&str, &mut TcpStream) + Clone + Send + 'static) -> RawBackend {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let accepts = listener.try_clone().unwrap();
        let thread = thread::spawn(move || {
            while let Ok((socket, _)) = accepts.accept() {
                let answer = answer.clone();
                // Ends with its connection, or when the read timeout says that nobody is there.
                thread::spawn(move || talk(socket, &answer));
            }
        });
        RawBackend { address, listener, thread: Some(thread) }
    }

    /// Answers each request with these bytes and closes.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> RawBackend {
        let bytes = bytes.into();
        RawBackend::start(move |_, socket| {
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(Shutdown::Both);
        })
    }

    /// Switches protocols whatever it is asked, and tells of each such answer whether its connection ended with it.
    pub fn switching() -> (RawBackend, mpsc::UnboundedReceiver<bool>) {
        let (tell, told) = mpsc::unbounded_channel();
        let backend = RawBackend::start(move |_, socket| {
            let _ =
                socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n");
            let _ = tell.send(matches!(socket.read(&mut [0]), Ok(0)));
        });
        (backend, told)
    }
}

impl Address for RawBackend {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        // On Linux this wakes the thread that waits in accept.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn talk(mut socket: TcpStream, answer: &impl Fn(&str, &mut TcpStream)) {
    let _ = socket.set_read_timeout(Some(PATIENCE));
    while let Some(head) = read_head(&mut socket) {
        if head.contains(" /healthz ") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        } else {
            answer(&head, &mut socket);
        }
    }
}

/// Byte by byte, so that what follows stays in the socket for the closure.
fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
