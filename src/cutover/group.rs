//! A group: a command and whatever it has started, none of which outlives the command, nor the proxy, however that ends.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

/// Dropping it ends all of it.
pub struct Group {
    guard: Child,
    /// Whatever ends the proxy closes this pipe too, and then the guard ends the command.
    _held: Option<ChildStdin>,
}

impl Group {
    /// `guarded` is what starts the guard, who starts the command: there is no instant at which it has none.
    pub fn start(mut guarded: Command) -> io::Result<Group> {
        let mut guard = guarded.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // To wait for a child closes its input.
        let held = guard.stdin.take();
        Ok(Group { guard, _held: held })
    }

    /// How the command ended, once nobody is left of it, and as many bytes of the end of what was printed, as complaints if
    /// there were any.
    pub async fn run(&mut self, kept: usize) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (out, err) = (self.guard.stdout.take(), self.guard.stderr.take());
        let (mut said_out, mut said_err) = (Vec::new(), Vec::new());
        let (over, is_over) = oneshot::channel::<()>();
        let ended = async {
            let _over = over;
            self.guard.wait().await
        };
        let printed = async {
            tokio::select! {
                _ = async { tokio::join!(tail(out, &mut said_out, kept), tail(err, &mut said_err, kept)) } => {}
                // Whoever could not be ended, or was given the pipes, may hold them for as long as he likes.
                () = async { drop(is_over.await); tokio::time::sleep(LAST_WORDS).await } => {}
            }
        };
        let (status, ()) = tokio::join!(ended, printed);
        Ok((status?, if said_err.is_empty() { said_out } else { said_err }))
    }
}

/// Keeps the last of what comes; a program that prints without end must not fill the memory.
async fn tail(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; most];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(most));
    }
}

/// How long what a command printed may still be on its way when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
