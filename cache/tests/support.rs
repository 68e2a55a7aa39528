//! A store in a folder of its own, records to publish, and helper processes to kill. Tests nothing itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use plumb_cache::{
    ActionKey, ActionRecord, Artifact, Cost, RECORD_FORMAT, RecipeKey, RecordedOutput, Store, StoreOptions,
};
use tempfile::TempDir;

/// A folder with a cache in it and room beside it.
pub struct House {
    folder: TempDir,
}

impl House {
    pub fn new() -> House {
        House { folder: TempDir::new().unwrap() }
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn store(&self) -> Store {
        Store::open(&self.cache(), StoreOptions::default()).unwrap()
    }

    /// A store that does not wait for the disk: for tests of what that has no part in.
    pub fn quick_store(&self) -> Store {
        Store::open(&self.cache(), StoreOptions { durable: false, ..StoreOptions::default() }).unwrap()
    }
}

/// A record of one output, whose action is named by `action` alone.
pub fn record(action: &str, output: Artifact) -> ActionRecord {
    let (action_document, recipe_document) = (format!("action {action}"), format!("recipe {action}"));
    ActionRecord {
        format: RECORD_FORMAT,
        action: ActionKey::of_document(&action_document),
        recipe: RecipeKey::of_document(&recipe_document),
        action_document,
        recipe_document,
        outputs: BTreeMap::from([(
            "out".to_owned(),
            RecordedOutput { artifact: output, file: "out.txt".into(), diagnostic: false },
        )]),
        ancestry: BTreeMap::new(),
        cost: Cost { wall_seconds: 0.25, cpu_seconds: 0.125, peak_memory_bytes: 4096 },
        environment: BTreeMap::new(),
        step: format!("make@n={action}"),
        stage: "make".into(),
        pipeline: "house".into(),
        made_at: "2026-11-23T13:00:00Z".into(),
        made_by: "a test".into(),
    }
}

/// Every file below a folder, relative to it and sorted.
pub fn files(folder: &Path) -> Vec<String> {
    fn gather(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => gather(&entry.path(), root, found),
                false => found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    let mut found = Vec::new();
    gather(folder, folder, &mut found);
    found.sort();
    found
}

/// The path of an artifact's blob, whatever is in it.
pub fn blob(store: &Store, artifact: &Artifact) -> PathBuf {
    let hex = artifact.digest.to_string();
    store.root().join("v1/cas").join(&hex[..2]).join(&hex[2..])
}

/// Flips one bit of a file as a bad disk would: neither its length nor its modification time show it.
pub fn flip_a_bit_unseen(path: &Path) {
    let metadata = fs::metadata(path).unwrap();
    flip_a_bit(path);
    fs::File::open(path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
}

/// Flips one bit of a file as a careless user would.
pub fn flip_a_bit(path: &Path) {
    let mode = fs::metadata(path).unwrap().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// This test binary again, running only `test`, which finds the cache in `PLUMB_TEST_CACHE` and does its part there.
pub fn helper(test: &str, cache: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("PLUMB_TEST_CACHE", cache);
    command
}

/// The cache that a helper process works on; `None` in an ordinary test run.
pub fn helped_cache() -> Option<PathBuf> {
    std::env::var_os("PLUMB_TEST_CACHE").map(PathBuf::from)
}
