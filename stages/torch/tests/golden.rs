//! The guard of `VERSION` for the kinds that need a model: each runs whole on a tiny fixture through libtorch, and what
//! it gives is compared with `golden.json`, within tolerances, for the last bits depend on the CPU's instructions. Numbers
//! that moved while VERSION did not are a failure that nothing can accept: raise VERSION, then
//! `ACCEPT_VERSIONS=1 cargo test -p plumb-torch --test golden`.
//!
//! Of a model folder: each tensor's mean square root and its projection on a cosine; of a training run: the metrics of
//! its first steps and of some later ones; of generation: the texts.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_engine::stage::{Registry, Worker};
use plumb_torch::stages::registry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// A number may be away from the recorded one by this, and by this share of it.
const APART: (f64, f64) = (1e-4, 1e-3);
/// Of the generated texts so many must be the recorded ones: where two tokens are all but equally likely, another CPU
/// may choose the other.
const SAME_TEXTS: f64 = 0.75;

/// What one kind gave.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    version: u32,
    numbers: BTreeMap<String, f64>,
    texts: Vec<String>,
}

impl Found {
    fn moved_from(&self, recorded: &Found) -> Vec<String> {
        let near = |one: f64, other: f64| (one - other).abs() <= APART.0 + APART.1 * other.abs();
        let number = |(name, value): (&String, &f64)| match recorded.numbers.get(name) {
            Some(before) if near(*value, *before) => None,
            before => Some(format!("{name}: {value}, recorded {before:?}")),
        };
        let gone = recorded.numbers.keys().filter(|name| !self.numbers.contains_key(*name));
        let mut moved: Vec<String> = self.numbers.iter().filter_map(number).collect();
        moved.extend(gone.map(|name| format!("{name}: gone")));
        let same = self.texts.iter().zip(&recorded.texts).filter(|(one, other)| one == other).count();
        if self.texts.len() != recorded.texts.len() || (same as f64) < SAME_TEXTS * self.texts.len() as f64 {
            moved.push(format!("texts: {:#?}\nrecorded {:#?}", self.texts, recorded.texts));
        }
        moved
    }
}

