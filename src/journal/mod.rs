//! The journal: what must outlive a restart, on disk before it takes effect. One file of JSON lines, each with a checksum.

mod line;
mod reserve;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use self::line::{Line, is_torn};
use self::reserve::Reserve;
use crate::names::ServiceName;
use crate::time::Human;

/// Something whose states are kept: of each `id` the newest, until too many newer ones have come.
///
/// Serialised, it has `id` and `service` at its top, as these methods say them.
pub trait Topic: Serialize + DeserializeOwned {
    /// The word for it in the journal.
    const NAME: &'static str;

    fn id(&self) -> &str;

    fn service(&self) -> &ServiceName;
}

/// A topic that has to be understood to the last line, or the journal does not open. Lines about anything else, such as
/// what a newer version wrote before it was taken back, are kept as they are and stop nobody.
pub struct Vital {
    understood: fn(&Line) -> Result<(), String>,
}

impl Vital {
    pub fn topic<T: Topic>() -> Vital {
        Vital { understood: |line| line.says::<T>().map_or(Ok(()), |said| said.map(drop)) }
    }
}

/// Shared by all who write; one file for all topics and services, in the order things happened.
pub struct Journal {
    path: PathBuf,
    /// Whoever holds it may have to wait for the disk, so it is used on threads that are there for that.
    pen: Arc<tokio::sync::Mutex<Pen>>,
    /// A write has been given up, and holds the pen for as long as the disk hangs.
    hangs: AtomicBool,
    /// The last line about each id, in the order in which the ids came up. Locked for moments, never while the disk is.
    lines: Mutex<Vec<Line>>,
    /// What was left of the reserve behind the last line: whoever asks does not wait for the disk.
    reserve: AtomicU64,
    /// Held for as long as the journal is open: two proxies must not write one journal.
    _lock: File,
}

/// The file, as only one at a time may write it.
struct Pen {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    end: u64,
    reserve: Reserve,
}

