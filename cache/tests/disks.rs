//! Disks: a full one and a read-only one, both real. They are mounted in a namespace of their own (`unshare`), so that
//! nothing is left mounted whatever happens; where that is not allowed the test says that it was skipped.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::{Expect, expect};
use plumb_cache::{ActionKey, CacheError, Claimed, CollectOptions, Digest, Materialise, Method, Store, StoreOptions};

use crate::support::{House, blob, files, flip_a_bit, helped_cache, helper, record};

/// Runs a helper test below after `mount` was run on the folder `$1`; `false` where nothing can be mounted.
fn run_on(mount: &str, folder: &Path, test: &str) -> bool {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(folder);
        command
    };
    if !unshare(mount).output().is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: this machine does not let a test mount ({mount})");
        return false;
    }
    let helper = helper(test, &folder.join("cache"));
    let mut command = unshare(&format!("{mount} && shift && exec \"$@\""));
    command.arg(helper.get_program()).args(helper.get_args());
    command.envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = command.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", said(&done.stdout), said(&done.stderr));
    assert!(said(&done.stdout).contains("1 passed"), "the helper test {test} is not there");
    true
}

/// Compares the error and its hint, with the cache's folder as `[CACHE]` and changing names as `[..]`.
fn check(cache: &Path, error: &CacheError, expected: Expect) {
    let text = format!("error: {error}\nhint: {}\n", error.hint().unwrap_or_default());
    let text = text.replace(&*cache.to_string_lossy(), "[CACHE]");
    let masked: Vec<String> = text.split('`').map(|part| mask(part, "[CACHE]/v1/scratch/")).collect();
    expected.assert_eq(&masked.join("`"));
}

fn mask(part: &str, prefix: &str) -> String {
    if part.starts_with(prefix) { format!("{prefix}[..]") } else { part.to_owned() }
}

/// Publishes a small result of this number.
fn publish(store: &Store, number: usize) -> Result<ActionKey, CacheError> {
    let made = record(&number.to_string(), store.ingest_bytes(format!("{number}").repeat(3000).as_bytes())?);
    store.publish(&made).map(|_| made.action)
}

