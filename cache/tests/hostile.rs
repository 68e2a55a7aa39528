//! Artifacts that somebody made to do harm, signed by somebody who is trusted: none of them comes into a cache.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use plumb_cache::{
    Artifact, ArtifactKind, CacheError, Digest, Entry, Materialise, Node, Publication, SecretKey, SignedRecord, Tree,
};
use proptest::prelude::*;

use crate::layers::scene::{Scene, place};
use crate::support::{House, record};

fn folder(names: &[(&str, Artifact)]) -> Tree {
    let entry = |(name, artifact): &(&str, Artifact)| Entry { name: (*name).into(), node: Node::Artifact(*artifact) };
    Tree::new(names.iter().map(entry).collect()).unwrap()
}

/// What comes of pulling an artifact that a layer holds as these objects, by a record that is signed.
fn pull(scene: &Scene, artifact: Artifact, objects: &BTreeMap<Digest, Vec<u8>>) -> Result<Option<Publication>, String> {
    for (digest, bytes) in objects {
        scene.write(&place("cas", digest), bytes.clone());
    }
    let signed = SignedRecord::sign(record("bad", artifact), &SecretKey::new().unwrap()).unwrap();
    let (action, recipe) = (signed.record().action.to_string(), signed.record().recipe.to_string());
    let text = String::from_utf8(signed.encode()).unwrap();
    let entry = serde_json::json!({
        "action": action, "recipe": recipe, "first": true, "whole": true, "packs": [], "signed": text
    });
    let entry = serde_json::from_value(entry).unwrap();
    let house = House::new();
    let store = house.quick_store();
    let pulled = scene.layer.pull(&store, &entry, &signed, &|_| {});
    assert_eq!(store.action(&signed.record().action).unwrap().is_some(), matches!(pulled, Ok(Some(_))));
    pulled.map_err(|error| match error {
        CacheError::LayerLied { .. } | CacheError::BadTree { .. } => error.to_string(),
        error => panic!("{error:?}"),
    })
}

/// Folders one in the other, each with so many names for the next.
fn nested(depth: usize, wide: usize) -> (Artifact, BTreeMap<Digest, Vec<u8>>) {
    let mut objects = BTreeMap::new();
    let mut tree = Tree::default();
    for _ in 0..depth {
        let inner = tree.artifact();
        objects.insert(inner.digest, tree.encode().into_bytes());
        let names: Vec<String> = (0..wide).map(|number| number.to_string()).collect();
        tree = folder(&names.iter().map(|name| (name.as_str(), inner)).collect::<Vec<_>>());
    }
    let whole = tree.artifact();
    objects.insert(whole.digest, tree.encode().into_bytes());
    (whole, objects)
}

#[test]
fn folders_that_stand_for_more_than_any_disk_holds_are_refused() {
    let check = |depth, wide| {
        let (artifact, objects) = nested(depth, wide);
        pull(&Scene::in_memory(), artifact, &objects)
    };
    assert_eq!(check(200, 1).unwrap(), Some(Publication::New));
    assert_eq!(check(10, 2).unwrap(), Some(Publication::New));
    let deep = check(300, 1).unwrap_err();
    assert!(deep.contains("its folders lie more than 250 deep"), "{deep}");
    let bomb = check(64, 2).unwrap_err();
    assert!(bomb.contains("files and folders"), "{bomb}");
}

#[test]
fn lengths_that_are_not_those_of_the_bytes_are_refused() {
    let bytes = b"eight by".to_vec();
    let digest = Digest::of(&bytes);
    for size in [0, 7, 9, 1 << 40, u64::MAX] {
        let lying = Artifact { digest, kind: ArtifactKind::File, size, files: 1 };
        let honest = Artifact { size: 8, ..lying };
        let tree = folder(&[("a", honest), ("b", lying)]);
        let folder = (tree.artifact().digest, tree.encode().into_bytes());
        let objects = BTreeMap::from([(digest, bytes.clone()), folder]);
        for artifact in [lying, tree.artifact()] {
            pull(&Scene::in_memory(), artifact, &objects).unwrap_err();
        }
    }
}

