//! What lies in a layer is used as if it were here, if it is trusted: alice pushes, bob trusts her, carol does not, and
//! mallory may write where they all read.

use std::fs;
use std::path::PathBuf;

use plumb_cache::Digest;
use serde_json::Value;

use crate::harness::{Outcome, Scene};
use crate::scenarios::reruns;
use crate::servers::s3::S3;

const SETTINGS: &str = "home/.config/plumb/config.toml";

/// A layer, and alice, whose results lie there.
struct Lab {
    alice: Scene,
    key: String,
    url: String,
    variables: Vec<(&'static str, String)>,
}

impl Lab {
    /// In a folder.
    fn in_a_folder() -> Lab {
        let alice = reruns::chain_that_ran();
        fs::create_dir(alice.path("lab")).unwrap();
        let url = alice.path("lab").display().to_string();
        Lab::of(alice, url, Vec::new())
    }

    fn in_s3(s3: &S3) -> Lab {
        let variables = [
            ("AWS_ENDPOINT_URL", s3.url()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret-word"),
        ];
        let variables = variables.map(|(name, value)| (name, value.to_owned())).to_vec();
        Lab::of(reruns::chain_that_ran(), "s3://bucket/shared".into(), variables)
    }

    fn of(alice: Scene, url: String, variables: Vec<(&'static str, String)>) -> Lab {
        let key = alice.plumb("key new").exits(0).raw.trim().to_owned();
        let lab = Lab { alice, key, url, variables };
        lab.settle(&lab.alice, "");
        lab.alice.plumb("cache push p.toml prep count report").exits(0);
        lab
    }

    /// Somebody else with the same pipeline, who reads the layer.
    fn reader(&self, trusts: &[(&str, &str)]) -> Scene {
        let scene = reruns::chain();
        let keys: String = trusts.iter().map(|(name, key)| format!("{name} = \"{key}\"\n")).collect();
        self.settle(&scene, &format!("[keys]\n{keys}"));
        scene
    }

    fn bob(&self) -> Scene {
        self.reader(&[("alice", &self.key)])
    }

    fn settle(&self, scene: &Scene, keys: &str) {
        scene.write(SETTINGS, &format!("write = \"lab\"\n[layer.lab]\nurl = \"{}\"\n{keys}", self.url));
        self.variables.iter().for_each(|(name, value)| scene.export(name, value));
    }

    /// The one segment of the catalogue, with its lines.
    fn segment(&self) -> (PathBuf, Vec<Value>) {
        let mut found = fs::read_dir(self.alice.path("lab/plumb-1/segments")).unwrap();
        let path = found.next().unwrap().unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        (path, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Puts another list in the place of the one that alice wrote.
    fn replace_list(&self, lines: &[Value]) {
        let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        fs::remove_file(self.segment().0).unwrap();
        fs::write(self.alice.path("lab/plumb-1/segments").join(Digest::of(text.as_bytes()).to_string()), text).unwrap();
    }
}

/// Every warning of a command.
fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.raw_stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect()
}

#[test]
fn who_trusts_computes_only_what_is_new_and_who_does_not_computes_everything() {
    let s3 = S3::start("bucket");
    let lab = Lab::in_s3(&s3);
    let bob = lab.bob();
    let plan = bob.plumb("plan p.toml").exits(0);
    assert!(plan.raw.contains("in `lab` (8 B), signed by alice"), "{}", plan.raw);
    assert!(plan.raw.contains("of these, 1 step from `lab` (8 B at most)"), "{}", plan.raw);
    let told = bob.plumb("plan p.toml --json").exits(0).json();
    let report = told["steps"].as_array().unwrap().iter().find(|step| step["step"] == "report").unwrap();
    assert_eq!(report["from"], serde_json::json!({ "layer": "lab", "signer": "alice", "bytes": 8 }));
    bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed(), bob.result("report.text")), (String::new(), lab.alice.result("report.text")));

    bob.edit("word = \"lines\"", "word = \"rows\"");
    bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), bob.result("report.text").as_str()), ("report", "3 rows\n"));
    assert!(!bob.record_file(lab.alice.key("prep")).exists(), "nobody needed what `prep` made");

    bob.export("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let again = bob.plumb("run p.toml").exits(0);
    assert!(warnings(&again).is_empty(), "what is here is asked of nobody: {}", again.stderr);

    let carol = lab.reader(&[]);
    let signer = &lab.key[..20];
    let plan = carol.plumb("plan p.toml").exits(0);
    assert_eq!(plan.raw.matches(&format!("in `lab`, signed by {signer}…: not trusted")).count(), 3, "{}", plan.raw);
    carol.plumb("run p.toml").exits(0);
    assert_eq!(carol.executed(), "count prep report");

    let anybody = lab.reader(&[]);
    anybody.plumb("run p.toml --trust-any").exits(0);
    assert_eq!(anybody.executed(), "");
}

