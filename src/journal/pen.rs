//! The pen: the journal's file and its lock, as whoever writes has them. All that is done with it may wait for the disk.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::JournalError;
use super::reserve::Reserve;

pub struct Pen {
    dir: PathBuf,
    path: PathBuf,
    /// Two proxies must not write one journal. `None` where none could be taken, and nothing is written.
    lock: Option<File>,
    /// `None` until it could be opened for writing.
    file: Option<File>,
    /// As it was left: where it is something else by now, somebody has been there.
    left: Stamp,
    /// Where the last whole line ends.
    end: u64,
    reserve: Reserve,
}

impl Pen {
    /// Takes the journal in `dir` and reads it. Where it can only be read, that will do: it says which color is live.
    pub fn take(dir: &Path) -> Result<(Pen, Vec<u8>), JournalError> {
        inspect(dir)?;
        let path = dir.join(FILE);
        let lock = match lock(dir) {
            Err(JournalError::Io { .. }) if path.exists() => None,
            lock => Some(lock?),
        };
        let file = File::open(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => writable().create(true).open(&path),
            _ => Err(error),
        });
        let mut file = file.map_err(JournalError::io("cannot be opened", &path))?;
        let mut text = Vec::new();
        let read = file.read_to_end(&mut text).and_then(|_| Stamp::of(&file));
        let left = read.map_err(JournalError::io("cannot be read", &path))?;
        let dir = dir.to_owned();
        Ok((Pen { dir, path, lock, file: None, left, end: 0, reserve: Reserve::default() }, text))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to write behind what has been read, whose last whole line ends at `end`. A long journal is written anew from
    /// what is `remembered` of it.
    pub fn begin(&mut self, end: usize, remembered: impl Fn() -> Vec<u8>) -> Result<(), JournalError> {
        self.end = end as u64;
        self.ready(&remembered)?;
        if self.end > COMPACT_AT
            && let Err(error) = self.write_anew(&remembered())
        {
            // There may be no room for a second one beside it, and the long one says the same.
            tracing::warn!("the journal {} cannot be compacted, and is taken as it is: {error}", self.path.display());
        }
        self.keep_reserve();
        // The folder's own entry for the file must outlive a power cut too.
        sync_folder(&self.dir).map_err(JournalError::io("cannot be written", &self.path))
    }

    /// Makes sure that what is written now goes where the next start finds it, and behind all that is `remembered`: whether
    /// it had to be written anew, since somebody has removed, cut or replaced it.
    pub fn ready(&mut self, remembered: impl Fn() -> Vec<u8>) -> Result<bool, JournalError> {
        if !self.lock.as_ref().is_some_and(|lock| is_at(lock, &self.dir.join(LOCK))) {
            self.lock = Some(lock(&self.dir)?);
        }
        let failed = JournalError::io("cannot be written", &self.path);
        self.ready_to_write(remembered).map_err(failed)
    }

    fn ready_to_write(&mut self, remembered: impl Fn() -> Vec<u8>) -> io::Result<bool> {
        let found = Stamp::at(&self.path)?;
        if found == Some(self.left) {
            if self.file.is_none() {
                let file = writable().open(&self.path)?;
                // In an overlay it may be another one from now on.
                self.left = Stamp::of(&file)?;
                self.file = Some(file);
            }
            return self.mend().map(|()| false);
        }
        let kept = found.is_some_and(|found| found.len > 0) && self.keep_found();
        // Where it was removed its blocks go now, and there is room for another.
        self.file = None;
        self.write_anew(&remembered())?;
        let kept = if kept { format!("; what stood there is {FOUND} now") } else { String::new() };
        tracing::warn!(
            "the journal {} was removed, cut or replaced by somebody else, and is written anew{kept}",
            self.path.display()
        );
        self.keep_reserve();
        Ok(true)
    }

    /// It may be precious to somebody.
    fn keep_found(&self) -> bool {
        let found = self.dir.join(FOUND);
        let _ = fs::remove_file(&found);
        fs::hard_link(&self.path, found).is_ok()
    }

