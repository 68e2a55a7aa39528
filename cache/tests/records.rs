//! Records: they prove themselves, the first one stays, and every index is only a hint.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use plumb_cache::{ActionKey, ActionRecord, CacheError, Cost, Digest, Publication, Realisation, RecipeKey, Store};
use proptest::prelude::*;

use crate::support::{House, files, flip_a_bit, record};

fn any_record() -> impl Strategy<Value = ActionRecord> {
    let text = ".{0,20}";
    let maps =
        (prop::collection::btree_map(text, text, 0..3), prop::collection::btree_map(text, any::<[u8; 32]>(), 0..3));
    (text, text, maps, any::<u64>(), any::<bool>(), 0.0..1e9f64).prop_map(
        |(action, recipe, (environment, outputs), size, diagnostic, seconds)| {
            let mut record = record(&action, artifact([0; 32], size));
            record.recipe = RecipeKey::of_document(&recipe);
            record.recipe_document = recipe;
            record.environment = environment;
            record.cost = Cost { wall_seconds: seconds, cpu_seconds: seconds / 3.0, peak_memory_bytes: size };
            record.ancestry.insert(record.recipe, record.realisation());
            for (name, digest) in outputs {
                let output =
                    plumb_cache::RecordedOutput { artifact: artifact(digest, size), file: name.clone(), diagnostic };
                record.outputs.insert(name, output);
            }
            record
        },
    )
}

fn artifact(digest: [u8; 32], size: u64) -> plumb_cache::Artifact {
    let kind = plumb_cache::ArtifactKind::File;
    plumb_cache::Artifact { digest: Digest::from_bytes(digest), kind, size, files: 1 }
}

