//! The reserve: blocks behind the journal's end that are its own already, so that a full disk does not take an operator's way back.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

/// They are beyond the file's length: who reads the journal, or copies it, sees nothing of them.
#[derive(Default)]
pub struct Reserve {
    /// Where they end.
    end: u64,
    standing: Standing,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Kept,
    /// The disk has no room for one; that is tried again with each line.
    Short,
    /// The file system knows of no such thing.
    Unknown,
}

impl Reserve {
    /// Bytes that are left of it behind the journal's end.
    pub fn left(&self, end: u64) -> u64 {
        self.end.saturating_sub(end)
    }

    /// Makes it whole again where less than half is left. Whatever comes of that, the journal goes on as well as it can.
    pub fn keep(&mut self, file: &File, end: u64, path: &Path) {
        if self.left(end) >= HALF || self.standing == Standing::Unknown {
            return;
        }
        let before = self.standing;
        match allocate(file, end) {
            Ok(size) => (self.end, self.standing) = (end + size, Standing::Kept),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.standing = Standing::Unknown,
            Err(error) => {
                self.standing = Standing::Short;
                if before != Standing::Short {
                    let (path, error) = (path.display(), io::Error::from(error));
                    tracing::warn!(
                        "the journal {path} has no reserve, so that a full disk stops switches and the way back: {error}; make room"
                    );
                }
            }
        }
        match (before, self.standing) {
            (Standing::Short, Standing::Kept) => tracing::info!("the journal has its reserve again"),
            (_, Standing::Unknown) => {
                tracing::info!("the journal has no reserve: the file system of {} gives none", path.display());
            }
            _ => {}
        }
    }

    /// Blocks behind a file's end go when it is cut.
    pub fn lose(&mut self) {
        self.end = 0;
    }
}

/// How much there is room for. A restart on a full disk finds what there was, since what is allocated already is not
/// allocated again; it may be a half.
fn allocate(file: &File, end: u64) -> Result<u64, Errno> {
    let all = |size| retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, end, size)).map(|()| size);
    match all(WHOLE) {
        Err(Errno::NOSPC | Errno::DQUOT) => all(HALF),
        made => made,
    }
}

/// The lines of some hundred cutovers.
const WHOLE: u64 = 1024 * 1024;
const HALF: u64 = WHOLE / 2;
