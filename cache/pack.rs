//! Whole files kept in pieces, so that two checkpoints with the same tensors keep them once. A file's name is always
//! the digest of the whole; a manifest under that name lists the pieces, which are blobs of their own. Reading such a
//! file puts it together again, byte for byte and checked against its name, wherever it is read from.
//!
//! The pieces are stored before the manifest, and the whole file goes after it: a kill anywhere loses nothing. A whole
//! file that was put together again is a copy that the collector may take at no cost.

mod manifest;
mod pass;
mod safetensors;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) use manifest::{Manifest, Piece};
pub use pass::Packed;

use crate::blobs::{Look, Temp, settle};
use crate::files;
use crate::hash::{copy_hashing, finish, hash_file};
use crate::records::read_if_there;
use crate::store::Store;
use crate::{CacheError, Digest};

impl Store {
    /// The manifest of a file that is kept in pieces. One that does not read is moved aside.
    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, CacheError> {
        let path = self.inner.layout.pack(digest);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        Ok(Manifest::decode(&bytes).map_err(|why| self.refuse(&path, digest, &why)).ok())
    }

    fn refuse(&self, path: &Path, digest: &Digest, why: &str) {
        tracing::warn!("the manifest of `{digest}` is not used: {why}");
        self.move_aside(path, &format!("pack-{digest}"));
    }

    /// Whether every piece of a file is there: a `stat` each.
    pub(crate) fn in_pieces(&self, digest: &Digest) -> Result<bool, CacheError> {
        let Some(manifest) = self.manifest(digest)? else { return Ok(false) };
        for Piece { digest, length } in &manifest.pieces {
            match self.sound_whole(digest, *length, Look::Glance) {
                Ok(_) => {}
                Err(error) if error.is_miss() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Puts a file that is kept in pieces together among the blobs; `None` where it is not kept so.
    pub(crate) fn restore(&self, digest: &Digest) -> Result<Option<PathBuf>, CacheError> {
        let Some(manifest) = self.manifest(digest)? else { return Ok(None) };
        let temp = Temp::new(self)?;
        self.assemble_at(digest, &manifest, &temp.path)?;
        let settled = File::open(&temp.path).and_then(|file| settle(&file, self.durability()));
        settled.map_err(|source| CacheError::writing("storing", &temp.path, source))?;
        self.place(&temp.path, digest, manifest.size)?;
        Ok(Some(self.inner.layout.blob(digest)))
    }

    /// Puts the file together at a path outside the cache, if it is kept in pieces.
    pub(crate) fn restore_to(&self, digest: &Digest, dest: &Path) -> Result<bool, CacheError> {
        match self.manifest(digest)? {
            Some(manifest) => self.assemble_at(digest, &manifest, dest).map(|()| true),
            None => Ok(false),
        }
    }

    /// The bytes of the file, if it is kept in pieces.
    pub(crate) fn read_pieces(&self, digest: &Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let Some(manifest) = self.manifest(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        self.assemble(digest, &manifest, &mut bytes)?;
        Ok(Some(bytes))
    }

    fn assemble_at(&self, digest: &Digest, manifest: &Manifest, dest: &Path) -> Result<(), CacheError> {
        let mut file = files::create(dest).map_err(|source| CacheError::placing("making", dest, source))?;
        self.assemble(digest, manifest, &mut file).inspect_err(|_| {
            // What went wrong is told, not that its stump could not be removed.
            let _ = fs::remove_file(dest);
        })
    }

    /// Writes the pieces in order. What was written is good only if this ends well.
    fn assemble(&self, digest: &Digest, manifest: &Manifest, to: &mut dyn Write) -> Result<(), CacheError> {
        let mut hasher = blake3::Hasher::new();
        for Piece { digest, length } in &manifest.pieces {
            let path = self.sound_whole(digest, *length, Look::Use)?;
            let copied = File::open(&path).and_then(|from| copy_hashing(from, to, &mut hasher));
            copied.map_err(|source| CacheError::placing("putting together", &path, source))?;
        }
        match finish(&hasher) == *digest {
            true => Ok(()),
            false => Err(self.find_bad_piece(digest, manifest)),
        }
    }

    /// Either a piece is damaged behind its seal, or the manifest is not that of this file.
    fn find_bad_piece(&self, digest: &Digest, manifest: &Manifest) -> CacheError {
        for piece in &manifest.pieces {
            let path = self.inner.layout.blob(&piece.digest);
            let found = hash_file(&path, piece.length).ok();
            if found.is_some_and(|found| found != piece.digest) {
                let moved_to = self.move_aside(&path, &piece.digest.to_string());
                return CacheError::Damaged { digest: piece.digest, moved_to };
            }
        }
        let path = self.inner.layout.pack(digest);
        CacheError::Damaged { digest: *digest, moved_to: self.move_aside(&path, &format!("pack-{digest}")) }
    }
}
