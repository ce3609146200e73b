//! The journal: what must outlive a restart, on disk before it takes effect. One file of JSON lines, each with a checksum.

mod error;
mod line;
mod pen;
mod reserve;

pub use self::error::JournalError;
pub use self::pen::inspect;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::line::{Line, is_torn};
use self::pen::Pen;
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
    rewritten: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Journal {
    /// Opens the journal in `dir`, which must exist. A torn last line, as a crash leaves it, is cut off. One that can be
    /// read and not written opens too, since it says who is live.
    pub fn open(dir: &Path, vital: &[Vital]) -> Result<Arc<Journal>, JournalError> {
        let (mut pen, text) = Pen::take(dir)?;
        let path = pen.path().to_owned();
        let (lines, end) = replay(&text, vital, &path)?;
        if end < text.len() {
            tracing::warn!(path = %path.display(), bytes = text.len() - end, "the journal's torn last line is cut off");
        }
        let begun = pen.begin(end, || text_of(&lines));
        let trouble = begun.inspect_err(|error| {
            tracing::error!(
                "{error}; meanwhile it says who is live, and what would have to be written down is refused"
            );
        });
        Ok(Arc::new(Journal {
            path,
            hangs: AtomicBool::new(false),
            reserve: AtomicU64::new(pen.reserve()),
            rewritten: AtomicU64::new(0),
            trouble: Mutex::new(trouble.err().map(|error| error.to_string())),
            lines: Mutex::new(lines),
            pen: Arc::new(tokio::sync::Mutex::new(pen)),
        }))
    }

    /// Writes the state down; when this returns it is on disk. Where it fails, the journal is as it was, or will be as soon
    /// as a disk that hangs goes on. While it hangs, whatever else is to be written fails at once.
    pub fn append<T: Topic>(
        self: &Arc<Journal>,
        entry: &T,
    ) -> impl Future<Output = Result<(), JournalError>> + Send + use<T> {
        let (journal, line) = (self.clone(), Line::of(entry));
        async move {
            let line = line.map_err(journal.failed())?;
            journal.put(Some(line)).await
        }
    }

    /// Looks now and then, for as long as there is a journal, whether a start would find it, and whether one that could not
    /// be written can be.
    pub async fn watch(journal: Weak<Journal>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let Some(journal) = journal.upgrade() else { return };
            let known = journal.trouble();
            match journal.put(None).await {
                Ok(()) if known.is_some() => tracing::info!("the journal can be written again"),
                Err(error) if known.is_none() => tracing::error!("{error}"),
                _ => {}
            }
        }
    }

    /// Has the line written, or only the file seen to, on a thread that may wait for the disk.
    async fn put(self: &Arc<Journal>, line: Option<Line>) -> Result<(), JournalError> {
        let pen = self.pen.clone().try_lock_owned();
        if pen.is_err() && self.hangs.load(Ordering::Relaxed) {
            return Err(self.hanging());
        }
        let settled = Arc::new(AtomicBool::new(false));
        let (journal, is_settled) = (self.clone(), settled.clone());
        let writing = async move {
            let mut pen = match pen {
                Ok(pen) => pen,
                Err(_) => journal.pen.clone().lock_owned().await,
            };
            let written = tokio::task::spawn_blocking(move || journal.write(&mut pen, line, &is_settled)).await;
            written.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
        };
        let mut writing = std::pin::pin!(writing);
        match timeout(DISK, &mut writing).await {
            Ok(written) => written,
            // It is on disk, and what comes behind it, such as the reserve, need not be waited for.
            Err(_) if settled.swap(true, Ordering::Relaxed) => Ok(()),
            Err(_) => {
                self.hangs.store(true, Ordering::Relaxed);
                let error = self.hanging();
                *self.lock_trouble() = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Waits for the disk.
    fn write(&self, pen: &mut Pen, line: Option<Line>, settled: &AtomicBool) -> Result<(), JournalError> {
        let written = pen.ready(|| text_of(&self.lines())).and_then(|was_rewritten| {
            self.rewritten.fetch_add(u64::from(was_rewritten), Ordering::Relaxed);
            match line {
                Some(line) => self.write_line(pen, line, settled),
                None if self.trouble().is_some() => pen.try_out().map_err(self.failed()),
                None => Ok(()),
            }
        });
        self.hangs.store(false, Ordering::Relaxed);
        self.reserve.store(pen.reserve(), Ordering::Relaxed);
        *self.lock_trouble() = written.as_ref().err().map(ToString::to_string);
        written
    }

    /// Whoever settles it first, this or the one that gives up, decides whether the line counts.
    fn write_line(&self, pen: &mut Pen, line: Line, settled: &AtomicBool) -> Result<(), JournalError> {
        let end = pen.end();
        let written = pen.append(line.text()).map_err(self.failed()).and_then(|()| {
            let mut lines = self.lines();
            if settled.swap(true, Ordering::Relaxed) {
                return Err(self.hanging());
            }
            remember(&mut lines, line);
            Ok(())
        });
        if written.is_err() {
            pen.take_back(end);
        }
        pen.keep_reserve();
        written
    }

    fn hanging(&self) -> JournalError {
        let why = format!(
            "the disk has not answered for {}; should the proxy end before it does, the next start may find what was to be \
             written, and go by it",
            Human(DISK)
        );
        self.failed()(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> JournalError + use<> {
        JournalError::io("cannot be written", &self.path)
    }

    /// Bytes that can be written though the disk be full.
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// How often it was written anew, since somebody had removed, cut or replaced it.
    pub fn rewritten(&self) -> u64 {
        self.rewritten.load(Ordering::Relaxed)
    }

    /// Why it cannot be written, as far as the last try has shown, and what to do about it.
    pub fn trouble(&self) -> Option<String> {
        self.lock_trouble().clone()
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

    fn lock_trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines that are kept of the file, and where its last whole one ends: with its end, also where it lacks that.
fn replay(text: &[u8], vital: &[Vital], path: &Path) -> Result<(Vec<Line>, usize), JournalError> {
    let understood = |line: Line| vital.iter().try_for_each(|topic| (topic.understood)(&line)).map(|()| line);
    let (mut lines, mut end) = (Vec::new(), 0);
    for (number, piece) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line = match Line::read(piece) {
            Err(_) if piece == b"\n" => {
                end += piece.len();
                continue;
            }
            Err(_) if is_torn(piece, end > 0) => return Ok((lines, end)),
            line => line.and_then(understood),
        };
        let line = line.map_err(|why| JournalError::Damaged { path: path.to_owned(), line: number + 1, why })?;
        end += line.text().len();
        remember(&mut lines, line);
    }
    Ok((lines, end))
}

/// All that is remembered, as it stands in a file.
fn text_of(lines: &[Line]) -> Vec<u8> {
    lines.iter().map(Line::text).collect::<Vec<_>>().concat()
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

/// How long a line may take before the disk is one that hangs: longer than where it is only busy, and shorter than the word
/// on an order may take.
const DISK: Duration = Duration::from_secs(4);
/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(5);
/// Entries kept of each topic.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use serde::Deserialize;

    use super::pen::{COMPACT_AT, DRAFT, FILE};
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

    fn append(journal: &Arc<Journal>, entry: &impl Topic) -> Result<(), JournalError> {
        in_held_time(journal.append(entry))
    }

    fn in_held_time<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
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
        fs::remove_file(&path).unwrap();
        assert!(journal.pen.blocking_lock().ready(|| text_of(&journal.lines())).unwrap());
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
            // A line that lacks only its end is whole.
            let whole = text[..text.len().min(cut + 1)].iter().filter(|byte| **byte == b'\n').count();
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
    fn a_last_line_that_lacks_only_its_end_is_given_it_unless_it_is_damaged() {
        let (dir, text) = written();
        let path = dir.path().join(FILE);
        let strange = signed(r#"{"at":"2030-01-01T00:00:00Z","deed":{"id":"d","service":"shop","step":"sideways"}}"#);
        fs::write(&path, &text[..text.len() - 1]).unwrap();
        drop(open(dir.path()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), text);
        let strange = [&text[..], &strange[..strange.len() - 1]].concat();
        fs::write(&path, &strange).unwrap();
        assert!(matches!(open(dir.path()), Err(JournalError::Damaged { line: 6, .. })), "whole, and not understood");
        assert_eq!(fs::read(&path).unwrap(), strange);
    }

    #[test]
    fn removed_cut_or_replaced_it_is_written_anew_as_it_is_remembered() {
        let (dir, text) = written();
        let (path, other) = (dir.path().join(FILE), dir.path().join("other"));
        let journal = open(dir.path()).unwrap();
        let harms: [&dyn Fn(); 4] = [
            &|| fs::remove_file(&path).unwrap(),
            &|| fs::File::options().write(true).open(&path).unwrap().set_len(30).unwrap(),
            &|| fs::write(&path, text.repeat(2)).unwrap(),
            &|| fs::write(&other, "precious").and_then(|()| fs::rename(&other, &path)).unwrap(),
        ];
        for (step, harm) in (5..).zip(harms) {
            harm();
            append(&journal, &deed("c1", "shop", step)).unwrap();
            assert_eq!(journal.rewritten(), u64::from(step) - 4);
            let again = tempfile::tempdir().unwrap();
            fs::copy(&path, again.path().join(FILE)).unwrap();
            let again = open(again.path()).unwrap();
            assert_eq!(last(&again, "shop").unwrap().step, step);
            assert_eq!(again.history::<Deed>(None), journal.history(None));
            assert!(journal.reserve() > 0 && beyond(&path) >= journal.reserve());
        }
        assert_eq!(fs::read(dir.path().join("journal.jsonl.found")).unwrap(), b"precious");
    }

    #[test]
    fn what_was_given_up_while_the_disk_hung_is_taken_back() {
        let (dir, text) = written();
        let journal = open(dir.path()).unwrap();
        let (line, given_up) = (Line::of(&deed("c1", "shop", 5)).unwrap(), AtomicBool::new(true));
        let mut pen = journal.pen.blocking_lock();
        assert!(journal.write(&mut pen, Some(line), &given_up).is_err() && journal.trouble().is_some());
        drop(pen);
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), text);
        assert_eq!(last(&journal, "shop").unwrap().step, 4);
        in_held_time(journal.put(None)).unwrap();
        assert_eq!(journal.trouble(), None, "it is tried out, and leaves nothing");
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), text);
        append(&journal, &deed("c1", "shop", 6)).unwrap();
        drop(journal);
        assert_eq!(last(&open(dir.path()).unwrap(), "shop").unwrap().step, 6);
    }

    #[test]
    fn while_a_line_hangs_readers_do_not_wait_and_all_other_lines_fail_at_once() {
        let (dir, text) = written();
        let journal = open(dir.path()).unwrap();
        let entry = deed("c1", "shop", 5);
        in_held_time(async {
            let hangs = journal.pen.lock().await;
            let (began, mut first) = (tokio::time::Instant::now(), std::pin::pin!(journal.append(&entry)));
            assert!(timeout(DISK / 2, &mut first).await.is_err(), "it may only be busy");
            assert_eq!(last(&journal, "shop").unwrap().step, 4);
            assert!(first.await.unwrap_err().to_string().contains("the disk has not answered"));
            assert!(began.elapsed() >= DISK);
            let (again, failed) = (tokio::time::Instant::now(), journal.append(&entry).await.is_err());
            assert!(failed && again.elapsed().is_zero() && journal.trouble().is_some());
            drop(hangs);
            assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), text);
            journal.append(&entry).await.unwrap();
        });
        assert_eq!((last(&journal, "shop").unwrap().step, journal.trouble()), (5, None));
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
