//! A folder from the names and artifacts of its files: the trees from the innermost to the whole, as the cache makes
//! them of a folder on disk, so that both have one digest. Refuses names that would lead out of the folder.

use std::collections::BTreeMap;

use plumb_cache::{Artifact, CacheError, Entry, Node, Store, Tree};

/// Deeper than any path that a file system opens.
const DEEPEST: usize = 1000;

/// The trees of these files, the whole last; names are relative, with `/` between folders.
pub fn trees(files: &BTreeMap<String, Artifact>) -> Result<Vec<Tree>, CacheError> {
    let parts = files.iter().map(|(name, artifact)| Ok((split(name)?, *artifact)));
    let parts = parts.collect::<Result<Vec<_>, CacheError>>()?;
    let mut made = Vec::new();
    let slices: Vec<(&[&str], Artifact)> =
        parts.iter().map(|(parts, artifact)| (parts.as_slice(), *artifact)).collect();
    level(&slices, &mut made)?;
    Ok(made)
}

/// The same, stored; the parts are in the cache already.
pub fn store(store: &Store, files: &BTreeMap<String, Artifact>) -> Result<Artifact, CacheError> {
    let mut whole = None;
    for tree in trees(files)? {
        whole = Some(store.put_tree(&tree)?);
    }
    Ok(whole.unwrap_or_else(|| Tree::default().artifact()))
}

/// One folder level; `files` are sorted, so those of one folder stand together.
fn level(files: &[(&[&str], Artifact)], made: &mut Vec<Tree>) -> Result<Artifact, CacheError> {
    let mut entries = Vec::new();
    for group in files.chunk_by(|(one, _), (other, _)| one[0] == other[0]) {
        let name = group[0].0[0].to_owned();
        let artifact = match group {
            [([_], artifact)] => *artifact,
            _ => {
                let inside: Vec<_> = group.iter().map(|(parts, artifact)| (&parts[1..], *artifact)).collect();
                if inside.iter().any(|(parts, _)| parts.is_empty()) {
                    return Err(bad(&name, "it is a file and a folder"));
                }
                level(&inside, made)?
            }
        };
        entries.push(Entry { name, node: Node::Artifact(artifact) });
    }
    let tree = Tree::new(entries)?;
    let artifact = tree.artifact();
    made.push(tree);
    Ok(artifact)
}

fn split(name: &str) -> Result<Vec<&str>, CacheError> {
    let parts: Vec<&str> = name.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || name.contains('\0') {
        return Err(bad(name, "its name leads out of the folder"));
    }
    if parts.len() > DEEPEST {
        return Err(bad(name, "it lies too deep"));
    }
    Ok(parts)
}

fn bad(path: &str, why: &str) -> CacheError {
    CacheError::BadTree { path: path.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use plumb_cache::StoreOptions;

    use super::*;

    #[test]
    fn a_folder_of_names_is_the_folder_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Store::open(&folder.path().join("cache"), StoreOptions::default()).unwrap();
        let root = folder.path().join("root");
        let mut files = BTreeMap::new();
        for name in ["a.txt", "a/b/c.txt", "a/d.txt", "z"] {
            let path = root.join(name.replace("a.txt", "a.t"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, name).unwrap();
            files.insert(name.replace("a.txt", "a.t"), cache.digest_source(&path).unwrap());
        }
        assert_eq!(store(&cache, &files).unwrap(), cache.digest_source(&root).unwrap());
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let artifact = Tree::default().artifact();
        for name in ["../x", "/x", "a//b", "a/..", ".", ""] {
            assert!(trees(&BTreeMap::from([(name.to_owned(), artifact)])).is_err(), "{name}");
        }
        let both = BTreeMap::from([("a".to_owned(), artifact), ("a/b".to_owned(), artifact)]);
        assert!(trees(&both).is_err());
    }
}