proptest! {
    #[test]
    fn a_record_reads_back_from_its_bytes(record in any_record()) {
        prop_assert_eq!(ActionRecord::decode(&record.encode().unwrap()).unwrap(), record);
    }

    #[test]
    fn a_record_with_one_wrong_byte_never_reads(record in any_record(), at in any::<prop::sample::Index>(), xor in 1..=255u8) {
        let mut bytes = record.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= xor;
        prop_assert!(ActionRecord::decode(&bytes).is_err());
    }

    #[test]
    fn a_record_cut_anywhere_never_reads(record in any_record(), at in any::<prop::sample::Index>()) {
        let bytes = record.encode().unwrap();
        prop_assert!(ActionRecord::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_diagnostic_moves_no_result(record in any_record()) {
        let mut without = record.clone();
        without.outputs.retain(|_, output| !output.diagnostic);
        without.cost = Cost::default();
        prop_assert_eq!(record.result_digest(), without.result_digest());
    }
}

fn made(store: &Store, action: &str, bytes: &str) -> ActionRecord {
    record(action, store.ingest_bytes(bytes.as_bytes()).unwrap())
}

#[test]
fn a_published_record_is_found_by_action_recipe_and_stage() {
    let house = House::new();
    let store = house.store();
    let (one, two) = (made(&store, "1", "one"), made(&store, "2", "two"));
    assert_eq!(store.publish(&one).unwrap(), Publication::New);
    assert_eq!(store.publish(&two).unwrap(), Publication::New);
    for store in [store, house.store()] {
        assert_eq!(store.action(&one.action).unwrap(), Some(one.clone()));
        assert_eq!(store.recipes(&[two.recipe, one.recipe]).unwrap(), [[two.clone()], [one.clone()]]);
        assert_eq!(store.records_of_stage("house", "make").unwrap(), [two.clone(), one.clone()], "newest first");
        assert_eq!(store.records_of_stage("house", "other").unwrap(), []);
        assert_eq!(store.action(&record("3", one.outputs["out"].artifact).action).unwrap(), None);
    }
}

/// Records as a pipeline remembers them, once their files are too old to change unseen.
fn remembered(store: &Store, records: &[ActionRecord]) -> Vec<RecipeKey> {
    let keys: Vec<RecipeKey> = records.iter().map(|record| record.recipe).collect();
    while store.memo("records", "house").is_none() {
        let recollection = store.recollection("house");
        store.recalled(&keys, &recollection).unwrap();
        store.keep_recollection("house", &recollection).unwrap();
        // Nothing tells that a file has come of age.
        thread::park_timeout(Duration::from_millis(50));
    }
    keys
}

#[test]
fn a_remembered_record_is_recalled_until_a_file_of_it_changes() {
    let house = House::new();
    let store = house.store();
    let records: Vec<ActionRecord> = (0..200).map(|number| made(&store, &number.to_string(), "same")).collect();
    assert!(records.iter().all(|record| store.publish(record).unwrap() == Publication::New));
    let keys = remembered(&store, &records);
    let recalled = |key: usize| store.recalled(&keys[key..=key], &store.recollection("house")).unwrap().remove(0);
    assert!((0..200).all(|key| recalled(key) == [records[key].clone()]));

    // Damaged on the disk: another stamp, so the record is read, proves nothing and is none.
    let digits = records[7].action.to_string();
    flip_a_bit(&house.cache().join("v1/actions").join(&digits[..2]).join(&digits[2..]));
    assert_eq!(recalled(7), []);
    // Another result is chosen.
    let again = made(&store, "8", "other");
    store.publish_fresh(&again).unwrap();
    assert_eq!(recalled(8), [again]);
    // A second action of the recipe.
    let (action_document, action) = ("other".into(), ActionKey::of_document("other"));
    let beside = ActionRecord { action_document, action, ..records[9].clone() };
    store.publish(&beside).unwrap();
    assert_eq!(recalled(9), [records[9].clone(), beside]);
    // Disowned, though no file of its own changed.
    store.disown(&records[10].action, "bad").unwrap();
    assert_eq!(recalled(10), []);
}

#[test]
fn a_record_without_its_blobs_is_not_published() {
    let house = House::new();
    let absent = house.store().digest_source(&house.write("file", "never stored")).unwrap();
    let error = house.store().publish(&record("1", absent)).unwrap_err();
    assert!(matches!(error, CacheError::Missing { digest } if digest == absent.digest), "{error}");
    assert_eq!(files(&house.cache().join("v1")), ["gate", "turnstile"], "and nothing was left behind but the locks");
}

#[test]
fn a_record_whose_documents_are_not_its_keys_is_not_published() {
    let house = House::new();
    let store = house.store();
    let good = made(&store, "1", "one");
    let wrong = [
        ActionRecord { action_document: "other".into(), ..good.clone() },
        ActionRecord { recipe_document: "other".into(), ..good.clone() },
        ActionRecord { format: 2, ..good.clone() },
        ActionRecord { cost: Cost { wall_seconds: f64::NAN, ..Cost::default() }, ..good.clone() },
    ];
    for record in wrong {
        assert!(matches!(store.publish(&record), Err(CacheError::BadRecord { .. })), "{record:?}");
    }
    assert_eq!(store.action(&good.action).unwrap(), None);
}

#[test]
fn the_first_result_stays_and_a_different_one_is_a_witness() {
    let house = House::new();
    let store = house.store();
    let (first, second) = (made(&store, "1", "first"), made(&store, "1", "second"));
    let cheaper = ActionRecord { cost: Cost::default(), ..first.clone() };
    assert_eq!(store.publish(&first).unwrap(), Publication::New);
    assert_eq!(store.publish(&cheaper).unwrap(), Publication::Same);
    assert_eq!(store.publish(&second).unwrap(), Publication::Witness);
    assert_eq!(store.publish(&second).unwrap(), Publication::Witness);
    assert_eq!(store.action(&first.action).unwrap().unwrap(), first);
    assert_eq!(store.witnesses(&first.action).unwrap(), std::slice::from_ref(&second));

    assert_eq!(store.publish_fresh(&second).unwrap(), Publication::New, "chosen on purpose");
    assert_eq!(store.recipe(&first.recipe).unwrap(), [second]);
    assert_eq!(store.witnesses(&first.action).unwrap(), [first]);
}

#[test]
fn a_record_whose_blobs_are_gone_gives_way() {
    let house = House::new();
    let store = house.store();
    let (first, second) = (made(&store, "1", "first"), made(&store, "1", "second"));
    store.publish(&first).unwrap();
    fs::remove_file(crate::support::blob(&store, &first.outputs["out"].artifact)).unwrap();
    assert_eq!(store.publish(&second).unwrap(), Publication::New);
    assert_eq!(store.action(&first.action).unwrap(), Some(second));
}

#[test]
fn a_damaged_record_is_a_miss_and_moved_aside() {
    let house = House::new();
    let store = house.store();
    let record = made(&store, "1", "one");
    store.publish(&record).unwrap();
    let actions = store.root().join("v1/actions");
    let path = actions.join(&files(&actions)[0]);
    crate::support::flip_a_bit(&path);
    assert_eq!(store.action(&record.action).unwrap(), None);
    assert_eq!(store.recipe(&record.recipe).unwrap(), []);
    assert_eq!(files(&store.root().join("v1/quarantine")).len(), 1);
    assert_eq!(store.publish(&record).unwrap(), Publication::New);
    assert_eq!(store.recipe(&record.recipe).unwrap(), [record]);
}

#[test]
fn another_recipe_that_comes_to_the_same_action_sees_its_own_document_and_ancestry() {
    let house = House::new();
    let store = house.store();
    let one = made(&store, "1", "one");
    let parent = made(&store, "parent", "parent");
    let other = ActionRecord {
        recipe: RecipeKey::of_document("another recipe"),
        recipe_document: "another recipe".into(),
        ancestry: BTreeMap::from([(parent.recipe, parent.realisation())]),
        step: "other@n=1".into(),
        stage: "other".into(),
        ..one.clone()
    };
    store.publish(&one).unwrap();
    assert_eq!(store.publish(&other).unwrap(), Publication::Same);
    let seen = &store.recipe(&other.recipe).unwrap()[0];
    assert_eq!((&seen.recipe_document, &seen.ancestry), (&other.recipe_document, &other.ancestry));
    assert_eq!(store.recipe(&one.recipe).unwrap(), std::slice::from_ref(&one));
    assert_eq!(store.action(&one.action).unwrap(), Some(one));
    assert_eq!(store.records_of_stage("house", "other").unwrap(), [other]);
}

#[test]
fn an_index_full_of_rubbish_is_only_a_hint() {
    let house = House::new();
    let store = house.store();
    let (one, two) = (made(&store, "1", "one"), made(&store, "2", "two"));
    store.publish(&one).unwrap();
    store.publish(&two).unwrap();
    for folder in ["recipes", "by_stage"] {
        for file in files(&store.root().join("v1").join(folder)) {
            let path = store.root().join("v1").join(folder).join(file);
            let text = fs::read_to_string(&path).unwrap();
            let forged = format!("{} 000000000000 {{}}", two.action);
            fs::write(&path, format!("\u{fffd}rubbish\n{}\n{forged}\n{}\n{text}", two.action, &text[..30])).unwrap();
        }
    }
    assert_eq!(
        store.recipe(&one.recipe).unwrap(),
        std::slice::from_ref(&one),
        "the other action does not realise this recipe"
    );
    assert_eq!(store.records_of_stage("house", "make").unwrap(), [two, one]);
}

#[test]
fn ancestry_is_followed_and_two_results_of_one_recipe_are_a_conflict() {
    let house = House::new();
    let store = house.store();
    let child = |name: &str, parents: &[&ActionRecord]| {
        let mut record = made(&store, name, name);
        record.ancestry = parents.iter().map(|parent| (parent.recipe, parent.realisation())).collect();
        store.publish(&record).unwrap();
        record
    };
    let root = child("root", &[]);
    let (left, right) = (child("left", &[&root]), child("right", &[&root]));
    let end = child("end", &[&left, &right]);
    let ancestry = store.ancestry(std::slice::from_ref(&end)).unwrap();
    let all = [&root, &left, &right, &end].map(|record| (record.recipe, record.realisation()));
    assert_eq!(ancestry.chosen, BTreeMap::from(all));
    assert!(ancestry.conflicts.is_empty() && ancestry.missing.is_empty());

    let drawn_again = Realisation { action: root.action, result: Digest::of(b"another draw") };
    let mut other = made(&store, "other", "other");
    other.ancestry = BTreeMap::from([(root.recipe, drawn_again)]);
    store.publish(&other).unwrap();
    let ancestry = store.ancestry(&[end.clone(), other]).unwrap();
    assert_eq!(ancestry.conflicts.into_iter().collect::<Vec<_>>(), [root.recipe]);

    let orphan = ActionRecord { ancestry: BTreeMap::from([(RecipeKey::of_document("lost"), drawn_again)]), ..end };
    assert_eq!(store.ancestry(&[orphan]).unwrap().missing.into_iter().collect::<Vec<_>>(), [root.action]);
}

#[test]
fn a_hit_that_is_published_again_under_its_recipe_writes_no_record_and_waits_for_no_disk() {
    let house = House::new();
    let store = house.store();
    let one = made(&store, "1", "one");
    store.publish(&one).unwrap();
    let name = one.action.to_string();
    let place = house.cache().join("v1/actions").join(&name[..2]).join(&name[2..]);
    let before = plumb_cache::stat_of(&place).unwrap();
    let scratch = house.cache().join("v1/scratch");
    // With no room to write a temporary file in, only the index can grow.
    let session = fs::read_dir(&scratch).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap().path();
    fs::remove_dir(&session).unwrap();
    let seen = ActionRecord {
        recipe: RecipeKey::of_document("another recipe"),
        recipe_document: "another recipe".into(),
        ..one.clone()
    };
    assert_eq!(store.publish(&seen).unwrap(), Publication::Same);
    assert_eq!(plumb_cache::stat_of(&place).unwrap(), before);
    assert_eq!(store.recipe(&seen.recipe).unwrap(), [seen]);
}
