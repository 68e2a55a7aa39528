//! Bytes come in: files and folders that steps made, or only the digest of a source. Blobs first, then the trees above
//! them. Never stores half a file.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::blobs::{Temp, settle};
use crate::files;
use crate::hash::{LARGE, copy_hashing, finish, hash_file};
use crate::store::Store;
use crate::walk::{Visitor, unchanged, walk};
use crate::{Artifact, ArtifactKind, CacheError, Digest, FileStamp, Tree};

impl Store {
    /// Stores the file or folder at this path. What lies in a scratch folder of this store is moved in: it becomes
    /// read-only, and is not to be written any more.
    pub fn ingest(&self, path: &Path) -> Result<Artifact, CacheError> {
        self.must_write("storing an output")?;
        let here = self.session("storing an output")?.folder();
        let whole = fs::canonicalize(path).map_err(|source| CacheError::system("looking at", path, source))?;
        let scratch = fs::canonicalize(here).map_err(|source| CacheError::system("looking at", here, source))?;
        walk(&Ingest { store: self, scratch: whole.starts_with(&scratch).then_some(scratch) }, path)
    }

    /// Stores a file of these bytes.
    pub fn ingest_bytes(&self, bytes: &[u8]) -> Result<Artifact, CacheError> {
        self.must_write("storing an output")?;
        let digest = self.put(bytes)?;
        Ok(Artifact { digest, kind: ArtifactKind::File, size: bytes.len() as u64, files: 1 })
    }

    /// The artifact that the file or folder at this path is, without storing it. A file that has not changed since it
    /// was last hashed is not read.
    pub fn digest_source(&self, path: &Path) -> Result<Artifact, CacheError> {
        walk(&HashOnly { store: self }, path)
    }
}

/// Stores what it meets.
struct Ingest<'a> {
    store: &'a Store,
    /// The scratch folder, if what is walked lies in it.
    scratch: Option<PathBuf>,
}

impl Visitor for Ingest<'_> {
    fn file(&self, path: &Path, metadata: &Metadata) -> Result<(Digest, u64), CacheError> {
        if self.may_move(path) {
            return self.store.move_in(path, metadata);
        }
        match metadata.len() < LARGE {
            true => self.store.copy_small(path),
            false => self.store.copy_large(path),
        }
    }

    fn tree(&self, tree: &Tree) -> Result<(), CacheError> {
        self.store.put(tree.encode().as_bytes()).map(|_| ())
    }
}

impl Ingest<'_> {
    /// A file with two names has another owner, and a symlink leads to somebody else's.
    fn may_move(&self, path: &Path) -> bool {
        let single = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.nlink() == 1);
        let inside = |scratch: &PathBuf| fs::canonicalize(path).is_ok_and(|path| path.starts_with(scratch));
        single && self.scratch.as_ref().is_some_and(inside)
    }
}

impl Store {
    /// Seals first, hashes then: whoever still writes to the file breaks the seal, and the next reader sees it.
    fn move_in(&self, path: &Path, metadata: &Metadata) -> Result<(Digest, u64), CacheError> {
        let failed = |source| CacheError::writing("storing", path, source);
        let file = open(path)?;
        files::seal(&file, self.durability()).map_err(failed)?;
        let size = metadata.len();
        let digest = hash_file(path, size).map_err(|source| CacheError::system("hashing", path, source))?;
        let after = file.metadata().map_err(failed)?;
        if !files::is_sealed(&after) || after.len() != size {
            return Err(CacheError::Changed { path: path.to_owned() });
        }
        if !self.holds(&digest, size)? {
            files::bring(&file, self.durability()).map_err(failed)?;
            self.place(path, &digest, size)?;
        }
        Ok((digest, size))
    }

    fn copy_small(&self, path: &Path) -> Result<(Digest, u64), CacheError> {
        let bytes = fs::read(path).map_err(|source| CacheError::system("reading", path, source))?;
        Ok((self.put(&bytes)?, bytes.len() as u64))
    }

    /// A reflink is a copy that nobody can change under the hashing; else the bytes are hashed while they are written.
    fn copy_large(&self, path: &Path) -> Result<(Digest, u64), CacheError> {
        let temp = Temp::new(self)?;
        let from = open(path)?;
        let copied = match reflink_copy::reflink_file_to_path(&from, &temp.path) {
            Ok(()) => hash_whole(&temp.path),
            Err(_) => files::create(&temp.path).and_then(|mut to| hash_copy(from, &mut to)),
        };
        let (digest, size) = copied.map_err(|source| CacheError::writing("copying", path, source))?;
        if !self.holds(&digest, size)? {
            let settled = File::open(&temp.path).and_then(|file| settle(&file, self.durability()));
            settled.map_err(|source| CacheError::writing("storing", &temp.path, source))?;
            self.place(&temp.path, &digest, size)?;
        }
        Ok((digest, size))
    }
}

fn open(path: &Path) -> Result<File, CacheError> {
    File::open(path).map_err(|source| CacheError::system("reading", path, source))
}

fn hash_copy(from: File, to: &mut File) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let size = copy_hashing(from, to, &mut hasher)?;
    Ok((finish(&hasher), size))
}

fn hash_whole(path: &Path) -> io::Result<(Digest, u64)> {
    let size = fs::metadata(path)?.len();
    Ok((hash_file(path, size)?, size))
}

/// Hashes what it meets, or knows it from the stat index.
struct HashOnly<'a> {
    store: &'a Store,
}

impl Visitor for HashOnly<'_> {
    fn file(&self, path: &Path, metadata: &Metadata) -> Result<(Digest, u64), CacheError> {
        let stamp = FileStamp::of(metadata);
        let known = if self.store.inner.options.paranoid { None } else { self.store.inner.sources.find(&stamp) };
        if let Some(digest) = known {
            return Ok((digest, stamp.size));
        }
        let digest = hash_file(path, stamp.size).map_err(|source| CacheError::system("hashing", path, source))?;
        if !unchanged(path, &stamp)? {
            return Err(CacheError::Changed { path: path.to_owned() });
        }
        self.store.inner.sources.keep(stamp, digest)?;
        Ok((digest, stamp.size))
    }

    fn tree(&self, _: &Tree) -> Result<(), CacheError> {
        Ok(())
    }
}
