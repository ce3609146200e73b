//! A group: a command and whatever it has started, none of which outlives the command, nor the proxy, however that ends.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

pub struct Group {
    command: Child,
    /// Leads the group, where there is one.
    guard: Option<Child>,
}

impl Group {
    /// The guard is there before the command, and the command is in its group before it is the command: at no instant would
    /// a proxy that is killed leave it behind.
    pub async fn start(mut command: Command) -> io::Result<Group> {
        let guard = guard().await;
        let leader = guard.as_ref().and_then(id).map_or(OF_ITS_OWN, Pid::as_raw_pid);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let command = command.process_group(leader).kill_on_drop(true).spawn()?;
        Ok(Group { command, guard })
    }

    /// How the command ended, and as many bytes of the end of what was printed, as complaints if there were any.
    pub async fn run(&mut self, kept: usize) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (out, err) = (self.command.stdout.take(), self.command.stderr.take());
        let (mut said_out, mut said_err) = (Vec::new(), Vec::new());
        let (over, is_over) = oneshot::channel::<()>();
        let ended = async {
            let _over = over;
            self.ended().await
        };
        let printed = async {
            tokio::select! {
                _ = async { tokio::join!(tail(out, &mut said_out, kept), tail(err, &mut said_err, kept)) } => {}
                // Whoever has left the group may hold the pipes for as long as he likes.
                () = async { drop(is_over.await); tokio::time::sleep(LAST_WORDS).await } => {}
            }
        };
        let (status, ()) = tokio::join!(ended, printed);
        Ok((status?, if said_err.is_empty() { said_out } else { said_err }))
    }

    /// The command has ended, and with it what it has started and left running.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let mut changes = signal(SignalKind::child())?;
        while let Some(id) = id(&self.command)
            && waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)?.is_none()
        {
            changes.recv().await;
        }
        // Before it is waited for: from then on a group that it leads may be somebody else's.
        self.end();
        self.command.wait().await
    }

    /// A command that leads a group of its own by now, as `timeout` does, is ended with that as well.
    fn end(&self) {
        for leader in [self.guard.as_ref(), Some(&self.command)].into_iter().flatten().filter_map(id) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// A shell that waits for the end of a pipe whose other end only the proxy holds, and then ends its group. Whatever ends the
/// proxy closes that pipe. To have the kernel end the command with its parent would end that one process alone, and with
/// the thread that has started it.
async fn guard() -> Option<Child> {
    let watching = async {
        let mut guard = Command::new(SHELL)
            .args(["-c", GUARD])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(OF_ITS_OWN)
            .kill_on_drop(true)
            .spawn()?;
        // A command that signals its group at once would end a guard that is not deaf yet.
        let mut says = guard.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        says.read_u8().await?;
        Ok::<_, io::Error>(guard)
    };
    let guard = match tokio::time::timeout(READY, watching).await {
        Ok(guard) => guard,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    guard
        .inspect_err(|error| tracing::warn!("without {SHELL} a command would outlive a proxy that is killed: {error}"))
        .ok()
}

/// Nothing once it has been waited for.
fn id(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
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

const SHELL: &str = "/bin/sh";
/// A command that signals its own group, as scripts do at their end, must not end the guard before the rest.
const GUARD: &str = "trap '' HUP INT QUIT TERM USR1 USR2 ALRM PIPE; echo; read -r line; kill -KILL 0";
/// A shell that takes longer to say so is none.
const READY: Duration = Duration::from_secs(5);
/// For `process_group`: the process leads a new one.
const OF_ITS_OWN: i32 = 0;
/// How long what a command printed may still be on its way when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
