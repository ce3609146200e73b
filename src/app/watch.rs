//! Watches the files that the config names, certificates and keys first of all: whether any has become another one.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::config::Config;

/// What the system says of each file; nothing of one that is not there.
pub type Looks = Vec<Option<Look>>;

/// A file that is written or replaced gets another change time at least, whatever it does to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Every file that is read beside the config itself.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let pairs = tls.flat_map(|tls| &tls.certificates).flat_map(|pair| [pair.cert.get_ref(), pair.key.get_ref()]);
    pairs.chain(&config.admin.token_file).cloned().collect()
}

/// Looks at every file. inotify would miss a link that is turned to another folder, as ACME clients do it.
pub fn look(files: &[PathBuf]) -> Looks {
    let one = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some(Look { inode: found.ino(), size: found.len(), changed: (found.ctime(), found.ctime_nsec()) })
    };
    files.iter().map(one).collect()
}

/// What has been seen so far.
#[derive(Default)]
pub struct Watch {
    /// How the files looked when they were last read, well or not.
    read: Option<Looks>,
    /// How they looked at the last look.
    last: Option<Looks>,
}

impl Watch {
    /// Whether to read them now: they are others than those read last, and have been left alone since the look before.
    /// Certificate and key are two files, so that between two writes they are strangers.
    pub fn is_due(&mut self, now: Looks) -> bool {
        let settled = self.last.as_ref() == Some(&now);
        let due = settled && self.read.as_ref() != Some(&now);
        self.last = Some(now);
        if due {
            self.read.clone_from(&self.last);
        }
        due
    }

    /// They have just been read; `looks` is from before that.
    pub fn were_read(&mut self, looks: Looks) {
        (self.read, self.last) = (Some(looks.clone()), Some(looks));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_read_again_when_they_are_others_and_have_come_to_rest() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.pem", "a.key"].map(|name| folder.path().join(name));
        let mut watch = Watch::default();
        let mut is_due = || watch.is_due(look(&files));
        files.iter().for_each(|file| fs::write(file, "one").unwrap());
        assert!(!is_due() && is_due(), "never read so far");
        assert!(!is_due() && !is_due(), "nothing has changed");
        // Renamed into place, as careful programs write.
        fs::write(folder.path().join("new"), "two").unwrap();
        fs::rename(folder.path().join("new"), &files[0]).unwrap();
        assert!(!is_due(), "its key may be still to come");
        fs::write(&files[1], "two").unwrap();
        assert!(!is_due() && is_due() && !is_due());
        fs::remove_file(&files[1]).unwrap();
        assert!(!is_due() && is_due() && !is_due());

        fs::write(&files[1], "two").unwrap();
        watch.were_read(look(&files));
        assert!(!watch.is_due(look(&files)) && !watch.is_due(look(&files)));
    }
}
