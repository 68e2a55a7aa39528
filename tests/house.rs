//! The house checks itself: who may depend on whom, who may print, who may say `tch`, what stands at the top level,
//! and that README's code map tells the truth. Reads source as tokens, so that a comment or a string is no crime.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[path = "../stages/tests/source/mod.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;

const PRINTER: &str = "engine/cli/printer.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the workspace with its text, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let found = source::files(root(), &rust);
    let read =
        |path: &PathBuf| (path.to_string_lossy().into_owned(), std::fs::read_to_string(root().join(path)).unwrap());
    found.iter().map(read).collect()
}

/// The code of the product: tests, benches and build scripts apart.
fn product() -> BTreeMap<String, Vec<String>> {
    let tests: BTreeSet<String> = sources().iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let is_test = |path: &str| {
        let names: Vec<&str> = path.split('/').collect();
        tests.contains(path)
            || names.iter().any(|name| matches!(*name, "tests" | "benches" | "examples" | "tests.rs" | "build.rs"))
    };
    let code = |(path, text): (String, String)| {
        let tokens = source::code(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, tokens)
    };
    sources().into_iter().filter(|(path, _)| !is_test(path)).map(code).collect()
}

/// The files that a file declares as `#[cfg(test)] mod NAME;`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let root = path.trim_end_matches(".rs");
    let folder = root.strip_suffix("/lib").or_else(|| root.strip_suffix("/main")).unwrap_or(root);
    let declared = Regex::new(r"#\[cfg\(test\)\]\s*(?:pub(?:\(crate\))?\s+)?mod (\w+);").unwrap();
    declared.captures_iter(text).map(|found| format!("{folder}/{}.rs", &found[1])).collect()
}

/// Fails with every place at once.
#[track_caller]
fn nothing(found: &[String], law: &str) {
    assert!(found.is_empty(), "{law}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_depend_downward_only() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let floors: BTreeMap<&str, usize> =
        [("plumb-cache", 0), ("plumb-engine", 1), ("plumb-stages", 2), ("plumb", 3), ("plumb-torch", 3)].into();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let floor =
            floors.get(name).unwrap_or_else(|| panic!("`{name}` is a new crate: say in house.rs where it stands"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            if floors.get(other).is_some_and(|below| below >= floor) {
                found.push(format!("{name} -> {other}"));
            }
            if matches!(other, "tch" | "torch-sys") && name != "plumb-torch" {
                found.push(format!("{name} -> {other}"));
            }
        }
    }
    nothing(
        &found,
        "dependencies go plumb -> stages -> engine -> cache and torch -> stages, and only plumb-torch has tch",
    );
}

#[test]
fn only_the_printer_prints() {
    let prints = |tokens: &[String]| {
        let printing = |pair: &[String]| {
            matches!(pair[0].as_str(), "println" | "eprintln" | "print" | "eprint" | "dbg") && pair[1] == "!"
        };
        tokens.windows(2).any(printing)
    };
    let found: Vec<String> = product()
        .into_iter()
        .filter(|(path, tokens)| path != PRINTER && prints(tokens))
        .map(|(path, _)| path)
        .collect();
    nothing(&found, "only engine/cli/printer.rs prints");
}

#[test]
fn only_the_torch_crate_says_tch() {
    let says = |tokens: &[String]| tokens.iter().any(|token| token == "tch" || token == "torch_sys");
    let outside = |path: &str| !path.starts_with("stages/torch/");
    let found: Vec<String> =
        product().into_iter().filter(|(path, tokens)| outside(path) && says(tokens)).map(|(path, _)| path).collect();
    nothing(&found, "only stages/torch names tch");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let unwraps = |tokens: &[String]| tokens.windows(3).any(|three| three == [".", "unwrap", "("]);
    let found: Vec<String> =
        product().into_iter().filter(|(_, tokens)| unwraps(tokens)).map(|(path, _)| path).collect();
    nothing(&found, "no unwrap() outside tests");
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let found: Vec<String> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    nothing(&found, "every file opens with `//!`: what it is for, what it never does");
}

#[test]
fn the_top_level_holds_only_what_the_design_names() {
    let expected: BTreeSet<&str> = [
        ".cargo",
        ".ci",
        ".clippy.toml",
        ".config",
        ".gitignore",
        ".rustfmt.toml",
        "Cargo.lock",
        "Cargo.toml",
        "README.md",
        "cache",
        "engine",
        "pipelines",
        "stages",
        "tests",
    ]
    .into();
    let found: Vec<String> = top_level().into_iter().filter(|name| !expected.contains(name.as_str())).collect();
    nothing(&found, "nothing else stands at the top level");
}

/// What git tracks; what lies there, in a copy without git.
fn top_level() -> BTreeSet<String> {
    let tracked = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match tracked.ok().filter(|output| output.status.success() && !output.stdout.is_empty()) {
        Some(output) => {
            let paths = String::from_utf8(output.stdout).unwrap();
            paths
                .split('\0')
                .filter(|path| !path.is_empty())
                .map(|path| path.split('/').next().unwrap().into())
                .collect()
        }
        None => {
            let names =
                std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| !matches!(name.as_str(), "target" | ".venv" | ".git")).collect()
        }
    }
}

