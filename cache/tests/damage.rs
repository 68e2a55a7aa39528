//! Damage: whatever happened to a blob, it is a miss, is moved aside and never used.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plumb_cache::{Artifact, CacheError, Materialise, Publication, Store, StoreOptions};

use crate::support::{House, blob, files, flip_a_bit, flip_a_bit_unseen, record};

/// Asserts that the artifact's blob is found damaged by `using` it, is out of the way, and can be made again.
fn check(house: &House, artifact: &Artifact, bytes: &[u8], using: impl Fn(&Store) -> Result<(), CacheError>) {
    let store = house.store();
    let before = files(&house.cache().join("v1/quarantine")).len();
    let error = using(&store).unwrap_err();
    let CacheError::Damaged { digest, moved_to: Some(moved_to) } = &error else { panic!("{error}") };
    assert_eq!((digest, moved_to.exists()), (&artifact.digest, true));
    assert!(error.is_miss() && error.hint().unwrap().contains(&*moved_to.to_string_lossy()));
    assert!(!store.present(artifact));
    assert!(matches!(using(&store), Err(CacheError::Missing { .. })));
    assert_eq!(files(&house.cache().join("v1/quarantine")).len(), before + 1);
    assert_eq!(store.ingest_bytes(bytes).unwrap().digest, artifact.digest);
    using(&store).unwrap();
}

#[test]
fn a_flipped_bit_is_found_on_read_and_on_materialising() {
    let house = House::new();
    let bytes = b"a blob of some length";
    let artifact = house.store().ingest_bytes(bytes).unwrap();
    let path = blob(&house.store(), &artifact);
    let out = || house.path(&files(&house.path("")).len().to_string());
    for flip in [flip_a_bit, flip_a_bit_unseen] {
        flip(&path);
        check(&house, &artifact, bytes, |store| store.read(&artifact).map(|_| ()));
        flip(&path);
        check(&house, &artifact, bytes, |store| store.materialise(&artifact, &out(), Materialise::Shared).map(|_| ()));
        flip(&path);
        check(&house, &artifact, bytes, |store| store.materialise(&artifact, &out(), Materialise::Private).map(|_| ()));
    }
}

#[test]
fn a_large_blob_that_was_written_into_is_absent_at_a_glance() {
    let house = House::new();
    let bytes = vec![3; 9 << 20];
    let store = house.store();
    let artifact = store.ingest_bytes(&bytes).unwrap();
    let path = blob(&store, &artifact);
    flip_a_bit(&path);
    assert!(!store.present(&artifact));
    assert_eq!(files(&house.cache().join("v1/quarantine")).len(), 1);

    store.ingest_bytes(&bytes).unwrap();
    let cut = fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(5));
    cut.unwrap();
    assert!(!store.present(&artifact), "a cut one");

    store.ingest_bytes(&bytes).unwrap();
    flip_a_bit_unseen(&path);
    assert!(store.present(&artifact), "what no stat shows is left to the readers");
    let paranoid = Store::open(&house.cache(), StoreOptions { paranoid: true, ..StoreOptions::default() }).unwrap();
    assert!(!paranoid.present(&artifact), "but not by the paranoid");
}

#[test]
fn a_step_that_writes_through_its_link_damages_nothing_but_is_found_out() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest_bytes(b"input").unwrap();
    store.materialise(&artifact, &house.path("input"), Materialise::Shared).unwrap();
    flip_a_bit(&house.path("input"));
    let linked = fs::read(blob(&store, &artifact)).unwrap() != b"input";
    assert_eq!(store.present(&artifact), !linked);
}

#[test]
fn a_damaged_blob_is_replaced_by_the_next_who_makes_it() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest(&house.write("out", "good bytes")).unwrap();
    flip_a_bit_unseen(&blob(&store, &artifact));
    assert_eq!(house.store().ingest(&house.path("out")).unwrap(), artifact);
    assert_eq!(store.read(&artifact).unwrap(), b"good bytes");
}

#[test]
fn damage_anywhere_in_a_tree_is_a_miss_of_the_tree() {
    let house = House::new();
    let store = house.store();
    house.write("model/config.json", "{}");
    house.write("model/weights/one.bin", "weights");
    let artifact = store.ingest(&house.path("model")).unwrap();
    let at = |path: &str| store.subpath(&artifact, path).unwrap();
    for inner in [at("weights/one.bin"), at("weights"), artifact] {
        flip_a_bit(&blob(&store, &inner));
        let fresh = house.store();
        assert!(!fresh.present(&artifact));
        let error = fresh.materialise(&artifact, &house.path("out"), Materialise::Shared).unwrap_err();
        assert!(error.is_miss(), "{error}");
        let _ = fs::remove_dir_all(house.path("out"));
        assert_eq!(fresh.ingest(&house.path("model")).unwrap(), artifact);
        assert!(fresh.present(&artifact));
    }
}

#[test]
fn a_record_of_a_damaged_blob_is_published_anew() {
    let house = House::new();
    let store = house.store();
    let made = record("1", store.ingest_bytes(b"result").unwrap());
    store.publish(&made).unwrap();
    flip_a_bit(&blob(&store, &made.outputs["out"].artifact));
    assert!(matches!(house.store().publish(&made), Err(CacheError::Missing { .. })));
    store.ingest_bytes(b"result").unwrap();
    assert_eq!(store.publish(&made).unwrap(), Publication::Same);
}

#[test]
fn a_cache_that_was_copied_without_its_times_is_whole_and_one_that_was_copied_badly_is_not() {
    let house = House::new();
    let store = house.store();
    let (good, bad) = (store.ingest_bytes(b"good").unwrap(), store.ingest_bytes(b"bad").unwrap());
    let copied = Command::new("cp").arg("-r").arg(house.cache()).arg(house.path("copy")).status().unwrap();
    assert!(copied.success());
    let copy = Store::open(&house.path("copy"), StoreOptions::default()).unwrap();
    flip_a_bit(&blob(&copy, &bad));
    assert_eq!(copy.present_all(&[good, bad]), [true, false]);
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(modified(&blob(&copy, &good)), modified(&blob(&store, &good)), "the seal was renewed");
}

#[test]
fn a_blob_that_no_disk_was_waited_for_is_hashed_again_once_the_machine_was_restarted() {
    let house = House::new();
    let store = house.quick_store();
    let [good, torn] = [3, 4].map(|byte| store.ingest_bytes(&vec![byte; 9 << 20]).unwrap());
    assert_eq!(store.present_all(&[good, torn]), [true, true]);
    let durable = house.store().ingest_bytes(&vec![5; 9 << 20]).unwrap();
    let time = |artifact: &Artifact| fs::metadata(blob(&store, artifact)).unwrap().modified().unwrap();
    let since = |artifact| time(artifact).duration_since(time(&durable)).unwrap();
    assert!(since(&good) > Duration::ZERO && since(&good) < Duration::from_secs(1), "its seal is another");
    // Another start of the machine is another seal; what the power cut tore is one as well.
    for artifact in [&good, &torn] {
        let file = fs::File::open(blob(&store, artifact)).unwrap();
        file.set_modified(time(&durable) + (since(artifact) + Duration::from_millis(7)) / 2).unwrap();
    }
    flip_a_bit_unseen(&blob(&store, &torn));
    assert_eq!(house.store().present_all(&[good, torn]), [true, false]);
    assert_eq!(time(&good), time(&durable), "it has been read from the disk, so that is where it is");
}
