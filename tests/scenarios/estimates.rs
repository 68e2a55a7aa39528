//! What a plan costs: from what the same stage took before on the same slots, never a guess; and budgets over it.

use expect_test::expect;
use plumb_cache::Cost;

use crate::harness::Scene;

/// base -> train (seed) -> verdict (gathers).
const STUDY: &str = r#"schema = 1

[params]
size = "big"

[axes]
seed = { replicate = 3 }

[stage.base]
uses = "command"
with.argv = ["sh", "-c", "echo base >> $HOME/ran; echo $0 > {out:data}", "x"]
outputs = { data = "data.txt" }

[stage.train]
uses = "command"
inputs.data = "base.data"
with.argv = ["sh", "-c", "echo train-$0 >> $HOME/ran; echo $0 $1 > {out:model}", { axis = "seed" }, { param = "size" }]
outputs = { model = "model.txt" }

[stage.verdict]
uses = "command"
inputs.models = { all = "train.model", over = ["seed"] }
with.argv = ["sh", "-c", "echo verdict >> $HOME/ran; cat {in:models} > {out:table}"]
outputs = { table = "table.txt" }
"#;

/// The study after its first run, its steps having taken these seconds.
fn study() -> Scene {
    let scene = Scene::new(STUDY);
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    for (step, seconds) in
        [("base", 30.0), ("train@seed=0", 60.0), ("train@seed=1", 120.0), ("train@seed=2", 90.0), ("verdict", 6.0)]
    {
        took(&scene, step, seconds);
    }
    scene
}

/// Writes into the record of a step what it took.
fn took(scene: &Scene, step: &str, seconds: f64) {
    let mut record = scene.store().action(&scene.key(step)).unwrap().unwrap();
    record.cost = Cost { wall_seconds: seconds, cpu_seconds: 2.0 * seconds, ..record.cost };
    scene.replace_record(&record);
}

fn jobs(text: &str) -> String {
    regex::Regex::new(r"\d+ at once").unwrap().replace_all(text, "[N] at once").into_owned()
}

#[test]
fn without_history_the_time_is_unknown_and_not_guessed() {
    let told = Scene::new(STUDY).plumb("plan p.toml").exits(0).stdout;
    assert!(told.contains("unknown  no history"), "{told}");
    assert!(told.ends_with("1 to run, 4 may run; how long that takes is unknown\n"), "{told}");
    let told = Scene::new(STUDY).plumb("plan p.toml --json").exits(0).json();
    assert_eq!((told["estimate"]["known"].as_u64(), told["estimate"]["unknown"].as_u64()), (Some(0), Some(5)));
    assert!(told["steps"][0]["estimate"].is_null());
}

