//! Keys of people and machines: ed25519. A secret key is one small file that its owner alone can read; a public key is
//! text that is passed on. Knows whom nobody trusts; never shows a secret.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::digest::bytes_of;

const PREFIX: &str = "ed25519:";
const HEADER: &str = "plumb-secret-key 1 ed25519 ";

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Text that is no public key.
    #[error("`{0}` is no public key: expected `ed25519:` and 64 lowercase hex digits, as `plumb key show` prints them")]
    NotPublic(String),
    /// The system refused.
    #[error("{doing} the key `{}`: {source}", path.display())]
    Io {
        /// `reading` or `writing`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a key already, which must not be lost.
    #[error("there is a key already: `{}`", .0.display())]
    Taken(PathBuf),
    /// Others than its owner can read or change the file.
    #[error("the key `{}` is open to others: its mode is {mode:03o}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("`{}` is no secret key", .0.display())]
    NotSecret(PathBuf),
}

impl KeyError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            KeyError::Open { path, .. } => Some(format!(
                "if nobody has read it, `chmod 600 {}`; else remove it and type `plumb key new`",
                path.display()
            )),
            KeyError::Taken(path) => {
                Some(format!("what it signed is trusted by others: move `{}` away if you mean it", path.display()))
            }
            KeyError::NotSecret(_) => Some("put the file back, or remove it and type `plumb key new`".into()),
            KeyError::NotPublic(_) | KeyError::Io { .. } => None,
        }
    }
}

/// What a signature is checked with. Written as `ed25519:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Whether this key's owner has signed these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok())
    }

    /// The key of these 32 bytes, unless they are no point of the curve or one that anybody can sign for.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Option<PublicKey> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(|_| PublicKey(*bytes))
    }

    /// The 64 hex digits alone, for names of files and objects.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|hex| bytes_of(hex.as_bytes()));
        bytes.and_then(|bytes| PublicKey::from_bytes(&bytes)).ok_or_else(|| KeyError::NotPublic(text.to_owned()))
    }
}

/// What signatures are made with.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// Shows whose it is, and not what it is.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey of {}", self.public())
    }
}

impl SecretKey {
    /// A new key, from the system's own randomness.
    pub fn new() -> io::Result<SecretKey> {
        let mut seed = [0; 32];
        // So few bytes come whole, or not at all.
        let got = getrandom(&mut seed, GetRandomFlags::empty())?;
        match got == seed.len() {
            true => Ok(SecretKey(SigningKey::from_bytes(&seed))),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// The key in a file; `None` where there is none. A file that others can read or change is refused: whatever it
    /// signed might be anybody's.
    pub fn read(path: &Path) -> Result<Option<SecretKey>, KeyError> {
        let failed = |source| KeyError::Io { doing: "reading", path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(1024).read_to_end(&mut bytes).map_err(failed)?;
        let seed = bytes.strip_prefix(HEADER.as_bytes()).and_then(|text| bytes_of(text.strip_suffix(b"\n")?));
        let key = seed.map(|seed| SecretKey(SigningKey::from_bytes(&seed)));
        key.map(Some).ok_or_else(|| KeyError::NotSecret(path.to_owned()))
    }

    /// Writes the key into a new file that its owner alone can read. Never replaces one.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let failed = |source| KeyError::Io { doing: "writing", path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(KeyError::Taken(path.to_owned())),
            opened => opened.map_err(failed)?,
        };
        let text = format!("{HEADER}{}\n", hex(self.0.as_bytes()));
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| {
            // Half a key is none; what went wrong is told, not that it could not be removed.
            let _ = fs::remove_file(path);
            failed(error)
        })
    }
}

/// Bytes as lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_public_key_reads_back_from_its_text_and_nothing_else() {
        let key = SecretKey::new().unwrap().public();
        let text = key.to_string();
        assert_eq!(text.parse::<PublicKey>().unwrap(), key);
        let weak = format!("{PREFIX}{}", "0".repeat(64));
        for bad in ["", "ed25519:", &text[8..], &text.to_uppercase(), &format!("{text}0"), &weak] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_owner_signs_and_only_those_bytes() {
        let (mine, other) = (SecretKey::new().unwrap(), SecretKey::new().unwrap());
        let signature = mine.sign(b"bytes");
        assert!(mine.public().has_signed(b"bytes", &signature));
        assert!(!mine.public().has_signed(b"byte", &signature));
        assert!(!other.public().has_signed(b"bytes", &signature));
    }

    #[test]
    fn a_key_is_kept_for_its_owner_alone_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config/plumb/key");
        assert!(SecretKey::read(&path).unwrap().is_none());
        let key = SecretKey::new().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(SecretKey::read(&path).unwrap().unwrap().public(), key.public());
        assert!(matches!(SecretKey::new().unwrap().write_new(&path), Err(KeyError::Taken(_))));
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(SecretKey::read(&path), Err(KeyError::Open { mode: found, .. }) if found == mode));
        }
        assert!(!format!("{key:?}").contains(&hex(key.0.as_bytes())), "no log shows it");
    }

    #[test]
    fn what_is_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SecretKey::new().unwrap().write_new(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(SecretKey::read(&path), Err(KeyError::NotSecret(_))), "cut at {length}");
        }
    }
}
