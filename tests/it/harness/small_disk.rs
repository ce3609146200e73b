//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk in the place of a folder.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// One of 64 KiB, which is too small for a journal's reserve. `None` where this user may not mount one.
    pub fn at(folder: &Path) -> Option<SmallDisk> {
        SmallDisk::of("64k", folder)
    }

    pub fn of(size: &str, folder: &Path) -> Option<SmallDisk> {
        let size = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).status();
        if !mount.is_ok_and(|status| status.success()) {
            eprintln!("skipped: this user may not mount a small disk");
            return None;
        }
        Some(SmallDisk(folder.to_owned()))
    }

    /// Has it take nothing, or everything again; nobody may have a file open there to write to.
    pub fn read_only(&self, is: bool) {
        let option = if is { "remount,ro" } else { "remount,rw" };
        let mount = Command::new("mount").args(["-o", option]).arg(&self.0).status();
        assert!(mount.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: in a story that fails, the proxy may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
