//! The guard of `VERSION`: what a kind's results are made of (the code of its module and of every module that it
//! reaches, and the locked versions of the crates they name) is written down in `versions.lock`, blind to comments,
//! layout and tests. A difference fails until somebody decides: raise VERSION if the same parameters and inputs
//! would now give other bytes, then `ACCEPT_VERSIONS=1 cargo test -p plumb-stages --test versions` either way.
//!
//! Not covered: the engine and the cache below the stages (their formats have versions of their own), and what the
//! locked crates depend on.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[path = "source/paths.rs"]
mod paths;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use plumb_engine::stage::Worker;
use plumb_stages::registry;

/// Crates that cannot change what a stage computes.
const PLUMBING: [&str; 5] = ["plumb-engine", "schemars", "serde", "thiserror", "tracing"];

/// A module: its path below the crate's root.
type Module = Vec<String>;

/// The crate's modules with their code.
struct House {
    root: PathBuf,
    modules: BTreeMap<Module, (PathBuf, Vec<String>)>,
}

impl House {
    fn read() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let own = |path: &Path| {
            is_rust(path) && !["torch", "tests", "benches", "examples"].iter().any(|folder| path.starts_with(folder))
        };
        let mut modules = BTreeMap::new();
        for path in source::files(&root, &own) {
            let tokens = without_register(code_of(&root.join(&path)));
            modules.insert(module_of(&path), (path, tokens));
        }
        Self { root, modules }
    }

    /// The module that declares a kind.
    fn declares(&self, kind: &str) -> Module {
        let literal = format!("\"{kind}\"");
        let declares = |tokens: &[String]| {
            let starts = tokens.iter().enumerate().filter(|(_, token)| *token == "KIND").map(|(index, _)| index);
            starts
                .into_iter()
                .any(|start| tokens[start..].iter().take_while(|token| *token != ";").any(|token| *token == literal))
        };
        let found = self.modules.iter().find(|(_, (_, tokens))| declares(tokens));
        found.unwrap_or_else(|| panic!("no module says `const KIND: &'static str = {literal};`")).0.clone()
    }

    /// Everything that a module reaches, and the names that may be crates.
    fn closure(&self, start: Module) -> (BTreeSet<Module>, BTreeSet<String>) {
        let (mut reached, mut outside) = (BTreeSet::new(), BTreeSet::new());
        let mut waiting = vec![start];
        while let Some(module) = waiting.pop() {
            if !reached.insert(module.clone()) {
                continue;
            }
            for path in paths::paths(&self.modules[&module].1) {
                match self.resolve(&module, &path) {
                    Some(target) => waiting.push(target),
                    None => drop(outside.insert(path[0].clone())),
                }
            }
        }
        (reached, outside)
    }

    /// The deepest module of this crate that a path names, seen from a module.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let (mut base, mut rest) = match path[0].as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().saturating_sub(1)].to_vec(), &path[1..]),
            _ => (from.clone(), path),
        };
        while let Some(("super", more)) = rest.split_first().map(|(first, more)| (first.as_str(), more)) {
            base.pop();
            rest = more;
        }
        let start = base.clone();
        for name in rest {
            base.push(name.clone());
            if !self.modules.contains_key(&base) {
                base.pop();
                break;
            }
        }
        let named = matches!(path[0].as_str(), "crate" | "self" | "super");
        (named || base != start).then_some(base)
    }

    /// The lines of `versions.lock` for one kind.
    fn lines(&self, kind: &str, worker: Worker, locked: &Locked) -> Vec<String> {
        let (reached, mut outside) = self.closure(self.declares(kind));
        let mut lines: Vec<String> =
            reached.iter().map(|module| line_of(&self.modules[module].0, &self.modules[module].1)).collect();
        let mut package = "plumb-stages";
        if let Worker::Program { .. } = worker {
            package = "plumb-torch";
            lines.extend(self.torch_lines());
            outside.extend(["tch", "torch-sys", "safetensors", "tokenizers", "pmetal-gguf"].map(String::from));
        }
        lines.sort();
        lines.extend(locked.lines(&["plumb-stages", package], &outside));
        lines
    }

    /// A model stage is computed by the whole of plumb-torch: its loops share one transformer and one optimiser.
    fn torch_lines(&self) -> Vec<String> {
        let own = |path: &Path| {
            let code = is_rust(path) || path.extension().is_some_and(|extension| extension == "cpp");
            let other = ["tests", "benches", "examples", "main.rs"].iter().any(|other| path.starts_with(other));
            code && !other && !path.ends_with("tests.rs")
        };
        let folder = self.root.join("torch");
        let line = |path: &PathBuf| {
            let full = folder.join(path);
            let tokens = if is_rust(path) { code_of(&full) } else { words_of(&full) };
            line_of(&Path::new("torch").join(path), &tokens)
        };
        source::files(&folder, &own).iter().map(line).collect()
    }
}

