//! Bytes are asked for: whether they are there, what they are, and where. Never answers with bytes that were not
//! verified.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use crate::blobs::Look;
use crate::store::{Store, lock};
use crate::tree::HEADER;
use crate::{Artifact, CacheError, Digest, Node, Tree};

/// How many symlinks a path may lead through: as many as the kernel allows.
const LINKS: usize = 40;

impl Store {
    /// Whether every blob of the artifact is there: a `stat` each, and the trees read once. A blob that was tampered
    /// with is found out here, moved aside and absent.
    pub fn present(&self, artifact: &Artifact) -> bool {
        match self.absent(artifact) {
            Ok(absent) => absent.is_none(),
            Err(error) => {
                tracing::warn!("{error}");
                false
            }
        }
    }

    /// `present`, for many at once.
    pub fn present_all(&self, artifacts: &[Artifact]) -> Vec<bool> {
        artifacts.par_iter().with_min_len(64).map(|artifact| self.present(artifact)).collect()
    }

    /// The first blob of the artifact that is not there.
    pub(crate) fn absent(&self, artifact: &Artifact) -> Result<Option<Digest>, CacheError> {
        let looked = match artifact.is_tree() {
            true => self.tree(&artifact.digest).map(Some),
            false => self.sound(&artifact.digest, artifact.size, Look::Glance).map(|_| None),
        };
        let tree = match looked {
            Ok(Some(tree)) => tree,
            Ok(None) => return Ok(None),
            Err(error) if error.is_miss() => return Ok(Some(artifact.digest)),
            Err(error) => return Err(error),
        };
        for (_, artifact) in tree.artifacts() {
            if let Some(digest) = self.absent(artifact)? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// The bytes of a file, verified.
    pub fn read(&self, artifact: &Artifact) -> Result<Vec<u8>, CacheError> {
        if artifact.is_tree() {
            return Err(CacheError::WrongKind { digest: artifact.digest, expected: "file" });
        }
        self.read_blob(&artifact.digest, artifact.size)
    }

    /// What is at a path within an artifact; the empty path is the artifact itself. Symlinks are followed.
    pub fn subpath(&self, artifact: &Artifact, path: &str) -> Result<Artifact, CacheError> {
        let missing = || CacheError::NoSuchPath { digest: artifact.digest, path: path.to_owned() };
        let mut above: Vec<Artifact> = Vec::new();
        let mut here = *artifact;
        let mut links = 0;
        let mut parts = reversed(path);
        while let Some(part) = parts.pop() {
            if part == ".." {
                here = above.pop().ok_or_else(missing)?;
                continue;
            }
            if !here.is_tree() {
                return Err(missing());
            }
            let tree = self.tree(&here.digest)?;
            match &tree.find(&part).ok_or_else(missing)?.node {
                Node::Artifact(artifact) => above.push(std::mem::replace(&mut here, *artifact)),
                Node::Link(_) if links == LINKS => return Err(missing()),
                Node::Link(target) => {
                    links += 1;
                    parts.extend(reversed(target));
                }
            }
        }
        Ok(here)
    }

    /// The path of a file's blob, if it is there: for reading only.
    pub fn path_of(&self, artifact: &Artifact) -> Option<PathBuf> {
        if artifact.is_tree() {
            return None;
        }
        self.sound(&artifact.digest, artifact.size, Look::Use).ok()
    }

    /// Whether the blob of this digest begins as a tree does. Most files do not, and large ones are not read to learn it.
    pub(crate) fn starts_as_tree(&self, digest: &Digest) -> bool {
        let mut start = [0; HEADER.len()];
        let read = File::open(self.inner.layout.blob(digest)).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == *HEADER.as_bytes()
    }

    /// The tree of this digest, verified when first read; afterwards a `stat`.
    pub(crate) fn tree(&self, digest: &Digest) -> Result<Arc<Tree>, CacheError> {
        let known = lock(&self.inner.trees).get(digest).cloned();
        if let Some(tree) = known {
            // The length is not known here; a blob that was cut lost its seal as well.
            let length = fs::metadata(self.inner.layout.blob(digest)).map_or(0, |metadata| metadata.len());
            return self.sound(digest, length, Look::Glance).map(|_| tree);
        }
        let bytes = self.read_blob(digest, 0)?;
        let not_text = |_| CacheError::BadTree { path: digest.to_string(), why: "it is not text".into() };
        let tree = Arc::new(Tree::decode(&String::from_utf8(bytes).map_err(not_text)?)?);
        lock(&self.inner.trees).insert(*digest, Arc::clone(&tree));
        Ok(tree)
    }

    /// Hashes the very bytes it hands out; the file is looked at closely only if they are wrong.
    pub(crate) fn read_blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, CacheError> {
        let path = self.inner.layout.blob(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
            Ok(_) => {
                self.sound(digest, size, Look::Use)?;
                Err(CacheError::Changed { path })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.read_pieces(digest)?.ok_or(CacheError::Missing { digest: *digest })
            }
            Err(source) => Err(CacheError::system("reading", &path, source)),
        }
    }
}

/// The parts of a path, the first one last.
fn reversed(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}
