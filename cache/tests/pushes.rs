//! Pushing, the catalogue and pulling: what one person has made comes whole into another's cache, or not at all.

use object_store::ObjectStoreExt;
use object_store::path::Path as Name;
use plumb_cache::{Digest, Repair, SecretKey, SignedRecord, Store};

use crate::layers::scene::{Faulty, Scene, place, wait};
use crate::support::{House, record};

/// Another person's cache.
fn another() -> (House, Store) {
    let house = House::new();
    let store = house.quick_store();
    (house, store)
}

/// A record of a folder with small files, an empty one and a large one.
fn model(scene: &Scene, key: &SecretKey) -> SignedRecord {
    for number in 0..300 {
        scene.house.write(&format!("model/part/{number}"), format!("file {number}"));
    }
    scene.house.write("model/empty", "");
    scene.house.write("model/weights", vec![7; 400_000]);
    SignedRecord::sign(record("model", scene.store.ingest(&scene.house.path("model")).unwrap()), key).unwrap()
}

#[test]
fn what_was_pushed_is_in_the_catalogue_and_comes_whole_into_another_cache() {
    for scene in Scene::everywhere() {
        let alice = SecretKey::new().unwrap();
        let signed = [model(&scene, &alice), scene.signed("a", &alice)];
        let pushed = scene.layer.push(&scene.store, &signed, &[], &|_| {}).unwrap();
        assert_eq!(
            (pushed.records, pushed.blobs),
            (2, 300 + 1 + 1 + 2 + 1),
            "files, folders, and the one of the other"
        );
        let again = scene.layer.push(&scene.store, &signed, &[], &|_| {}).unwrap();
        assert_eq!(again, plumb_cache::Pushed::default());

        let (house, bob) = another();
        let catalogue = scene.layer.catalogue(&bob).unwrap();
        assert_eq!(catalogue.len(), 2, "the second push listed nothing");
        for signed in &signed {
            let entries = catalogue.of_recipe(&signed.record().recipe);
            assert!(entries.len() == 1 && entries[0].first);
            let found = entries[0].record().unwrap();
            assert_eq!(&found, signed);
            let pulled = scene.layer.pull(&bob, entries[0], &found, &|_| {}).unwrap();
            assert_eq!(pulled, Some(plumb_cache::Publication::New));
            assert_eq!(bob.action(&signed.record().action).unwrap().as_ref(), Some(signed.record()));
        }
        let out = house.path("out");
        let artifact = signed[0].record().outputs["out"].artifact;
        bob.materialise(&artifact, &out, plumb_cache::Materialise::Private).unwrap();
        assert_eq!(bob.digest_source(&out).unwrap(), artifact);
    }
}

#[test]
fn a_push_sends_only_what_is_new_and_goes_on_where_it_was_cut() {
    let scene = Scene::in_memory();
    let alice = SecretKey::new().unwrap();
    let first = model(&scene, &alice);
    scene.layer.push(&scene.store, std::slice::from_ref(&first), &[], &|_| {}).unwrap();
    scene.house.write("model/weights", vec![8; 400_000]);
    let second = record("tuned", scene.store.ingest(&scene.house.path("model")).unwrap());
    let second = SignedRecord::sign(second, &alice).unwrap();
    // Cut before the catalogue was written: the record is there, and nobody has been told of it.
    scene.layer.publish(&second).unwrap();
    let pushed = scene.layer.push(&scene.store, std::slice::from_ref(&second), &[], &|_| {}).unwrap();
    assert_eq!((pushed.records, pushed.blobs), (0, 2), "the weights and the folder around them");
    let (_house, bob) = another();
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    let entry = catalogue.of_action(&second.record().action)[0];
    assert_eq!(entry.packs.len(), 2, "its small files came with the first push");
    assert!(scene.layer.pull(&bob, entry, &second, &|_| {}).unwrap().is_some());
}

#[test]
fn a_record_whose_bytes_the_layer_lost_is_not_had() {
    let scene = Scene::in_memory();
    let signed = model(&scene, &SecretKey::new().unwrap());
    scene.layer.push(&scene.store, std::slice::from_ref(&signed), &[], &|_| {}).unwrap();
    let weights = scene.store.subpath(&signed.record().outputs["out"].artifact, "weights").unwrap();
    let name = Name::from(place("cas", &weights.digest));
    let objects = scene.objects.clone();
    wait(async move { objects.delete(&name).await }).unwrap();
    let (_house, bob) = another();
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    assert_eq!(scene.layer.pull(&bob, &catalogue.entries()[0], &signed, &|_| {}).unwrap(), None);
    assert_eq!(bob.action(&signed.record().action).unwrap(), None, "half of it is no result");
}

