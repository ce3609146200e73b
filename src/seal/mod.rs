//! The seal: what the proxy signs so that nobody else can write it, clients' badges, invitations to previews, its own probes.

mod badge;
mod invitation;
mod probe;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};

pub use self::badge::Badge;
pub use self::invitation::Invitation;
pub use self::probe::Probe;

/// The keys in use: the first signs, and what any of them has signed counts.
pub struct Seal {
    keys: Vec<Key>,
}

impl Seal {
    /// The keys in the state folder, a line of 64 hexadecimal digits each, the newest first; where there is no such file,
    /// one is made. Proxies with the same file believe each other; a new key is put above the old ones.
    pub fn open(dir: &Path) -> Result<Seal, SealError> {
        let path = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Seal::read(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seal::make(dir, &path).unwrap_or_else(|error| {
                // A full disk is no reason not to serve.
                tracing::warn!(
                    "the key file {} cannot be made, so that cookies and links will not outlive this process: {error}",
                    path.display()
                );
                Seal::temporary()
            })),
            Err(source) => Err(SealError::Io { path, source }),
        }
    }

    /// Good for as long as this process runs.
    pub fn temporary() -> Seal {
        Seal { keys: vec![Key::new(HMAC_SHA256, &random())] }
    }

    fn read(path: &Path, text: &str) -> Result<Seal, SealError> {
        let mode = fs::metadata(path).map(|found| found.permissions().mode());
        if let Ok(mode) = mode
            && mode & 0o077 != 0
        {
            let (path, mode) = (path.display(), mode & 0o777);
            tracing::warn!(
                "the key file {path} is open to others (mode {mode:o}): they can sign cookies; `chmod 600` it"
            );
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Option<Vec<Key>> = lines.map(|line| Some(Key::new(HMAC_SHA256, &unhex::<KEY>(line)?))).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Seal { keys }),
            _ => Err(SealError::Unreadable { path: path.to_owned() }),
        }
    }

    /// Written aside and renamed, so that no start ever finds half a key.
    fn make(dir: &Path, path: &Path) -> io::Result<Seal> {
        let secret = random();
        let draft = dir.join(format!("{FILE}.new"));
        // What a start that was cut short has left is as good as nothing.
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(format!("{}\n", hex(&secret)).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(dir)?.sync_all()?;
        Ok(Seal { keys: vec![Key::new(HMAC_SHA256, &secret)] })
    }

    /// Proves that `text` was written here, for this use and this service.
    fn sign(&self, use_: Use, service: &str, text: &str) -> String {
        self.keys.first().map_or(String::new(), |key| hex(&tag(key, use_, service, text)))
    }

    fn proves(&self, use_: Use, service: &str, text: &str, proof: &str) -> bool {
        let Some(proof) = unhex::<TAG>(proof) else { return false };
        self.keys.iter().any(|key| verify_slices_are_equal(&tag(key, use_, service, text), &proof).is_ok())
    }
}

/// What is signed for one use proves nothing for another.
#[derive(Clone, Copy)]
enum Use {
    Badge,
    Invitation,
    Probe,
}

/// Half of an HMAC-SHA256: 128 bits are more than anyone can guess (RFC 2104, 5).
fn tag(key: &Key, use_: Use, service: &str, text: &str) -> [u8; TAG] {
    let mut context = hmac::Context::with_key(key);
    let use_ = match use_ {
        Use::Badge => "badge",
        Use::Invitation => "invitation",
        Use::Probe => "probe",
    };
    // None of the three can hold the mark between them.
    for part in [use_, "\0", service, "\0", text] {
        context.update(part.as_bytes());
    }
    let mut tag = [0; TAG];
    tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
    tag
}

fn random() -> [u8; KEY] {
    let mut secret = [0; KEY];
    // The system's own generator; AWS-LC ends the process where that fails.
    if aws_lc_rs::rand::fill(&mut secret).is_err() {
        unreachable!("the system has no random bytes");
    }
    secret
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Lower case only, so that there is one way to write it.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the key file {} cannot be read: {source}; may this user?", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the key file {} does not hold keys of 64 hexadecimal digits, one a line; put it right, or move it away and another is made",
        path.display()
    )]
    Unreadable { path: PathBuf },
}

const FILE: &str = "seal.key";
/// Bytes of a key: as many as SHA-256 has (RFC 2104, 3).
const KEY: usize = 32;
/// Bytes of a proof.
const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_another_one_may_be_put_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(folder.path().join("seal.key.new"), "torn").unwrap();
        let first = Seal::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let proof = first.sign(Use::Badge, "shop", "x");
        let again = Seal::open(folder.path()).unwrap();
        assert!(again.proves(Use::Badge, "shop", "x", &proof), "a restart believes what was signed before");

        let known = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{}\n\n{known}", "ab".repeat(32))).unwrap();
        let rotated = Seal::open(folder.path()).unwrap();
        assert!(rotated.proves(Use::Badge, "shop", "x", &proof));
        let newer = rotated.sign(Use::Badge, "shop", "x");
        assert!(newer != proof && !first.proves(Use::Badge, "shop", "x", &newer));
    }

    #[test]
    fn a_key_that_others_can_read_is_one_all_the_same_and_what_is_none_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let proof = Seal::open(folder.path()).unwrap().sign(Use::Badge, "shop", "x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Seal::open(folder.path()).unwrap().proves(Use::Badge, "shop", "x", &proof));
        for text in ["", "\n", "abc\n", &"AB".repeat(32), &"zz".repeat(32)] {
            fs::write(&path, text).unwrap();
            let refused = Seal::open(folder.path()).err().unwrap().to_string();
            assert!(refused.contains("64 hexadecimal digits"), "{refused}");
        }
    }

    #[test]
    fn where_no_key_can_be_kept_there_is_one_for_this_process() {
        let seal = Seal::open(Path::new("/nowhere/at/all")).unwrap();
        assert!(seal.proves(Use::Badge, "shop", "x", &seal.sign(Use::Badge, "shop", "x")));
    }

    #[test]
    fn a_proof_is_good_for_its_words_its_service_and_its_use_alone() {
        let seal = Seal::temporary();
        let proof = seal.sign(Use::Badge, "shop", "x");
        assert!(seal.proves(Use::Badge, "shop", "x", &proof));
        assert!(!seal.proves(Use::Badge, "shop", "y", &proof));
        assert!(!seal.proves(Use::Badge, "api", "x", &proof));
        assert!(!seal.proves(Use::Invitation, "shop", "x", &proof));
        assert!(!Seal::temporary().proves(Use::Badge, "shop", "x", &proof));
        for other in ["", "0", &proof[1..], &proof.to_uppercase(), &format!("{proof}0")] {
            assert!(other == proof || !seal.proves(Use::Badge, "shop", "x", other), "{other}");
        }
    }
}
