//! Three researchers on one bucket, with the miniature and its real trainings: alice makes the first half, bob, who trusts
//! her, an ablation, and carol, who does not, everything again. Mallory may write to the bucket.

use std::collections::BTreeSet;
use std::path::Path;

use plumb_cache::Digest;
use serde_json::Value;

use crate::harness::{Outcome, Scene};
use crate::scenarios::people::SETTINGS;
use crate::servers::s3::S3;

const SEGMENTS: &str = "shared/plumb-1/segments/";
const FIRST_HALF: &str = "warm policy bench-gold@bench=*";

/// A bucket that everybody may write to.
struct Lab {
    s3: S3,
}

struct Researcher {
    scene: Scene,
    key: String,
}

impl Lab {
    fn researcher(&self) -> Researcher {
        let miniature = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/miniature.toml");
        let scene = Scene::new(&std::fs::read_to_string(miniature).unwrap());
        let variables = [
            ("AWS_ENDPOINT_URL", self.s3.url()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret-word"),
            // Two trainings on one core are bit-equal, and do not wait for each other.
            ("OMP_NUM_THREADS", "1"),
        ];
        variables.iter().for_each(|(name, value)| scene.export(name, value));
        let key = scene.plumb("key new").exits(0).raw.trim().to_owned();
        scene.write(SETTINGS, "write = \"lab\"\n[layer.lab]\nurl = \"s3://bucket/shared\"\n");
        Researcher { scene, key }
    }

    /// The lines of the catalogue's one segment, with its name.
    fn segment(&self) -> (String, Vec<Value>) {
        let listed = self.s3.look(&format!("/bucket?list-type=2&prefix={SEGMENTS}"));
        let name = listed.split("<Key>").nth(1).unwrap().split("</Key>").next().unwrap().to_owned();
        let answer = self.s3.look(&format!("/bucket/{name}"));
        let lines = answer.split_once("\r\n\r\n").unwrap().1.lines();
        (name, lines.map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn replace(&self, lines: &[Value]) {
        let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        self.s3.remove(&format!("/bucket/{}", self.segment().0));
        self.s3.put(&format!("/bucket/{SEGMENTS}{}", Digest::of(text.as_bytes())), text.as_bytes());
    }
}

impl Researcher {
    fn trusts(&self, name: &str, other: &Researcher) {
        self.scene.plumb(&format!("key trust {name} {}", other.key)).exits(0);
    }

    /// Runs; the stages of which a step really ran.
    fn runs(&self, more: &str) -> BTreeSet<String> {
        let told = self.scene.plumb(&format!("run p.toml --profile smoke --json {more}")).exits(0);
        let finished = told.json_lines().into_iter().filter(|event| event["what"] == "finished");
        finished.map(|event| event["step"].as_str().unwrap().split('@').next().unwrap().to_owned()).collect()
    }

    fn pushes(&self, steps: &str) {
        self.scene.plumb(&format!("cache push p.toml --profile smoke {steps}")).exits(0);
    }

    fn plans(&self, step: &str) -> Outcome {
        self.scene.plumb(&format!("plan p.toml --profile smoke {step}")).exits(0)
    }

    fn testimony(&self, step: &str) -> Value {
        self.scene.plumb(&format!("why p.toml --profile smoke --json {step}")).exits(0).json()[0]["testimony"].clone()
    }
}

fn texts(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The worker lies beside `plumb` wherever the workspace was built.
fn has_worker() -> bool {
    let worker = Path::new(env!("CARGO_BIN_EXE_plumb")).with_file_name("plumb-torch");
    if !worker.exists() {
        eprintln!("skipped: `{}` is not there; `cargo build --workspace` makes it", worker.display());
    }
    worker.exists()
}

#[test]
fn three_researchers_share_the_miniature() {
    if !has_worker() {
        return;
    }
    let lab = Lab { s3: S3::start("bucket") };
    let (alice, bob, carol) = (lab.researcher(), lab.researcher(), lab.researcher());
    let made = alice.runs(FIRST_HALF);
    assert!(made.is_superset(&texts(&["warm", "policy", "bench-gold"])) && !made.contains("train"), "{made:?}");
    alice.pushes(FIRST_HALF);

    bob.trusts("alice", &alice);
    let new = bob.runs("--set cue_rate=0.6");
    let whole = ["rl-pairs", "rl-gold", "train", "judge", "score", "verdict", "actor", "answer", "correlation"];
    assert!(new.is_superset(&texts(&whole)), "{new:?}");
    let hers = ["warm-pairs", "warm-gold", "init", "warm", "policy", "bench-gold"];
    assert!(new.is_disjoint(&texts(&hers)), "alice has made these: {new:?}");

    let plan = carol.plans("warm");
    assert!(plan.raw.contains("in `lab`, signed by ") && plan.raw.contains("not trusted"), "{}", plan.raw);
    let all = carol.runs("");
    assert!(all.is_superset(&texts(&hers)) && all.is_superset(&texts(&whole)), "{all:?}");
    carol.pushes(FIRST_HALF);
    alice.trusts("carol", &carol);
    alice.scene.plumb("cache pull p.toml --profile smoke warm").exits(0);
    let testimony = alice.testimony("warm");
    assert_eq!(testimony["reproduced_by"], serde_json::json!(["carol", "you"]), "{testimony}");
}

#[test]
fn mallory_is_refused_with_a_reason() {
    if !has_worker() {
        return;
    }
    let lab = Lab { s3: S3::start("bucket") };
    let alice = lab.researcher();
    alice.runs("warm");
    alice.pushes("warm");
    let (_, whole) = lab.segment();
    let changed = |change: &dyn Fn(&str) -> String| {
        let mut lines = whole.clone();
        lines.iter_mut().for_each(|line| line["signed"] = change(line["signed"].as_str().unwrap()).into());
        lines
    };
    let forged = changed(&|signed| signed.replace("\"made_by\":\"", "\"made_by\":\"not "));
    let cut = changed(&|signed| signed[..signed.len() - 9].to_owned());
    let mut swapped = whole.clone();
    for (line, other) in swapped.iter_mut().zip((1..whole.len()).chain([0])) {
        line["signed"] = whole[other]["signed"].clone();
    }
    let own = |lines: Vec<Value>, name: &str| (lines, format!("a record in the layer `lab` is not used: {name}"));
    let not_hers = format!("it was not signed so by `{}`", alice.key);
    for (lines, reason) in
        [own(forged, &not_hers), own(cut, &not_hers), own(swapped, "it stands in the place of another")]
    {
        lab.replace(&lines);
        let bob = lab.researcher();
        bob.trusts("alice", &alice);
        let told = bob.plans("warm");
        assert!(told.raw_stderr.contains(&reason), "{reason}: {}", told.raw_stderr);
        assert!(!told.raw.contains("signed by alice"), "{}", told.raw);
    }

    // What alice has taken back is put there again, as she once signed it.
    lab.replace(&whole);
    alice.scene.plumb("cache disown p.toml --profile smoke warm --reason wrong --share").exits(0);
    lab.replace(&whole);
    let bob = lab.researcher();
    bob.trusts("alice", &alice);
    let told = bob.plans("warm");
    let reason =
        "may run  warm        waits on answers, warm-gold, init; its result is disowned: wrong (shared by alice";
    assert!(told.raw.contains(reason), "{}", told.raw);
}
