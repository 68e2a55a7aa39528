//! The collector: what goes and what stays, in which order, beside runs that go on, and killed at any moment.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use plumb_cache::{
    ActionKey, ActionRecord, CollectOptions, Collection, Cost, LeftoverKind, Materialise, Store, StoreOptions,
};

use crate::crashes::{assert_whole, lines_of, skip_to};
use crate::support::{House, blob, files, flip_a_bit, helped_cache, helper, record};

/// Files get their times from the real clock, so what is forgotten is measured against it.
#[expect(clippy::disallowed_methods, reason = "compared with the times of files that the test has just made")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn everything() -> CollectOptions {
    CollectOptions { max_size: Some(0), keep_runs: 0, forgotten: now(), drop_whole: false }
}

fn garbage() -> CollectOptions {
    CollectOptions { max_size: None, keep_runs: 1, forgotten: SystemTime::UNIX_EPOCH, drop_whole: false }
}

fn collect(store: &Store, options: CollectOptions) -> Collection {
    let planned = store.plan_collection(&options).unwrap();
    let done = store.collect(&options, &mut || {}).unwrap();
    assert_eq!(planned, done, "what a dry run says is what is done");
    done
}

/// A published result of so many bytes that took so many seconds.
fn made(store: &Store, name: &str, bytes: usize, seconds: f64) -> ActionRecord {
    let cost = Cost { wall_seconds: seconds, ..Cost::default() };
    let made = record(name, store.ingest_bytes(name.repeat(bytes / name.len()).as_bytes()).unwrap());
    let made = ActionRecord { cost, ..made };
    store.publish(&made).unwrap();
    made
}

fn is_there(store: &Store, record: &ActionRecord) -> bool {
    let kept = store.action(&record.action).unwrap().is_some();
    assert_eq!(kept, store.present(&record.outputs["out"].artifact), "{} is half there", record.step);
    kept
}

fn steps(collection: &Collection) -> Vec<&str> {
    collection.evicted.iter().map(|evicted| evicted.step.as_str()).collect()
}

#[test]
fn what_is_cheapest_to_make_again_for_its_bytes_goes_first_and_only_as_much_as_asked() {
    let house = House::new();
    let store = house.quick_store();
    let dear = made(&store, "dear", 40_000, 4000.0);
    let cheap = made(&store, "cheap", 40_000, 4.0);
    let small = made(&store, "small", 1000, 4.0);
    let before = store.plan_collection(&garbage()).unwrap().before;
    let done = collect(&store, CollectOptions { max_size: Some(before - 1), keep_runs: 0, ..garbage() });
    assert_eq!(steps(&done), ["make@n=cheap"]);
    assert_eq!((done.evicted[0].bytes, done.seconds()), (40_000, 4.0));
    assert_eq!(done.after, before - 40_000);
    assert_eq!([&dear, &cheap, &small].map(|record| is_there(&store, record)), [true, false, true]);
    assert_eq!(store.recipe(&cheap.recipe).unwrap(), []);
    assert_eq!(store.records_of_stage("house", "make").unwrap().len(), 3, "for `why` what went is remembered");
    assert_eq!(store.remembered(&cheap.action).unwrap().as_ref(), Some(&cheap));
    let done = collect(&store, everything());
    assert_eq!(steps(&done), ["make@n=small", "make@n=dear"]);
    assert_eq!(files(&house.cache().join("v1/cas")), [] as [&str; 0]);
    collect(&store, everything());
    for folder in ["recipes", "by_stage", "past"] {
        assert_eq!(files(&house.cache().join("v1").join(folder)), [] as [&str; 0], "nobody descends from them");
    }
}

