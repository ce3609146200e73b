//! Where lines leave the process: a file, or a pipe, which may be full for as long as nobody reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::LogFile;

/// An open file or pipe.
pub struct Outlet {
    file: File,
    /// A file of our own, which is never full for a moment only. Stdout may be shared with others.
    is_own: bool,
}

impl Outlet {
    pub fn open(to: &LogFile) -> io::Result<Outlet> {
        let file = match to {
            LogFile::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            // Opened to read as well, a pipe need not wait for who reads it, and outlives him.
            LogFile::Path(path) if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) => {
                OpenOptions::new().read(true).write(true).open(path)?
            }
            LogFile::Path(path) => OpenOptions::new().append(true).create(true).mode(MODE).open(path)?,
        };
        let is_own = *to != LogFile::Stdout && file.metadata()?.is_file();
        Ok(Outlet { file, is_own })
    }

    /// Writes some of the bytes and says how many. A pipe that takes none for a moment is `WouldBlock`: there are other
    /// things to look after.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_own {
            return self.file.write(bytes);
        }
        let moment = Timespec { tv_sec: 0, tv_nsec: MOMENT.as_nanos() as i64 };
        match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&moment))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            // A pipe that is ready takes this many without making the writer wait (pipe(7)).
            _ => self.file.write(&bytes[..bytes.len().min(PIPE_BUF)]),
        }
    }

    /// Takes back the last `torn` bytes: whether that was possible.
    pub fn take_back(&mut self, torn: u64) -> bool {
        let cut = || {
            let length = self.file.metadata().ok()?.len().checked_sub(torn)?;
            self.file.set_len(length).ok()
        };
        self.is_own && cut().is_some()
    }
}

/// Owner and group may read: lines tell about people.
const MODE: u32 = 0o640;
const PIPE_BUF: usize = 4096;
const MOMENT: Duration = Duration::from_millis(100);