/// The direct dependencies of our crates with their locked versions.
struct Locked {
    packages: Vec<toml::Table>,
}

impl Locked {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
        let text = std::fs::read_to_string(&path).unwrap();
        let lock: toml::Table = toml::from_str(&text).unwrap();
        let packages = lock["package"].as_array().unwrap();
        Self { packages: packages.iter().map(|package| package.as_table().unwrap().clone()).collect() }
    }

    fn lines(&self, packages: &[&str], outside: &BTreeSet<String>) -> Vec<String> {
        let text = |package: &toml::Table, field: &str| package[field].as_str().unwrap().to_string();
        let mut lines = BTreeSet::new();
        for package in self.packages.iter().filter(|package| packages.contains(&text(package, "name").as_str())) {
            for dependency in package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten() {
                let (name, version) = match dependency.as_str().unwrap().split_once(' ') {
                    Some((name, version)) => (name, Some(version)),
                    None => (dependency.as_str().unwrap(), None),
                };
                let named = outside.contains(name) || outside.contains(&name.replace('-', "_"));
                if !named || PLUMBING.contains(&name) {
                    continue;
                }
                let mut all = self.packages.iter().filter(|found| text(found, "name") == name);
                let only = || all.next().map(|found| text(found, "version")).unwrap();
                lines.insert(format!("  crate {name} {}", version.map_or_else(only, String::from)));
            }
        }
        lines.into_iter().collect()
    }
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("build.rs")
}

fn module_of(path: &Path) -> Module {
    let names = path.with_extension("");
    let module: Module = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if module == ["lib"] { Module::new() } else { module }
}

/// The code of a file, and the contents of the files that it includes.
fn code_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut tokens = source::code(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let includes = tokens.windows(4).filter(|four| four[0].starts_with("include_") && four[1] == "!");
    let included: Vec<String> = includes.map(|four| four[3].trim_matches('"').to_string()).collect();
    for name in included {
        let bytes = std::fs::read(path.with_file_name(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        tokens.push(blake3::hash(&bytes).to_hex().to_string());
    }
    tokens
}

fn words_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().flat_map(|line| line.split("//").next().unwrap_or("").split_whitespace()).map(String::from).collect()
}

/// Which kinds an area registers says nothing about what any of them computes.
fn without_register(mut tokens: Vec<String>) -> Vec<String> {
    let Some(start) = tokens.windows(2).position(|pair| pair == ["fn", "register"]) else { return tokens };
    let Some(body) = tokens[start..].iter().position(|token| token == "{") else { return tokens };
    let mut depth = 0;
    for end in start + body..tokens.len() {
        match tokens[end].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            tokens.drain(start..=end);
            break;
        }
    }
    tokens
}

fn line_of(path: &Path, tokens: &[String]) -> String {
    let digest = blake3::hash(tokens.join("\n").as_bytes()).to_hex();
    format!("  {} {}", path.display(), &digest[..16])
}