#[test]
fn the_ancestry_of_what_stays_is_known_although_the_ancestors_went() {
    let house = House::new();
    let store = house.quick_store();
    let root = made(&store, "root", 3000, 1.0);
    let child = |name: &str, parent: &ActionRecord| {
        let mut child = record(name, store.ingest_bytes(name.as_bytes()).unwrap());
        child.ancestry = [(parent.recipe, parent.realisation())].into();
        store.publish(&child).unwrap();
        child
    };
    let middle = child("middle", &root);
    let end = child("end", &middle);
    store.pin(&end.action, "").unwrap();
    for _ in 0..2 {
        collect(&store, everything());
        assert!(!is_there(&store, &root) && !is_there(&store, &middle) && is_there(&store, &end));
        let ancestry = store.ancestry(std::slice::from_ref(&end)).unwrap();
        assert_eq!((ancestry.chosen.len(), ancestry.missing.len()), (3, 0));
    }
    store.publish(&record("other", store.ingest_bytes(b"other").unwrap())).unwrap();
    made(&store, "root", 3000, 1.0);
    let done = collect(&store, garbage());
    assert_eq!(done.leftovers.iter().map(|left| left.kind).collect::<Vec<_>>(), [LeftoverKind::Past], "made again");
    store.disown(&root.action, "poisoned").unwrap();
    assert!(store.disowned(&end).unwrap().is_some(), "a mark reaches past what went");
}

#[test]
fn shared_bytes_go_with_the_last_result_that_stands_on_them() {
    let house = House::new();
    let store = house.quick_store();
    let one = made(&store, "one", 9000, 1.0);
    let same = ActionRecord { outputs: one.outputs.clone(), ..record("same", one.outputs["out"].artifact) };
    store.publish(&same).unwrap();
    store.pin(&same.action, "").unwrap();
    let done = collect(&store, everything());
    assert_eq!(steps(&done), [] as [&str; 0], "taking the other record would free nothing");
    assert!(is_there(&store, &one) && is_there(&store, &same));
    assert!(store.unpin(&same.action).unwrap());
    let done = collect(&store, everything());
    assert_eq!(steps(&done).len(), 2);
    assert_eq!(done.evicted.iter().map(|evicted| evicted.bytes).sum::<u64>(), 9000);
}

#[test]
fn pins_lock_files_claims_and_the_last_runs_are_roots() {
    let house = House::new();
    let store = house.quick_store();
    let [pinned, locked, claimed, last, earlier, other] =
        ["pinned", "locked", "claimed", "last", "earlier", "other"].map(|name| made(&store, name, 600, 1.0));
    store.pin(&pinned.action, "for the paper").unwrap();
    assert_eq!(store.pins().unwrap()[0].note, "for the paper");
    let file = house.write("p.toml", "");
    let lock = format!("[source.raw]\ndigest = \"{}\"\n", locked.outputs["out"].artifact.digest);
    store.register_project(&file, &house.write("p.lock", lock)).unwrap();
    let _claim = store.claim(&claimed.action, "a test").unwrap();
    for (run, record) in [("2026-1", &earlier), ("2026-2", &last)] {
        fs::create_dir_all(store.runs_folder().join(run)).unwrap();
        store.uses(run, &file).unwrap().add([record.action]).unwrap();
    }
    let done = collect(&store, CollectOptions { keep_runs: 1, ..everything() });
    let stay = |record: &ActionRecord| store.action(&record.action).unwrap().is_some();
    assert_eq!([&pinned, &claimed, &last, &earlier, &other].map(stay), [true, true, true, false, false]);
    assert!(store.present(&locked.outputs["out"].artifact), "what a lock file names stays");
    let roots = [&pinned, &locked, &claimed, &last];
    assert_eq!(done.rooted, roots.iter().map(|record| record.outputs["out"].artifact.size).sum::<u64>());

    // A project on a disk that is away keeps its sources; one that was removed does not.
    fs::rename(lock_of(&house), house.path("away")).unwrap();
    assert_eq!(store.projects().unwrap()[0].digests.len(), 1);
    fs::remove_file(&file).unwrap();
    assert_eq!(store.projects().unwrap(), []);
    collect(&store, everything());
    assert!(!store.present(&locked.outputs["out"].artifact));
}

