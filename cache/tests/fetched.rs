//! What came from the network: notes that are recalled, downloads that are taken in, and digests that are looked up.

use std::fs;

use plumb_cache::{ArtifactKind, CacheError, Digest, Fetched};

use crate::packs::base_and_tuned;
use crate::support::{House, blob, files};

const ADDRESS: &str = "http https://host/data?token=word";

#[test]
fn what_is_remembered_is_recalled_under_its_name_alone() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest_bytes(b"bytes").unwrap();
    let fetched = |version: &str| Fetched { about: "https://host/data".into(), version: version.into(), artifact };
    assert_eq!(store.recall(ADDRESS), None);
    store.remember(ADDRESS, &fetched("etag:one")).unwrap();
    store.remember(ADDRESS, &fetched("etag:two")).unwrap();
    assert_eq!(store.recall(ADDRESS), Some(fetched("etag:two")));
    assert_eq!(store.recall("http https://host/data"), None);
    let notes = house.cache().join("v1/index/fetched");
    let note = &files(&notes)[0];
    assert!(!note.contains("host") && !fs::read_to_string(notes.join(note)).unwrap().contains("word"));
}

#[test]
fn a_damaged_note_is_no_note() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest_bytes(b"bytes").unwrap();
    store.remember(ADDRESS, &Fetched { about: String::new(), version: String::new(), artifact }).unwrap();
    let notes = house.cache().join("v1/index/fetched");
    let note = notes.join(&files(&notes)[0]);
    let whole = fs::read(&note).unwrap();
    for length in 0..whole.len() {
        fs::write(&note, &whole[..length]).unwrap();
        assert_eq!(store.recall(ADDRESS), None, "cut at {length}");
    }
}

#[test]
fn a_finished_download_is_moved_in() {
    let house = House::new();
    let store = house.store();
    let partial = store.partial(ADDRESS).unwrap();
    fs::write(&partial, "half").unwrap();
    assert_eq!(house.store().partial(ADDRESS).unwrap(), partial, "another process goes on with it");
    assert_ne!(store.partial("another").unwrap(), partial);
    fs::write(&partial, "the whole").unwrap();
    let artifact = store.take_in(&partial).unwrap();
    assert_eq!(store.read(&artifact).unwrap(), b"the whole");
    assert!(!partial.exists());
    assert_eq!(files(&house.cache().join("v1/partial")), [] as [&str; 0]);
}

#[test]
fn a_digest_is_looked_up_as_the_folder_or_the_file_that_it_is_of() {
    let house = House::new();
    let store = house.store();
    house.write("model/weights", "w");
    let tree = store.ingest(&house.path("model")).unwrap();
    let file = store.ingest_bytes(b"plumb-tree 1\nno line of a tree\n").unwrap();
    assert_eq!(store.lookup(&tree.digest).unwrap(), tree);
    assert_eq!(store.lookup(&file.digest).unwrap(), file, "what only begins as a tree is a file");
    let nothing = Digest::of(b"nothing");
    assert!(matches!(store.lookup(&nothing), Err(CacheError::Missing { digest }) if digest == nothing));
}

#[test]
fn a_file_that_is_kept_in_pieces_alone_is_looked_up() {
    let house = House::new();
    let store = house.store();
    let [one, _] = base_and_tuned().map(|bytes| store.ingest_bytes(&bytes).unwrap());
    assert_eq!(store.pack(&|_| {}).unwrap().files, 2);
    fs::remove_file(blob(&store, &one)).unwrap();
    assert_eq!(house.store().lookup(&one.digest).unwrap(), one);
    assert_eq!(one.kind, ArtifactKind::File);
}
