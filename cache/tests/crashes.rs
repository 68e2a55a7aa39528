//! Processes: killed at any moment, two at once, and what the dead leave behind. A helper is this binary again, running
//! one of the tests below that do nothing unless `PLUMB_TEST_CACHE` says where.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use plumb_cache::{ActionKey, ActionRecord, CacheError, Claimed, Digest, Publication, Store, StoreOptions};

use crate::support::{House, files, helped_cache, helper, record};

const KILLS: u64 = 40;

/// Stores bytes, ingests a folder and publishes a record of it, over and over, with a line after every move.
#[test]
fn helper_that_publishes_until_it_is_killed() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    for number in 0.. {
        publish_one(&store, &format!("{}-{number}", std::process::id())).unwrap();
        println!("published");
    }
}

fn publish_one(store: &Store, name: &str) -> Result<(), CacheError> {
    let scratch = store.scratch_folder()?;
    let out = scratch.path().join("out");
    fs::create_dir_all(out.join("inner")).unwrap();
    fs::write(out.join("small"), name).unwrap();
    fs::write(out.join("inner/large"), name.repeat(50_000)).unwrap();
    println!("written");
    store.ingest_bytes(name.repeat(200_000).as_bytes())?;
    println!("stored");
    let artifact = store.ingest(&out)?;
    println!("ingested");
    store.publish(&record(name, artifact)).map(|_| ())
}

/// Asserts that every blob is what its name says, and that every record reads and has its blobs; counts the records.
pub fn assert_whole(house: &House) -> usize {
    let store = house.store();
    let v1 = house.cache().join("v1");
    for blob in files(&v1.join("cas")) {
        let digest: Digest = blob.replace('/', "").parse().unwrap();
        assert_eq!(Digest::of(&fs::read(v1.join("cas").join(&blob)).unwrap()), digest, "{blob}");
    }
    let records = files(&v1.join("actions"));
    for name in &records {
        let key: ActionKey = name.replace('/', "").parse().unwrap();
        let record = store.action(&key).unwrap().expect("a record that is there reads");
        assert!(store.present(&record.outputs["out"].artifact), "{key}");
    }
    assert_eq!(files(&v1.join("quarantine")), [] as [&str; 0]);
    assert_eq!(files(&v1.join("scratch")), [] as [&str; 0], "opening the cache swept what the dead left");
    records.len()
}

pub type Lines = BufReader<std::process::ChildStdout>;

pub fn lines_of(child: &mut Child) -> Lines {
    BufReader::new(child.stdout.take().unwrap())
}

fn line(lines: &mut Lines) -> String {
    let mut line = String::new();
    assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the helper ended before its time");
    line.trim_end().to_owned()
}

/// Skips what the test runner says before the helper does; its first line stands behind the runner's.
pub fn skip_to(lines: &mut Lines, end: &str) {
    while !line(lines).ends_with(end) {}
}

#[test]
fn a_publisher_killed_at_any_moment_leaves_misses_and_whole_results() {
    let house = House::new();
    house.store();
    for kill in 0..KILLS {
        let mut child = helper("crashes::helper_that_publishes_until_it_is_killed", &house.cache())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = lines_of(&mut child);
        skip_to(&mut lines, "written");
        (0..kill % 8).for_each(|_| drop(line(&mut lines)));
        // The moves take milliseconds: a spin of up to a few spreads the kills over what they do.
        (0..kill * kill * 2_000).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole(&house);
    }
    assert!(assert_whole(&house) > KILLS as usize / 2, "some got far enough to publish");
    publish_one(&house.store(), "after all that").unwrap();
}

/// Publishes a hundred keys as fast as it can: the first half with bytes of its own, the second with the same bytes.
#[test]
fn helper_that_races() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    println!("ready");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    for number in 0..100 {
        let bytes = if number < 50 { format!("{number} by {}", std::process::id()) } else { format!("{number}") };
        let made = record(&number.to_string(), store.ingest_bytes(bytes.as_bytes()).unwrap());
        println!("{:?}", store.publish(&made).unwrap());
    }
}

#[test]
fn two_writers_of_one_key_leave_one_record_and_one_witness() {
    let house = House::new();
    let start = || {
        let mut command = helper("crashes::helper_that_races", &house.cache());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut children = [start(), start()];
    let mut outputs = children.each_mut().map(lines_of);
    for output in &mut outputs {
        skip_to(output, "ready");
    }
    children.iter_mut().for_each(|child| child.stdin.take().unwrap().write_all(b"!").unwrap());
    for number in 0..100 {
        let mut two = outputs.each_mut().map(line);
        two.sort();
        assert_eq!(two, ["New", if number < 50 { "Witness" } else { "Same" }], "key {number}");
    }
    assert!(children.each_mut().map(|child| child.wait().unwrap().success()).iter().all(|done| *done));
    assert_eq!(assert_whole(&house), 100);
    let store = house.store();
    let witnesses =
        |number: usize| store.witnesses(&ActionKey::of_document(&format!("action {number}"))).unwrap().len();
    assert_eq!((witnesses(0), witnesses(49), witnesses(50)), (1, 1, 0));
}

#[test]
fn eight_threads_with_one_key_agree_on_one_record() {
    let house = House::new();
    let store = house.store();
    let publish = |number: usize| {
        let bytes = format!("by thread {}", number % 4);
        let made: ActionRecord = record("1", store.ingest_bytes(bytes.as_bytes()).unwrap());
        store.publish(&made).unwrap()
    };
    let done: Vec<Publication> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || publish(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |what: Publication| done.iter().filter(|done| **done == what).count();
    assert_eq!((count(Publication::New), count(Publication::Same), count(Publication::Witness)), (1, 1, 6));
    drop(store);
    assert_eq!(assert_whole(&house), 1);
}

/// Claims an action, makes a scratch folder, and holds both until it is killed.
#[test]
fn helper_that_holds_a_claim() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    let claimed = store.claim(&ActionKey::of_document("a"), "the helper").unwrap();
    let scratch = store.scratch_folder().unwrap();
    fs::write(scratch.path().join("half"), "half").unwrap();
    println!("{}", if matches!(claimed, Claimed::Mine(_)) { "mine" } else { "held" });
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_claim_and_a_scratch_folder_are_held_until_their_process_dies() {
    let house = House::new();
    let key = ActionKey::of_document("a");
    let mut child = helper("crashes::helper_that_holds_a_claim", &house.cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = lines_of(&mut child);
    skip_to(&mut lines, "mine");
    let store = house.store();
    let Claimed::Held { by } = store.claim(&key, "the test").unwrap() else { panic!("claimed twice") };
    assert!(by.starts_with("the helper (") && by.contains(&child.id().to_string()), "{by}");
    let halves = || files(&house.cache().join("v1/scratch")).iter().filter(|file| file.ends_with("half")).count();
    assert_eq!(halves(), 1, "opening the cache leaves the living alone");

    child.kill().unwrap();
    child.wait().unwrap();
    let Claimed::Mine(claim) = store.claim(&key, "the test").unwrap() else { panic!("held by the dead") };
    assert_eq!(claim.key(), &key);
    assert!(matches!(house.store().claim(&key, "another"), Ok(Claimed::Held { by }) if by.starts_with("the test")));
    assert_eq!(halves(), 0);
    drop(claim);
    assert!(matches!(house.store().claim(&key, "another").unwrap(), Claimed::Mine(_)));
    assert_eq!(files(&house.cache().join("v1/claims")), [] as [&str; 0]);
}
