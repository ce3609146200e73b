//! Why the journal cannot be used, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

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
    #[error("the journal {} is {what}, not a file; move it away, or name another folder as `dir` under [state]", path.display())]
    NoFile { path: PathBuf, what: &'static str },
    #[error("the journal {} {what}: {source}; {}", path.display(), remedy(source))]
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

impl JournalError {
    /// What the system says of this file.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError + use<> {
        let path = path.to_owned();
        move |source| JournalError::Io { what, path, source }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match error.kind() {
        PermissionDenied => "it and its folder have to belong to the user the proxy runs as (`User=` of the unit)",
        StorageFull | QuotaExceeded => "make room on that disk",
        ReadOnlyFilesystem => {
            "have that disk mounted for writing, and the folder in `ReadWritePaths=` of the unit; the kernel's log may say why \
             it is not"
        }
        FileTooLarge => "raise `LimitFSIZE=` of the unit, or `ulimit -f`",
        NotFound => "create the folder again, owned by the user the proxy runs as",
        _ if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            "raise `LimitNOFILE=` of the unit, or `ulimit -n`"
        }
        _ => "the kernel's log may say what is wrong with that disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_is_said_with_its_words_and_a_remedy() {
        let says = |errno: Errno| {
            let failed = JournalError::io("cannot be written", Path::new("/state/journal.jsonl"));
            failed(io::Error::from_raw_os_error(errno.raw_os_error())).to_string()
        };
        let begin = "the journal /state/journal.jsonl cannot be written: ";
        for (errno, remedy) in [
            (Errno::ACCESS, "Permission denied (os error 13); it and its folder have to belong to the user"),
            (Errno::PERM, "Operation not permitted (os error 1); it and its folder have to belong to the user"),
            (Errno::NOSPC, "No space left on device (os error 28); make room"),
            (Errno::DQUOT, "Disk quota exceeded (os error 122); make room"),
            (Errno::ROFS, "Read-only file system (os error 30); have that disk mounted for writing"),
            (Errno::FBIG, "File too large (os error 27); raise `LimitFSIZE=`"),
            (Errno::MFILE, "Too many open files (os error 24); raise `LimitNOFILE=`"),
            (Errno::IO, "Input/output error (os error 5); the kernel's log"),
        ] {
            let says = says(errno);
            assert!(says.strip_prefix(begin).is_some_and(|rest| rest.starts_with(remedy)), "{says}");
        }
    }
}