fn lock_of(house: &House) -> std::path::PathBuf {
    house.path("p.lock")
}

#[test]
fn what_the_dead_left_behind_goes_and_what_the_living_use_does_not() {
    let house = House::new();
    let store = house.quick_store();
    let kept = made(&store, "kept", 500, 1.0);
    let orphan = store.ingest_bytes(b"a blob that no record names").unwrap();
    house.write("tree/file", "in a folder");
    let tree = store.ingest(&house.path("tree")).unwrap();
    store.open_tree(&tree).unwrap();
    let bad = store.ingest_bytes(b"bad").unwrap();
    flip_a_bit(&blob(&store, &bad));
    assert!(!store.present(&bad));
    let unfinished = ActionKey::of_document("unfinished");
    for (action, file) in [(&kept.action, "done"), (&unfinished, "checkpoint")] {
        fs::write(store.state_folder(action).unwrap().join(file), "state").unwrap();
    }
    house.write("cache/v1/scratch/host-1-0/half", "half");
    house.write("cache/v1/runs/2026-1/events.jsonl", "old");
    let scratch = store.scratch_folder().unwrap();
    fs::write(scratch.path().join("mine"), "mine").unwrap();

    let done = collect(&store, garbage());
    let mut kinds: Vec<LeftoverKind> = done.leftovers.iter().map(|leftover| leftover.kind).collect();
    kinds.sort();
    use LeftoverKind::{History, Orphan, Quarantine, Scratch, State, View};
    assert_eq!(kinds, [Orphan, State, Quarantine, Scratch, View]);
    assert!(is_there(&store, &kept) && !store.present(&orphan) && !store.present(&tree));
    assert!(scratch.path().join("mine").exists());
    let state = |action: &ActionKey| house.cache().join("v1/state").join(action.to_string()).exists();
    assert!(!state(&kept.action), "its step has its result");
    assert!(state(&unfinished), "somebody may go on with it");
    assert!(house.path("cache/v1/runs/2026-1").exists());

    let later = now() + Duration::from_secs(1);
    let done = collect(&store, CollectOptions { forgotten: later, ..garbage() });
    let mut kinds: Vec<LeftoverKind> = done.leftovers.iter().map(|leftover| leftover.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [State, History]);
    assert!(!state(&unfinished) && is_there(&store, &kept));
    assert_eq!(collect(&store, garbage()).leftovers, []);
}