    pub fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(Errno::BADF)?;
        file.write_all_at(text, self.end)?;
        file.sync_data()?;
        self.end += text.len() as u64;
        self.left = Stamp::of(file)?;
        Ok(())
    }

    /// Whether a line could be written now: behind the end, where it goes again, and as long as few are.
    pub fn try_out(&mut self) -> io::Result<()> {
        let end = self.end;
        let tried = self.append(&[b'\n'; 4096]);
        self.take_back(end);
        self.keep_reserve();
        tried
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// What stands behind `end` does not count. If it cannot be cut off, it is before the next line, which must not be glued
    /// to half of one.
    pub fn take_back(&mut self, end: u64) {
        self.end = end;
        let _ = self.mend();
        if let Some(Ok(left)) = self.file.as_ref().map(Stamp::of) {
            self.left = left;
        }
    }

    /// Cuts off what a crash, or a line that failed, has left behind the last whole one, and gives that its end where it
    /// lacks it.
    fn mend(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let len = file.metadata()?.len();
        if len == self.end {
            return Ok(());
        }
        if len < self.end {
            file.write_all_at(b"\n", len)?;
        } else {
            file.set_len(self.end)?;
            self.reserve.lose();
        }
        file.sync_data()?;
        self.left = Stamp::of(file)?;
        Ok(())
    }

    pub fn keep_reserve(&mut self) {
        if let Some(file) = &self.file {
            self.reserve.keep(file, self.end, &self.path);
        }
    }

    /// Bytes that are left of the reserve.
    pub fn reserve(&self) -> u64 {
        self.reserve.left(self.end)
    }

    /// Leaves the file that is there until the new one is whole. With it its blocks go, so that there is room for the reserve
    /// of the new one.
    fn write_anew(&mut self, text: &[u8]) -> io::Result<()> {
        let draft = self.dir.join(DRAFT);
        // What a start that was cut short has left is as good as nothing.
        let _ = fs::remove_file(&draft);
        let written = writable().create_new(true).open(&draft).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            Ok(file)
        });
        let file = written.inspect_err(|_| drop(fs::remove_file(&draft)))?;
        self.left = Stamp::of(&file)?;
        self.file = Some(file);
        self.end = text.len() as u64;
        self.reserve.lose();
        sync_folder(&self.dir)
    }
}

/// Whether what stands in `dir` can be a journal; opens nothing.
pub fn inspect(dir: &Path) -> Result<(), JournalError> {
    if !dir.is_dir() {
        return Err(JournalError::NoFolder { dir: dir.to_owned() });
    }
    for path in [dir.join(FILE), dir.join(LOCK)] {
        if let Ok(found) = fs::metadata(&path)
            && !found.is_file()
        {
            return Err(JournalError::NoFile { what: in_words(found.file_type()), path });
        }
    }
    Ok(())
}

fn in_words(kind: FileType) -> &'static str {
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    // On a disk that is read-only it can be held all the same.
    let file = file.or_else(|error| File::open(&path).map_err(|_| error));
    let file = file.map_err(JournalError::io("cannot be opened", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(error) => Err(JournalError::io("cannot be locked", &path)(error.into())),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    Stamp::of(file).is_ok_and(|stamp| matches!(Stamp::at(path), Ok(Some(found)) if found == stamp))
}

fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Which file it is, and how long.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    len: u64,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        file.metadata().map(|found| Stamp::from(&found))
    }

    /// `None` where there is none.
    fn at(path: &Path) -> io::Result<Option<Stamp>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(Stamp::from(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Stamp {
        Stamp { dev: found.dev(), ino: found.ino(), len: found.len() }
    }
}

pub const FILE: &str = "journal.jsonl";
pub const DRAFT: &str = "journal.jsonl.new";
/// What somebody else has put in the journal's place.
const FOUND: &str = "journal.jsonl.found";
const LOCK: &str = "lock";
pub const COMPACT_AT: u64 = 4 * 1024 * 1024;