impl Journal {
    /// Opens the journal in `dir`, which must exist. A torn last line, as a crash leaves it, is cut off.
    pub fn open(dir: &Path, vital: &[Vital]) -> Result<Arc<Journal>, JournalError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { what, path, source }
        };
        if !dir.is_dir() {
            return Err(JournalError::NoFolder { dir: dir.to_owned() });
        }
        let lock_path = dir.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed("cannot be created", &lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| JournalError::Locked { dir: dir.to_owned() })?;

        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(failed("cannot be opened", &path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("cannot be read", &path))?;
        let (lines, end) = replay(&text, vital, &path)?;
        if end < text.len() {
            tracing::warn!(path = %path.display(), bytes = text.len() - end, "the journal's torn last line is cut off");
            file.set_len(end as u64).and_then(|()| file.sync_data()).map_err(failed("cannot be cut", &path))?;
        }
        let mut pen = Pen { path: path.clone(), file, end: end as u64, reserve: Reserve::default() };
        if pen.end > COMPACT_AT
            && let Err(error) = pen.compact(&lines, dir)
        {
            // There may be no room for a second one beside it, and the long one says the same.
            tracing::warn!(path = %path.display(), "the journal cannot be compacted, and is taken as it is: {error}");
            let _ = fs::remove_file(dir.join(DRAFT));
        }
        pen.keep_reserve();
        // The folder's own entry for the file must outlive a power cut too.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("cannot be synced", dir))?;
        Ok(Arc::new(Journal {
            path,
            hangs: AtomicBool::new(false),
            lines: Mutex::new(lines),
            reserve: AtomicU64::new(pen.left()),
            pen: Arc::new(tokio::sync::Mutex::new(pen)),
            _lock: lock,
        }))
    }

    /// Writes the state down; when this returns it is on disk. Where it fails, the journal is as it was, or will be as soon
    /// as a disk that hangs goes on. While it hangs, whatever else is to be written fails at once.
    pub fn append<T: Topic>(
        self: &Arc<Journal>,
        entry: &T,
    ) -> impl Future<Output = Result<(), JournalError>> + Send + use<T> {
        let (journal, line) = (self.clone(), Line::of(entry));
        async move { journal.put(line).await.map_err(|source| journal.unwritten(source)) }
    }

    async fn put(self: &Arc<Journal>, line: io::Result<Line>) -> io::Result<()> {
        let line = line?;
        let pen = self.pen.clone().try_lock_owned();
        if pen.is_err() && self.hangs.load(Ordering::Relaxed) {
            return Err(hanging());
        }
        let settled = Arc::new(AtomicBool::new(false));
        let (journal, is_settled) = (self.clone(), settled.clone());
        let writing = async move {
            let pen = match pen {
                Ok(pen) => pen,
                Err(_) => journal.pen.clone().lock_owned().await,
            };
            let written = tokio::task::spawn_blocking(move || journal.write(pen, line, &is_settled)).await;
            written.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
        };
        let mut writing = std::pin::pin!(writing);
        match timeout(DISK, &mut writing).await {
            Ok(written) => written,
            // It has come true at this very moment.
            Err(_) if settled.swap(true, Ordering::Relaxed) => writing.await,
            Err(_) => {
                self.hangs.store(true, Ordering::Relaxed);
                Err(hanging())
            }
        }
    }

    /// Waits for the disk. Whoever settles it first, this or the one that gives up, decides whether the line counts.
    fn write(&self, mut pen: OwnedMutexGuard<Pen>, line: Line, settled: &AtomicBool) -> io::Result<()> {
        self.hangs.store(false, Ordering::Relaxed);
        let end = pen.end;
        let written = pen.append(line.text()).and_then(|()| {
            let mut lines = self.lines();
            if settled.swap(true, Ordering::Relaxed) {
                return Err(hanging());
            }
            remember(&mut lines, line);
            Ok(())
        });
        if written.is_err() {
            pen.take_back(end);
        }
        pen.keep_reserve();
        self.reserve.store(pen.left(), Ordering::Relaxed);
        written
    }

    fn unwritten(&self, source: io::Error) -> JournalError {
        JournalError::Io { what: "cannot be written", path: self.path.clone(), source }
    }

    /// Bytes that can be written though the disk be full.
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// The newest first, of one service or of all.
    pub fn history<T: Topic>(&self, service: Option<&ServiceName>) -> Vec<T> {
        said(&self.lines(), |line| service.is_none_or(|service| line.service == *service)).collect()
    }

    /// The service's newest.
    pub fn last<T: Topic>(&self, service: &ServiceName) -> Option<T> {
        said(&self.lines(), |line| line.service == *service).next()
    }

    pub fn find<T: Topic>(&self, id: &str) -> Option<T> {
        said(&self.lines(), |line| line.id == id).next()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pen {
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(text)?;
        self.file.sync_data()?;
        self.end += text.len() as u64;
        Ok(())
    }

    /// What stands behind `end` does not count, be it half a line, to which the next one must not be glued. If this fails
    /// too, the next append still begins at the same place.
    fn take_back(&mut self, end: u64) {
        self.end = end;
        let _ = self.file.set_len(end).and_then(|()| self.file.sync_data());
        self.reserve.lose();
    }

    fn keep_reserve(&mut self) {
        self.reserve.keep(&self.file, self.end, &self.path);
    }

    fn left(&self) -> u64 {
        self.reserve.left(self.end)
    }

    /// Leaves the last line about each id remembered, and the unbroken old file until the new one is whole. With the old
    /// one its blocks go, so that there is room for the reserve of the new one.
    fn compact(&mut self, lines: &[Line], dir: &Path) -> io::Result<()> {
        let text = lines.iter().map(Line::text).collect::<Vec<_>>().concat();
        let draft = dir.join(DRAFT);
        let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        self.file = file;
        self.end = text.len() as u64;
        Ok(())
    }
}

/// Why the journal cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(
        "the state folder {} does not exist; create it, owned by the user the proxy runs as, or name another as `dir` under [state]",
        dir.display()
    )]
    NoFolder { dir: PathBuf },
    #[error(
        "another proxy keeps its state in {}; stop it, or give this one a state folder of its own (`dir` under [state])",
        dir.display()
    )]
    Locked { dir: PathBuf },
    #[error("the journal {} {what}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the journal {} is damaged at line {line}: {why}. Which color is live is written there, so the proxy does not guess: \
         restore the file from a backup, or keep a copy and {}",
        path.display(),
        match line {
            1 => "remove it: then every service begins with blue".to_owned(),
            _ => format!("cut it behind line {}, if what that line says still holds", line - 1),
        }
    )]
    Damaged { path: PathBuf, line: usize, why: String },
}