/// A step of the fixture: name, kind, parameters, inputs (`STEP.OUTPUT`, or a path).
type Fixture = (&'static str, &'static str, Value, &'static [(&'static str, &'static str)]);

/// The miniature, so small that a second teaches a judge to write verdicts, some of them right.
fn fixtures() -> Vec<Fixture> {
    let optimiser = json!({"learning_rate": 1e-2, "warmup_steps": 1, "weight_decay": 0.01, "max_grad_norm": 1.0});
    let with = |more: Value| {
        let (Value::Object(mut all), Value::Object(more)) = (optimiser.clone(), more) else { unreachable!() };
        all.extend(more);
        Value::Object(all)
    };
    let group = |more: Value| {
        let Value::Object(more) = more else { unreachable!() };
        let Value::Object(mut all) = with(json!({"template": "miniature", "max_steps": 2, "prompts_per_step": 2,
            "num_generations": 4, "max_completion_length": 8, "beta": 0.05, "seed": 1, "learning_rate": 1e-3}))
        else {
            unreachable!()
        };
        all.extend(more);
        Value::Object(all)
    };
    vec![
        ("world", "data.miniature", json!({"seed": 7, "pairs": 32, "tasks": 6, "demonstrations": 12}), &[]),
        ("gold", "gold.augment", json!({"from": "miniature", "template": "miniature"}), &[("pairs", "world.pairs")]),
        // Before `init`: of two fixtures of one kind the last is recorded.
        (
            "roomy",
            "model.init",
            json!({"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
                   "intermediate_size": 48, "seed": 4, "max_position_embeddings": 1024}),
            &[("corpus", "world.demonstrations"), ("more", "gold.demonstrations")],
        ),
        (
            "init",
            "model.init",
            json!({"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                   "intermediate_size": 48, "seed": 3}),
            &[("corpus", "world.demonstrations"), ("more", "gold.demonstrations")],
        ),
        ("import", "model.import", json!({}), &[("checkpoint", "tests/llama")]),
        (
            "warm",
            "lm.sft",
            with(json!({"max_steps": 60, "per_device_train_batch_size": 16, "judgment_share": 0.75, "seed": 1})),
            &[
                ("model", "init.model"),
                ("demonstrations", "world.demonstrations"),
                ("judgments", "gold.demonstrations"),
            ],
        ),
        (
            "train",
            "genrm.train",
            group(json!({"reward": "label-and-rationale", "trainable_layers": 1})),
            &[("model", "warm.model"), ("pairs", "gold.pairs")],
        ),
        (
            "prefer",
            "lm.dpo",
            with(json!({"template": "miniature", "max_steps": 3, "per_device_train_batch_size": 4, "seed": 1,
                        "loss_type": "ipo", "micro_batch": 4, "learning_rate": 1e-3})),
            &[("model", "warm.model"), ("pairs", "gold.pairs")],
        ),
        (
            "reward",
            "rm.train",
            with(json!({"template": "miniature", "max_steps": 3, "per_device_train_batch_size": 4, "seed": 1,
                        "center_rewards_coefficient": 0.01, "micro_batch": 4, "learning_rate": 1e-3})),
            &[("model", "warm.model"), ("pairs", "gold.pairs")],
        ),
        (
            "rewarded",
            "bench.reward",
            json!({"template": "miniature"}),
            &[("model", "reward.model"), ("pairs", "gold.pairs")],
        ),
        (
            "actor",
            "actor.rlhf",
            group(json!({"both_orders": true, "judge_max_completion_length": 8, "num_iterations": 2})),
            &[("policy", "warm.model"), ("genrm", "train.model"), ("tasks", "world.tasks")],
        ),
        (
            "proximal",
            "actor.ppo",
            with(json!({"template": "miniature", "max_steps": 2, "prompts_per_step": 4, "num_ppo_epochs": 2,
                        "num_mini_batches": 2, "max_completion_length": 8, "missing_eos_penalty": 1.0, "seed": 1,
                        "learning_rate": 1e-3})),
            &[("policy", "warm.model"), ("reward", "reward.model"), ("tasks", "world.tasks")],
        ),
        (
            "judge",
            "bench.judge",
            json!({"template": "miniature", "both_orders": true, "max_completion_length": 8}),
            &[("model", "warm.model"), ("pairs", "gold.pairs")],
        ),
        ("groups", "data.benchmark", json!({"benchmark": "rm-bench"}), &[("raw", "tests/groups")]),
        (
            "choose",
            "bench.choose",
            json!({"ask": "choose", "max_completion_length": 8}),
            &[("model", "roomy.model"), ("groups", "groups.groups")],
        ),
        (
            "answer",
            "eval.generate",
            json!({"template": "miniature", "samples": 1, "max_completion_length": 8, "seed": 5}),
            &[("model", "warm.model"), ("tasks", "world.tasks")],
        ),
    ]
}

/// Runs one step in a folder of its own; returns its outputs by name.
fn run(registry: &Registry, fixture: &Fixture, place: &Path) -> (u32, BTreeMap<String, PathBuf>) {
    let (name, kind, params, inputs) = fixture;
    let kind = registry.find(kind).unwrap();
    let folder = place.join(name);
    std::fs::create_dir_all(folder.join("state")).unwrap();
    let declared = kind.declaration();
    let outputs: BTreeMap<String, PathBuf> =
        declared.outputs.iter().map(|output| (output.name.to_string(), folder.join(output.file))).collect();
    let input = |(input, from): &(&str, &str)| {
        let path = match from.split_once('.') {
            Some((step, output)) => place.join(step).join(file_of(registry, step, output)),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join(from),
        };
        ((*input).to_string(), InputPlace::One(path))
    };
    let manner = Manner { device: "cpu".into(), threads: 1 };
    let io = Io::new(inputs.iter().map(input).collect(), outputs.clone(), folder.join("state"), manner, None).unwrap();
    (kind.runner().unwrap())(params.clone(), &io).unwrap_or_else(|error| panic!("{name}: {error}"));
    (declared.version, outputs)
}

fn file_of(registry: &Registry, step: &str, output: &str) -> &'static str {
    let (_, kind, ..) = *fixtures().iter().find(|fixture| fixture.0 == step).unwrap();
    let outputs = registry.find(kind).unwrap().declaration().outputs;
    outputs.iter().find(|declared| declared.name == output).unwrap().file
}

fn found(version: u32, outputs: &BTreeMap<String, PathBuf>) -> Found {
    let mut found = Found { version, numbers: BTreeMap::new(), texts: Vec::new() };
    if let Some(folder) = outputs.get("model") {
        for (name, tensor) in Tensor::read_safetensors(folder.join("model.safetensors")).unwrap() {
            let flat = tensor.to_kind(Kind::Double).reshape([-1]);
            let wave = Tensor::arange(flat.numel() as i64, (Kind::Double, tch::Device::Cpu)).cos();
            let size = flat.numel() as f64;
            found.numbers.insert(format!("{name} size"), flat.square().mean(Kind::Double).sqrt().double_value(&[]));
            found
                .numbers
                .insert(format!("{name} wave"), (flat * wave).sum(Kind::Double).double_value(&[]) / size.sqrt());
        }
    }
    // The first, and every twentieth of a long run.
    let told = |row: &Value| row["step"].as_u64().is_some_and(|step| step < 3 || step.is_multiple_of(20));
    for row in rows(outputs.get("steps")).iter().filter(|row| told(row)) {
        let metrics = row["metrics"].as_object().unwrap();
        // While the policy still is its reference, which answer is ahead is rounding alone: another processor's differs.
        let undecided = metrics.get("rewards/margins").and_then(Value::as_f64).is_some_and(|most| most.abs() < 1e-6);
        let metrics = metrics.iter().filter(|(name, _)| !(undecided && *name == "rewards/accuracies"));
        let named = metrics.map(|(name, value)| (format!("{} {name}", row["step"]), value.as_f64().unwrap()));
        found.numbers.extend(named);
    }
    for row in rows(outputs.get("scores")) {
        let told = ["chosen", "rejected"].map(|side| (format!("{} {side}", row["id"]), row[side].as_f64().unwrap()));
        found.numbers.extend(told);
    }
    for (output, column) in [("judgments", "model_judgment"), ("choices", "model_judgment"), ("responses", "text")] {
        found.texts.extend(rows(outputs.get(output)).iter().map(|row| row[column].as_str().unwrap().to_string()));
    }
    found
}

fn rows(path: Option<&PathBuf>) -> Vec<Value> {
    let text = path.map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_model_kind_gives_the_recorded_numbers_until_its_version_is_raised() {
    let registry = registry();
    let place = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for fixture in fixtures() {
        let (version, outputs) = run(&registry, &fixture, place.path());
        if registry.find(fixture.1).unwrap().declaration().worker != Worker::Own {
            all.insert(fixture.1.to_string(), found(version, &outputs));
        }
    }
    let needs_model = |kind: &&str| registry.find(kind).unwrap().declaration().worker != Worker::Own;
    let missing: Vec<&str> = registry.kinds().map(|kind| kind.declaration().kind).filter(needs_model).collect();
    let missing: Vec<&str> = missing.into_iter().filter(|kind| !all.contains_key(*kind)).collect();
    assert!(missing.is_empty(), "these kinds have no fixture here: {missing:?}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.json");
    let recorded = std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes).unwrap());
    let recorded: BTreeMap<String, Found> = recorded.unwrap_or_default();
    for (kind, found) in &all {
        let Some(before) = recorded.get(kind).filter(|before| before.version == found.version) else { continue };
        let moved = found.moved_from(before);
        assert!(moved.is_empty(), "{kind}: numbers moved and VERSION did not\n{}", moved.join("\n"));
    }
    if std::env::var_os("ACCEPT_VERSIONS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
        return;
    }
    let versions = |all: &BTreeMap<String, Found>| -> BTreeMap<String, u32> {
        all.iter().map(|(kind, found)| (kind.clone(), found.version)).collect()
    };
    let accept = "ACCEPT_VERSIONS=1 cargo test -p plumb-torch --test golden";
    assert_eq!(versions(&all), versions(&recorded), "golden.json does not list these versions: {accept}");
}
