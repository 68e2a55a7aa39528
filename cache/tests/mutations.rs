//! Mutations: one file of a cache is cut, flipped, swapped with another or overwritten. Whatever it was, every look-up
//! gives what was stored or nothing, nothing panics, and a verification leaves a cache that is whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plumb_cache::{ActionRecord, CollectOptions, Materialise, Repair, Store};
use proptest::prelude::*;

use crate::packs::base_and_tuned;
use crate::support::{House, files, record};

/// What is done to a file.
#[derive(Debug, Clone)]
enum Mutation {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Swap(prop::sample::Index),
    Overwrite(Vec<u8>),
    Remove,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Mutation::Cut),
        (any::<prop::sample::Index>(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        any::<prop::sample::Index>().prop_map(Mutation::Swap),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Mutation::Overwrite),
        Just(Mutation::Remove),
    ]
}

/// Two checkpoints in pieces, a folder, and a step made from another.
fn stocked(house: &House) -> Vec<(ActionRecord, Vec<u8>)> {
    let store = house.quick_store();
    let mut kept = Vec::new();
    for (name, bytes) in ["base", "tuned"].into_iter().zip(base_and_tuned()) {
        let made = record(name, store.ingest_bytes(&bytes).unwrap());
        store.publish(&made).unwrap();
        kept.push((made, bytes));
    }
    store.pack(&|_| {}).unwrap();
    let options = CollectOptions { max_size: None, keep_runs: 0, forgotten: std::time::UNIX_EPOCH, drop_whole: true };
    store.collect(&options, &mut || {}).unwrap();
    house.write("model/weights", "weights");
    let folder = record("folder", store.ingest(&house.path("model")).unwrap());
    store.publish(&folder).unwrap();
    let mut end = record("end", store.ingest_bytes(b"end").unwrap());
    end.ancestry = [(folder.recipe, folder.realisation())].into();
    store.publish(&end).unwrap();
    store.pin(&end.action, "").unwrap();
    kept.push((folder, b"weights".to_vec()));
    kept.push((end, b"end".to_vec()));
    kept
}

fn mutate(path: &Path, others: &[PathBuf], mutation: &Mutation) {
    let bytes = fs::read(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    match mutation {
        Mutation::Cut(at) => fs::write(path, &bytes[..at.index(bytes.len() + 1)]).unwrap(),
        Mutation::Flip(at, bit) if !bytes.is_empty() => {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(path, bytes).unwrap();
        }
        Mutation::Flip(..) => {}
        Mutation::Swap(other) => {
            let other = other.get(others);
            let theirs = fs::read(other).unwrap();
            fs::set_permissions(other, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(other, bytes).unwrap();
            fs::write(path, theirs).unwrap();
        }
        Mutation::Overwrite(bytes) => fs::write(path, bytes).unwrap(),
        Mutation::Remove => fs::remove_file(path).unwrap(),
    }
}

/// The bytes that a record's output has now; `None` for whatever counts as a miss.
fn bytes_of(house: &House, store: &Store, made: &ActionRecord, name: &str) -> Option<Vec<u8>> {
    let artifact = made.outputs["out"].artifact;
    if !artifact.is_tree() {
        return store.read(&artifact).ok();
    }
    let place = house.path(name);
    store.materialise(&artifact, &place, Materialise::Private).ok()?;
    Some(fs::read(place.join("weights")).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_to_a_file_nothing_wrong_is_served(
        at in any::<prop::sample::Index>(), mutation in mutation(), verify_first in any::<bool>(),
    ) {
        let house = House::new();
        let kept = stocked(&house);
        let v1 = house.cache().join("v1");
        let all: Vec<PathBuf> = files(&v1).into_iter().map(|file| v1.join(file)).collect();
        mutate(&all[at.index(all.len())], &all, &mutation);
        let store = house.quick_store();
        if verify_first {
            store.verify(Repair::Yes, &|_| {}).unwrap();
        }
        for (made, bytes) in &kept {
            for found in store.recipe(&made.recipe).unwrap().into_iter().chain(store.action(&made.action).unwrap()) {
                prop_assert_eq!(&found, made);
            }
            if let Some(found) = bytes_of(&house, &store, made, &made.action.short()) {
                prop_assert!(&found == bytes, "{} gave other bytes", made.step);
            }
            prop_assert!(store.records_of_stage("house", "make").unwrap().len() <= kept.len());
            store.ancestry(std::slice::from_ref(made)).unwrap();
            store.disowned(made).unwrap();
        }
        store.pins().unwrap();
        store.projects().unwrap();
        store.verify(Repair::Yes, &|_| {}).unwrap();
        // What no name could say is told every time, and is not touched.
        let after = house.quick_store().verify(Repair::Yes, &|_| {}).unwrap();
        prop_assert_eq!((after.damaged.len(), after.unreadable, after.lost.len()), (0, 0, 0), "{:?}", after);
        let everything =
            CollectOptions { max_size: Some(0), keep_runs: 0, forgotten: std::time::UNIX_EPOCH, drop_whole: true };
        house.quick_store().collect(&everything, &mut || {}).unwrap();
    }
}
