//! Any bytes as the journal: never a panic; what opens, opens again the same; only a torn end is cut or the last
//! line given its end, and other damage is refused and left as it is.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use cutover::cutover::Cutover;
use cutover::journal::{Journal, JournalError, Vital};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, text)) = data.split_first() else { return };
    // No fuzzer guesses a checksum: in one mode every whole line gets the right one.
    let written = if *mode == b's' { signed(text) } else { text.to_vec() };
    let (dir, path) = (&*DIR, DIR.join("journal.jsonl"));
    std::fs::write(&path, &written).unwrap();
    let opened = history(dir);
    let left = std::fs::read(&path).unwrap();
    match opened {
        Ok(history_then) => {
            if left != [&written[..], b"\n"].concat() {
                let cut = written.strip_prefix(&*left).expect("only the end may be cut");
                assert!(!cut.contains(&b'\n'), "more than a torn line was cut: {}", cut.escape_ascii());
            }
            assert!(left.is_empty() || left.ends_with(b"\n"));
            let again = history(dir).expect("what opened opens again");
            assert_eq!(history_then, again);
            assert_eq!(std::fs::read(&path).unwrap(), left);
            goes_on(dir, &again);
        }
        Err(JournalError::Damaged { line, .. }) => {
            assert_eq!(left, written, "what is damaged is left as it is");
            assert!((1..=written.split_inclusive(|byte| *byte == b'\n').count()).contains(&line));
        }
        Err(error) => panic!("{error}"),
    }
});

fn open(dir: &Path) -> Result<Arc<Journal>, JournalError> {
    Journal::open(dir, &[Vital::topic::<Cutover>()])
}

fn history(dir: &Path) -> Result<Vec<Cutover>, JournalError> {
    Ok(open(dir)?.history(None))
}

/// A cutover written behind what is there is the last word when it is opened again.
fn goes_on(dir: &Path, known: &[Cutover]) {
    let Some(newest) = known.first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(open(dir).unwrap().append(newest)).unwrap();
    assert_eq!(history(dir).unwrap(), known);
}

fn signed(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"}\n") {
            Some(body) => {
                let crc = crc32c::crc32c(&[body, b"}"].concat());
                out.extend([body, format!(",\"crc\":\"{crc:08x}\"}}\n").as_bytes()].concat());
            }
            None => out.extend(line),
        }
    }
    out
}

/// In memory where the system has such a place, since the journal syncs; the same for every run, which is one at a time.
static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }.join("cutover-fuzz-journal");
    std::fs::create_dir_all(&dir).expect("a folder for the journal");
    dir
});