/// The lines that are kept of the file, and where its last whole one ends.
fn replay(text: &[u8], vital: &[Vital], path: &Path) -> Result<(Vec<Line>, usize), JournalError> {
    let understood = |line: Line| vital.iter().try_for_each(|topic| (topic.understood)(&line)).map(|()| line);
    let (mut lines, mut end) = (Vec::new(), 0);
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match Line::read(line).and_then(understood) {
            Ok(line) => remember(&mut lines, line),
            Err(_) if line == b"\n" => {}
            Err(_) if is_torn(line, end > 0) => return Ok((lines, end)),
            Err(why) => return Err(JournalError::Damaged { path: path.to_owned(), line: number + 1, why }),
        }
        end += line.len();
    }
    Ok((lines, end))
}

/// What the wanted lines about `T` say, newest first. One that is not understood is of no use to whoever asks; where
/// that must not be, the topic is vital and this journal is not open.
fn said<T: Topic>(lines: &[Line], wanted: impl Fn(&Line) -> bool) -> impl Iterator<Item = T> {
    let of_topic = lines.iter().rev().filter(|line| line.topic == T::NAME);
    of_topic.filter(move |line| wanted(line)).filter_map(|line| match line.says::<T>()? {
        Ok(said) => Some(said),
        Err(why) => {
            tracing::warn!(id = %line.id, "a line about {} in the journal is not understood: {why}", T::NAME);
            None
        }
    })
}

fn hanging() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the disk has not answered for {}", Human(DISK)))
}

fn remember(lines: &mut Vec<Line>, line: Line) {
    let is_same = |known: &&mut Line| known.topic == line.topic && known.id == line.id;
    let topic = line.topic.clone();
    match lines.iter_mut().rev().find(is_same) {
        Some(known) => *known = line,
        None => lines.push(line),
    }
    if lines.iter().filter(|line| line.topic == topic).count() > REMEMBERED {
        // Never the last word on a service: that is what says which color is live.
        let newer = |at: usize| {
            let of_same = |other: &Line| other.topic == topic && other.service == lines[at].service;
            lines[at + 1..].iter().any(of_same)
        };
        if let Some(oldest) = (0..lines.len()).find(|at| lines[*at].topic == topic && newer(*at)) {
            lines.remove(oldest);
        }
    }
}

