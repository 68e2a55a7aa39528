//! What came from the network: an index from the name of a remote thing to the artifact it was, and a place for
//! downloads that were cut. A cache of a cache: damaged or deleted, it costs asking or downloading once more.
//!
//! `index/fetched/ab/cdef…` holds one JSON document a name, replaced whole; `partial/HEX` the bytes that have come so
//! far. Names are hashed: nothing of an address (which may be a secret) is in a file name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, Durability};
use crate::store::Store;
use crate::{Artifact, ArtifactKind, CacheError, Digest, Tree};

/// What a remote thing was when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Its address, for people; without credentials.
    pub about: String,
    /// What the server called this state of it: an ETag, a commit, a date.
    pub version: String,
    /// Its bytes.
    pub artifact: Artifact,
}

impl Store {
    /// What this name stood for when it was last fetched. The bytes may be gone meanwhile.
    pub fn recall(&self, name: &str) -> Option<Fetched> {
        let text = fs::read(self.inner.layout.fetched(&Digest::of(name.as_bytes()))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps what a name stands for. A cache that cannot be written forgets it.
    pub fn remember(&self, name: &str, fetched: &Fetched) -> Result<(), CacheError> {
        if !self.writable() {
            return Ok(());
        }
        let place = self.inner.layout.fetched(&Digest::of(name.as_bytes()));
        let doing = "remembering a download in";
        let text = serde_json::to_vec(fetched).map_err(|error| CacheError::writing(doing, &place, error.into()))?;
        self.replace(&place, &text, Durability::Memory, doing)
    }

    /// Where the bytes of a download lie while it goes on; they survive failures and kills.
    pub fn partial(&self, name: &str) -> Result<PathBuf, CacheError> {
        self.must_write("downloading a source")?;
        let place = self.inner.layout.partial(&Digest::of(name.as_bytes()));
        files::make_parent(&place).map_err(|source| CacheError::writing("making the folder of", &place, source))?;
        Ok(place)
    }

    /// Stores a finished download; the file is moved in.
    pub fn take_in(&self, partial: &Path) -> Result<Artifact, CacheError> {
        let here = self.session("storing a download")?.fresh();
        fs::rename(partial, &here).map_err(|source| CacheError::writing("storing", partial, source))?;
        self.ingest(&here)
    }

    /// Stores a tree whose parts are stored already.
    pub fn put_tree(&self, tree: &Tree) -> Result<Artifact, CacheError> {
        self.must_write("storing a folder")?;
        self.put(tree.encode().as_bytes())?;
        Ok(tree.artifact())
    }

    /// The artifact of a digest that is in the cache, whole or in pieces: the tree of this digest, or else the file.
    pub fn lookup(&self, digest: &Digest) -> Result<Artifact, CacheError> {
        let size = self.stored_length(digest)?.ok_or(CacheError::Missing { digest: *digest })?;
        let file = Artifact { digest: *digest, kind: ArtifactKind::File, size, files: 1 };
        if !self.starts_as_tree(digest) {
            return Ok(file);
        }
        match self.tree(digest) {
            Ok(tree) => Ok(tree.artifact()),
            Err(CacheError::BadTree { .. }) => Ok(file),
            Err(error) => Err(error),
        }
    }
    /// The length of a blob that is in the cache, whole or in pieces.
    pub(crate) fn stored_length(&self, digest: &Digest) -> Result<Option<u64>, CacheError> {
        let place = self.inner.layout.blob(digest);
        match fs::metadata(&place) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(self.manifest(digest)?.map(|manifest| manifest.size))
            }
            Err(source) => Err(CacheError::system("looking at", &place, source)),
        }
    }
}
