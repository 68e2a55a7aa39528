//! Layers: what is sent comes back as it was, from memory and from a folder; what is damaged there is found out; the
//! first record of an action stays the first.

pub mod scene;

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::path::Path as Name;
use plumb_cache::{CacheError, Digest, Layer, Published, SecretKey, SignedRecord};

use self::scene::{Faulty, Scene, lied, place, wait};

#[test]
fn blobs_of_every_size_come_back_and_are_sent_once() {
    for scene in Scene::everywhere() {
        for size in [0, 1, 300_000, (16 << 20) + 1, 33 << 20] {
            let bytes: Vec<u8> = (0..size as u32).map(|at| (at / 7 % 251) as u8).collect();
            let artifact = scene.send(&bytes);
            assert!(!scene.layer.send_blob(&scene.store, &artifact.digest, artifact.size).unwrap());
            assert!(scene.fetched(&artifact).unwrap().unwrap() == bytes, "{size} bytes");
        }
    }
}

#[test]
fn what_is_not_there_is_a_miss() {
    for scene in Scene::everywhere() {
        for text in ["", "never sent"] {
            let artifact = scene.store.ingest_bytes(text.as_bytes()).unwrap();
            assert_eq!(scene.fetched(&artifact).unwrap(), None);
        }
    }
}

#[test]
fn a_blob_that_was_changed_cut_or_swapped_there_is_refused() {
    for scene in Scene::everywhere() {
        let [artifact, other] = [1, 2].map(|byte| scene.send(&vec![byte; (16 << 20) + 5]));
        let name = place("cas", &artifact.digest);
        let whole = scene.read(&name);
        let mut flipped = whole.clone();
        flipped[16 << 20] ^= 1;
        let bad = [flipped, whole[..16 << 20].to_vec(), whole[..7].to_vec(), Vec::new()];
        for bytes in bad.into_iter().chain([scene.read(&place("cas", &other.digest))]) {
            scene.write(&name, bytes);
            assert!(lied(scene.fetched(&artifact)));
        }
        scene.write(&name, whole[..9].to_vec());
        assert!(scene.layer.send_blob(&scene.store, &artifact.digest, artifact.size).unwrap(), "one of another length");
        assert!(scene.fetched(&artifact).unwrap().unwrap() == whole);
    }
}

#[test]
fn a_read_that_fails_is_tried_again_and_then_told() {
    let scene = Scene::of(Arc::new(Faulty::new(2, false)));
    let artifact = scene.store.ingest_bytes(b"bytes").unwrap();
    scene.write(&place("cas", &artifact.digest), b"bytes".to_vec());
    assert_eq!(scene.fetched(&artifact).unwrap().unwrap(), b"bytes");
    let scene = Scene::of(Arc::new(Faulty::new(usize::MAX, false)));
    let artifact = scene.store.ingest_bytes(b"bytes").unwrap();
    let told = scene.fetched(&artifact).unwrap_err().to_string();
    assert!(told.starts_with("the layer `lab` failed (reading from it)") && told.contains("503"), "{told}");
}

#[test]
fn a_store_that_ignores_conditions_is_found_out() {
    for scene in Scene::everywhere() {
        assert!(scene.layer.prepare().unwrap() && scene.layer.prepare().unwrap());
    }
    assert!(!Scene::of(Arc::new(Faulty::new(0, true))).layer.prepare().unwrap());
}

#[test]
fn small_blobs_travel_together_and_each_comes_back() {
    for scene in Scene::everywhere() {
        let texts: Vec<String> = (0..1000).map(|number| "x".repeat(number % 50) + &number.to_string()).collect();
        let blobs: Vec<(Digest, u64)> = texts
            .iter()
            .map(String::as_bytes)
            .chain([&b""[..]])
            .map(|text| scene.store.ingest_bytes(text).unwrap())
            .map(|artifact| (artifact.digest, artifact.size))
            .collect();
        let pack = scene.layer.send_pack(&scene.store, &blobs).unwrap();
        assert_eq!(scene.layer.packed(&pack).unwrap().unwrap(), blobs);
        for text in texts.iter().map(String::as_bytes).chain([&b""[..]]) {
            assert_eq!(scene.layer.fetch_packed(&pack, &Digest::of(text)).unwrap().unwrap(), text);
        }
        assert_eq!(scene.layer.fetch_packed(&pack, &Digest::of(b"other")).unwrap(), None);
        assert_eq!(scene.layer.packed(&Digest::of(b"no pack")).unwrap(), None);
    }
}