#[test]
fn a_catalogue_that_was_changed_lists_nothing_wrong() {
    let scene = Scene::in_memory();
    let [alice, mallory] = [(); 2].map(|()| SecretKey::new().unwrap());
    let signed = scene.signed("a", &alice);
    scene.layer.push(&scene.store, std::slice::from_ref(&signed), &[], &|_| {}).unwrap();
    let name = scene.names("plumb-1/segments").remove(0);
    let whole = String::from_utf8(scene.read(&name)).unwrap();
    scene.write(&name, whole.replace("one", "two").into_bytes());
    assert!(scene.layer.catalogue(&another().1).unwrap().is_empty(), "its name is another's");
    // One under a right name that points alice's recipe at another record of mallory's making.
    let forged = whole.replace(&alice.public().hex(), &mallory.public().hex());
    scene.write(&format!("plumb-1/segments/{}", Digest::of(forged.as_bytes())), forged.into_bytes());
    scene.write(&name, whole.into_bytes());
    let catalogue = scene.layer.catalogue(&another().1).unwrap();
    let found: Vec<SignedRecord> = catalogue
        .of_recipe(&signed.record().recipe)
        .into_iter()
        .filter_map(plumb_cache::CatalogueEntry::record)
        .collect();
    assert_eq!((catalogue.len(), found), (2, vec![signed]));
}

#[test]
fn what_came_from_somebody_is_passed_on_in_their_words() {
    let scene = Scene::in_memory();
    let [alice, bob] = [(); 2].map(|()| SecretKey::new().unwrap());
    let prep = scene.record("prep", "sorted");
    let mut train = scene.record("train", "weights");
    train.ancestry.insert(prep.recipe, prep.realisation());
    let both = [&prep, &train];
    for record in both {
        scene.store.publish(record).unwrap();
    }
    let lineage = scene.store.signed_lineage(&train, &alice).unwrap();
    assert_eq!(lineage.iter().map(SignedRecord::record).collect::<Vec<_>>(), both, "the record itself comes last");
    // Alice pushes the bytes of the first, and of the second only the record.
    let pushed = scene.layer.push(&scene.store, &lineage[..1], &lineage[1..], &|_| {}).unwrap();
    assert_eq!((pushed.records, pushed.blobs), (2, 1));

    let (_house, other) = another();
    let catalogue = scene.layer.catalogue(&other).unwrap();
    let entry = |record: &plumb_cache::ActionRecord| catalogue.of_action(&record.action)[0];
    assert_eq!((entry(&prep).whole, entry(&train).whole), (true, false));
    scene.layer.pull(&other, entry(&prep), &lineage[0], &|_| {}).unwrap().unwrap();
    assert_eq!(scene.layer.pull(&other, entry(&train), &lineage[1], &|_| {}).unwrap(), None);
    other.ingest_bytes(b"weights").unwrap();
    other.publish(&train).unwrap();
    let signers: Vec<_> = other.signed_lineage(&train, &bob).unwrap().iter().map(SignedRecord::signer).collect();
    assert_eq!(signers, [alice.public(), bob.public()], "hers stays hers, and bob made his own");
}

#[test]
fn what_was_damaged_in_a_layer_is_found_and_replaced_when_it_is_to_be_repaired() {
    let scene = Scene::in_memory();
    let signed = model(&scene, &SecretKey::new().unwrap());
    let push =
        |repair| scene.layer.push_looking(&scene.store, std::slice::from_ref(&signed), &[], repair, &|_| {}).unwrap();
    push(Repair::No);
    assert_eq!(push(Repair::Yes), plumb_cache::Pushed::default(), "all of it is whole");
    let weights = scene.store.subpath(&signed.record().outputs["out"].artifact, "weights").unwrap();
    let pack = scene.layer.catalogue(&scene.store).unwrap().entries()[0].packs[0];
    for name in [place("cas", &weights.digest), format!("plumb-1/packs/{pack}"), format!("plumb-1/packs/{pack}.index")]
    {
        let whole = scene.read(&name);
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        scene.write(&name, bytes);
        assert!(push(Repair::Yes).blobs > 0, "{name}");
        assert_eq!(scene.read(&name), whole);
        assert_eq!(push(Repair::Yes), plumb_cache::Pushed::default());
    }
    let (_house, bob) = another();
    let catalogue = scene.layer.catalogue(&bob).unwrap();
    assert!(scene.layer.pull(&bob, &catalogue.entries()[0], &signed, &|_| {}).unwrap().is_some());
}

#[test]
fn a_push_says_that_the_store_ignores_conditions() {
    let scene = Scene::of(std::sync::Arc::new(Faulty::new(0, true)));
    let signed = scene.signed("a", &SecretKey::new().unwrap());
    let told = |scene: &Scene| scene.layer.push(&scene.store, std::slice::from_ref(&signed), &[], &|_| {}).unwrap();
    assert!(told(&scene).unconditional);
    assert!(!Scene::everywhere().iter().any(|honest| {
        honest.store.ingest_bytes(b"a").unwrap();
        told(honest).unconditional
    }));
}