/// Publishes small results until nothing fits.
fn published_until_full(store: &Store) -> Vec<ActionKey> {
    let mut published = Vec::new();
    let error = (0..).find_map(|number| publish(store, number).map(|key| published.push(key)).err()).unwrap();
    assert!(matches!(error, CacheError::Full { .. }), "{error}");
    published
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_half_published() {
    let house = House::new();
    run_on("mount -t tmpfs -o size=2m none \"$1\"", &house.path(""), "disks::helper_on_a_full_disk");
}

#[test]
fn helper_on_a_full_disk() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    let big = House::new();
    let (file, bytes) = (big.write("folder/big", vec![1; 4 << 20]), vec![2; 4 << 20]);
    let error = store.ingest_bytes(&bytes).unwrap_err();
    check(
        &cache,
        &error,
        expect![[r#"
        error: no space left for writing `[CACHE]/v1/scratch/[..]`
        hint: free some space (`plumb cache gc`), or choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
    "#]],
    );
    for path in [&file, &big.path("folder")] {
        assert!(matches!(store.ingest(path), Err(CacheError::Full { .. })));
    }
    let v1 = cache.join("v1");
    assert_eq!(files(&v1.join("cas")), [] as [&str; 0]);
    assert_eq!(files(&v1.join("scratch")).len(), 1, "only the lock of this process");

    // Small results until nothing fits: each is there as a whole or not at all.
    let published = published_until_full(&store);
    assert!(published.len() > 10);
    for key in &published {
        let record = store.action(key).unwrap().unwrap();
        assert_eq!(
            store.read(&record.outputs["out"].artifact).unwrap().len() as u64,
            record.outputs["out"].artifact.size
        );
    }
    for name in files(&v1.join("cas")) {
        assert_eq!(Digest::of(&fs::read(v1.join("cas").join(&name)).unwrap()).to_string(), name.replace('/', ""));
    }
    assert_eq!(files(&v1.join("scratch")).len(), 1);

    fs::remove_dir_all(v1.join("cas")).unwrap();
    publish(&store, 0).unwrap();
}

/// One is full of bytes, the other of files: not even a folder can be made on it.
#[test]
fn a_full_cache_can_be_collected() {
    for full in ["size=2m", "size=64m,nr_inodes=250"] {
        let (house, mount) = (House::new(), format!("mount -t tmpfs -o {full} none \"$1\""));
        run_on(&mount, &house.path(""), "disks::helper_that_collects_on_a_full_disk");
    }
}

#[test]
fn helper_that_collects_on_a_full_disk() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    let published = published_until_full(&store);
    // To the last byte, so that a collector has nothing to write with.
    let mut filler = fs::File::create(cache.with_file_name("filler"));
    while filler.as_mut().is_ok_and(|file| file.write_all(&[0; 4096]).is_ok()) {}
    let options = CollectOptions {
        max_size: Some(0),
        keep_runs: 0,
        forgotten: std::time::SystemTime::UNIX_EPOCH,
        drop_whole: false,
    };
    let collection = Store::open(&cache, StoreOptions::default()).unwrap().collect(&options, &mut || ()).unwrap();
    assert_eq!(collection.evicted.len(), published.len());
    assert_eq!(files(&cache.join("v1/cas")), [] as [&str; 0]);
    for key in &published {
        assert_eq!(store.action(key).unwrap(), None);
    }
    publish(&store, 0).unwrap();
}

#[test]
fn a_read_only_cache_is_read_and_says_what_to_do_about_writing() {
    let house = House::new();
    let store = house.store();
    let good = record("1", store.ingest_bytes(b"good").unwrap());
    let bad = record("2", store.ingest_bytes(b"bad").unwrap());
    store.publish(&good).unwrap();
    store.publish(&bad).unwrap();
    flip_a_bit(&blob(&store, &bad.outputs["out"].artifact));
    drop(store);
    let mount = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    run_on(mount, &house.path(""), "disks::helper_on_a_read_only_disk");
}

#[test]
fn helper_on_a_read_only_disk() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    assert!(!store.writable());
    let elsewhere = House::new();
    let key = |name: &str| ActionKey::of_document(&format!("action {name}"));
    let record_of = |name: &str| store.action(&key(name)).unwrap().unwrap();
    let (good, bad) = (record_of("1").outputs["out"].artifact, record_of("2").outputs["out"].artifact);
    assert_eq!(store.read(&good).unwrap(), b"good");
    store.materialise(&good, &elsewhere.path("good"), Materialise::Shared).unwrap();
    store.digest_source(&elsewhere.path("good")).unwrap();
    assert!(!store.present(&bad));
    assert!(matches!(store.read(&bad), Err(CacheError::Damaged { moved_to: None, .. })));

    let error = store.publish(&record_of("1")).unwrap_err();
    check(
        &cache,
        &error,
        expect![[r#"
        error: the cache `[CACHE]` is read-only (publishing a result)
        hint: make `[CACHE]` writable, or choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
    "#]],
    );
    let refused = |done: Result<(), CacheError>| assert!(matches!(done, Err(CacheError::ReadOnly { .. })), "{done:?}");
    refused(store.ingest_bytes(b"more").map(|_| ()));
    refused(store.ingest(&elsewhere.path("good")).map(|_| ()));
    refused(store.scratch_folder().map(|_| ()));
    refused(store.state_folder(&key("1")).map(|_| ()));
    refused(store.claim(&key("1"), "a test").map(|claimed: Claimed| drop(claimed)));

    let new: PathBuf = cache.with_file_name("new");
    let error = Store::open(&new, StoreOptions::default()).unwrap_err();
    check(
        &new,
        &error,
        expect![[r#"
        error: the cache `[CACHE]` is read-only (making the cache)
        hint: make `[CACHE]` writable, or choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`
    "#]],
    );
}

#[test]
fn a_file_system_with_reflinks_gives_everybody_a_clone() {
    let makers: [(&str, &[&str]); 2] = [("mkfs.btrfs", &["-q"]), ("mkfs.xfs", &["-q"])];
    for (maker, options) in makers {
        let house = House::new();
        let image = house.path("image");
        fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        if !Command::new(maker).args(options).arg(&image).output().is_ok_and(|made| made.status.success()) {
            continue;
        }
        let folder = house.path("mounted");
        fs::create_dir(&folder).unwrap();
        // A loop device needs the real root; the mount goes with the namespace.
        let helper = helper("disks::helper_on_a_file_system_with_reflinks", &folder.join("cache"));
        let mut command = Command::new("unshare");
        let script = "mount -o loop \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&image).arg(&folder);
        command.arg(helper.get_program()).args(helper.get_args());
        command.envs(helper.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = command.output().unwrap();
        if done.status.code() == Some(77) || done.status.code() == Some(1) && done.stdout.is_empty() {
            break;
        }
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    eprintln!("skipped: no mkfs.btrfs or mkfs.xfs here, or no leave to mount what it makes");
}

#[test]
fn helper_on_a_file_system_with_reflinks() {
    let Some(cache) = helped_cache() else { return };
    let store = Store::open(&cache, StoreOptions::default()).unwrap();
    let beside = cache.with_file_name("beside");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("large"), vec![7; 4 << 20]).unwrap();
    let artifact = store.ingest(&beside.join("large")).unwrap();
    assert_eq!(store.methods_into(&beside).unwrap(), (Method::Reflink, Method::Reflink));
    for (name, how) in [("shared", Materialise::Shared), ("private", Materialise::Private)] {
        let place = beside.join(name);
        assert_eq!(store.materialise(&artifact, &place, how).unwrap(), Method::Reflink);
        flip_a_bit(&place);
        assert_eq!(store.read(&artifact).unwrap(), vec![7; 4 << 20], "whoever writes has a clone");
    }
}

#[test]
fn a_blob_with_as_many_names_as_a_file_can_have_is_copied() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest_bytes(b"popular").unwrap();
    let (from, names) = (blob(&store, &artifact), house.path("names"));
    fs::create_dir(&names).unwrap();
    let last = (0..70_000).map(|name| fs::hard_link(&from, names.join(name.to_string()))).find_map(Result::err);
    match last {
        Some(error) if error.kind() == std::io::ErrorKind::TooManyLinks => {}
        other => return eprintln!("skipped: this file system gives a file 70,000 names ({other:?})"),
    }
    let method = store.materialise(&artifact, &house.path("out"), Materialise::Shared).unwrap();
    assert!(matches!(method, Method::Copy | Method::Reflink), "{method:?}");
    assert_eq!(fs::read(house.path("out")).unwrap(), b"popular");
}