const FILE: &str = "journal.jsonl";
const DRAFT: &str = "journal.jsonl.new";
const LOCK: &str = "lock";
const COMPACT_AT: u64 = 4 * 1024 * 1024;
/// How long a line may take before the disk is one that hangs: longer than where it is only busy, and shorter than the word
/// on an order may take.
const DISK: Duration = Duration::from_secs(3);
/// Entries kept of each topic.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Deed {
        id: String,
        service: ServiceName,
        step: u8,
        reason: String,
    }

    impl Topic for Deed {
        const NAME: &'static str = "deed";

        fn id(&self) -> &str {
            &self.id
        }

        fn service(&self) -> &ServiceName {
            &self.service
        }
    }

    /// The same ids, about something else.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Thought(Deed);

    impl Topic for Thought {
        const NAME: &'static str = "thought";

        fn id(&self) -> &str {
            &self.0.id
        }

        fn service(&self) -> &ServiceName {
            &self.0.service
        }
    }

    fn deed(id: &str, service: &str, step: u8) -> Deed {
        let reason = "a \"quoted\" reason\nover two lines".into();
        Deed { id: id.into(), service: service.parse().unwrap(), step, reason }
    }

    fn open(dir: &Path) -> Result<Arc<Journal>, JournalError> {
        Journal::open(dir, &[Vital::topic::<Deed>()])
    }

    /// Writes it down as the proxy does.
    fn append(journal: &Arc<Journal>, entry: &impl Topic) -> Result<(), JournalError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(journal.append(entry))
    }

    fn last(journal: &Journal, service: &str) -> Option<Deed> {
        journal.last(&service.parse().unwrap())
    }

    fn written() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path()).unwrap();
        for (id, service, step) in
            [("c1", "shop", 1), ("c1", "shop", 2), ("c2", "api", 1), ("c1", "shop", 3), ("c1", "shop", 4)]
        {
            append(&journal, &deed(id, service, step)).unwrap();
        }
        drop(journal);
        let text = fs::read(dir.path().join(FILE)).unwrap();
        (dir, text)
    }

    #[test]
    fn what_was_written_comes_back() {
        let (dir, _) = written();
        let journal = open(dir.path()).unwrap();
        assert_eq!(last(&journal, "shop").unwrap(), deed("c1", "shop", 4));
        let ids: Vec<String> = journal.history::<Deed>(None).into_iter().map(|deed| deed.id).collect();
        assert_eq!(ids, ["c2", "c1"]);
        assert_eq!(journal.history::<Deed>(Some(&"api".parse().unwrap())).len(), 1);
    }

    #[test]
    fn topics_share_the_file_and_do_not_mix() {
        let (dir, text) = written();
        let journal = open(dir.path()).unwrap();
        append(&journal, &Thought(deed("c1", "shop", 9))).unwrap();
        drop(journal);
        let journal = open(dir.path()).unwrap();
        assert_eq!(last(&journal, "shop").unwrap().step, 4);
        assert_eq!(journal.find::<Thought>("c1").unwrap().0.step, 9);
        assert_eq!(journal.find::<Thought>("c2"), None);
        let now = fs::read(dir.path().join(FILE)).unwrap();
        assert!(now.starts_with(&text) && now[text.len()..].starts_with(b"{\"at\":\""));
        assert!(now[text.len()..].windows(12).any(|part| part == b",\"thought\":{"), "{}", now.escape_ascii());
    }

    #[test]
    fn what_is_vital_has_to_be_understood_and_what_only_a_newer_version_knows_is_kept() {
        let (dir, text) = written();
        let path = dir.path().join(FILE);
        let newer =
            signed(r#"{"at":"2030-01-01T00:00:00Z","dream":{"id":"d","service":"shop","of":["sheep"],"n":1.50}}"#);
        fs::write(&path, [&text[..], &newer].concat()).unwrap();
        let journal = open(dir.path()).unwrap();
        assert_eq!(last(&journal, "shop").unwrap().step, 4);
        let lines = journal.lines();
        journal.pen.blocking_lock().compact(&lines, dir.path()).unwrap();
        drop(lines);
        drop(journal);
        let kept = fs::read(&path).unwrap();
        assert!(kept.len() < text.len() && kept.ends_with(&newer), "{}", kept.escape_ascii());

        let strange = signed(r#"{"at":"2030-01-01T00:00:00Z","deed":{"id":"d","service":"shop","step":"sideways"}}"#);
        fs::write(&path, [&text[..], &strange].concat()).unwrap();
        let Err(error) = open(dir.path()) else { panic!("it opened") };
        assert!(error.to_string().contains("damaged at line 6: invalid type"), "{error}");
        let journal = Journal::open(dir.path(), &[]).unwrap();
        assert_eq!(last(&journal, "shop").unwrap().step, 4, "where it is not vital, the last that is understood");
    }

    fn signed(body: &str) -> Vec<u8> {
        let crc = crc32c::crc32c(body.as_bytes());
        format!("{},\"crc\":\"{crc:08x}\"}}\n", &body[..body.len() - 1]).into_bytes()
    }

    #[test]
    fn cut_at_any_byte_it_opens_with_the_lines_that_are_whole_and_takes_more() {
        let (dir, text) = written();
        let path = dir.path().join(FILE);
        // Every byte around the ends of lines, and a sample of those between.
        let ends = |at: &usize| text[at.saturating_sub(2)..(at + 2).min(text.len())].contains(&b'\n');
        for cut in (0..text.len()).filter(|at| at % 23 == 0 || ends(at)) {
            fs::write(&path, &text[..cut]).unwrap();
            let whole = text[..cut].iter().filter(|byte| **byte == b'\n').count();
            let journal = open(dir.path()).unwrap();
            let shop = last(&journal, "shop").map(|deed| deed.step);
            assert_eq!(shop, whole.checked_sub(1).map(|last| [1, 2, 2, 3, 4][last]), "cut at {cut}");
            append(&journal, &deed("c3", "shop", 1)).unwrap();
            drop(journal);
            let again = open(dir.path()).unwrap();
            assert_eq!(last(&again, "shop").unwrap().id, "c3", "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_last_line_is_not_guessed_over() {
        let (dir, mut text) = written();
        text[40] ^= 1;
        fs::write(dir.path().join(FILE), text).unwrap();
        let Err(error) = open(dir.path()) else { panic!("it opened") };
        assert!(error.to_string().contains("damaged at line 1"), "{error}");
    }

    #[test]
    fn what_was_never_a_journal_is_refused_and_left_as_it_is() {
        let (dir, text) = written();
        let path = dir.path().join(FILE);
        let mut last_damaged = text.clone();
        let at = last_damaged.len() - 30;
        last_damaged[at] ^= 1;
        let zeros = vec![0; 5000];
        let garbage: [&[u8]; 5] = [b"garbage\n", b"<html>", &zeros, &[0xff; 100], &last_damaged];
        for bytes in garbage {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(open(dir.path()), Err(JournalError::Damaged { .. })));
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::write(&path, [&text[..], &zeros].concat()).unwrap();
        assert!(open(dir.path()).is_ok(), "zeros behind whole lines are what a power cut leaves");
    }

    /// Bytes of the disk that the file has beyond its length.
    fn beyond(path: &Path) -> u64 {
        let found = fs::metadata(path).unwrap();
        (found.blocks() * 512).saturating_sub(found.len())
    }

    #[test]
    fn there_is_a_reserve_behind_the_end_which_is_made_whole_again_and_is_no_part_of_the_file() {
        let (dir, text) = written();
        let path = dir.path().join(FILE);
        fs::write(&path, [&text[..], b"{\"at\":\"torn"].concat()).unwrap();
        let journal = open(dir.path()).unwrap();
        let whole = journal.reserve();
        assert_eq!(fs::read(&path).unwrap(), text);
        assert!(whole > 0 && beyond(&path) >= whole, "{whole}, and {} on disk", beyond(&path));
        let long = Deed { reason: "because ".repeat(whole as usize / 8 / 8), ..deed("c9", "shop", 1) };
        let mut left = vec![whole];
        for _ in 0..10 {
            append(&journal, &long).unwrap();
            left.push(journal.reserve());
            assert!(beyond(&path) >= journal.reserve());
        }
        assert!(left.iter().all(|left| (whole / 2..=whole).contains(left)), "{left:?}");
        assert!(left.windows(2).any(|pair| pair[0] < pair[1]), "{left:?}");
        drop(journal);
        let end = fs::metadata(&path).unwrap().len();
        assert!(fs::read(&path).unwrap().ends_with(b"}\n") && end > whole);
        assert_eq!(open(dir.path()).unwrap().reserve(), whole, "a start makes it whole");
    }

    #[test]
    fn where_a_long_journal_cannot_be_compacted_it_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let long = Deed { reason: "because ".repeat(100_000), ..deed("c1", "shop", 4) };
        let line = Line::of(&long).unwrap().text().to_owned();
        let text = line.repeat(COMPACT_AT as usize / line.len() + 1);
        fs::write(&path, &text).unwrap();
        // Nobody can write there, as if there were no room.
        fs::create_dir(dir.path().join(DRAFT)).unwrap();
        let journal = open(dir.path()).unwrap();
        assert_eq!(last(&journal, "shop").unwrap().step, 4);
        append(&journal, &deed("c2", "shop", 1)).unwrap();
        drop(journal);
        assert!(fs::read(&path).unwrap().starts_with(&text));
        fs::remove_dir(dir.path().join(DRAFT)).unwrap();
        assert_eq!(last(&open(dir.path()).unwrap(), "shop").unwrap().id, "c2");
        assert!(fs::metadata(&path).unwrap().len() < COMPACT_AT, "the next start does it");
    }

    #[test]
    fn a_second_proxy_and_a_missing_folder_are_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(JournalError::Locked { .. })));
        let Err(error) = open(&dir.path().join("missing")) else { panic!("it opened") };
        assert!(error.to_string().contains("create it"), "{error}");
    }

    #[test]
    fn a_long_journal_is_compacted_and_loses_no_services_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut lines = Line::of(&deed("old", "api", 4)).unwrap().text().to_owned();
        let mut count = 0;
        while (lines.len() as u64) < COMPACT_AT + 1 {
            let long = Deed { reason: "because ".repeat(100), ..deed(&format!("c{count}"), "shop", 4) };
            lines.extend(Line::of(&long).unwrap().text());
            count += 1;
        }
        fs::write(&path, lines).unwrap();
        drop(open(dir.path()).unwrap());
        assert!(fs::metadata(&path).unwrap().len() < COMPACT_AT / 2);
        let journal = open(dir.path()).unwrap();
        assert_eq!(last(&journal, "api").unwrap().id, "old");
        assert_eq!(last(&journal, "shop").unwrap().id, format!("c{}", count - 1));
        assert_eq!(journal.history::<Deed>(None).len(), REMEMBERED);
    }
}
