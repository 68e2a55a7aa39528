//! Disowned results: not found, nor what was made from them, until they are made again or taken back.

use std::collections::BTreeMap;
use std::fs;

use plumb_cache::{ActionKey, ActionRecord, Mark, Publication, Store};

use crate::support::{House, record};

fn published(store: &Store, name: &str, bytes: &str, parents: &[&ActionRecord]) -> ActionRecord {
    let mut made = record(name, store.ingest_bytes(bytes.as_bytes()).unwrap());
    made.ancestry = parents.iter().map(|parent| (parent.recipe, parent.realisation())).collect();
    store.publish(&made).unwrap();
    made
}

fn is_found(store: &Store, record: &ActionRecord) -> bool {
    let found = store.recipe(&record.recipe).unwrap();
    let found = found.iter().find(|found| found.result_digest() == record.result_digest());
    found.is_some_and(|found| store.disowned(found).unwrap().is_none())
}

#[test]
fn a_disowned_result_is_not_found_nor_is_what_was_made_from_it() {
    let house = House::new();
    let store = house.store();
    let other = published(&store, "other", "other", &[]);
    let bad = published(&store, "bad", "bad", &[]);
    let made = published(&store, "made", "made", &[&other, &bad]);
    let end = published(&store, "end", "end", &[&made]);
    let aside = published(&store, "aside", "aside", &[&other]);
    let mark = store.disown(&bad.action, "the judge's\nkey had expired").unwrap().unwrap();
    assert_eq!(mark.mark.reason, "the judge's key had expired");
    for store in [store, house.store()] {
        assert_eq!([&bad, &made, &end].map(|record| is_found(&store, record)), [false; 3]);
        assert!(is_found(&store, &other) && is_found(&store, &aside));
        assert_eq!(store.action(&bad.action).unwrap(), None);
        assert_eq!(store.action(&end.action).unwrap().as_ref(), Some(&end), "the same inputs make it all the same");
        assert_eq!(store.disowned(&end).unwrap().as_ref(), Some(&mark));
        assert_eq!(store.mark_on(&bad.action).unwrap().as_ref(), Some(&mark));
        assert_eq!(store.mark_on(&end.action).unwrap(), None);
        assert!(store.any_disowned().unwrap() && store.mark_of(&bad.realisation()).unwrap().is_some());
        assert_eq!(store.record(&bad.action).unwrap().as_ref(), Some(&bad), "it is still there to look at");
        assert_eq!(store.records_of_stage("house", "make").unwrap().len(), 5);
        assert_eq!(store.all_disowned().unwrap(), std::slice::from_ref(&mark));
    }
    let store = house.store();
    assert!(store.own(&bad.action).unwrap());
    assert!(!store.own(&bad.action).unwrap());
    assert!([&bad, &made, &end].iter().all(|record| is_found(&store, record)));
}

#[test]
fn a_mark_says_who_and_when_and_one_without_them_reads() {
    let house = House::new();
    let store = house.store();
    let bad = published(&store, "bad", "bad", &[]);
    let plain = published(&store, "plain", "plain", &[]);
    let mark = Mark { reason: "leaked\tlabels".into(), by: "ada@lab".into(), at: "2026-11-23T09:00:00Z".into() };
    store.disown(&bad.action, mark.clone()).unwrap();
    store.disown(&plain.action, "doubtful").unwrap();
    let store = house.store();
    let read = |record: &ActionRecord| store.mark_on(&record.action).unwrap().unwrap().mark;
    assert_eq!(read(&bad), Mark { reason: "leaked labels".into(), ..mark });
    assert_eq!(read(&plain), Mark::from("doubtful"));
}

#[test]
fn the_same_bytes_made_again_lift_the_mark() {
    let house = House::new();
    let store = house.store();
    let bad = published(&store, "bad", "bad", &[]);
    let end = published(&store, "end", "end", &[&bad]);
    store.disown(&bad.action, "doubtful").unwrap();
    let again = ActionRecord { made_at: "2026-11-24T09:00:00Z".into(), ..bad.clone() };
    assert_eq!(store.publish(&again).unwrap(), Publication::New);
    assert_eq!(store.action(&bad.action).unwrap(), Some(again));
    assert!(is_found(&store, &end));
    assert_eq!(store.all_disowned().unwrap(), []);
}

#[test]
fn another_result_takes_the_place_of_a_disowned_one_whose_descendants_stay_out() {
    let house = House::new();
    let store = house.store();
    let bad = published(&store, "step", "bad", &[]);
    let end = published(&store, "end", "end", &[&bad]);
    store.disown(&bad.action, "a broken GPU").unwrap();
    let good = record("step", store.ingest_bytes(b"good").unwrap());
    assert_eq!(store.publish(&good).unwrap(), Publication::New);
    assert!(is_found(&store, &good) && !is_found(&store, &bad) && !is_found(&store, &end));
    assert_eq!(store.witnesses(&bad.action).unwrap(), [bad], "it is kept as a witness");
    let new_end = record("new end", store.ingest_bytes(b"new end").unwrap());
    let new_end = ActionRecord { ancestry: BTreeMap::from([(good.recipe, good.realisation())]), ..new_end };
    store.publish(&new_end).unwrap();
    assert_eq!(store.disowned(&new_end).unwrap(), None);
}

#[test]
fn a_mark_made_by_another_process_is_seen_at_once_and_rubbish_is_no_mark() {
    let house = House::new();
    let (store, other) = (house.store(), house.store());
    let one = published(&store, "one", "one", &[]);
    let two = published(&store, "two", "two", &[]);
    assert!(is_found(&store, &one));
    other.disown(&one.action, "").unwrap();
    assert!(!is_found(&store, &one));
    other.disown(&two.action, "").unwrap();
    assert!(!is_found(&store, &two));
    let place = house.cache().join("v1/disowned");
    fs::write(place.join(one.action.to_string()), "plumb-disowned 9\n\u{0}").unwrap();
    fs::write(place.join("rubbish"), "plumb-disowned 1\n").unwrap();
    // Written in place, not as we write: a new reader sees it.
    assert!(is_found(&house.store(), &one));
    assert_eq!(store.disown(&ActionKey::of_document("nobody's"), "").unwrap(), None);
}
