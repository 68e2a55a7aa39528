//! What leaves plumb: provenance as an RO-Crate, held to the published profile's rules, and pictures of the graph.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Scene;

/// Two sources of truth, a kind of the house, a folder, a gather.
const STUDY: &str = r#"schema = 1

[pipeline]
name = "study"

[axes]
seed = { replicate = 2 }

[source.words]
path = "words.txt"

[stage.world]
uses = "data.miniature"
with = { partition = "train", pairs = 4, seed = { axis = "seed" } }

[stage.model]
uses = "command"
inputs = { pairs = "world.pairs", words = "source.words" }
with.argv = ["sh", "-c", "mkdir {out:model}; cat {in:pairs} {in:words} | wc -l > {out:model}/n; cp {in:words} {out:model}/w"]
outputs = { model = "model" }

[stage.table]
uses = "command"
inputs.models = { all = "model.model", over = ["seed"] }
with.argv = ["sh", "-c", "grep -c seed {in:models} > {out:table}"]
outputs = { table = "table.txt" }
"#;

fn study() -> Scene {
    let scene = Scene::new(STUDY);
    scene.write("words.txt", "a\nb\n");
    scene.plumb("run p.toml").exits(0);
    scene
}

fn metadata(scene: &Scene, folder: &str) -> serde_json::Value {
    serde_json::from_str(&scene.read(&format!("{folder}/ro-crate-metadata.json"))).unwrap()
}

fn entity<'m>(metadata: &'m serde_json::Value, id: &str) -> &'m serde_json::Value {
    let all = metadata["@graph"].as_array().unwrap();
    all.iter().find(|entity| entity["@id"] == id).unwrap_or_else(|| panic!("no {id} in {metadata:#}"))
}

/// The Python that `tests/all` installs the validator for.
fn validator() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    Some(target.join("rocrate/bin/python")).filter(|python| python.is_file())
}

/// Fails if the crate breaks a rule that the profiles call REQUIRED.
fn validate(scene: &Scene, folder: &str) {
    let Some(python) = validator() else {
        return eprintln!("skipped: roc-validator is not installed; `tests/all` does that, in target/rocrate");
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/validate_crate.py");
    let mut command = Command::new(python);
    command.arg(script).arg(scene.path(folder)).args(["provenance-run-crate-0.5", "workflow-ro-crate-1.0"]);
    let output = command.current_dir(scene.root()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("provenance-run-crate-0.5: ") && !told.contains(": 0 checks"), "{told}");
}

#[test]
fn a_result_is_exported_with_everything_that_it_came_from() {
    let scene = study();
    let told = scene.plumb("export p.toml table crate --license https://spdx.org/licenses/MIT").exits(0);
    assert_eq!(told.stderr, "wrote 1 result of table to crate\n");
    assert_eq!(scene.read("crate/results/table.txt"), scene.result("table.table"));
    assert_eq!(scene.read("crate/p.toml"), STUDY);
    let crated = metadata(&scene, "crate");
    let root = entity(&crated, "./");
    assert_eq!(root["license"], "https://spdx.org/licenses/MIT");
    assert!(root["conformsTo"].to_string().contains("https://w3id.org/ro/wfrun/provenance/0.5"));
    let action = entity(&crated, "#action/model@seed=1");
    assert_eq!(action["instrument"]["@id"], "#tool/command@1");
    assert!(action["agent"]["@id"].as_str().unwrap().starts_with("#agent/"));
    assert!(action["startTime"].as_str().unwrap() <= action["endTime"].as_str().unwrap());
    let objects = action["object"].to_string();
    assert!(objects.contains("#source/words") && objects.contains("#artifact/file:"), "{objects}");
    let digest = format!("file:{}", plumb_cache::Digest::of(b"a\nb\n"));
    assert_eq!(entity(&crated, "#source/words")["value"], digest);
    assert_eq!(entity(&crated, "#organization")["object"].as_array().unwrap().len(), 5, "one control a step");
    assert!(!crated.to_string().contains(&*scene.root().to_string_lossy()), "no path leaves this machine");
    validate(&scene, "crate");
}

#[test]
fn a_folder_is_exported_as_a_dataset_and_an_existing_place_is_left_alone() {
    let scene = study();
    scene.plumb("export p.toml model@seed=1 crate").exits(0);
    assert_eq!(scene.read("crate/results/model/w"), "a\nb\n");
    assert_eq!(entity(&metadata(&scene, "crate"), "results/model/")["@type"], "Dataset");
    validate(&scene, "crate");
    let told = scene.plumb("export p.toml model@seed=1 crate").exits(2).stderr;
    assert_eq!(told, "error: `crate` is there already\nhint: remove it, or name another place\n");
    let told = Scene::new(STUDY);
    told.write("words.txt", "a\n");
    let told = told.plumb("export p.toml table crate").exits(1).stderr;
    assert_eq!(told, "error: `table` has no result in the cache\nhint: make it with `plumb run p.toml table`\n");
}

#[test]
fn a_step_whose_record_is_gone_is_named_and_not_invented() {
    let scene = study();
    std::fs::remove_file(scene.record_file(scene.key("world@seed=1"))).unwrap();
    let told = scene.plumb("export p.toml table crate").exits(0).stderr;
    assert!(told.contains("nothing is recorded any more of `world@seed=1`"), "{told}");
    let crated = metadata(&scene, "crate");
    assert!(entity(&crated, "./")["description"].as_str().unwrap().contains("any more of: world@seed=1."));
    assert!(!crated.to_string().contains("#action/world@seed=1"));
    validate(&scene, "crate");
}

#[test]
fn the_graph_is_drawn_as_a_picture_without_graphviz() {
    let scene = study();
    let svg = scene.plumb("graph p.toml --format svg").exits(0).raw;
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{svg}");
    for name in ["world", "model", "table", "source.words", "data.miniature ×2", "study"] {
        assert!(svg.contains(&format!(">{name}<")), "no {name} in {svg}");
    }
    assert_eq!(svg.matches("marker-end").count(), 3, "an arrow an edge");
    assert_eq!(svg.matches("stroke-dasharray").count(), 1, "the gather is dashed");
    assert_eq!(svg, scene.plumb("graph p.toml --format svg").exits(0).raw, "two pictures of one pipeline are equal");
    let steps = scene.plumb("graph p.toml --format svg --steps").exits(0).raw;
    assert!(steps.contains(">world@seed=1<"));
}
