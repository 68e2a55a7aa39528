//! What a step makes and reads: one file or one folder, named by the digest of its bytes. Never knows where it lies.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What an artifact is.
///
/// The x-bit of a lone file is part of its kind and not of its digest: it decides whether a program can be started,
/// never what is in it. Inside a tree the x-bit is part of the tree's digest, because the tree is what is checked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// One file.
    File,
    /// One file that is materialised with its x-bit set.
    Executable,
    /// A folder.
    Tree,
}

/// A file or folder in the cache (or outside it, as long as its bytes have this digest).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Of a file: of its bytes. Of a tree: of its encoding (`Tree::encode`).
    pub digest: Digest,
    /// File, executable or tree.
    pub kind: ArtifactKind,
    /// Bytes in all, over every file of a tree; names and folders weigh nothing.
    pub size: u64,
    /// Files in all; 1 for a file, symlinks not counted.
    pub files: u64,
}

impl Artifact {
    /// The text that stands for this artifact in a key: `file:` or `tree:` and the digest. A file that contains the
    /// text of a tree is so not the tree, and a lone file's x-bit moves no key.
    pub fn identity(&self) -> String {
        match self.kind {
            ArtifactKind::File | ArtifactKind::Executable => format!("file:{}", self.digest),
            ArtifactKind::Tree => format!("tree:{}", self.digest),
        }
    }

    /// Whether this is a folder.
    pub fn is_tree(&self) -> bool {
        self.kind == ArtifactKind::Tree
    }
}
