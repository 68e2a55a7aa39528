//! `plumb compare`: two branches side by side, and every branch against the baseline.

use expect_test::expect;

use crate::harness::Scene;

/// score (reward, kl, seed): per seed `l_acc` rises with the reward, items are paired by id; verdict sees no axis.
const STUDY: &str = r#"schema = 1

[axes]
reward = ["label", "both"]
kl = [0.0, 0.01]
seed = { replicate = 3 }

[stage.base]
uses = "command"
with.argv = ["sh", "-c", "echo '{\"rows\": 7}' > {out:metrics}"]
outputs = { metrics = "metrics.json" }

[stage.score]
uses = "command"
inputs.base = "base.metrics"
with.argv = ["sh", "-c", '''
[ $0 = both ] && right="1 1 1 $(($2 % 2))" || right="1 0 0 $(($2 % 2))"
n=0; for v in $right; do n=$((n + 1)); echo "{\"id\": \"$n\", \"cluster\": \"$n\", \"values\": {\"label_correct\": $v}}"; done > {out:items}
[ $0 = both ] && length=1$2 || length=2$((2 * $2))
echo "{\"l_acc\": 0.5, \"length\": $length, \"length/stem\": 1}" > {out:metrics}''', { axis = "reward" }, { axis = "kl" }, { axis = "seed" }]
outputs = { items = "items.jsonl", metrics = "metrics.json" }
"#;

fn study() -> Scene {
    Scene::new(STUDY)
}

fn study_that_ran() -> Scene {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    scene
}