#[test]
fn a_plan_tells_per_stage_what_runs_what_that_takes_and_what_the_cache_saves() {
    let scene = study();
    let told = scene.plumb("plan p.toml --set size=small").exits(0);
    expect![[r#"
        run      train         `argv[4]` is "small", was "big"
        run      train@seed=1  `argv[4]` is "small", was "big"
        run      train@seed=2  `argv[4]` is "small", was "big"
        may run  verdict       waits on train, train@seed=1, train@seed=2

        stage    hit  run  may run   saves        time  known from
        base       1    -        -  30.0 s           -
        train      -    3        -       -  4 min 30 s  the same steps
        verdict    -    -        1       -       6.0 s  the same steps

        1 step in the cache (saves 30.0 s), 3 to run, 1 may run; about 4 min 36 s of steps, [TIME] with [N] at once
    "#]]
    .assert_eq(&readable(&told.raw));
    let told = scene.plumb("plan p.toml --set size=small --json").exits(0).json();
    let stage = |name: &str| told["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == name).unwrap();
    assert_eq!(stage("base")["saved_seconds"], 30.0);
    assert_eq!(stage("train")["estimate"]["wall_seconds"], 270.0);
    assert_eq!(told["estimate"]["cpu_seconds"], 552.0);
    assert_eq!(told["estimate"]["basis"], "same-step");
}

// Here the times are the point, so they are not masked; the columns are.
fn readable(raw: &str) -> String {
    let told = regex::Regex::new(r"steps, .* with").unwrap().replace(raw, "steps, [TIME] with").into_owned();
    jobs(&told)
}

#[test]
fn a_new_branch_is_estimated_from_the_others_and_other_slots_are_not_compared() {
    let scene = study();
    scene.edit("replicate = 3", "replicate = 4");
    let told = scene.plumb("plan p.toml train@seed=3 --json").exits(0).json();
    let new = told["steps"].as_array().unwrap().iter().find(|step| step["step"] == "train@seed=3").unwrap();
    assert_eq!((new["estimate"]["wall_seconds"].as_f64(), new["estimate"]["results"].as_u64()), (Some(90.0), Some(3)));
    assert_eq!(
        (new["estimate"]["least_seconds"].as_f64(), new["estimate"]["most_seconds"].as_f64()),
        (Some(60.0), Some(120.0))
    );
    assert_eq!(new["estimate"]["basis"], "other-branches");
    scene.edit("outputs = { model", "run = { cpu = 2 }\noutputs = { model");
    let told = scene.plumb("plan p.toml train@seed=3 --json").exits(0).json();
    assert_eq!(told["estimate"]["unknown"], 1, "nothing ran with two slots yet");
    scene.edit("run = { cpu = 2 }", "run = { cpu = 2, time = \"10m\" }");
    let told = scene.plumb("plan p.toml train@seed=3 --json").exits(0).json();
    assert_eq!((&told["estimate"]["wall_seconds"], &told["estimate"]["basis"]), (&600.0.into(), &"time-limit".into()));
}

#[test]
fn a_plan_over_its_budget_is_refused_with_the_numbers() {
    let scene = study();
    scene.plumb("plan p.toml --set size=small --budget 5cpu-m").exits(2).says(expect![[r#"
        ---
        error: the plan needs about [TIME] of CPU time, and the budget is [TIME] of CPU time
        hint: `plumb plan p.toml --budget … --trim` keeps what fits, in the plan's order
    "#]]);
    let refused = scene.plumb("run p.toml --set size=small --budget 5cpu-m").exits(2);
    assert!(refused.stderr.contains("the plan needs about"), "{}", refused.stderr);
    assert_eq!(scene.executed(), "");
    scene.plumb("plan p.toml --set size=small --budget 0.2cpu-h").exits(0);
    let wrong = scene.plumb("plan p.toml --budget 5tpu-h").exits(2).stderr;
    assert!(wrong.contains("is no budget: write `5gpu-h`"), "{wrong}");
}

#[test]
fn trimming_takes_the_plans_order_and_says_what_it_left_out() {
    let scene = study();
    // 120 + 240 seconds of CPU fit, the third branch does not, and so the table over all of them does not either.
    let told = scene.plumb("plan p.toml --set size=small --budget 400cpu-s --trim").exits(0);
    assert_eq!(told.stderr, "to fit the budget of [TIME] of CPU time, 2 steps are left out: train@seed=2, verdict\n");
    let told = scene.plumb("run p.toml --set size=small --budget 400cpu-s --trim").exits(0);
    assert!(told.stderr.contains("2 steps are left out: train@seed=2, verdict"), "{}", told.stderr);
    assert_eq!(scene.executed(), "train-0 train-1");
    let told = scene.plumb("plan p.toml --set size=small --budget 400cpu-s --json").exits(0).json();
    assert_eq!((told["budget"]["fits"].as_bool(), told["budget"]["resource"].as_str()), (Some(true), Some("cpu")));
}

#[test]
fn what_is_unknown_fits_no_budget() {
    let scene = Scene::new(STUDY);
    let refused = scene.plumb("plan p.toml --budget 1000h").exits(2);
    expect![[r#"
        error: whether the plan fits [TIME] is not known: the known part needs [TIME], and nothing is known of 5 steps (of base, train, verdict)
        hint: run one of them first, or set `run.time` as its limit; `--trim` leaves them out
    "#]]
    .assert_eq(&refused.stderr);
    let told = scene.plumb("plan p.toml --budget 1gpu-h").exits(0);
    assert!(told.stderr.contains("holds"), "a step without a GPU costs no GPU time: {}", told.stderr);
}

#[test]
fn gpu_time_is_wall_time_on_gpu_slots() {
    let scene = Scene::new(&STUDY.replace("outputs = { model", "run = { gpu = 1, time = \"1h\" }\noutputs = { model"));
    let plumb = |line: &str| {
        let output = scene.command(line).env("CUDA_VISIBLE_DEVICES", "0").output().unwrap();
        scene.ended(line, output)
    };
    let told = plumb("plan p.toml train --json").exits(0).json();
    assert_eq!(told["estimate"]["gpu_seconds"], 3.0 * 3600.0);
    assert!(plumb("plan p.toml train").exits(0).stdout.contains("GPU time"));
    let refused = plumb("plan p.toml train --budget 2gpu-h").exits(2).stderr;
    assert!(refused.contains("[TIME] of GPU time"), "{refused}");
    let told = plumb("plan p.toml train --budget 2gpu-h --trim --json").exits(0).json();
    assert_eq!(told["budget"]["left_out"], serde_json::json!(["train@seed=2"]));
}
