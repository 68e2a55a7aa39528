//! Bytes go out: an artifact appears at a path, as cheaply as the file systems allow. Never hands out a blob that was
//! not verified, and never an x-bit by hard link: the mode belongs to the blob.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::io::Errno;

use crate::blobs::Look;
use crate::files::{self, Durability};
use crate::store::{Store, lock};
use crate::tree::link_height;
use crate::{Artifact, ArtifactKind, CacheError, Digest, Entry, Node};

/// Who will have the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Materialise {
    /// Readers: reflinks, else read-only hard links, else copies. Who writes through a link all the same damages the
    /// blob, which its seal shows to the next reader.
    Shared,
    /// Somebody who may write: reflinks, else copies.
    Private,
}

/// How the files were made; of a tree the costliest way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Copy-on-write clones.
    Reflink,
    /// Further names of the blobs.
    HardLink,
    /// Copies.
    Copy,
}

impl Store {
    /// Makes the artifact appear at `dest`, where nothing may be yet. When it fails, part of a tree may be there.
    pub fn materialise(&self, artifact: &Artifact, dest: &Path, how: Materialise) -> Result<Method, CacheError> {
        files::make_parent(dest).map_err(|source| CacheError::placing("making the folder of", dest, source))?;
        self.materialise_at(artifact, dest, how, 0)
    }

    /// A checkout of a tree to look at, made once and checked every time: one in which somebody has changed something
    /// is moved aside and made again.
    pub fn open_tree(&self, artifact: &Artifact) -> Result<PathBuf, CacheError> {
        if !artifact.is_tree() {
            return Err(CacheError::WrongKind { digest: artifact.digest, expected: "folder" });
        }
        let view = self.inner.layout.view(&artifact.digest);
        if view.is_dir() {
            if self.is_faithful(&view, &artifact.digest)? {
                return Ok(view);
            }
            self.move_aside(&view, &format!("view-{}", artifact.digest));
        }
        let made = self.session("checking out a folder")?.fresh();
        self.materialise(artifact, &made, Materialise::Shared)?;
        match fs::rename(&made, &view) {
            Ok(()) => Ok(view),
            // Another process was faster.
            Err(_) if view.is_dir() => {
                fs::remove_dir_all(&made).map_err(|source| CacheError::writing("removing", &made, source))?;
                Ok(view)
            }
            Err(source) => Err(CacheError::writing("making", &view, source)),
        }
    }

    fn materialise_at(
        &self,
        artifact: &Artifact,
        dest: &Path,
        how: Materialise,
        depth: usize,
    ) -> Result<Method, CacheError> {
        if !artifact.is_tree() {
            return self.materialise_file(artifact, dest, how);
        }
        let tree = self.tree(&artifact.digest)?;
        fs::create_dir(dest).map_err(|source| CacheError::placing("making", dest, source))?;
        let methods = tree.entries().par_iter().map(|entry| self.materialise_entry(entry, dest, how, depth));
        methods.try_reduce(|| Method::Reflink, |one, other| Ok(one.max(other)))
    }

    fn materialise_entry(
        &self,
        entry: &Entry,
        dest: &Path,
        how: Materialise,
        depth: usize,
    ) -> Result<Method, CacheError> {
        let place = dest.join(&entry.name);
        let made = match &entry.node {
            Node::Artifact(artifact) => self.materialise_at(artifact, &place, how, depth + 1),
            Node::Link(target) if link_height(target).is_some_and(|height| height <= depth) => {
                let linked = symlink(target, &place).map(|()| Method::Reflink);
                linked.map_err(|source| CacheError::placing("linking", &place, source))
            }
            Node::Link(target) => Err(CacheError::BadTree {
                path: entry.name.clone(),
                why: format!("it leads out of the tree, to `{target}`"),
            }),
        };
        made.map_err(|error| folded(error, entry))
    }

    fn materialise_file(&self, artifact: &Artifact, dest: &Path, how: Materialise) -> Result<Method, CacheError> {
        let executable = artifact.kind == ArtifactKind::Executable;
        let Some(blob) = self.blob_to_copy(artifact, dest, how)? else {
            let set = dress(dest, mode(how, executable), how);
            return set.map(|()| Method::Copy).map_err(|source| CacheError::placing("making", dest, source));
        };
        let made = self.clone_file(&blob, dest).and_then(|cloned| match cloned {
            true => Ok(Method::Reflink),
            false if how == Materialise::Shared && !executable && hard_link(&blob, dest)? => Ok(Method::HardLink),
            false => copy(&blob, dest).map(|()| Method::Copy),
        });
        let method = made.map_err(|source| CacheError::placing("making", dest, source))?;
        if method != Method::HardLink {
            let set = dress(dest, mode(how, executable), how);
            set.map_err(|source| CacheError::placing("making", dest, source))?;
        }
        Ok(method)
    }

