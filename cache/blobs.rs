//! Blobs: bytes under the name of their digest. Writing them so that a reader sees all or nothing, and finding out
//! whether those that are there are still what their names say.
//!
//! A blob is sealed: read-only, and with the modification time `files::SEALED_SECONDS`. One `stat` shows a blob that
//! was written into, cut or replaced; such a one is hashed. What a disk does to bytes behind everybody's back shows in
//! no `stat`, so a blob is hashed at its first use as well, up to a length that costs nothing.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::{self, Durability, Placed};
use crate::hash::hash_file;
use crate::store::{Store, lock};
use crate::{CacheError, Digest, FileStamp};

/// Up to this length a blob is hashed at its first use although its seal is whole: 8 MiB are a few milliseconds.
const CHEAP: u64 = 8 << 20;

/// How closely a blob is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Whether it is there and sealed: one `stat`.
    Glance,
    /// Before its bytes are used.
    Use,
}

impl Store {
    /// The path of a blob that is what its name says; `Missing` or `Damaged` where there is none. A damaged one is
    /// moved aside. A file that is kept in pieces is put together for use; at a glance it is enough that they are
    /// there, and nothing lies at the path.
    pub(crate) fn sound(&self, digest: &Digest, size: u64, look: Look) -> Result<PathBuf, CacheError> {
        match self.sound_whole(digest, size, look) {
            Err(error) if error.is_miss() => match look {
                Look::Glance if self.in_pieces(digest)? => Ok(self.inner.layout.blob(digest)),
                Look::Use if self.writable() => self.restore(digest)?.ok_or(error),
                _ => Err(error),
            },
            found => found,
        }
    }

    /// `sound`, of what is not kept in pieces.
    pub(crate) fn sound_whole(&self, digest: &Digest, size: u64, look: Look) -> Result<PathBuf, CacheError> {
        let path = self.inner.layout.blob(digest);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(CacheError::Missing { digest: *digest }),
            Err(source) => return Err(CacheError::system("looking at", &path, source)),
        };
        if self.is_trusted(digest, &metadata, size, look) {
            return Ok(path);
        }
        let found = match metadata.is_file() {
            true => Some(hash_file(&path, metadata.len()).map_err(|e| CacheError::system("hashing", &path, e))?),
            false => None,
        };
        if found != Some(*digest) {
            return Err(self.quarantine(digest, &path, &metadata));
        }
        self.vouch(digest, &path, &metadata);
        Ok(path)
    }

    fn is_trusted(&self, digest: &Digest, metadata: &fs::Metadata, size: u64, look: Look) -> bool {
        let enough = look == Look::Glance || metadata.len() > CHEAP;
        if enough && !self.inner.options.paranoid && files::is_sealed(metadata) && metadata.len() == size {
            return true;
        }
        lock(&self.inner.hashed).get(digest) == Some(&FileStamp::of(metadata))
    }

    /// Remembers that a blob was just hashed and found whole, and renews a seal that was lost, as in a copied cache.
    fn vouch(&self, digest: &Digest, path: &Path, metadata: &fs::Metadata) {
        let seal = |file: File| files::seal(&file, Durability::Disk).and_then(|()| file.metadata());
        let renewed = || File::open(path).and_then(seal);
        let stamp = match self.writable() && !files::is_sealed(metadata) {
            // Somebody else's file cannot be sealed by us; it is hashed once in every process.
            true => renewed().map_or_else(|_| FileStamp::of(metadata), |metadata| FileStamp::of(&metadata)),
            false => FileStamp::of(metadata),
        };
        lock(&self.inner.hashed).insert(*digest, stamp);
    }

    /// Moves a damaged blob aside, unless another process has replaced it already.
    fn quarantine(&self, digest: &Digest, path: &Path, metadata: &fs::Metadata) -> CacheError {
        let same =
            fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()));
        let moved_to = if same { self.move_aside(path, &digest.to_string()) } else { None };
        CacheError::Damaged { digest: *digest, moved_to }
    }

    /// Moves a bad file or folder of the cache into the quarantine, if that can be done.
    pub(crate) fn move_aside(&self, path: &Path, name: &str) -> Option<PathBuf> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = self.inner.layout.folder("quarantine").join(format!("{name}.{}.{next}", std::process::id()));
        match fs::rename(path, &place) {
            Ok(()) => {
                tracing::warn!("`{}` is damaged and was moved to `{}`", path.display(), place.display());
                Some(place)
            }
            Err(error) => {
                tracing::warn!("`{}` is damaged and could not be moved aside: {error}", path.display());
                None
            }
        }
    }

    /// Stores bytes that are in memory.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, CacheError> {
        let digest = Digest::of(bytes);
        if self.holds(&digest, bytes.len() as u64)? {
            return Ok(digest);
        }
        let temp = Temp::new(self)?;
        let write = || -> io::Result<()> {
            let mut file = files::create(&temp.path)?;
            file.write_all(bytes)?;
            settle(&file, self.durability())
        };
        write().map_err(|source| CacheError::writing("writing", &temp.path, source))?;
        self.place(&temp.path, &digest, bytes.len() as u64)?;
        Ok(digest)
    }

    /// Whether a good blob is there already, whole or in pieces; a damaged one is out of the way afterwards.
    pub(crate) fn holds(&self, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        Ok(self.is_good(digest, size)? || self.in_pieces(digest)?)
    }

    fn is_good(&self, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        match self.sound_whole(digest, size, Look::Use) {
            Ok(_) => Ok(true),
            Err(error) if error.is_miss() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a file that is sealed and on the disk its place among the blobs. One that is there already is verified,
    /// and replaced if it is damaged.
    pub(crate) fn place(&self, file: &Path, digest: &Digest, size: u64) -> Result<(), CacheError> {
        let place = self.inner.layout.blob(digest);
        loop {
            let placed = files::link(file, &place);
            match placed.map_err(|source| CacheError::writing("storing", &place, source))? {
                Placed::New => return Ok(()),
                Placed::Taken if self.is_good(digest, size)? => return Ok(()),
                // A damaged one that could not be moved aside would be met again for ever.
                Placed::Taken if place.exists() => return Err(CacheError::Damaged { digest: *digest, moved_to: None }),
                Placed::Taken => {}
            }
        }
    }
}

/// The last touch before a file becomes a blob: sealed, and on the disk with its seal.
pub(crate) fn settle(file: &File, durability: Durability) -> io::Result<()> {
    files::seal(file, durability)?;
    files::bring(file, durability)
}

/// A file that is being written; taken away when done, whatever happened.
pub(crate) struct Temp {
    pub(crate) path: PathBuf,
}

impl Temp {
    pub(crate) fn new(store: &Store) -> Result<Temp, CacheError> {
        Ok(Temp { path: store.session("storing a file")?.fresh() })
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::debug!("`{}` stays behind: {error}", self.path.display());
            }
            _ => {}
        }
    }
}
