//! Folder to tree, the one way for what is stored and for what is only hashed, so that both have the same digest.
//! Never writes.

use std::fs::{self, Metadata};
use std::path::Path;

use rayon::prelude::*;

use crate::tree::link_height;
use crate::{Artifact, ArtifactKind, CacheError, Digest, Entry, FileStamp, Node, Tree};

/// What is done with each file and each tree on the way.
pub(crate) trait Visitor: Sync {
    /// The digest and length of a file's bytes.
    fn file(&self, path: &Path, metadata: &Metadata) -> Result<(Digest, u64), CacheError>;

    /// Called with every tree, the innermost first.
    fn tree(&self, tree: &Tree) -> Result<(), CacheError>;
}

/// The artifact at this path, which may be a symlink to it.
pub(crate) fn walk(visitor: &dyn Visitor, path: &Path) -> Result<Artifact, CacheError> {
    let metadata = fs::metadata(path).map_err(|source| CacheError::system("looking at", path, source))?;
    match metadata.is_dir() {
        true => folder(visitor, path, "", 0),
        false => file(visitor, path, &metadata, &path.to_string_lossy()),
    }
}

fn folder(visitor: &dyn Visitor, path: &Path, name: &str, depth: usize) -> Result<Artifact, CacheError> {
    let failed = |source| CacheError::system("listing", path, source);
    let listed: Vec<_> = fs::read_dir(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    let entries = listed.par_iter().map(|listed| entry(visitor, listed, name, depth));
    let tree = Tree::new(entries.collect::<Result<_, _>>()?)?;
    visitor.tree(&tree)?;
    Ok(tree.artifact())
}

fn entry(visitor: &dyn Visitor, listed: &fs::DirEntry, above: &str, depth: usize) -> Result<Entry, CacheError> {
    let path = listed.path();
    let name = match listed.file_name().into_string() {
        Ok(name) => name,
        Err(name) => return Err(bad(&format!("{above}{}", name.to_string_lossy()), "its name is not UTF-8")),
    };
    let inside = format!("{above}{name}");
    let metadata = fs::symlink_metadata(&path).map_err(|source| CacheError::system("looking at", &path, source))?;
    let node = if metadata.is_symlink() {
        symlink(visitor, &path, &inside, depth)?
    } else if metadata.is_dir() {
        Node::Artifact(folder(visitor, &path, &format!("{inside}/"), depth + 1)?)
    } else {
        Node::Artifact(file(visitor, &path, &metadata, &inside)?)
    };
    Ok(Entry { name, node })
}

/// A symlink within the tree stays one. One that leads out stands for the file it leads to, as in the snapshots of a
/// download cache, whose files are links to blobs beside it; to follow one to a folder might never end.
fn symlink(visitor: &dyn Visitor, path: &Path, inside: &str, depth: usize) -> Result<Node, CacheError> {
    let target = fs::read_link(path).map_err(|source| CacheError::system("reading the link", path, source))?;
    if let Some(target) = target.to_str()
        && link_height(target).is_some_and(|height| height <= depth)
    {
        return Ok(Node::Link(target.to_owned()));
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Node::Artifact(file(visitor, path, &metadata, inside)?)),
        _ => Err(bad(inside, &format!("it is a symlink that leads out of the tree, to `{}`", target.display()))),
    }
}

fn file(visitor: &dyn Visitor, path: &Path, metadata: &Metadata, inside: &str) -> Result<Artifact, CacheError> {
    if !metadata.is_file() {
        return Err(bad(inside, "it is neither a file nor a folder"));
    }
    let (digest, size) = visitor.file(path, metadata)?;
    let kind = match is_executable(metadata) {
        true => ArtifactKind::Executable,
        false => ArtifactKind::File,
    };
    Ok(Artifact { digest, kind, size, files: 1 })
}

fn is_executable(metadata: &Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
}

fn bad(path: &str, why: &str) -> CacheError {
    CacheError::BadTree { path: path.to_owned(), why: why.to_owned() }
}

/// Whether two looks at a file saw the same file in the same state.
pub(crate) fn unchanged(path: &Path, before: &FileStamp) -> Result<bool, CacheError> {
    Ok(crate::stat_of(path)? == *before)
}