/// `versions.lock` as kind -> (version, lines).
fn parse(text: &str) -> BTreeMap<String, (u32, Vec<String>)> {
    let mut kinds: BTreeMap<String, (u32, Vec<String>)> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with(' ') {
            let kind: &String = current.as_ref().expect("a line of a kind follows its heading");
            kinds.get_mut(kind).unwrap().1.push(line.to_string());
        } else {
            let (kind, version) = line.split_once('@').expect("a heading is `kind@version`");
            kinds.insert(kind.into(), (version.parse().unwrap(), Vec::new()));
            current = Some(kind.to_string());
        }
    }
    kinds
}

fn render(kinds: &BTreeMap<String, (u32, Vec<String>)>) -> String {
    let mut text = String::from(
        "# What each kind's results are made of. Written by `ACCEPT_VERSIONS=1 cargo test`, see tests/versions.rs.\n",
    );
    for (kind, (version, lines)) in kinds {
        write!(text, "\n{kind}@{version}\n{}\n", lines.join("\n")).unwrap();
    }
    text
}

#[test]
fn what_a_kind_is_made_of_changes_only_on_purpose() {
    let (house, locked) = (House::read(), Locked::read());
    let found: BTreeMap<String, (u32, Vec<String>)> = registry()
        .kinds()
        .map(|kind| kind.declaration())
        .map(|kind| (kind.kind.to_string(), (kind.version, house.lines(kind.kind, kind.worker, &locked))))
        .collect();
    let path = house.root.join("versions.lock");
    let recorded = parse(&std::fs::read_to_string(&path).unwrap_or_default());
    for (kind, (version, _)) in &found {
        let before = recorded.get(kind).map_or(0, |(version, _)| *version);
        assert!(*version >= before, "{kind}: VERSION went back from {before} to {version}: old results would be hits");
    }
    if std::env::var_os("ACCEPT_VERSIONS").is_some() {
        std::fs::write(&path, render(&found)).unwrap();
        return;
    }
    assert!(found == recorded, "{}", told(&recorded, &found));
}

fn told(recorded: &BTreeMap<String, (u32, Vec<String>)>, found: &BTreeMap<String, (u32, Vec<String>)>) -> String {
    let mut text = String::from("stages/versions.lock does not describe this code:\n");
    let nothing = (0, Vec::new());
    let kinds: BTreeSet<&String> = recorded.keys().chain(found.keys()).collect();
    for kind in kinds {
        let (before, after) = (recorded.get(kind).unwrap_or(&nothing), found.get(kind).unwrap_or(&nothing));
        if before == after {
            continue;
        }
        writeln!(text, "{kind}@{} -> {kind}@{}", before.0, after.0).unwrap();
        for line in before.1.iter().filter(|line| !after.1.contains(line)) {
            writeln!(text, "  -{line}").unwrap();
        }
        for line in after.1.iter().filter(|line| !before.1.contains(line)) {
            writeln!(text, "  +{line}").unwrap();
        }
    }
    text.push_str(
        "raise VERSION (and its history) where the same parameters and inputs would now give other bytes; then, \
         either way: ACCEPT_VERSIONS=1 cargo test -p plumb-stages --test versions\n",
    );
    text
}

#[test]
fn comments_layout_and_tests_change_nothing() {
    let plain = "//! About.\nuse crate::rows::Pair;\npub fn sum(a: u8, b: u8) -> u8 { a + b }";
    let dressed = "//! Other words.\n\nuse crate::rows::Pair; // why\n/// Adds.\npub fn sum(\n    a: u8,\n    b: u8,\n) -> u8 {\n    a + b\n}\n\
                   #[cfg(test)]\nmod tests { use super::*; #[test] fn works() { assert_eq!(sum(1, 1), 2); } }\n";
    assert_eq!(source::code(plain), source::code(dressed));
    assert_ne!(source::code(plain), source::code(&plain.replace("a + b", "a - b")));
}

#[test]
fn paths_of_nested_uses_are_spread_out() {
    let tokens =
        source::code("use crate::{rows::{Pair, Task as T}, jsonl}; fn f() { super::g::<u8>(rand::rng()) }").unwrap();
    let found: Vec<String> = paths::paths(&tokens).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::rows::Pair", "crate::rows::Task", "crate::jsonl", "super::g", "rand::rng"]);
}
