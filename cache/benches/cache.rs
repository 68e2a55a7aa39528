//! What the cache costs: hashing a big file, looking up ten thousand records that are all there, publishing a tiny
//! action. Prints one line a figure. `cargo bench -p plumb-cache [-- MEGABYTES]`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench is a program for people: it prints and it panics"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use plumb_cache::{
    ActionKey, ActionRecord, Artifact, Cost, RECORD_FORMAT, RecipeKey, RecordedOutput, Store, StoreOptions,
};

const RECORDS: usize = 10_000;
const PUBLISHED: usize = 300;

fn main() {
    let megabytes = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1024);
    // Beside the build, not in /tmp: that may be memory, where fsync costs nothing.
    let folder = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(&folder.path().join("cache"), StoreOptions::default()).unwrap();
    hashing(&store, folder.path(), megabytes);
    publishing(&store);
    looking_up(folder.path());
}

fn hashing(store: &Store, folder: &Path, megabytes: usize) {
    let path = folder.join("big");
    let block: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&path, block.repeat(megabytes)).unwrap();
    // The paranoid do not believe the stat index, which would answer without hashing.
    let paranoid = Store::open(store.root(), StoreOptions { paranoid: true, ..StoreOptions::default() }).unwrap();
    let best = (0..3).map(|_| seconds(|| paranoid.digest_source(&path).unwrap()).0).fold(f64::INFINITY, f64::min);
    println!("hash a file of {megabytes} MiB: {:.0} MB/s", megabytes as f64 * 1.048_576 / best);
    let scratch = store.scratch_folder().unwrap();
    fs::rename(&path, scratch.path().join("big")).unwrap();
    let (time, _) = seconds(|| store.ingest(&scratch.path().join("big")).unwrap());
    println!("move it into the cache (fsync included): {time:.2} s");
}

fn publishing(store: &Store) {
    let mut times: Vec<f64> = (0..PUBLISHED).map(|i| seconds(|| publish(store, "tiny", i)).0).collect();
    times.sort_by(f64::total_cmp);
    println!("ingest one file and publish a record: median {:.2} ms", times[PUBLISHED / 2] * 1e3);
}

fn looking_up(folder: &Path) {
    let path = folder.join("cache");
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let records: Vec<ActionRecord> = (0..RECORDS).map(|i| publish(&store, "many", i)).collect();
    let recipes: Vec<RecipeKey> = records.iter().map(|record| record.recipe).collect();
    let (parts, artifacts) = seconds(|| {
        let found = store.recipes(&recipes).unwrap();
        found.iter().map(|found| found[0].outputs["out"].artifact).collect::<Vec<Artifact>>()
    });
    println!("find {RECORDS} records by recipe: {:.0} ms", parts * 1e3);
    let (parts, _) = seconds(|| store.present_all(&artifacts));
    println!("check their blobs: {:.0} ms", parts * 1e3);
    let (time, _) = seconds(|| {
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let found = store.recipes(&recipes).unwrap();
        let artifacts: Vec<Artifact> = found.iter().map(|found| found[0].outputs["out"].artifact).collect();
        assert!(store.present_all(&artifacts).into_iter().all(|present| present));
    });
    println!("open, find {RECORDS} records by recipe, check their blobs: {:.0} ms", time * 1e3);
}

fn publish(store: &Store, name: &str, number: usize) -> ActionRecord {
    let scratch = store.scratch_folder().unwrap();
    let file = scratch.path().join("out.txt");
    fs::write(&file, format!("{name} {number}")).unwrap();
    let record = record(format!("{name} {number} {}", "parameter ".repeat(60)), store.ingest(&file).unwrap());
    store.publish(&record).unwrap();
    record
}

fn record(document: String, artifact: Artifact) -> ActionRecord {
    ActionRecord {
        format: RECORD_FORMAT,
        action: ActionKey::of_document(&document),
        recipe: RecipeKey::of_document(&document),
        action_document: document.clone(),
        recipe_document: document,
        outputs: BTreeMap::from([(
            "out".to_owned(),
            RecordedOutput { artifact, file: "out.txt".into(), diagnostic: false },
        )]),
        ancestry: BTreeMap::new(),
        cost: Cost::default(),
        environment: BTreeMap::from([("cpu".to_owned(), "x86-64-v3".to_owned())]),
        step: "tiny".into(),
        stage: "tiny".into(),
        pipeline: "bench".into(),
        made_at: "2026-11-23T13:00:00Z".into(),
        made_by: "bench".into(),
    }
}

fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed().as_secs_f64(), done)
}
