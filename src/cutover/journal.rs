//! The journal: every state of every cutover, on disk before it takes effect. JSON lines, each with a checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::machine::Cutover;
use crate::names::ServiceName;
use crate::time::{self, Timestamp};

/// Shared by all drivers; one file for all services.
pub struct Journal {
    inner: Mutex<Inner>,
    /// Held for as long as the journal is open: two proxies must not write one journal.
    _lock: File,
}

struct Inner {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    end: u64,
    /// The last state of each cutover, oldest first.
    history: Vec<Cutover>,
}

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    cutover: Cutover,
}

impl Journal {
    /// Opens the journal in `dir`, which must exist. A torn last line, as a crash leaves it, is cut off.
    pub fn open(dir: &Path) -> Result<Arc<Journal>, JournalError> {
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
        let (history, end) = replay(&text, &path)?;
        if end < text.len() {
            tracing::warn!(path = %path.display(), bytes = text.len() - end, "the journal's torn last line is cut off");
            file.set_len(end as u64).and_then(|()| file.sync_data()).map_err(failed("cannot be cut", &path))?;
        }
        let mut inner = Inner { path, file, end: end as u64, history };
        if inner.end > COMPACT_AT {
            inner.compact(dir).map_err(failed("cannot be compacted", &dir.join(FILE)))?;
        }
        // The folder's own entry for the file must outlive a power cut too.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("cannot be synced", dir))?;
        Ok(Arc::new(Journal { inner: Mutex::new(inner), _lock: lock }))
    }

    /// Writes the state down; when this returns it is on disk. Where it fails, the journal is as it was.
    pub fn append(&self, cutover: &Cutover) -> Result<(), JournalError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let path = inner.path.clone();
        let written = inner.append(cutover);
        written.map_err(|source| JournalError::Io { what: "cannot be written", path, source })
    }

    /// The newest cutovers first, of one service or of all.
    pub fn history(&self, service: Option<&ServiceName>) -> Vec<Cutover> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |cutover: &&Cutover| service.is_none_or(|service| cutover.service == *service);
        inner.history.iter().rev().filter(wanted).cloned().collect()
    }

    /// The service's newest cutover.
    pub fn last(&self, service: &ServiceName) -> Option<Cutover> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.history.iter().rev().find(|cutover| cutover.service == *service).cloned()
    }

    pub fn find(&self, id: &str) -> Option<Cutover> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.history.iter().rev().find(|cutover| cutover.id == id).cloned()
    }
}

impl Inner {
    fn append(&mut self, cutover: &Cutover) -> io::Result<()> {
        let line = line(cutover)?;
        let end = self.end;
        let write = self.file.seek(SeekFrom::Start(end));
        if let Err(error) = write.and_then(|_| self.file.write_all(&line)).and_then(|()| self.file.sync_data()) {
            // Half a line may stand there; the next one must not be glued to it. If this fails too, the next append
            // still begins at the same place.
            let _ = self.file.set_len(end);
            return Err(error);
        }
        self.end = end + line.len() as u64;
        remember(&mut self.history, cutover.clone());
        Ok(())
    }

    /// Leaves the last state of each cutover remembered, and the unbroken old file until the new one is whole.
    fn compact(&mut self, dir: &Path) -> io::Result<()> {
        let lines = self.history.iter().map(line).collect::<io::Result<Vec<_>>>()?.concat();
        let draft = dir.join(DRAFT);
        let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&draft)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        self.file = file;
        self.end = lines.len() as u64;
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

/// The states in the file, and where its last whole line ends.
fn replay(text: &[u8], path: &Path) -> Result<(Vec<Cutover>, usize), JournalError> {
    let mut history = Vec::new();
    let mut end = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match read(line) {
            Ok(cutover) => remember(&mut history, cutover),
            Err(_) if line == b"\n" => {}
            Err(_) if is_torn(line, end > 0) => return Ok((history, end)),
            Err(why) => return Err(JournalError::Damaged { path: path.to_owned(), line: number + 1, why }),
        }
        end += line.len();
    }
    Ok((history, end))
}

/// Only the last line can be torn, since each was on disk whole before the next was begun; it has no end, and begins like
/// any other. Blocks that a power cut left unwritten read as zeros. Anything else is damage, and is left as it is.
fn is_torn(line: &[u8], follows_good: bool) -> bool {
    let begins = line.starts_with(BEGIN) || BEGIN.starts_with(line);
    let unwritten = follows_good && line.iter().all(|byte| *byte == 0);
    !line.ends_with(b"\n") && (begins || unwritten)
}

/// `{"at":...,"cutover":{...},"crc":"0a1b2c3d"}`: the checksum is that of the line without it.
fn line(cutover: &Cutover) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line { at: time::now(), cutover: cutover.clone() })?;
    let crc = crc32c::crc32c(&line);
    line.pop();
    line.extend_from_slice(format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes());
    Ok(line)
}