/// A run: uses the result of `old`, then makes one result after the other and reads all of them at the end.
#[test]
fn helper_that_runs_while_others_collect() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    fs::create_dir_all(store.runs_folder().join("live")).unwrap();
    let uses = store.uses("live", Path::new("p.toml")).unwrap();
    let hold = store.hold().unwrap();
    let old = store.action(&ActionKey::of_document("action old")).unwrap().expect("nobody has collected it yet");
    uses.add([old.action]).unwrap();
    drop(hold);
    println!("started");
    let mut all = vec![old];
    for number in 0..60 {
        let hold = store.hold().unwrap();
        let bytes = if number % 2 == 0 { format!("own {number}") } else { "the same for all".into() };
        let made = record(&format!("live {number}"), store.ingest_bytes(bytes.as_bytes()).unwrap());
        std::thread::yield_now();
        store.publish(&made).unwrap();
        drop(hold);
        all.push(made);
        for made in &all {
            store.read(&made.outputs["out"].artifact).unwrap();
        }
    }
    println!("whole");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_collector_takes_nothing_from_a_run_that_goes_on() {
    let house = House::new();
    let store = house.quick_store();
    made(&store, "old", 300, 1.0);
    let rest = made(&store, "rest", 300, 1.0);
    let mut child = helper("collecting::helper_that_runs_while_others_collect", &house.cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = lines_of(&mut child);
    skip_to(&mut lines, "started");
    let mut collections = 0;
    while store.census().unwrap().kept.len() < 61 {
        store.collect(&everything(), &mut || {}).unwrap();
        collections += 1;
    }
    skip_to(&mut lines, "whole");
    assert!(collections > 0 && !is_there(&store, &rest));
    collect(&store, everything());
    assert_eq!(store.census().unwrap().kept.len(), 61, "all of them, until the run ends");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    collect(&store, everything());
    assert_eq!(store.census().unwrap().kept.len(), 0);
}

#[test]
fn a_collector_waits_for_who_holds_the_gate_and_others_wait_for_it() {
    let house = House::new();
    let (store, other) = (house.quick_store(), house.quick_store());
    let hold = store.hold().unwrap();
    let again = store.hold().unwrap();
    let (send, told) = std::sync::mpsc::channel();
    let collector = std::thread::spawn(move || other.collect(&everything(), &mut || send.send(()).unwrap()).unwrap());
    told.recv().unwrap();
    // A holder that asks again does not wait for the collector that waits for it.
    let made = made(&store, "meanwhile", 300, 1.0);
    assert!(is_there(&store, &made));
    drop((hold, again));
    assert_eq!(steps(&collector.join().unwrap()), ["make@n=meanwhile"]);
}

/// Collects everything, with a line before.
#[test]
fn helper_that_collects_until_it_is_killed() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    println!("collecting");
    store.collect(&everything(), &mut || {}).unwrap();
    println!("done");
}

#[test]
fn a_collector_killed_at_any_moment_leaves_whole_results_and_misses() {
    for kill in 0..12_u64 {
        let house = House::new();
        let store = house.quick_store();
        for number in 0..60 {
            made(&store, &format!("{number:04}"), 4000, 1.0);
        }
        let mut child = helper("collecting::helper_that_collects_until_it_is_killed", &house.cache())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = lines_of(&mut child);
        skip_to(&mut lines, "collecting");
        (0..kill * 150_000).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
        drop(store);
        assert_whole(&house);
        collect(&house.quick_store(), everything());
        assert_eq!(files(&house.cache().join("v1/cas")), [] as [&str; 0]);
    }
}

#[test]
fn a_checkout_that_is_a_link_costs_nothing_and_goes_with_its_folder() {
    let house = House::new();
    let store = house.quick_store();
    house.write("model/weights", [7; 5000]);
    let made = record("tree", store.ingest(&house.path("model")).unwrap());
    store.publish(&made).unwrap();
    let view = store.open_tree(&made.outputs["out"].artifact).unwrap();
    assert_eq!(collect(&store, garbage()).leftovers, []);
    assert!(view.exists());
    store.materialise(&made.outputs["out"].artifact, &house.path("mine"), Materialise::Private).unwrap();
    collect(&store, everything());
    assert_eq!(files(&house.cache().join("v1/cas")), [] as [&str; 0]);
    collect(&store, everything());
    assert!(!view.exists() && house.path("mine/weights").exists());
}

#[test]
fn a_detached_step_keeps_its_folders_while_its_keeper_lives() {
    let house = House::new();
    let store = house.store();
    let action = record("detached", store.ingest_bytes(b"x").unwrap()).action;
    let state = |name: &str| house.cache().join("v1/state").join(format!("{action}{name}"));
    fs::create_dir_all(state("")).unwrap();
    fs::create_dir_all(state(".kept")).unwrap();
    let keeper = fs::File::create(state(".kept").join("keeper.lock")).unwrap();
    keeper.lock().unwrap();
    let later = CollectOptions { forgotten: now() + Duration::from_secs(1), ..garbage() };
    collect(&store, later);
    assert!(state("").exists() && state(".kept").exists(), "its keeper lives");
    drop(keeper);
    collect(&store, later);
    assert!(!state("").exists() && !state(".kept").exists(), "nobody asks for it any more");
}
