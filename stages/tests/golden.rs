//! The other guard of `VERSION`: every `exact` kind runs on a tiny fixture, and the digest of each result is compared
//! with `golden.lock`. A digest that moved while VERSION did not is a failure that nothing can accept: raise VERSION,
//! then `ACCEPT_VERSIONS=1 cargo test -p plumb-stages --test golden`. (A kind that nobody has results of yet: take its
//! lines out of `golden.lock` and accept.)
//!
//! A fixture is a folder `fixtures/KIND/` with `params.json` (what stands under `with`) and, for each input, a file or
//! folder `inputs/NAME` (an extension is ignored), or a line `"NAME": "KIND.OUTPUT"` in `inputs/from.json`, which takes
//! the output of another fixture; a list of `{"stage", "labels", "baseline", "from"}` there is a gather.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use plumb_engine::io::{Branch, InputPlace, Io, Manner};
use plumb_engine::stage::{Class, Determinism, Kind, Registry, Worker};
use plumb_stages::registry;
use serde_json::Value;

/// Runs fixtures, each once, into folders of one temporary place.
struct Bench {
    registry: Registry,
    place: tempfile::TempDir,
    done: BTreeMap<String, BTreeMap<String, PathBuf>>,
}

impl Bench {
    /// The outputs of a kind's fixture.
    fn outputs(&mut self, name: &str) -> BTreeMap<String, PathBuf> {
        if let Some(done) = self.done.get(name) {
            return done.clone();
        }
        let kind = self.registry.find(name).unwrap_or_else(|| panic!("no kind is called `{name}`")).clone();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        assert!(fixture.is_dir(), "`{name}` has no fixture: make stages/tests/fixtures/{name}/params.json and inputs/");
        let inputs = self.inputs(&fixture.join("inputs"));
        let folder = self.place.path().join(name);
        std::fs::create_dir_all(folder.join("state")).unwrap();
        let declared = kind.declaration().outputs;
        let outputs: BTreeMap<String, PathBuf> =
            declared.iter().map(|output| (output.name.to_string(), folder.join(output.file))).collect();
        let io = Io::new(inputs, outputs.clone(), folder.join("state"), Manner::default(), None).unwrap();
        let runner = kind.runner().unwrap_or_else(|| panic!("`{name}` cannot run in this program"));
        runner(params(&*kind, &fixture), &io).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.done.insert(name.to_string(), outputs.clone());
        outputs
    }

    fn inputs(&mut self, folder: &Path) -> BTreeMap<String, InputPlace> {
        let mut inputs = BTreeMap::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if name != "from" {
                inputs.insert(name, InputPlace::One(path));
            }
        }
        let chained = std::fs::read(folder.join("from.json")).map(|bytes| serde_json::from_slice(&bytes).unwrap());
        let chained: BTreeMap<String, Value> = chained.unwrap_or_default();
        for (name, from) in chained {
            let place = match &from {
                Value::String(output) => InputPlace::One(self.output(output)),
                Value::Array(branches) => {
                    InputPlace::Gathered(branches.iter().map(|one| self.branch(one, folder)).collect())
                }
                other => panic!("from.json: `{name}` is neither text nor a list: {other}"),
            };
            inputs.insert(name, place);
        }
        inputs
    }

    fn branch(&mut self, branch: &Value, folder: &Path) -> Branch {
        let path = match (branch["from"].as_str(), branch["file"].as_str()) {
            (Some(output), _) => self.output(output),
            (None, Some(file)) => folder.join(file),
            (None, None) => panic!("from.json: a branch has neither `from` nor `file`: {branch}"),
        };
        Branch {
            stage: branch["stage"].as_str().expect("a branch has a stage").to_string(),
            labels: serde_json::from_value(branch["labels"].clone()).expect("a branch has labels"),
            baseline: branch["baseline"].as_bool().expect("a branch says whether it is the baseline"),
            path: Some(path),
            adaptive: BTreeMap::new(),
        }
    }

    /// `data.miniature.pairs`: the output `pairs` of the fixture `data.miniature`.
    fn output(&mut self, text: &str) -> PathBuf {
        let (kind, output) = text.rsplit_once('.').expect("KIND.OUTPUT");
        let outputs = self.outputs(kind);
        outputs.get(output).unwrap_or_else(|| panic!("`{kind}` has no output `{output}`")).clone()
    }
}

/// Typed as a pipeline's parameters are, so that a fixture cannot say what a pipeline could not.
fn params(kind: &dyn Kind, fixture: &Path) -> Value {
    let path = fixture.join("params.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let with = toml::to_string(&value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let table = toml::de::DeTable::parse(&with).unwrap();
    kind.type_params(table).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
    value
}

/// BLAKE3 of a file, or of a folder's sorted paths and contents.
fn digest(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut waiting = vec![path.to_path_buf()];
    while let Some(here) = waiting.pop() {
        if here.is_dir() {
            let mut inside: Vec<PathBuf> =
                std::fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().path()).collect();
            inside.sort();
            waiting.extend(inside);
            continue;
        }
        let bytes = std::fs::read(&here).unwrap_or_else(|error| panic!("{}: {error}", here.display()));
        hasher.update(here.strip_prefix(path).unwrap().to_string_lossy().as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex()[..16].to_string()
}

/// Lines `kind@version output digest` by kind.
fn parse(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let kind = line.split('@').next().unwrap().to_string();
        kinds.entry(kind).or_default().push(line.to_string());
    }
    kinds
}

fn version(lines: &[String]) -> &str {
    lines[0].split(['@', ' ']).nth(1).expect("a line is `kind@version output digest`")
}

#[test]
fn an_exact_kind_gives_the_same_bytes_until_its_version_is_raised() {
    let mut bench = Bench { registry: registry(), place: tempfile::tempdir().unwrap(), done: BTreeMap::new() };
    let exact: Vec<_> = bench
        .registry
        .kinds()
        .map(|kind| kind.declaration().clone())
        .filter(|kind| kind.determinism == Determinism::Exact && kind.worker == Worker::Own)
        .collect();
    let mut found = BTreeMap::new();
    for kind in &exact {
        let outputs = bench.outputs(kind.kind);
        let results = kind.outputs.iter().filter(|output| output.class == Class::Result);
        let line = |name: &str| format!("{}@{} {name} {}", kind.kind, kind.version, digest(&outputs[name]));
        found.insert(kind.kind.to_string(), results.map(|output| line(output.name)).collect::<Vec<_>>());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden.lock");
    let recorded = parse(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut moved = String::new();
    for (kind, lines) in &found {
        if let Some(before) = recorded.get(kind)
            && version(before) == version(lines)
            && before != lines
        {
            writeln!(
                moved,
                "{kind}: results moved and VERSION did not\n  {}\n  {}",
                before.join("\n  "),
                lines.join("\n  ")
            )
            .unwrap();
        }
    }
    assert!(moved.is_empty(), "{moved}raise VERSION, then ACCEPT_VERSIONS=1 cargo test -p plumb-stages --test golden");
    if std::env::var_os("ACCEPT_VERSIONS").is_some() {
        let lines: Vec<String> = found.into_values().flatten().collect();
        let about = "# Digests of each exact kind's results on its fixture. Written by `ACCEPT_VERSIONS=1 cargo test`, see tests/golden.rs.";
        std::fs::write(&path, format!("{about}\n\n{}\n", lines.join("\n"))).unwrap();
        return;
    }
    assert!(
        found == recorded,
        "golden.lock does not list these kinds and versions\n{found:#?}\n{recorded:#?}\nACCEPT_VERSIONS=1 cargo test -p plumb-stages --test golden"
    );
}