#[test]
fn a_folder_whose_text_says_what_no_folder_may_hold_is_refused() {
    let digest = Digest::of(b"");
    for (line, why) in [
        (format!("f {digest} 0 ../up"), "not the name of a file"),
        (format!("f {digest} 0 /etc/passwd"), "not the name of a file"),
        (format!("f {digest} 0 .."), "not the name of a file"),
        (format!("b {digest} 0 device"), "not a line of a tree"),
        (format!("s {digest} 0 setuid"), "not a line of a tree"),
        ("l away\t/etc/passwd".into(), "leads to `/etc/passwd`"),
        ("l away\tin/../../out".into(), "leads to `in/../../out`"),
        (format!("f {digest} 0 twice\nf {digest} 0 twice"), "is there twice"),
    ] {
        let text = format!("plumb-tree 1\n{line}\n").into_bytes();
        let artifact = Artifact { digest: Digest::of(&text), kind: ArtifactKind::Tree, size: 0, files: 1 };
        let objects = BTreeMap::from([(digest, Vec::new()), (artifact.digest, text)]);
        let told = pull(&Scene::in_memory(), artifact, &objects).unwrap_err();
        assert!(told.contains(why), "{line}: {told}");
    }
}

/// Every file below a folder, with its mode; links are not followed.
fn modes_below(folder: &Path) -> Vec<u32> {
    let mut modes = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        if metadata.is_dir() {
            modes.extend(modes_below(&entry.path()));
        } else if !metadata.is_symlink() {
            assert!(metadata.is_file());
            modes.push(metadata.mode());
        }
    }
    modes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_tree_says_nothing_appears_outside_it_and_nothing_is_privileged(
        ups in prop::collection::vec(0..4usize, 1..4), depth in 0..3usize, executable in any::<bool>()
    ) {
        let (house, secret) = (House::new(), "outside");
        let store = house.quick_store();
        house.write("out/secret", secret);
        let kind = if executable { ArtifactKind::Executable } else { ArtifactKind::File };
        let file = Artifact { kind, ..store.ingest_bytes(b"file").unwrap() };
        let links = ups.iter().enumerate().map(|(number, ups)| {
            Entry { name: format!("link{number}"), node: Node::Link(format!("{}secret", "../".repeat(*ups))) }
        });
        let mut tree = Tree::new(links.chain([Entry { name: "file".into(), node: Node::Artifact(file) }]).collect()).unwrap();
        let mut artifact = store.put_tree(&tree).unwrap();
        for _ in 0..depth {
            tree = folder(&[("in", artifact)]);
            artifact = store.put_tree(&tree).unwrap();
        }
        let made = store.materialise(&artifact, &house.path("out/made"), Materialise::Private);
        prop_assert_eq!(made.is_ok(), ups.iter().all(|ups| *ups <= depth));
        prop_assert_eq!(fs::read_to_string(house.path("out/secret")).unwrap(), secret);
        prop_assert_eq!(fs::read_dir(house.path("out")).unwrap().count(), 2);
        if made.is_ok() {
            for mode in modes_below(&house.path("out/made")) {
                prop_assert_eq!(mode & 0o7000, 0);
            }
        }
    }
}

#[test]
fn a_setuid_file_is_stored_without_its_privilege() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let store = house.quick_store();
    let program = house.write("tree/program", "#!/bin/true");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    symlink("program", house.path("tree/link")).unwrap();
    let tree = store.ingest(&house.path("tree")).unwrap();
    for how in [Materialise::Shared, Materialise::Private] {
        let dest = house.path(&format!("{how:?}"));
        store.materialise(&tree, &dest, how).unwrap();
        let mode = fs::metadata(dest.join("program")).unwrap().mode();
        assert_eq!((mode & 0o7000, mode & 0o100), (0, 0o100));
    }
}
