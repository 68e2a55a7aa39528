//! The segments of a catalogue: a first reader asks for few however many pushes there were, a later one only for what is
//! new, and a segment that lies is at most a miss.

use std::sync::Arc;

use plumb_cache::{Digest, SecretKey, SignedRecord, Store};

use crate::layers::scene::{Faulty, Scene};
use crate::support::House;

/// A layer that counts, with a record of each of so many pushes.
fn pushed(count: usize) -> (Scene, Arc<Faulty>, Vec<SignedRecord>) {
    let objects = Arc::new(Faulty::new(0, false));
    let scene = Scene::of(objects.clone());
    let alice = SecretKey::new().unwrap();
    let records: Vec<SignedRecord> = (0..count).map(|number| record(&scene, &alice, number)).collect();
    records.iter().for_each(|record| push(&scene, record));
    objects.asked();
    (scene, objects, records)
}

fn record(scene: &Scene, key: &SecretKey, number: usize) -> SignedRecord {
    SignedRecord::sign(scene.record(&format!("step {number}"), &format!("result {number}")), key).unwrap()
}

fn push(scene: &Scene, record: &SignedRecord) {
    scene.layer.push(&scene.store, std::slice::from_ref(record), &[], &|_| {}).unwrap();
}

fn reader() -> (House, Store) {
    let house = House::new();
    let store = house.quick_store();
    (house, store)
}

fn is_listed(scene: &Scene, store: &Store, record: &SignedRecord) -> bool {
    let catalogue = scene.layer.catalogue(store).unwrap();
    catalogue.of_recipe(&record.record().recipe).iter().any(|entry| entry.whole && entry.read().as_ref() == Ok(record))
}

#[test]
fn a_first_reader_asks_for_few_segments_and_a_later_one_for_what_is_new() {
    let (scene, objects, records) = pushed(200);
    let (_house, bob) = reader();
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    assert_eq!((catalogue.len(), catalogue.complaints()), (200, &[][..]));
    assert!(records.iter().all(|record| catalogue.of_recipe(&record.record().recipe)[0].whole));
    let (lists, reads) = objects.asked();
    assert!(lists == 1 && reads <= 7 * 3, "{lists} lists and {reads} reads, for 200 pushes");

    assert_eq!(scene.layer.catalogue(&bob).unwrap().len(), 200);
    assert_eq!(objects.asked(), (1, 0), "what was read before is kept");

    push(&scene, &record(&scene, &SecretKey::new().unwrap(), 200));
    objects.asked();
    assert_eq!(scene.layer.catalogue(&bob).unwrap().len(), 201);
    let (lists, reads) = objects.asked();
    assert!(lists == 1 && reads <= 3, "{lists} lists and {reads} reads, for one more");
}

#[test]
fn a_push_reads_of_the_catalogue_only_what_others_have_added() {
    let (scene, objects, _) = pushed(40);
    push(&scene, &record(&scene, &SecretKey::new().unwrap(), 40));
    let (lists, reads) = objects.asked();
    assert!(lists == 1 && reads <= 1, "{lists} lists and {reads} reads: it wrote the others itself");
}

#[test]
fn a_merged_segment_that_is_damaged_or_gone_hides_nothing() {
    let (scene, _, records) = pushed(8);
    let merged: Vec<String> =
        scene.names("plumb-1/segments").into_iter().filter(|name| name.ends_with(".merged")).collect();
    assert_eq!(merged.len(), 1);
    scene.write(&merged[0], b"plumb-merged 1 0\n".to_vec());
    let (_house, bob) = reader();
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    assert_eq!((catalogue.len(), catalogue.complaints().len()), (8, 1));
    assert!(records.iter().all(|record| is_listed(&scene, &bob, record)));
}

#[test]
fn a_merged_segment_that_lies_is_a_miss_until_the_results_are_listed_anew() {
    let (scene, _, records) = pushed(3);
    let hidden: Vec<String> =
        scene.names("plumb-1/segments").iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
    let lie = format!("plumb-merged 1 {}\n{}\n", hidden.len(), hidden.join("\n")).into_bytes();
    scene.write(&format!("plumb-1/segments/{}.merged", Digest::of(&lie)), lie);
    let (_house, bob) = reader();
    assert!(scene.layer.catalogue(&bob).unwrap().is_empty());
    scene.layer.push(&scene.store, &records[1..], &[], &|_| {}).unwrap();
    assert!(is_listed(&scene, &bob, &records[1]) && !is_listed(&scene, &bob, &records[0]));
    let huge = b"plumb-merged 1 18446744073709551615\n".to_vec();
    scene.write(&format!("plumb-1/segments/{}.merged", Digest::of(&huge)), huge);
    assert!(is_listed(&scene, &bob, &records[1]));
}

#[test]
fn a_record_that_is_listed_again_is_one_entry_with_the_packs_of_both() {
    let scene = Scene::in_memory();
    let signed = scene.signed("a", &SecretKey::new().unwrap());
    scene.layer.push(&scene.store, &[], std::slice::from_ref(&signed), &|_| {}).unwrap();
    let (_house, bob) = reader();
    assert!(!scene.layer.catalogue(&bob).unwrap().entries()[0].whole);
    push(&scene, &signed);
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    assert_eq!(catalogue.len(), 1);
    let entry = &catalogue.entries()[0];
    assert_eq!((entry.whole, entry.first, entry.packs.len()), (true, true, 1));
}
