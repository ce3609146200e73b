//! The guard: the program once more, as the parent of a gate's command, which it ends with all it has started.
//!
//! The kernel gives it every process whose own parent has ended (it is their *subreaper*), so that nobody gets away by
//! another group or session, or by a parent that ends: whoever descends from the command is, in the end, its child.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal as Kill, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper,
    setsid, wait,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

/// What starts a guard over this command. It goes on for as long as the other end of its input is open.
pub fn over(command: &[String]) -> process::Command {
    let mut guard = process::Command::new(ITSELF);
    guard.arg0(NAME).args(command).stdin(Stdio::piped());
    guard
}

/// Is the guard, where the program has been started as one: the code to end with. For the first line of `main`.
pub fn stand() -> Option<ExitCode> {
    let mut called = std::env::args_os();
    if called.next()? != NAME {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.and_then(|runtime| runtime.block_on(watch_over(called)));
    Some(match ended.map(|status| status.map(|status| (status.exit_status(), status))) {
        Ok(Some((Some(code), _))) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Ok(_) => {
            // As the command was: who asks is told that a signal has ended it.
            let _ = kill_process(getpid(), Kill::KILL);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("it cannot be run: {error}");
            ExitCode::from(NOT_RUN)
        }
    })
}

/// How the command ended; nothing where the proxy was gone, or wanted its end.
async fn watch_over(mut command: impl Iterator<Item = OsString>) -> io::Result<Option<WaitStatus>> {
    // A session of its own, so that no group the command could join is the proxy's.
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    DEAF_TO.into_iter().try_for_each(|kind| signal(kind).map(drop))?;
    let mut changes = signal(SignalKind::child())?;
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let is_gone = poll(&mut [PollFd::new(&input, PollFlags::HUP)], Some(&Timespec::default()))? > 0;
    if is_gone {
        return Ok(None);
    }
    let mut proxy = Receiver::from_owned_fd(input)?;
    let program = command.next().ok_or(io::ErrorKind::InvalidInput)?;
    let child = Command::new(program).args(command).stdin(Stdio::null()).process_group(OF_ITS_OWN).spawn()?;
    let child = Pid::from_child(&child);
    let status = tokio::select! {
        status = ended(child, &mut changes) => Some(status?),
        // Nothing is ever written there.
        _ = proxy.read_u8() => None,
    };
    if status.is_none() {
        // Most are in here, and need not be looked for. It is not somebody else's group: nobody has waited for its leader.
        let _ = kill_process_group(child, Kill::KILL);
    }
    // Who has become somebody else, as with `sudo`, cannot be ended, nor who hangs in the kernel.
    let _ = timeout(LONGEST, end_all(&mut changes)).await;
    Ok(status)
}

async fn ended(command: Pid, changes: &mut Signal) -> io::Result<WaitStatus> {
    loop {
        while let Some((child, status)) = wait(WaitOptions::NOHANG)? {
            if child == command {
                return Ok(status);
            }
        }
        changes.recv().await;
    }
}

/// Ends its children, and theirs, who become its own by that, until there are none.
async fn end_all(changes: &mut Signal) -> io::Result<()> {
    loop {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for (child, group) in children()? {
            // A whole group at once: it cannot start somebody in between.
            let _ =
                if group == getpid() { kill_process(child, Kill::KILL) } else { kill_process_group(group, Kill::KILL) };
        }
        let _ = timeout(LOOK_AGAIN, changes.recv()).await;
    }
}

/// Each with its group.
fn children() -> io::Result<Vec<(Pid, Pid)>> {
    let entries = fs::read_dir("/proc")?;
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    Ok(stats.filter_map(|stat| child_of(getpid(), &stat)).collect())
}

/// Of `ID (NAME) STATE PARENT GROUP ..`, where the name may hold anything.
fn child_of(parent: Pid, stat: &str) -> Option<(Pid, Pid)> {
    let number = |text: &str| Pid::from_raw(text.parse().ok()?);
    let (id, _) = stat.split_once(' ')?;
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    let is_child = number(rest.next()?)? == parent;
    Some((number(id)?, number(rest.next()?)?)).filter(|_| is_child)
}

/// This very program, also where another has taken its place in the file system.
const ITSELF: &str = "/proc/self/exe";
const NAME: &str = "cutover-guard";
/// For `process_group`: the process leads a new one.
const OF_ITS_OWN: i32 = 0;
/// What a shell ends with where there is no such program.
const NOT_RUN: u8 = 127;
/// What the command may send to everybody it can reach. To hear them is enough; the command itself begins deaf to none.
const DEAF_TO: [SignalKind; 8] = [
    SignalKind::hangup(),
    SignalKind::interrupt(),
    SignalKind::quit(),
    SignalKind::terminate(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
    SignalKind::alarm(),
    SignalKind::pipe(),
];
/// For a process that became a child unseen, since its own parent has ended while the others were looked up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_told_from_others_whatever_they_call_themselves() {
        let pid = |id| Pid::from_raw(id).unwrap();
        assert_eq!(child_of(pid(7), "12 (sh) S 7 12 12 0 -1"), Some((pid(12), pid(12))));
        assert_eq!(child_of(pid(7), "13 (a) S 9 9 (b) R 7 12 12 0"), Some((pid(13), pid(12))));
        assert_eq!(child_of(pid(7), "14 (sh) S 1 7 7 0"), None);
        assert_eq!(child_of(pid(7), "15 (sh"), None);
    }
}
