//! Properties of trees: one text for one tree, whatever order or names, and nothing else is a tree.

use plumb_cache::{Artifact, ArtifactKind, Digest, Entry, Materialise, Node, Tree};
use proptest::prelude::*;

use crate::support::House;

fn name() -> impl Strategy<Value = String> {
    "[^/\u{0}]{1,12}".prop_filter("a name of a file", |name| name != "." && name != "..")
}

fn node() -> impl Strategy<Value = Node> {
    let kind = prop_oneof![Just(ArtifactKind::File), Just(ArtifactKind::Executable), Just(ArtifactKind::Tree)];
    let artifact = (any::<[u8; 32]>(), kind, any::<u32>(), any::<u32>()).prop_map(|(digest, kind, size, files)| {
        let files = if kind == ArtifactKind::Tree { u64::from(files) } else { 1 };
        Node::Artifact(Artifact { digest: Digest::from_bytes(digest), kind, size: u64::from(size), files })
    });
    prop_oneof![artifact, (0..3usize, name()).prop_map(|(up, name)| Node::Link("../".repeat(up) + &name))]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let map = prop::collection::btree_map(name(), node(), 0..8);
    map.prop_map(|map| map.into_iter().map(|(name, node)| Entry { name, node }).collect())
}

proptest! {
    #[test]
    fn a_tree_reads_back_from_its_text(entries in entries()) {
        let tree = Tree::new(entries.clone()).unwrap();
        prop_assert_eq!(&Tree::decode(&tree.encode()).unwrap(), &tree);
        for entry in &entries {
            prop_assert_eq!(tree.find(&entry.name), Some(entry));
        }
    }

    #[test]
    fn the_order_of_listing_moves_no_digest(entries in entries().prop_shuffle()) {
        let mut sorted = entries.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(Tree::new(entries).unwrap().artifact(), Tree::new(sorted).unwrap().artifact());
    }

    #[test]
    fn another_tree_is_another_digest(one in entries(), other in entries()) {
        let (one, other) = (Tree::new(one).unwrap(), Tree::new(other).unwrap());
        prop_assert_eq!(one == other, one.artifact().digest == other.artifact().digest);
    }

    #[test]
    fn a_text_that_reads_is_the_canonical_one(entries in entries(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Tree::new(entries).unwrap().encode().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(tree) = Tree::decode(&text)
        {
            prop_assert_eq!(tree.encode(), text);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(plumb-tree 1\n)?([fxdl] [0-9a-f]{0,64} [0-9]{0,20} ?.{0,5}\n?){0,3}") {
        let _ = Tree::decode(&text);
    }

    #[test]
    fn any_name_survives_the_disk(names in prop::collection::btree_set("[a-z \\\\\n\t\r'\"é]{1,6}", 1..4)) {
        let (house, names) = (House::new(), names);
        let store = house.store();
        for name in &names {
            house.write(&format!("folder/{name}"), name);
        }
        let artifact = store.ingest(&house.path("folder")).unwrap();
        store.materialise(&artifact, &house.path("back"), Materialise::Private).unwrap();
        for name in &names {
            prop_assert_eq!(&std::fs::read_to_string(house.path("back").join(name)).unwrap(), name);
        }
    }
}

#[test]
fn what_cannot_be_a_tree_is_refused() {
    let link = |target: &str| Node::Link(target.to_owned());
    let tree = |names: &[(&str, Node)]| {
        Tree::new(names.iter().map(|(name, node)| Entry { name: (*name).to_owned(), node: node.clone() }).collect())
    };
    for name in ["", ".", "..", "a/b", "/a", "a\0"] {
        assert!(tree(&[(name, link("x"))]).is_err(), "{name:?}");
    }
    for target in ["", "/etc/passwd", "a/../b", "a/../../b"] {
        assert!(tree(&[("link", link(target))]).is_err(), "{target:?}");
    }
    assert!(tree(&[("a", link("x")), ("a", link("y"))]).is_err());
    assert!(tree(&[("a", link("../x")), ("b", link("./x/y"))]).is_ok());
}
