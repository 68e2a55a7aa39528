//! People who share a layer in a folder: each with a home, a cache and a key of their own. Tests nothing itself.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::Scene;
use crate::scenarios::reruns;

pub const SETTINGS: &str = "home/.config/plumb/config.toml";

/// A folder that everybody may write into.
pub struct Shared {
    folder: TempDir,
}

/// Somebody with a pipeline.
pub struct Person {
    pub scene: Scene,
    /// The public half of the key.
    pub key: String,
}

impl Shared {
    pub fn new() -> Shared {
        Shared { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The objects below a folder of the layer, sorted; lists of their names apart.
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.path("plumb-1").join(folder)];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found.retain(|path| !path.ends_with("list"));
        found.sort();
        found
    }

    /// Somebody new with the chain of `reruns`, who trusts nobody yet.
    pub fn person(&self) -> Person {
        self.with(reruns::chain())
    }

    /// The same with a pipeline of their own.
    pub fn with(&self, scene: Scene) -> Person {
        let key = scene.plumb("key new").exits(0).raw.trim().to_owned();
        let url = self.folder.path().display();
        scene.write(SETTINGS, &format!("write = \"lab\"\n[layer.lab]\nurl = \"{url}\"\n"));
        Person { scene, key }
    }

    /// Somebody who has run everything and pushed it.
    pub fn maker(&self) -> Person {
        let person = self.person();
        person.makes_and_pushes();
        person
    }
}

impl Person {
    /// Runs everything and pushes it.
    pub fn makes_and_pushes(&self) {
        self.scene.plumb("run p.toml").exits(0);
        self.scene.executed();
        self.scene.plumb("cache push p.toml prep count report").exits(0);
    }

    pub fn trusts(&self, name: &str, other: &Person) {
        self.scene.plumb(&format!("key trust {name} {}", other.key)).exits(0);
    }

    /// Runs; what really ran.
    pub fn runs(&self) -> String {
        self.scene.plumb("run p.toml").exits(0);
        self.scene.executed()
    }

    /// What `why` says of a step.
    pub fn why(&self, step: &str) -> String {
        self.scene.plumb(&format!("why p.toml {step}")).exits(0).raw
    }

    /// What `why --json` says of who has made a step's result.
    pub fn testimony(&self, step: &str) -> serde_json::Value {
        self.scene.plumb(&format!("why p.toml {step} --json")).exits(0).json()[0]["testimony"].clone()
    }

    /// The first digits of the key, as whoever does not know its owner sees them.
    pub fn signature(&self) -> String {
        format!("{}…", &self.key[..20])
    }
}
