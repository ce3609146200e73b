//! A disk that hangs for as long as a story likes.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

/// A disk in the place of a folder, as a file system of its own; whoever writes to it while it hangs waits in the kernel.
pub struct HangingDisk {
    folder: PathBuf,
    _image: NamedTempFile,
}

impl HangingDisk {
    /// `None` where this user may not mount one.
    pub fn at(folder: &Path) -> Option<HangingDisk> {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(16 << 20).unwrap();
        let made = runs("mkfs.ext4", &["-q", "-F"], image.path());
        if !made || !runs("mount", &["-o", "loop", &image.path().to_string_lossy()], folder) {
            eprintln!("skipped: this user may not mount a disk that hangs");
            return None;
        }
        Some(HangingDisk { folder: folder.to_owned(), _image: image })
    }

    pub fn hang(&self) {
        assert!(runs("fsfreeze", &["-f"], &self.folder));
    }

    pub fn go_on(&self) {
        assert!(runs("fsfreeze", &["-u"], &self.folder));
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        // In a story that fails it may hang still, and nobody who waits for it could be ended.
        runs("fsfreeze", &["-u"], &self.folder);
        runs("umount", &["-l"], &self.folder);
    }
}

fn runs(program: &str, args: &[&str], path: &Path) -> bool {
    Command::new(program).args(args).arg(path).output().is_ok_and(|ran| ran.status.success())
}