fn read(line: &[u8]) -> Result<Cutover, String> {
    let Some(body) = line.len().checked_sub(CRC_LEN).map(|at| &line[..at]) else {
        return Err("it is too short".into());
    };
    let body = [body, b"}"].concat();
    if line[body.len() - 1..] != *format!(",\"crc\":\"{:08x}\"}}\n", crc32c::crc32c(&body)).as_bytes() {
        return Err("its checksum does not match".into());
    }
    let line: Line = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    Ok(line.cutover)
}

fn remember(history: &mut Vec<Cutover>, cutover: Cutover) {
    match history.iter_mut().rev().find(|known| known.id == cutover.id) {
        Some(known) => *known = cutover,
        None => history.push(cutover),
    }
    if history.len() > REMEMBERED {
        // Never the last word on a service: that is what says which color is live.
        let newer = |at: usize| history[at + 1..].iter().any(|other| other.service == history[at].service);
        if let Some(oldest) = (0..history.len()).find(|at| newer(*at)) {
            history.remove(oldest);
        }
    }
}

const FILE: &str = "journal.jsonl";
const DRAFT: &str = "journal.jsonl.new";
const LOCK: &str = "lock";
const BEGIN: &[u8] = b"{\"at\":\"";
/// `,"crc":"0a1b2c3d"}` and the line's end.
const CRC_LEN: usize = 19;
const COMPACT_AT: u64 = 4 * 1024 * 1024;
/// Cutovers kept for `history`.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cutover::machine::{Evidence, Kind, Phase};
    use crate::names::Color;

    fn cutover(id: &str, service: &str, phase: Phase) -> Cutover {
        Cutover {
            id: id.into(),
            service: service.parse().unwrap(),
            kind: Kind::Switch,
            from: Color::Blue,
            to: Color::Green,
            by: "uid 0".into(),
            reason: Some("a \"quoted\" reason\nover two lines".into()),
            started: Timestamp::UNIX_EPOCH,
            ended: None,
            generation: 0,
            phase,
            returning: false,
            evidence: Evidence::default(),
        }
    }

    fn written() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        for (id, service, phase) in [
            ("c1", "shop", Phase::Prepare),
            ("c1", "shop", Phase::Switch),
            ("c2", "api", Phase::Prepare),
            ("c1", "shop", Phase::Drain),
            ("c1", "shop", Phase::Done),
        ] {
            journal.append(&cutover(id, service, phase)).unwrap();
        }
        drop(journal);
        let text = fs::read(dir.path().join(FILE)).unwrap();
        (dir, text)
    }

    #[test]
    fn what_was_written_comes_back() {
        let (dir, _) = written();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.last(&"shop".parse().unwrap()).unwrap(), cutover("c1", "shop", Phase::Done));
        let ids: Vec<String> = journal.history(None).into_iter().map(|cutover| cutover.id).collect();
        assert_eq!(ids, ["c2", "c1"]);
        assert_eq!(journal.history(Some(&"api".parse().unwrap())).len(), 1);
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
            let journal = Journal::open(dir.path()).unwrap();
            let phases = [Phase::Prepare, Phase::Switch, Phase::Switch, Phase::Drain, Phase::Done];
            let shop = journal.last(&"shop".parse().unwrap()).map(|cutover| cutover.phase);
            assert_eq!(shop, whole.checked_sub(1).map(|last| phases[last]), "cut at {cut}");
            journal.append(&cutover("c3", "shop", Phase::Prepare)).unwrap();
            drop(journal);
            let again = Journal::open(dir.path()).unwrap();
            assert_eq!(again.last(&"shop".parse().unwrap()).unwrap().id, "c3", "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_last_line_is_not_guessed_over() {
        let (dir, mut text) = written();
        text[40] ^= 1;
        fs::write(dir.path().join(FILE), text).unwrap();
        let Err(error) = Journal::open(dir.path()) else { panic!("it opened") };
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
            assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { .. })));
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::write(&path, [&text[..], &zeros].concat()).unwrap();
        assert!(Journal::open(dir.path()).is_ok(), "zeros behind whole lines are what a power cut leaves");
    }

    #[test]
    fn a_second_proxy_and_a_missing_folder_are_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Journal::open(dir.path()).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Locked { .. })));
        let Err(error) = Journal::open(&dir.path().join("missing")) else { panic!("it opened") };
        assert!(error.to_string().contains("create it"), "{error}");
    }

    #[test]
    fn a_long_journal_is_compacted_and_loses_no_services_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut lines = line(&cutover("old", "api", Phase::Done)).unwrap();
        let mut count = 0;
        while (lines.len() as u64) < COMPACT_AT + 1 {
            lines.extend(line(&cutover(&format!("c{count}"), "shop", Phase::Done)).unwrap());
            count += 1;
        }
        fs::write(&path, lines).unwrap();
        drop(Journal::open(dir.path()).unwrap());
        assert!(fs::metadata(&path).unwrap().len() < COMPACT_AT / 2);
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.last(&"api".parse().unwrap()).unwrap().id, "old");
        assert_eq!(journal.last(&"shop".parse().unwrap()).unwrap().id, format!("c{}", count - 1));
        assert_eq!(journal.history(None).len(), REMEMBERED);
    }
}