#[test]
fn two_branches_stand_side_by_side_paired_by_seed_and_item() {
    let scene = study_that_ran();
    scene.plumb("compare p.toml reward=both baseline").exits(0).prints(expect![[r#"
        reward=both against baseline

        stage  parameter  first   second
        score  argv[3]    "both"  "label"

        stage  metric                    first                    second  difference                95 %      p  p (Holm)  paired by
        score  l_acc   0.8333 [0.4748, 1.1919]  0.3333 [-0.0252, 0.6919]     +0.5000  [+0.5000, +0.5000]      -         -  3 seeds, 12 items
        score  length       11 [8.5159, 13.48]         22 [17.03, 26.97]         -11   [-13.48, -8.5159]  0.003     0.003  3 seeds

        Holm's correction covers 1 test.
    "#]]);
    let found = scene.plumb("compare p.toml score@reward=both reward=label --json").exits(0).json();
    assert_eq!(found["parameters"][0]["parameter"], "argv[3]");
    let rows = found["stages"][0]["rows"].as_array().unwrap();
    assert_eq!((rows[0]["metric"].as_str(), rows[0]["paired"].as_str()), (Some("l_acc"), Some("seeds-and-items")));
    assert_eq!(rows[0]["difference"], 0.5);
    assert_eq!((rows[1]["metric"].as_str(), rows[1]["paired"].as_str()), (Some("length"), Some("seeds")));
}

#[test]
fn a_stage_that_one_branch_only_has_is_named() {
    let scene = Scene::new(
        r#"schema = 1

[axes]
reward = ["label", "both"]
kl = [0.0, 0.01]

[[plan]]
mode = "list"
runs = [{ reward = "label", kl = 0.0 }, { reward = "both", kl = 0.01 }]

[stage.train]
uses = "command"
with.argv = ["sh", "-c", "echo '{\"loss\": '${#0}'}' > {out:metrics}", { axis = "reward" }]
outputs = { metrics = "metrics.json" }

[stage.act]
uses = "command"
inputs.judge = "train.metrics"
with.argv = ["sh", "-c", "echo '{\"gain\": '$0'}' > {out:metrics}", { axis = "kl" }]
outputs = { metrics = "metrics.json" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    scene.plumb("compare p.toml reward=both baseline").exits(0).prints(expect![[r#"
        reward=both against baseline

        stage  parameter  first   second
        train  argv[3]    "both"  "label"

        stage  metric  first  second  difference  95 %  p  p (Holm)  paired by
        train  loss        4       5          -1     -  -         -  nothing

        Only baseline has the stage act.
    "#]]);
    let found = scene.plumb("compare p.toml baseline reward=both --json").exits(0).json();
    assert_eq!(found["only"], serde_json::json!([{ "stage": "act", "branch": "baseline" }]), "{found}");
}

#[test]
fn one_seed_is_paired_by_its_items_only() {
    let scene = study();
    scene.edit("replicate = 3", "replicate = 1");
    scene.plumb("run p.toml").exits(0);
    scene.plumb("compare p.toml reward=both baseline").exits(0).prints(expect![[r#"
        reward=both against baseline

        stage  parameter  first   second
        score  argv[3]    "both"  "label"

        stage  metric                    first                   second  difference      95 %      p  p (Holm)  paired by
        score  l_acc   0.7500 [0.3006, 0.9544]  0.2500 [0.0456, 0.6994]     +0.5000  [+0, +1]  0.500     0.500  4 items only
        score  length                       10                       20         -10         -      -         -  nothing

        Holm's correction covers 1 test.
        Paired by items only, an interval says nothing of other seeds.
    "#]]);
}

#[test]
fn every_branch_is_set_against_the_baseline_and_corrected_by_holm() {
    let scene = study_that_ran();
    scene.plumb("compare p.toml --all length").exits(0).prints(expect![[r#"
        stage  branch                    first             second  difference               95 %      p  p (Holm)  paired by
        score  kl=0.01       22 [17.03, 26.97]  22 [17.03, 26.97]          +0           [+0, +0]      -         -  3 seeds
        score  reward=both  11 [8.5159, 13.48]  22 [17.03, 26.97]         -11  [-13.48, -8.5159]  0.003     0.003  3 seeds

        Holm's correction covers 1 test.
    "#]]);
    let found = scene.plumb("compare p.toml --all score.l-acc --json").exits(0).json();
    let branches: Vec<&str> = found["stages"].as_array().unwrap().iter().filter_map(|one| one["of"].as_str()).collect();
    assert_eq!(branches, ["kl=0.01", "reward=both"]);
    scene.plumb("compare p.toml --all lenght").exits(2).says(expect![[r#"
        ---
        error: no branch differs from the baseline by a metric `lenght`
        hint: did you mean `length`?
    "#]]);
    scene.plumb("compare p.toml --all scroe.length").exits(2).says(expect![[r#"
        ---
        error: unknown stage `scroe`
        hint: did you mean `score`?
    "#]]);
}

#[test]
fn a_wrong_branch_names_the_nearest() {
    let scene = study_that_ran();
    scene.plumb("compare p.toml rewrad=both baseline").exits(2).says(expect![[r#"
        ---
        error: `rewrad=both`: no stage sees an axis `rewrad`
        hint: did you mean `reward`?
    "#]]);
    scene.plumb("compare p.toml reward=boht baseline").exits(2).says(expect![[r#"
        ---
        error: `reward=boht`: axis `reward` has no `boht`
        hint: did you mean `both`?
    "#]]);
    scene.plumb("compare p.toml reward=both,kl=0.01 baseline").exits(2).says(expect![[r#"
        ---
        error: no plan makes the branch `kl=0.01,reward=both`
        hint: did you mean `reward=both`?
    "#]]);
    scene.plumb("compare p.toml both baseline").exits(2).says(expect![[r#"
        ---
        error: `both` in `both` is no `AXIS=LABEL`
        hint: write `AXIS=LABEL,AXIS=LABEL`, or `baseline`
    "#]]);
    scene.plumb("compare p.toml reward=both").exits(2);
}

#[test]
fn what_has_not_run_is_told() {
    let scene = study();
    scene.plumb("compare p.toml reward=both baseline").exits(1).says(expect![[r#"
        ---
        error: there is nothing to compare yet: `score@reward=both` has no result
        hint: `plumb run p.toml` makes it
    "#]]);
    scene.plumb("run p.toml score@seed=0..1").exits(0);
    let told = scene.plumb("compare p.toml reward=both baseline").exits(0).stdout;
    assert!(told.contains("Without a result yet: score@reward=both,seed=2 and 1 more."), "{told}");
    assert!(told.contains("2 seeds, 8 items"), "{told}");
}

#[test]
fn a_comparison_over_grown_seeds_says_so() {
    let scene = study();
    scene.edit("replicate = 3", "replicate = 2, until = \"width(score.length) < 9\", max = 3");
    scene.plumb("run p.toml").exits(0);
    let told = scene.plumb("compare p.toml reward=both baseline").exits(0).stdout;
    assert!(told.contains("The stopping was adaptive (seed: stopped at 3"), "{told}");
}

#[test]
fn inputs_and_what_results_were_made_with_are_told_too() {
    let scene = Scene::new(
        r#"schema = 1
[axes]
size = ["small", "large"]
[stage.init]
uses = "command"
with.argv = ["sh", "-c", "echo $0 > {out:model}", { axis = "size" }]
outputs = { model = "model.txt" }
[stage.score]
uses = "command"
inputs.model = "init.model"
inputs.start = { from = "init.model", at = { size = "small" } }
with.argv = ["sh", "-c", "echo '{\"l_acc\": 0.5}' > {out:metrics}"]
outputs = { metrics = "metrics.json" }
run = { cpu = 1 }
"#,
    );
    scene.plumb("run p.toml score@size=small").exits(0);
    scene.edit("run = { cpu = 1 }", "run = { cpu = 1, threads = 2 }");
    scene.plumb("run p.toml").exits(0);
    scene.plumb("compare p.toml size=large baseline").exits(0).prints(expect![[r#"
        size=large against baseline

        stage  parameter  first    second
        init   argv[3]    "large"  "small"

        stage  input  first                  second
        score  model  init@size=large.model  init.model

        stage  made with  first                                 second
        score  resources  cpu 1, gpu 0, device auto, threads 2  cpu 1, gpu 0, device auto, threads 1

        stage  metric   first  second  difference  95 %  p  p (Holm)  paired by
        score  l_acc   0.5000  0.5000          +0     -  -         -  nothing

    "#]]);
    let found = scene.plumb("compare p.toml size=large baseline --json").exits(0).json();
    assert_eq!(found["inputs"].as_array().unwrap().len(), 1, "the grafted input is the same in both");
    assert_eq!(found["made_with"][0]["name"], "resources");
}
