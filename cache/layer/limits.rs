//! What is too much to be meant: folders in folders beyond what a path can name, and folders that hold themselves so
//! often that a few lines stand for more files than there are disks. Asked of what came from a layer, before a record of
//! it is believed; what is made here is as large as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::Store;
use crate::{Artifact, CacheError, Digest, Tree};

/// Folders may lie so deep in one another. A path of the system has 4,096 bytes.
const DEEPEST: usize = 250;

/// A folder may hold so many files, folders and links in all.
const MOST: u64 = 100_000_000;

/// And so many bytes: a pebibyte.
const LARGEST: u64 = 1 << 50;

/// How much a folder is once it is made.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    entries: u64,
    height: usize,
}

/// Why nobody should make this artifact appear anywhere, if there is a reason. Its folders are in the cache.
pub(super) fn unreasonable(store: &Store, artifact: &Artifact) -> Result<Option<String>, CacheError> {
    unreasonable_in(&|digest| store.tree(digest), artifact)
}

/// Reads folders, wherever they are.
type Folders<'a> = &'a dyn Fn(&Digest) -> Result<Arc<Tree>, CacheError>;

/// The same of folders that lie elsewhere.
pub(crate) fn unreasonable_in(folders: Folders<'_>, artifact: &Artifact) -> Result<Option<String>, CacheError> {
    if artifact.size > LARGEST {
        return Ok(Some(format!("it would have {} bytes", artifact.size)));
    }
    if !artifact.is_tree() {
        return Ok(None);
    }
    let extent = measure(folders, &artifact.digest, 0, &mut BTreeMap::new())?;
    Ok(match extent {
        None => Some(format!("its folders lie more than {DEEPEST} deep")),
        Some(Extent { entries, .. }) if entries > MOST => Some(format!("it would have {entries} files and folders")),
        Some(_) => None,
    })
}

/// Each folder is looked at once, however often it is there; `None` where it goes too deep.
fn measure(
    folders: Folders<'_>,
    folder: &Digest,
    depth: usize,
    known: &mut BTreeMap<Digest, Extent>,
) -> Result<Option<Extent>, CacheError> {
    if let Some(extent) = known.get(folder) {
        return Ok((depth + extent.height <= DEEPEST).then_some(*extent));
    }
    if depth >= DEEPEST {
        return Ok(None);
    }
    let tree = folders(folder)?;
    let mut whole = Extent { entries: tree.entries().len() as u64, height: 1 };
    for (_, artifact) in tree.artifacts().filter(|(_, artifact)| artifact.is_tree()) {
        let Some(inner) = measure(folders, &artifact.digest, depth + 1, known)? else { return Ok(None) };
        whole.entries = whole.entries.saturating_add(inner.entries);
        whole.height = whole.height.max(inner.height + 1);
    }
    known.insert(*folder, whole);
    Ok(Some(whole))
}