#[test]
fn trust_in_the_last_step_is_not_enough() {
    let lab = Lab::in_a_folder();
    let bob = lab.bob();
    let bobs = bob.plumb("key new").exits(0).raw.trim().to_owned();
    bob.edit("word = \"lines\"", "word = \"rows\"");
    bob.plumb("run p.toml").exits(0);
    bob.executed();
    bob.plumb("cache push p.toml report").exits(0);
    let dave = lab.reader(&[("bob", &bobs)]);
    dave.edit("word = \"lines\"", "word = \"rows\"");
    let plan = dave.plumb("plan p.toml").exits(0);
    assert!(plan.raw.contains("in `lab`, made from `"), "{}", plan.raw);
    let told = dave.plumb("run p.toml").exits(0);
    assert!(told.stderr.contains("prep  in `lab`, signed by"), "{}", told.stderr);
    assert_eq!(dave.executed(), "count prep", "what he has found himself to be so needs no word of alice");
    let both = lab.reader(&[("bob", &bobs), ("alice", &lab.key)]);
    both.edit("word = \"lines\"", "word = \"rows\"");
    both.plumb("run p.toml").exits(0);
    assert_eq!(both.executed(), "");
}

#[test]
fn forged_truncated_and_swapped_records_are_refused_with_a_reason() {
    let lab = Lab::in_a_folder();
    let (_, whole) = lab.segment();
    let not_hers = format!("a record in the layer `lab` is not used: it was not signed so by `{}`", lab.key);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut lines = whole.clone();
        lines.iter_mut().for_each(|line| change(&mut line["signed"]));
        lines
    };
    let forged = with(&|signed| *signed = signed.as_str().unwrap().replace("\"step\":\"", "\"step\":\"x").into());
    let cut = with(&|signed| *signed = signed.as_str().unwrap()[..signed.as_str().unwrap().len() - 9].into());
    let mut swapped = whole.clone();
    for (line, other) in swapped.iter_mut().zip([1, 2, 0]) {
        line["signed"] = whole[other]["signed"].clone();
    }
    for (lines, reason) in [
        (forged, not_hers.as_str()),
        (cut, not_hers.as_str()),
        (swapped, "a record in the layer `lab` is not used: it stands in the place of another"),
    ] {
        lab.replace_list(&lines);
        let bob = lab.bob();
        let told = bob.plumb("run p.toml").exits(0);
        assert_eq!(bob.executed(), "count prep report", "{}", told.stderr);
        assert!(warnings(&told).iter().any(|warning| warning.starts_with(reason)), "{}", told.raw_stderr);
    }
    lab.replace_list(&whole);
    let (path, _) = lab.segment();
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let bob = lab.bob();
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "count prep report");
    assert!(warnings(&told)[0].ends_with("they have another digest"), "{}", told.raw_stderr);
}

#[test]
fn what_a_layer_has_lost_is_made_again_and_why_says_so() {
    let lab = Lab::in_a_folder();
    fs::remove_dir_all(lab.alice.path("lab/plumb-1/packs")).unwrap();
    let bob = lab.bob();
    let told = bob.plumb("run p.toml prep report").exits(0);
    assert_eq!(bob.executed(), "count prep report");
    assert!(told.stderr.contains("the layer `lab` turned out not to have output `sorted`"), "{}", told.stderr);
    assert!(warnings(&told).is_empty(), "{}", told.stderr);
}

#[test]
fn an_input_that_a_layer_has_lost_is_made_again() {
    let lab = Lab::in_a_folder();
    fs::remove_dir_all(lab.alice.path("lab/plumb-1/packs")).unwrap();
    let bob = lab.bob();
    bob.edit("word = \"lines\"", "word = \"rows\"");
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), bob.result("report.text").as_str()), ("count prep report", "3 rows\n"));
    assert!(told.stderr.contains("the layer `lab` turned out not to have output `number`"), "{}", told.stderr);
}

#[test]
fn a_sick_layer_is_one_warning() {
    let s3 = S3::start("bucket");
    let lab = Lab::in_s3(&s3);
    let bob = lab.bob();
    bob.export("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told).len()), ("count prep report", 1), "{}", told.raw_stderr);
    let nowhere = lab.bob();
    nowhere.write(SETTINGS, "[layer.lab]\nurl = \"/no/such/folder\"\n");
    let told = nowhere.plumb("run p.toml").exits(0);
    assert_eq!(warnings(&told).len(), 1, "{}", told.raw_stderr);
}

#[test]
fn a_pull_brings_results_before_they_are_needed() {
    let lab = Lab::in_a_folder();
    let bob = lab.bob();
    let told = bob.plumb("cache pull p.toml prep count").exits(0);
    assert_eq!(
        told.raw_stderr,
        "pulled `prep` from `lab` (6 B), signed by alice\npulled `count` from `lab` (2 B), signed by alice\n"
    );
    assert_eq!(bob.plumb("cache pull p.toml prep count").exits(0).stderr, "2 results here already\n");
    assert!(bob.plumb("cache pull p.toml --layer lba").exits(2).stderr.contains("did you mean `lab`?"));
    let carol = lab.reader(&[]);
    let told = carol.plumb("cache pull p.toml prep --json").exits(1).json();
    assert!(told["missing"][0]["why"].as_str().unwrap().ends_with("not trusted"), "{told}");
}
