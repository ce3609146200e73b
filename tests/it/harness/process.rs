//! A child process of the binary under test: what it prints is kept, its end can be awaited, no signal misses it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::PATIENCE;

/// Runs `cutover` with these arguments to its end.
pub async fn cutover(args: &[&str]) -> Ran {
    Process::start(args).ended().await
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// As a shell sees it: 128 and the signal's number where a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }

    /// Fails the story, with everything printed, unless it ended with this code.
    pub fn assert_code(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// Dropping it kills it.
pub struct Process {
    child: Mutex<Child>,
    /// Names this very process, even after its number was given to another.
    pidfd: Arc<OwnedFd>,
    end: watch::Receiver<bool>,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

impl Process {
    pub fn start(args: &[&str]) -> Process {
        let mut command = Command::new(PROGRAM);
        command.args(args).stdin(Stdio::null());
        Process::run(command)
    }

    /// As a service manager starts it: told where to send what, and with sockets from descriptor 3 on.
    pub fn start_managed(manager: &Manager, args: &[&str]) -> Process {
        let mut command = match &manager.handed[..] {
            [] => Command::new(PROGRAM),
            sockets => {
                // A shell moves them there, and says whose they are: its own, since the program takes its place.
                let mut shell = Command::new("sh");
                shell.args(["-c", if sockets.len() == 1 { HAND_ONE } else { HAND_TWO }, PROGRAM]);
                shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", &manager.names);
                shell
            }
        };
        command.args(args).envs(manager.env.iter().map(|(key, value)| (key, value)));
        let mut sockets = manager.handed.iter().map(|socket| Stdio::from(socket.try_clone().unwrap()));
        command.stdin(sockets.next().unwrap_or(Stdio::null()));
        match sockets.next() {
            None => Process::run(command),
            Some(second) => Process::run_into(command, Some(second)),
        }
    }

    /// Any command, with what it prints kept.
    pub fn run(command: Command) -> Process {
        Process::run_into(command, None)
    }

    fn run_into(mut command: Command, out: Option<Stdio>) -> Process {
        // Files, not pipes: a story that does not read them must not stop the process.
        let (stdout, stderr) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
        let child = command
            .env_remove("CUTOVER_ADMIN")
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "1")
            .stdout(out.unwrap_or_else(|| stdout.reopen().unwrap().into()))
            .stderr(stderr.reopen().unwrap())
            .spawn()
            .unwrap();
        let pidfd = Arc::new(pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap());
        let end = end_of(pidfd.clone());
        Process { child: Mutex::new(child), pidfd, end, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Does nothing to one that has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end; it must come by itself.
    pub async fn ended(&self) -> Ran {
        self.ended_within(PATIENCE).await
    }

    /// For what takes its time by design.
    pub async fn ended_within(&self, limit: Duration) -> Ran {
        let mut end = self.end.clone();
        let end = tokio::time::timeout(limit, end.wait_for(|end| *end)).await.map(drop);
        assert!(end.is_ok(), "no end within {limit:?}; so far\n{}{}", self.stdout(), self.stderr());
        let status = self.child.lock().unwrap().wait().unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        Ran { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }
}

/// What a service manager gives a process it starts.
#[derive(Default)]
pub struct Manager {
    pub env: Vec<(&'static str, String)>,
    /// At most two.
    pub handed: Vec<OwnedFd>,
    /// With `:` between them.
    pub names: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Turns true when the process has ended; it is left to be reaped by who holds it.
fn end_of(pidfd: Arc<OwnedFd>) -> watch::Receiver<bool> {
    let (end, told) = watch::channel(false);
    thread::spawn(move || {
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        end.send_replace(true);
    });
    told
}

fn read(file: &NamedTempFile) -> String {
    String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned()
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cutover");
const HAND_ONE: &str = r#"exec 3<&0 </dev/null; export LISTEN_PID=$$; exec "$0" "$@""#;
const HAND_TWO: &str = r#"exec 3<&0 </dev/null 4<&1 1>&2; export LISTEN_PID=$$; exec "$0" "$@""#;