#[test]
fn a_pack_or_an_index_that_was_changed_is_refused() {
    let scene = Scene::in_memory();
    let blobs = ["one", "two"].map(|text| scene.store.ingest_bytes(text.as_bytes()).unwrap());
    let pack = scene.layer.send_pack(&scene.store, &blobs.map(|blob| (blob.digest, blob.size))).unwrap();
    let fresh = || Layer::new("lab", scene.objects.clone());
    let (bytes, index) = (format!("plumb-1/packs/{pack}"), format!("plumb-1/packs/{pack}.index"));
    let fetch = |layer: &Layer| layer.fetch_packed(&pack, &blobs[1].digest);
    for name in [&bytes, &index] {
        let whole = scene.read(name);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            scene.write(name, flipped);
            match fetch(&fresh()) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&b"two"[..]), "the other blob alone was changed"),
                Err(error) => assert!(matches!(error, CacheError::LayerLied { .. }), "{error}"),
            }
        }
        scene.write(name, whole[..whole.len() - 1].to_vec());
        assert!(fetch(&fresh()).is_err());
        scene.write(name, whole);
    }
    let huge = format!("{}\n{} {}\n", 1u64 << 40, blobs[1].digest, 1u64 << 40);
    scene.write(&index, format!("plumb-pack 1 {}\n{huge}", Digest::of(huge.as_bytes())).into_bytes());
    assert!(matches!(fetch(&fresh()), Err(CacheError::LayerLied { .. })), "an absurd length is not made room for");
}

#[test]
fn the_first_record_stays_and_later_ones_stand_beside_it() {
    for scene in Scene::everywhere() {
        let [alice, bob] = [(); 2].map(|()| SecretKey::new().unwrap());
        let (first, same, other) = (scene.signed("a", &alice), scene.signed("a", &bob), scene.signed("b", &bob));
        assert_eq!(scene.layer.publish(&first).unwrap(), Published::First);
        assert_eq!(scene.layer.publish(&first).unwrap(), Published::Known);
        assert_eq!(scene.layer.publish(&same).unwrap(), Published::Confirmed);
        assert_eq!(scene.layer.publish(&other).unwrap(), Published::Beside);
        assert_eq!(scene.layer.publish(&other).unwrap(), Published::Known);
        let records = scene.layer.records(&first.record().action).unwrap();
        assert_eq!(records[0], first);
        assert_eq!(records.len(), 3);
        assert!(records.contains(&same) && records.contains(&other));
    }
}

#[test]
fn of_many_writers_at_once_one_is_the_first() {
    for scene in Scene::everywhere() {
        let records: Vec<SignedRecord> =
            (0..16).map(|number| scene.signed(&number.to_string(), &SecretKey::new().unwrap())).collect();
        let first = std::thread::scope(|scope| {
            let writers: Vec<_> =
                records.iter().map(|record| scope.spawn(|| scene.layer.publish(record).unwrap())).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(first.iter().filter(|published| **published == Published::First).count(), 1, "{first:?}");
        assert_eq!(scene.layer.records(&records[0].record().action).unwrap().len(), 16);
    }
}

#[test]
fn forged_swapped_and_cut_records_are_no_records() {
    let scene = Scene::in_memory();
    let [alice, mallory] = [(); 2].map(|()| SecretKey::new().unwrap());
    let first = scene.signed("a", &alice);
    let action = first.record().action;
    let name = place("actions", &action.digest());
    let elsewhere = SignedRecord::sign(scene.record("two", "a"), &alice).unwrap().encode();
    let whole = first.encode();
    let in_her_name = String::from_utf8(scene.signed("b", &mallory).encode()).unwrap();
    let in_her_name = in_her_name.replace(&mallory.public().hex(), &alice.public().hex()).into_bytes();
    for bad in [elsewhere, whole[..whole.len() - 2].to_vec(), in_her_name, first.record().encode().unwrap(), vec![]] {
        scene.write(&name, bad);
        assert_eq!(scene.layer.records(&action).unwrap(), []);
        assert_ne!(scene.layer.publish(&first).unwrap(), Published::First, "the place is taken");
        assert_eq!(
            scene.layer.records(&action).unwrap(),
            std::slice::from_ref(&first),
            "and she is heard all the same"
        );
        let witness = format!(
            "{}/{}.{}",
            place("witnesses", &action.digest()),
            first.record().result_digest(),
            alice.public().hex()
        );
        let (objects, witness) = (scene.objects.clone(), Name::from(witness));
        wait(async move { objects.delete(&witness).await }).unwrap();
    }
}