/// The paths that README's code map names: in the fenced block below the heading `Code map`, a line is one path or
/// several, two spaces, and what they are; a line that stands further in is inside the last folder further out.
fn code_map(readme: &str) -> BTreeSet<String> {
    let heading = |line: &&str| line.starts_with('#') && line.to_lowercase().contains("code map");
    let block = readme.lines().skip_while(|line| !heading(line)).skip_while(|line| !line.starts_with("```")).skip(1);
    let mut folders: Vec<(usize, String)> = Vec::new();
    let mut paths = BTreeSet::new();
    for line in block.take_while(|line| !line.starts_with("```")).filter(|line| !line.trim().is_empty()) {
        let depth = line.len() - line.trim_start().len();
        folders.retain(|(outer, _)| *outer < depth);
        let above = folders.last().map(|(_, folder)| folder.clone()).unwrap_or_default();
        for name in line.trim().split("  ").next().unwrap_or_default().split_whitespace() {
            paths.insert(format!("{above}{name}"));
            if name.ends_with('/') {
                folders.push((depth, format!("{above}{name}")));
            }
        }
    }
    paths
}

fn readme_map() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("README.md holds the code map");
    let map = code_map(&text);
    assert!(!map.is_empty(), "README.md has no fenced block below a heading `Code map`");
    map
}

#[test]
fn the_code_map_names_only_what_is_there() {
    let found: Vec<String> = readme_map().into_iter().filter(|path| !root().join(path).exists()).collect();
    nothing(&found, "README's code map names what is not there");
}

#[test]
fn the_code_map_names_every_file() {
    let map = readme_map();
    let roofs = ["cache/", "engine/", "engine/cli/", "stages/", "stages/torch/", "tests/", "pipelines/"];
    let named = |path: &str| {
        let folders = Path::new(path).ancestors().skip(1).map(|folder| folder.to_string_lossy().into_owned());
        let inside = |folder: String| {
            let (line, noun) = (format!("{folder}/"), format!("{folder}.rs"));
            (map.contains(&line) && !roofs.contains(&line.as_str())) || map.contains(&noun)
        };
        map.contains(path)
            || map.contains(&path.replace(".rs", "/"))
            || folders.filter(|folder| !folder.is_empty()).any(inside)
    };
    // A crate's root is what its folder's line is about.
    let root = |path: &str| Path::new(path).file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs");
    let mut found: Vec<String> = product().into_keys().filter(|path| !root(path) && !named(path)).collect();
    let tops = ["cache/", "engine/", "engine/cli/", "stages/", "stages/torch/", "pipelines/", "tests/"];
    found.extend(tops.iter().filter(|top| !map.contains(**top)).map(|top| top.to_string()));
    nothing(&found, "README's code map does not name these, nor a folder or noun that they belong to");
}

#[test]
fn a_code_map_is_read_with_its_indents() {
    let readme = "# p\n## Code map\n```\ncache/    bytes\n  digest.rs tree.rs   two nouns\n.ci/run   what CI runs\nengine/ the graph\n  key/   keys\n    axes.rs   a\n```\n";
    let expected =
        [".ci/run", "cache/", "cache/digest.rs", "cache/tree.rs", "engine/", "engine/key/", "engine/key/axes.rs"];
    assert_eq!(
        code_map(&readme.replace("engine/ the graph", "engine/  the graph")).into_iter().collect::<Vec<_>>(),
        expected
    );
}

/// A crate anywhere below may turn on serde_json's `arbitrary_precision` for the whole build; numbers inside tagged
/// types (the step protocol, `with.meta`) then no longer read. Fails in `cargo test --workspace` when one does.
#[test]
fn no_crate_below_changes_how_numbers_are_read() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Overlap { threshold: f64 },
    }
    let read = serde_json::from_str::<Tagged>(r#"{"kind": "Overlap", "threshold": 0.3}"#);
    assert_eq!(
        read.expect("see `cargo tree --workspace -e features -i serde_json`"),
        Tagged::Overlap { threshold: 0.3 }
    );
}
