//! What layers leave in a cache: parts of catalogues and the words of others. They go when nobody needs them, and are
//! missed by nobody.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use plumb_cache::{CollectOptions, Collection, LeftoverKind, Repair, SecretKey, SignedRecord, Store};

use crate::layers::scene::Scene;
use crate::support::{House, files, flip_a_bit};

/// What was touched before now or, for `later`, whatever there is.
#[expect(clippy::disallowed_methods, reason = "compared with the times of files that the test has just made")]
fn garbage(later: bool) -> CollectOptions {
    let forgotten = if later { SystemTime::now() + Duration::from_secs(1) } else { SystemTime::UNIX_EPOCH };
    CollectOptions { max_size: None, keep_runs: 0, forgotten, drop_whole: false }
}

fn collect(store: &Store, options: CollectOptions) -> Collection {
    let told = store.plan_collection(&options).unwrap();
    assert_eq!(store.collect(&options, &mut || {}).unwrap(), told);
    told
}

fn kinds(collection: &Collection) -> Vec<(LeftoverKind, usize)> {
    collection.leftovers.iter().map(|leftover| (leftover.kind, leftover.files)).collect()
}

/// Bob has pulled what alice has pushed.
fn pulled(scene: &Scene) -> (House, Store, SignedRecord) {
    let signed = scene.signed("weights", &SecretKey::new().unwrap());
    scene.layer.push(&scene.store, std::slice::from_ref(&signed), &[], &|_| {}).unwrap();
    let house = House::new();
    let bob = house.quick_store();
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    scene.layer.pull(&bob, &catalogue.entries()[0], &signed, &|_| {}).unwrap().unwrap();
    (house, bob, signed)
}

fn signatures(house: &House) -> Vec<String> {
    files(&house.cache().join("v1/signed"))
}

#[test]
fn a_catalogue_goes_when_nobody_has_read_it_for_long_and_is_read_again_when_asked_for() {
    let scene = Scene::in_memory();
    let (house, bob, _) = pulled(&scene);
    let segment = || -> Vec<PathBuf> {
        let listed = fs::read_dir(house.cache().join("v1/layers")).unwrap();
        listed.map(|found| found.unwrap().path()).collect()
    };
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&segment()[0]).unwrap().set_modified(old).unwrap();
    assert_eq!(scene.layer.catalogue(&bob).unwrap().len(), 1);
    let yesterday = CollectOptions { forgotten: old + Duration::from_secs(86_400), ..garbage(false) };
    assert_eq!(kinds(&collect(&bob, yesterday)), [], "it was read just now");
    let before = bob.census().and_then(|census| bob.figures(&census)).unwrap();
    assert_eq!((before.beside["layers"].files, before.beside["signed"].files), (1, 1));
    assert!(before.beside["layers"].bytes > 0 && before.beside["signed"].bytes > 0);

    let gone = collect(&bob, garbage(true));
    assert_eq!(kinds(&gone), [(LeftoverKind::Catalogue, 1)]);
    assert_eq!(gone.before - gone.after, before.beside["layers"].bytes);
    assert!(segment().is_empty());
    assert_eq!(scene.layer.catalogue(&bob).unwrap().len(), 1);
    assert_eq!(segment().len(), 1);
}

#[test]
fn the_word_of_another_stays_as_long_as_the_record_is_remembered() {
    let scene = Scene::in_memory();
    let (house, bob, signed) = pulled(&scene);
    let action = signed.record().action;
    collect(&bob, garbage(true));
    assert_eq!(bob.signed_by_others(&action).unwrap(), std::slice::from_ref(&signed));
    assert_eq!(bob.signed_by(&signed.signer()).unwrap(), std::slice::from_ref(&signed));
    assert_eq!(bob.signed_by(&SecretKey::new().unwrap().public()).unwrap(), []);
    collect(&bob, CollectOptions { max_size: Some(0), ..garbage(false) });
    assert_eq!(bob.record(&action).unwrap(), None);
    assert_eq!(signatures(&house).len(), 1, "its record is remembered");
    assert_eq!(kinds(&collect(&bob, garbage(true))), [(LeftoverKind::Past, 1)]);
    assert_eq!(signatures(&house).len(), 1);
    assert_eq!(kinds(&collect(&bob, garbage(false))), [], "somebody may be about to use it");
    assert_eq!(kinds(&collect(&bob, garbage(true))), [(LeftoverKind::Signature, 1)]);
    assert!(signatures(&house).is_empty());
}

#[test]
fn a_damaged_signature_takes_its_record_along_so_that_nobody_takes_it_for_their_own() {
    let scene = Scene::in_memory();
    let (house, bob, signed) = pulled(&scene);
    let own = crate::support::record("own", bob.ingest_bytes(b"own").unwrap());
    bob.publish(&own).unwrap();
    assert!(bob.verify(Repair::Yes, &|_| {}).unwrap().is_clean());
    let action = signed.record().action;
    flip_a_bit(&house.cache().join("v1/signed").join(&signatures(&house)[0]));
    let told = bob.verify(Repair::No, &|_| {}).unwrap();
    assert!(!told.is_clean() && told.unsigned == [action]);
    assert_eq!(bob.record(&action).unwrap().as_ref(), Some(signed.record()));
    assert_eq!(bob.verify(Repair::Yes, &|_| {}).unwrap(), told);
    assert_eq!((bob.record(&action).unwrap(), bob.record(&own.action).unwrap()), (None, Some(own)));
    assert!(signatures(&house).is_empty() && bob.collected_at(&action).is_none());
    assert!(bob.verify(Repair::Yes, &|_| {}).unwrap().is_clean());
}
