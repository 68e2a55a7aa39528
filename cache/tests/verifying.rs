//! Verifying: every kind of damage is found, told and repaired by taking away; a whole cache is left as it is.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use plumb_cache::{Artifact, Progress, Repair, Store, Verified};

use crate::support::{House, blob, files, flip_a_bit, flip_a_bit_unseen, record};

fn verify(store: &Store, repair: Repair) -> Verified {
    let (total, hashed) = (AtomicU64::new(0), AtomicU64::new(0));
    let found = store.verify(repair, &|progress| match progress {
        Progress::Total(bytes) => total.store(bytes, Ordering::Relaxed),
        Progress::Hashed(bytes) => drop(hashed.fetch_add(bytes, Ordering::Relaxed)),
    });
    assert_eq!(total.into_inner(), hashed.into_inner(), "progress comes to its end");
    found.unwrap()
}

fn published(store: &Store, name: &str, artifact: Artifact) -> plumb_cache::ActionRecord {
    let made = record(name, artifact);
    store.publish(&made).unwrap();
    made
}

#[test]
fn a_whole_cache_is_clean_and_stays_as_it_is() {
    let house = House::new();
    let store = house.store();
    house.write("model/weights", vec![1; 3 << 20]);
    let made = published(&store, "1", store.ingest(&house.path("model")).unwrap());
    let before = files(&house.cache().join("v1/cas"));
    let found = verify(&store, Repair::Yes);
    assert!(found.is_clean());
    assert_eq!((found.blobs, found.records), (2, 1));
    assert_eq!(files(&house.cache().join("v1/cas")), before);
    assert_eq!(store.action(&made.action).unwrap(), Some(made));
}

#[test]
fn damage_is_found_and_what_stands_on_it_is_dropped() {
    let house = House::new();
    let store = house.store();
    let large = store.ingest_bytes(&vec![3; 9 << 20]).unwrap();
    let [good, flipped, gone, hidden] = ["good", "flipped", "gone", "hidden"]
        .map(|name| published(&store, name, store.ingest_bytes(name.as_bytes()).unwrap()));
    house.write("model/inner/weights", "w");
    let tree = published(&store, "tree", store.ingest(&house.path("model")).unwrap());
    let large = published(&store, "large", large);
    let at = |record: &plumb_cache::ActionRecord| blob(&store, &record.outputs["out"].artifact);
    flip_a_bit(&at(&flipped));
    flip_a_bit_unseen(&at(&large));
    fs::remove_file(at(&gone)).unwrap();
    let inner = store.subpath(&tree.outputs["out"].artifact, "inner/weights").unwrap();
    fs::remove_file(blob(&store, &inner)).unwrap();
    let name = hidden.action.to_string();
    flip_a_bit(&house.cache().join("v1/actions").join(&name[..2]).join(&name[2..]));
    fs::write(house.cache().join("v1/cas/rubbish"), "").unwrap();

    let told = verify(&house.store(), Repair::No);
    let mut damaged = [&flipped, &large].map(|record| record.outputs["out"].artifact.digest);
    damaged.sort();
    assert_eq!(told.damaged, damaged);
    assert_eq!((told.unreadable, told.strays.as_slice()), (1, &[house.cache().join("v1/cas/rubbish")][..]));
    let lost: Vec<&str> = told.lost.iter().map(|lost| lost.step.as_str()).collect();
    assert_eq!(lost, ["make@n=flipped", "make@n=gone", "make@n=large", "make@n=tree"]);
    assert!(!told.is_clean());

    assert_eq!(verify(&house.store(), Repair::Yes), told, "the first look changed nothing");
    let store = house.store();
    for record in [&flipped, &gone, &tree, &large, &hidden] {
        assert_eq!(store.action(&record.action).unwrap(), None, "{}", record.step);
    }
    assert_eq!(store.action(&good.action).unwrap().as_ref(), Some(&good));
    assert_eq!(files(&house.cache().join("v1/quarantine")).len(), 3);
    let again = verify(&store, Repair::Yes);
    assert!(again.is_clean(), "what was wrong has been put right");
    assert_eq!(again.strays.len(), 1, "what no digest names is told, and is no damage");
}

#[test]
fn a_lost_diagnostic_is_told_and_its_record_stays() {
    let house = House::new();
    let store = house.store();
    let mut made = record("1", store.ingest_bytes(b"result").unwrap());
    let mut log = made.outputs["out"].clone();
    (log.artifact, log.diagnostic) = (store.ingest_bytes(b"log").unwrap(), true);
    made.outputs.insert("log".into(), log.clone());
    store.publish(&made).unwrap();
    fs::remove_file(blob(&store, &log.artifact)).unwrap();
    let found = verify(&store, Repair::Yes);
    assert_eq!((found.lost[0].outputs.as_slice(), found.lost[0].diagnostics_only), (&["log".to_owned()][..], true));
    assert!(found.is_clean(), "there is nothing to repair, neither now nor the next time");
    assert_eq!(store.action(&made.action).unwrap(), Some(made));
}
