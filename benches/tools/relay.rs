//! The null relay: one connection to the backend for each client, and for each request two reads and two writes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::ready;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// One for all connections, as nothing stays in it between two polls: it is always warm.
type Buffer = Rc<RefCell<Vec<u8>>>;

pub async fn serve(address: SocketAddr, backend: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let buffer: Buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
    loop {
        let (client, _) = listener.accept().await?;
        let buffer = buffer.clone();
        // A connection that breaks ends, and the load counts what it has lost.
        tokio::task::spawn_local(async move { relay(client, backend, buffer).await.ok() });
    }
}

async fn relay(mut client: TcpStream, backend: SocketAddr, buffer: Buffer) -> io::Result<()> {
    let mut backend = TcpStream::connect(backend).await?;
    client.set_nodelay(true)?;
    backend.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_backend, to_backend) = backend.split();
    tokio::try_join!(pump(from_client, to_backend, &buffer), pump(from_backend, to_client, &buffer))?;
    Ok(())
}

/// Copies until the end. A read that does not fill the buffer is not followed by one that finds nothing.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, buffer: &Buffer) -> io::Result<()> {
    loop {
        let rest = poll_fn(|cx| {
            let mut buffer = buffer.borrow_mut();
            let mut read = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut from).poll_read(cx, &mut read))?;
            let read = read.filled();
            if read.is_empty() {
                return io::Result::Ok(None).into();
            }
            let written = match to.try_write(read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            // Empty, and so without an allocation, unless the other side is slow.
            io::Result::Ok(Some(read[written..].to_vec())).into()
        });
        match rest.await? {
            None => return to.shutdown().await,
            Some(rest) if rest.is_empty() => {}
            Some(rest) => to.write_all(&rest).await?,
        }
    }
}

const BUFFER: usize = 64 * 1024;