    /// The blob that `dest` is made of; `None` once a file that is kept in pieces was put together right there, for
    /// somebody who would copy it anyway or from a cache that cannot be written.
    fn blob_to_copy(&self, artifact: &Artifact, dest: &Path, how: Materialise) -> Result<Option<PathBuf>, CacheError> {
        if how == Materialise::Shared && self.writable() {
            return self.sound(&artifact.digest, artifact.size, Look::Use).map(Some);
        }
        match self.sound_whole(&artifact.digest, artifact.size, Look::Use) {
            Err(error) if error.is_miss() => match self.restore_to(&artifact.digest, dest)? {
                true => Ok(None),
                false => Err(error),
            },
            found => found.map(Some),
        }
    }

    /// Tries a reflink; a device that refused one is not asked again.
    fn clone_file(&self, blob: &Path, dest: &Path) -> io::Result<bool> {
        // The folder of a bare name is the empty path, which nothing is found at.
        let folder = dest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let device = fs::metadata(folder)?.dev();
        if lock(&self.inner.unlinkable).contains(&device) {
            return Ok(false);
        }
        match reflink_copy::reflink(blob, dest) {
            Ok(()) => Ok(true),
            Err(error) if is_fatal(&error) => Err(error),
            Err(_) => {
                lock(&self.inner.unlinkable).insert(device);
                Ok(false)
            }
        }
    }

    /// Whether a view holds what its tree says: names, lengths and seals.
    fn is_faithful(&self, view: &Path, digest: &Digest) -> Result<bool, CacheError> {
        let tree = self.tree(digest)?;
        let names = fs::read_dir(view).map(Iterator::count).unwrap_or(0);
        if names != tree.entries().len() {
            return Ok(false);
        }
        for Entry { name, node } in tree.entries() {
            let path = view.join(name);
            let found = fs::symlink_metadata(&path).ok();
            let same = match node {
                Node::Link(target) => fs::read_link(&path).is_ok_and(|found| found == Path::new(target)),
                Node::Artifact(artifact) if artifact.is_tree() => {
                    found.is_some_and(|found| found.is_dir()) && self.is_faithful(&path, &artifact.digest)?
                }
                Node::Artifact(artifact) => found
                    .is_some_and(|found| found.is_file() && found.len() == artifact.size && files::is_sealed(&found)),
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The folder was made just now, and nothing is ever put in the place of anything: a name that is taken is that of
/// another entry, as the file system sees it. Which names those are, only it can say.
fn folded(error: CacheError, entry: &Entry) -> CacheError {
    match error {
        CacheError::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists => CacheError::BadTree {
            path: entry.name.clone(),
            why: "this file system takes its name for that of another, as one that ignores case".into(),
        },
        error => error,
    }
}

fn mode(how: Materialise, executable: bool) -> u32 {
    match (how, executable) {
        (Materialise::Shared, false) => 0o444,
        (Materialise::Shared, true) => 0o555,
        (Materialise::Private, false) => 0o644,
        (Materialise::Private, true) => 0o755,
    }
}

/// The mode, and for readers the seal too, so that a view can be checked.
fn dress(dest: &Path, mode: u32, how: Materialise) -> io::Result<()> {
    if how == Materialise::Shared {
        files::seal(&File::open(dest)?, Durability::Disk)?;
    }
    fs::set_permissions(dest, Permissions::from_mode(mode))
}

/// What neither a link nor a copy would do better.
fn is_fatal(error: &io::Error) -> bool {
    let full = matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS));
    full || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists)
}

/// A hard link, where that is possible: another device, a blob with too many names, a file system without links or a
/// kernel that guards other people's files all mean a copy.
fn hard_link(blob: &Path, dest: &Path) -> io::Result<bool> {
    match fs::hard_link(blob, dest) {
        Ok(()) => Ok(true),
        Err(error) if is_fatal(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

fn copy(blob: &Path, dest: &Path) -> io::Result<()> {
    let mut to = files::create(dest)?;
    let copied = File::open(blob).and_then(|mut from| io::copy(&mut from, &mut to));
    copied.map(|_| ()).inspect_err(|_| {
        // The copy failed; that is what is told, not that its stump could not be removed.
        let _ = fs::remove_file(dest);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    #[test]
    fn a_name_that_the_file_system_takes_for_another_is_refused_and_nothing_is_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache"), StoreOptions::default()).unwrap();
        let file = store.ingest_bytes(b"new").unwrap();
        let tree = store.put_tree(&crate::Tree::default()).unwrap();
        let nodes = [Node::Artifact(file), Node::Artifact(tree), Node::Link("other".into())];
        let outside = folder.path().join("outside");
        for (number, node) in nodes.into_iter().enumerate() {
            for how in [Materialise::Shared, Materialise::Private] {
                // As if `A`, a link that leads elsewhere, had been made before `a`.
                let dest = folder.path().join(format!("{number}{how:?}"));
                fs::create_dir(&dest).unwrap();
                symlink(&outside, dest.join("a")).unwrap();
                let entry = Entry { name: "a".into(), node: node.clone() };
                let told = store.materialise_entry(&entry, &dest, how, 0).unwrap_err();
                assert!(matches!(&told, CacheError::BadTree { path, .. } if path == "a"), "{told}");
                assert!(!outside.exists());
            }
        }
    }
}
