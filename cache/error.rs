//! Everything that can go wrong in the cache, and what to do about it. Never prints.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::{ActionKey, Digest};

/// An error of the cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refused.
    #[error("{doing} `{}`: {source}", path.display())]
    Io {
        /// What was being done, as in `reading`.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache cannot be written.
    #[error("the cache `{}` is read-only ({doing})", path.display())]
    ReadOnly {
        /// What would have been written.
        doing: &'static str,
        /// The cache, or the file in it.
        path: PathBuf,
    },
    /// No space, or no quota, is left. Nothing half-written was left behind.
    #[error("no space left for {doing} `{}`", path.display())]
    Full {
        /// What was being written.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// A blob's bytes are not those its name promises. It was moved aside and counts as a miss.
    #[error("the blob `{digest}` is damaged")]
    Damaged {
        /// The blob that was asked for.
        digest: Digest,
        /// Where the bad bytes are now; `None` where they could not be moved.
        moved_to: Option<PathBuf>,
    },
    /// A blob is not in the cache.
    #[error("the blob `{digest}` is not in the cache")]
    Missing {
        /// The blob that was asked for.
        digest: Digest,
    },
    /// A folder that cannot be a tree, or a stored tree that does not read.
    #[error("`{path}` cannot be kept in a tree: {why}")]
    BadTree {
        /// The entry, relative to the tree, or the tree's digest.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A record that must not be stored.
    #[error("the record of action `{action}` cannot be kept: {why}")]
    BadRecord {
        /// The action.
        action: ActionKey,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such path in an artifact.
    #[error("there is no `{path}` in the artifact `{digest}`")]
    NoSuchPath {
        /// The artifact.
        digest: Digest,
        /// The path that was asked for.
        path: String,
    },
    /// A file was asked for where there is a tree, or the other way round.
    #[error("the artifact `{digest}` is not a {expected}")]
    WrongKind {
        /// The artifact.
        digest: Digest,
        /// `file` or `folder`.
        expected: &'static str,
    },
    /// A source changed while it was being read.
    #[error("`{}` changed while it was being read", path.display())]
    Changed {
        /// The source.
        path: PathBuf,
    },
    /// A layer could not be asked, or did not take what was sent.
    #[error("the layer `{layer}` failed ({doing}): {why}")]
    Layer {
        /// Its name.
        layer: String,
        /// What was being done, as in `reading a blob`.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// A layer that is only read was to be written to. Nothing was sent.
    #[error("the layer `{layer}` can only be read")]
    LayerReadOnly {
        /// Its name.
        layer: String,
    },
    /// A layer gave something else than it was asked for. Nothing of it was kept.
    #[error("the layer `{layer}` gave wrong bytes as `{object}`: {why}")]
    LayerLied {
        /// Its name.
        layer: String,
        /// The object.
        object: String,
        /// How that was found out.
        why: String,
    },
    /// A bundle that is not what it should be, in any way. Nothing of it was kept.
    #[error("the bundle `{}` is not to be used: {why}", path.display())]
    BadBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody asked to wait for layers no longer.
    #[error("stopped while waiting for a layer")]
    Stopped,
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where the cache is.
    #[error("there is no home folder to keep the cache in")]
    NoHome,
}

impl CacheError {
    /// What the user can do, if there is anything.
    pub fn hint(&self) -> Option<String> {
        let elsewhere = "choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`";
        match self {
            CacheError::ReadOnly { path, .. } => Some(format!("make `{}` writable, or {elsewhere}", path.display())),
            CacheError::Full { .. } => Some(format!("free some space (`plumb cache gc`), or {elsewhere}")),
            CacheError::Damaged { moved_to: Some(path), .. } => {
                Some(format!("the bad copy is kept as `{}`; run again to make a good one", path.display()))
            }
            CacheError::Damaged { .. } | CacheError::Missing { .. } => Some("run the step again to make it".into()),
            CacheError::BadTree { .. } => {
                Some("a folder may hold files, folders, and symlinks that lead to something inside it".into())
            }
            CacheError::Changed { .. } => Some("run again once nothing writes to it".into()),
            CacheError::Layer { .. } => {
                Some("type it again once the layer is well: what it has got by now is not sent again".into())
            }
            CacheError::LayerLied { .. } => {
                Some("`plumb cache push --repair` replaces what is wrong in a layer".into())
            }
            CacheError::LayerReadOnly { .. } => Some("push to where the server has its files from".into()),
            CacheError::NoHome => Some("say where it is with `--cache DIR` or `PLUMB_CACHE=DIR`".into()),
            _ => None,
        }
    }

    /// Whether this means only that something is not there (any more): the step can be run again.
    pub fn is_miss(&self) -> bool {
        matches!(self, CacheError::Missing { .. } | CacheError::Damaged { .. })
    }

    /// An error of the system where nothing is written.
    pub(crate) fn system(doing: &'static str, path: &Path, source: io::Error) -> CacheError {
        CacheError::Io { doing, path: path.to_owned(), source }
    }

    /// An error of the system while writing into the cache: full and read-only are told apart from the rest.
    pub(crate) fn writing(doing: &'static str, path: &Path, source: io::Error) -> CacheError {
        let path = path.to_owned();
        match Errno::from_io_error(&source) {
            Some(code) if is_full(code) => CacheError::Full { doing, path },
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => CacheError::ReadOnly { doing, path },
            _ => CacheError::Io { doing, path, source },
        }
    }

    /// An error of the system while writing elsewhere.
    pub(crate) fn placing(doing: &'static str, path: &Path, source: io::Error) -> CacheError {
        match Errno::from_io_error(&source).is_some_and(is_full) {
            true => CacheError::Full { doing, path: path.to_owned() },
            false => CacheError::system(doing, path, source),
        }
    }
}

fn is_full(code: Errno) -> bool {
    matches!(code, Errno::NOSPC | Errno::DQUOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: Errno, expect: expect_test::Expect) {
        let error = CacheError::writing("writing", Path::new("/cache"), code.into());
        expect.assert_eq(&format!("error: {error}\nhint: {}\n", error.hint().unwrap_or_default()));
    }

    #[test]
    fn a_full_disk_and_a_read_only_one_say_what_to_do() {
        check(
            Errno::NOSPC,
            expect_test::expect![[r#"
                error: no space left for writing `/cache`
                hint: free some space (`plumb cache gc`), or choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
            "#]],
        );
        check(
            Errno::ROFS,
            expect_test::expect![[r#"
            error: the cache `/cache` is read-only (writing)
            hint: make `/cache` writable, or choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
        "#]],
        );
        check(
            Errno::IO,
            expect_test::expect![[r#"
            error: writing `/cache`: Input/output error (os error 5)
            hint: 
        "#]],
        );
    }
}
