//! Replicates that grow until an interval is narrow enough: which seeds run, why it stops, and that every table made of
//! them says so.

use expect_test::expect;

use crate::harness::{Outcome, Scene};

/// score (arm, seed) -> verdict. Widths of the 95 % t-interval after 2, 3, 4, 5, 6 seeds of the wider arm: 1.27, 0.25,
/// 0.13, 0.088, 0.066.
const STUDY: &str = r#"schema = 1

[axes]
arm = ["a", "b"]
seed = { replicate = 2, until = "width(f-score) < 0.1", max = 6 }

[stage.score]
uses = "command"
with.argv = ["sh", "-c", '''
echo $0/$1 >> $HOME/ran
arm=$0 seed=$1; shift $((seed + 1))
[ $arm = a ] || set -- 0.9
echo "{\"f_score\": $1, \"n\": 3}" > {out:metrics}''', { axis = "arm" }, { axis = "seed" }, "0.50", "0.60", "0.55", "0.55", "0.55", "0.55", "0.55"]
outputs = { metrics = "metrics.json" }

[stage.verdict]
uses = "command"
inputs.all = { all = "score.metrics", over = ["arm", "seed"] }
with.argv = ["sh", "-c", "echo verdict >> $HOME/ran; grep -o 'until.*' {in:all} | sort -u > {out:rule}; grep -c path {in:all} >> {out:rule}"]
outputs = { rule = "rule.txt" }
"#;

fn study() -> Scene {
    Scene::new(STUDY)
}

/// The lines of stderr that hold a text: steps that run side by side are told in any order.
fn lines(told: &Outcome, part: &str) -> String {
    told.stderr.lines().filter(|line| line.contains(part)).map(|line| format!("{}\n", line.trim())).collect()
}

#[test]
fn seeds_are_added_until_every_branch_is_narrow_enough() {
    let scene = study();
    scene.plumb("plan p.toml").exits(0).prints(expect![[r#"
        run      score               no earlier result of this stage is known
        run      score@seed=1        no earlier result of this stage is known
        run      score@arm=b         no earlier result of this stage is known
        run      score@arm=b,seed=1  no earlier result of this stage is known
        may run  verdict             waits on score, score@seed=1, score@arm=b and 1 more

        stage    hit  run  may run  saves     time  known from
        score      -    4        -      -  unknown  no history
        verdict    -    -        1      -  unknown  no history

        0 steps in the cache, 4 to run, 1 may run; how long that takes is unknown
        seed: 2, may grow to 6, until width(f-score) < 0.1
    "#]]);
    let told = scene.plumb("run p.toml").exits(0);
    expect![[r#"
        grow  seed  2, may grow to 6, until width(f-score) < 0.1
        grow  seed  3, may grow to 6, until width(f-score) < 0.1
        grow  seed  4, may grow to 6, until width(f-score) < 0.1
        grow  seed  5, may grow to 6, until width(f-score) < 0.1
        grow  seed  stopped at 5, for width(f-score) < 0.1; the widest is 0.0878 at `score`
    "#]]
    .assert_eq(&lines(&told, "  grow  "));
    assert_eq!(scene.executed(), "a/0 a/1 a/2 a/3 a/4 b/0 b/1 b/2 b/3 b/4 verdict");
    assert_eq!(scene.result("verdict.rule"), "until width(f-score) < 0.1\"\n10\n");
}

#[test]
fn a_second_run_decides_again_from_the_cache_and_runs_nothing() {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    scene.plumb("run p.toml").exits(0).says(expect![[r#"
        ---
           plan  11 steps  11 in the cache, 0 to run
           grow  seed  stopped at 5, for width(f-score) < 0.1; the widest is 0.0878 at `score`

        nothing to run in [TIME], 11 hits saved [TIME]
    "#]]);
    assert_eq!(scene.executed(), "");
    scene.plumb("plan p.toml").exits(0).prints(expect![[r#"
        stage  hit  run  may run  saves  time  known from
        score  10  -  -  [TIME]  -
        verdict  1  -  -  [TIME]  -

        11 steps in the cache (saves [TIME]), 0 to run
        seed: stopped at 5, for width(f-score) < 0.1; the widest is 0.0878 at `score`
    "#]]);
}

#[test]
fn a_run_that_was_cut_short_goes_on_where_it_stopped() {
    let scene = study();
    scene.edit("max = 6", "max = 4");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "a/0 a/1 a/2 a/3 b/0 b/1 b/2 b/3 verdict");
    scene.edit("max = 4", "max = 6");
    let plan = scene.plumb("plan p.toml").exits(0);
    expect!["seed: 5, may grow to 6, until width(f-score) < 0.1"].assert_eq(plan.stdout.lines().last().unwrap());
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "a/4 b/4 verdict");
}

#[test]
fn it_stops_at_its_most_and_says_so() {
    let scene = study();
    scene.edit("< 0.1", "< 0.01");
    let told = scene.plumb("run p.toml").exits(0);
    expect![[r#"
        grow  seed  stopped at 6, the most there may be, without width(f-score) < 0.01; the widest is 0.0664 at `score`
    "#]]
    .assert_eq(&lines(&told, "stopped at"));
    assert_eq!(scene.executed(), "a/0 a/1 a/2 a/3 a/4 a/5 b/0 b/1 b/2 b/3 b/4 b/5 verdict");
}

#[test]
fn another_rule_is_another_table_and_no_other_run() {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    scene.executed();
    scene.edit("< 0.1", "< 0.09");
    scene.plumb("why p.toml verdict").exits(0).prints(expect![[r#"
        `verdict` runs
          `axes.seed.until` is 2 to 6, until width(f-score) < 0.09, was 2 to 6, until width(f-score) < 0.1
    "#]]);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "verdict");
    scene.edit("width(f-score) < 0.09", "width( score.f_score )<0.09");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "verdict", "the stage is named now");
    scene.edit("width( score.f_score )<0.09", "width(f_score of score) < 9e-2");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "the same rule in other words");
}

#[test]
fn the_stop_stands_in_the_events_and_in_the_history() {
    let scene = study();
    let run = scene.plumb("run p.toml --json").exits(0);
    let grown: Vec<String> = run
        .json_lines()
        .iter()
        .filter(|event| event["what"] == "grown")
        .map(|event| format!("{} of {} {}", event["count"], event["most"], event["stopped"]))
        .collect();
    expect![[r#"
        2 of 6 null
        3 of 6 null
        4 of 6 null
        5 of 6 null
        5 of 6 "narrow""#]]
    .assert_eq(&grown.join("\n"));
    let last = run.json_lines().into_iter().rfind(|event| event["what"] == "grown").unwrap();
    assert_eq!(last["branch"], "score");
    assert!((last["width"].as_f64().unwrap() - 0.0878).abs() < 1e-4);
    let history = std::process::Command::new("grep")
        .args(["-rlF", "\"stopped\":\"narrow\""])
        .arg(scene.path("cache/v1/runs"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&history.stdout).lines().count(), 1);
    let plan = scene.plumb("plan p.toml --json").exits(0).json();
    assert_eq!(plan["growing"]["count"], 5);
}

#[test]
fn a_metric_that_is_not_there_ends_the_run_with_those_that_are() {
    let scene = study();
    scene.edit("width(f-score)", "width(f-scoer)");
    let told = scene.plumb("run p.toml").exits(2);
    expect![[r#"
        error: `width(f-scoer) < 0.1`: there is no `f-scoer` among the metrics of `score`
        hint: did you mean `f_score`?
    "#]]
    .assert_eq(&(lines(&told, "error:") + &lines(&told, "hint:")));
    assert_eq!(scene.executed(), "a/0 a/1 b/0 b/1");
    scene.edit("width(f-scoer)", "width(f-score)");
    scene.edit("[ $arm = a ] || set -- 0.9", "[ $arm = a ] || set -- null");
    scene.plumb("run p.toml").exits(2);
    scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
        error: the metric `f_score` of `score@arm=b` is not known
        hint: `width(f-score) < 0.1` needs a metric that every replicate has
    "#]]);
}

#[test]
fn a_wrong_rule_is_told_at_its_very_token() {
    let scene = study();
    let mut told = String::new();
    for rule in [
        "seed = { replicate = 2, until = \"wdith(f_score) < 0.1\", max = 6 }",
        "seed = { replicate = 2, until = \"width(f_score) > 0.1\", max = 6 }",
        "seed = { replicate = 2, until = \"width(f_score < 0.1\", max = 6 }",
        "seed = { replicate = 2, until = \"width() < 0.1\", max = 6 }",
        "seed = { replicate = 2, until = \"width(f_score) < narrow\", max = 6 }",
        "seed = { replicate = 2, until = \"width(scor.f_score) < 0.1\", max = 6 }",
        "seed = { replicate = 2, until = \"width(f_score) < 0.1\" }",
        "seed = { replicate = 2, max = 6 }",
        "seed = { replicate = 1, until = \"width(f_score) < 0.1\", max = 6 }",
        "seed = { replicate = 6, until = \"width(f_score) < 0.1\", max = 6 }",
    ] {
        scene.edit("seed = { replicate = 2, until = \"width(f-score) < 0.1\", max = 6 }", rule);
        told += &scene.plumb("plan p.toml").exits(2).stderr;
        scene.edit(rule, "seed = { replicate = 2, until = \"width(f-score) < 0.1\", max = 6 }");
    }
    expect![[r#"
        error: there is no function `wdith`
         --> p.toml:5:34
          |
        5 | seed = { replicate = 2, until = "wdith(f_score) < 0.1", max = 6 }
          |                                  ^^^^^
        hint: did you mean `width`?
        error: this rule compares nothing
         --> p.toml:5:34
          |
        5 | seed = { replicate = 2, until = "width(f_score) > 0.1", max = 6 }
          |                                  ^^^^^^^^^^^^^^^^^^^^
        hint: write `width(METRIC) < 0.02` or `width(STAGE.METRIC) < 0.02`
        error: `(` is never closed
         --> p.toml:5:34
          |
        5 | seed = { replicate = 2, until = "width(f_score < 0.1", max = 6 }
          |                                  ^^^^^^^^^^^^^
        hint: write `width(METRIC) < 0.02` or `width(STAGE.METRIC) < 0.02`
        error: `width` of what?
         --> p.toml:5:34
          |
        5 | seed = { replicate = 2, until = "width() < 0.1", max = 6 }
          |                                  ^^^^^^^
        hint: write `width(METRIC) < 0.02` or `width(STAGE.METRIC) < 0.02`
        error: `narrow` is no width above 0
         --> p.toml:5:51
          |
        5 | seed = { replicate = 2, until = "width(f_score) < narrow", max = 6 }
          |                                                   ^^^^^^
        hint: write `width(METRIC) < 0.02` or `width(STAGE.METRIC) < 0.02`
        error: `scor` is no stage that sees `seed` and has an output `metrics.json`
         --> p.toml:5:40
          |
        5 | seed = { replicate = 2, until = "width(scor.f_score) < 0.1", max = 6 }
          |                                        ^^^^
        hint: did you mean `score`?
        error: `until` may never be reached
         --> p.toml:5:33
          |
        5 | seed = { replicate = 2, until = "width(f_score) < 0.1" }
          |                                 ^^^^^^^^^^^^^^^^^^^^^^
        hint: add `max = 12`: replicates at most
        error: `max` without `until`
         --> p.toml:5:31
          |
        5 | seed = { replicate = 2, max = 6 }
          |                               ^
        hint: add `until = "width(METRIC) < 0.02"`: when more replicates are made
        error: an interval needs two replicates to begin with
         --> p.toml:5:22
          |
        5 | seed = { replicate = 1, until = "width(f_score) < 0.1", max = 6 }
          |                      ^
        error: `max` must be 7 to 1000, not 6
         --> p.toml:5:63
          |
        5 | seed = { replicate = 6, until = "width(f_score) < 0.1", max = 6 }
          |                                                               ^
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_part_of_the_branches_does_not_make_it_grow() {
    let scene = study();
    let told = scene.plumb("run p.toml score@arm=b").exits(0);
    expect![[r#"
        warning: `seed` does not grow in this run: `width(f-score) < 0.1` looks at every branch of `score`
    "#]]
    .assert_eq(&lines(&told, "warning:"));
    assert_eq!(scene.executed(), "b/0 b/1");
}

#[test]
fn a_branch_that_fails_stops_the_growth() {
    let scene = study();
    scene.edit("echo $0/$1 >> $HOME/ran\n", "echo $0/$1 >> $HOME/ran\n[ $0$1 != b2 ] || exit 1\n");
    scene.plumb("run p.toml --keep-going").exits(1);
    assert_eq!(scene.executed(), "a/0 a/1 a/2 b/0 b/1 b/2");
}

#[test]
fn seeds_made_afresh_are_judged_again() {
    let scene = study();
    scene.edit("\"0.50\"", "\"$(cat $HOME/first)\"");
    scene.edit("echo \"{\\\"f_score\\\": $1, ", "first=$(cat $HOME/first); echo \"{\\\"f_score\\\": $(eval echo $1), ");
    scene.write("home/first", "0.55");
    scene.edit("\"0.60\"", "\"0.55\"");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "a/0 a/1 b/0 b/1 verdict");
    scene.write("home/first", "0.45");
    scene.plumb("run p.toml --fresh score@arm=a,seed=0").exits(0);
    assert_eq!(scene.executed(), "a/0 a/2 a/3 a/4 a/5 b/2 b/3 b/4 b/5 verdict verdict");
}

#[test]
fn a_comparison_of_grown_seeds_says_that_the_stopping_was_adaptive() {
    let scene = Scene::new(
        r#"schema = 1

[axes]
reward = ["label", "both"]
seed = { replicate = 2, until = "width(score.l_acc) < 1.0", max = 4 }

[stage.score]
uses = "command"
with.argv = ["sh", "-c", '''
v=$((($1 + 1) % 2)); [ $0 = both ] && v=1
for i in 1 2; do echo "{\"id\": \"$i\", \"cluster\": \"$i\", \"values\": {\"label_correct\": $v}}"; v=1; done > {out:items}
echo "{\"l_acc\": 0.$((7 + $1))}" > {out:metrics}''', { axis = "reward" }, { axis = "seed" }]
outputs = { items = "items.jsonl", metrics = "metrics.json" }

[stage.verdict]
uses = "stats.compare"
inputs.items = { all = "score.items", over = ["reward", "seed"] }
with.metrics = ["l_acc"]

[stage.correlation]
uses = "stats.correlate"
inputs.scores = { all = "score.metrics", over = ["reward", "seed"] }
inputs.outcomes = { all = "score.metrics", over = ["reward", "seed"] }
with = { x = ["l_acc"], y = "l_acc" }
"#,
    );
    scene.plumb("run p.toml").exits(0);
    for table in ["verdict.table", "correlation.table"] {
        assert!(scene.result(table).contains("**The stopping was adaptive**"), "{}", scene.result(table));
    }
    expect![[r#"
        # Comparison

        Differences are the first branch minus the second, on the items both have. Intervals are at 95 %: Student's t over
        the per-seed differences (the headline), and a bootstrap of seeds and of item clusters within them (10000 resamples).
        Holm's correction covers 1 tests.

        **The stopping was adaptive**: replicates of `seed` were added while intervals were wide (2 to 4, until width(score.l_acc) < 1). Intervals and p values
        do not account for that: they tend to be narrower and smaller than they should be.

        ## score

        | branch                  | metric | seeds |  mean |       interval |  over | items | coverage |
        |-------------------------|-------:|------:|------:|---------------:|------:|------:|---------:|
        | reward=label (baseline) |  l_acc |     3 | 0.833 | [0.116, 1.550] | seeds |     6 |    1.000 |
        | reward=both             |  l_acc |     3 | 1.000 | [1.000, 1.000] | seeds |     6 |    1.000 |

        | difference              | metric |   mean |     t over seeds |        bootstrap | p (Holm) | smallest detectable | McNemar p |
        |-------------------------|-------:|-------:|-----------------:|-----------------:|---------:|--------------------:|----------:|
        | reward=both minus label |  l_acc | +0.167 | [-0.550, +0.884] | [+0.000, +0.667] |    0.423 |               0.894 |         – |
    "#]].assert_eq(&scene.result("verdict.table"));
    assert!(scene.result("verdict.comparison").contains("2 to 4, until width(score.l_acc) < 1"));
    scene.edit(", until = \"width(score.l_acc) < 1.0\", max = 4", "");
    scene.plumb("run p.toml").exits(0);
    for artifact in ["verdict.table", "correlation.table", "verdict.comparison", "correlation.correlation"] {
        assert!(!scene.result(artifact).contains("adaptive"));
    }
}

#[test]
fn all_turns_of_a_growth_are_one_run_of_the_history() {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    let runs = scene.plumb("log --json").exits(0).json();
    let runs = runs.as_array().unwrap();
    let counts = |run: &serde_json::Value| ["ran", "hits", "failed"].map(|name| run[name].as_u64().unwrap());
    assert_eq!(runs.iter().map(counts).collect::<Vec<_>>(), [[11, 0, 0]]);
    let id = runs[0]["id"].as_str().unwrap();
    let steps = scene.plumb(&format!("log {id} --json")).exits(0).json()["steps"].as_array().unwrap().clone();
    assert_eq!(steps.len(), 11);
    assert!(steps.iter().all(|step| step["outcome"] == "ran" && step["attempts"] == 1), "{steps:#?}");
    scene.plumb("run p.toml").exits(0);
    let runs = scene.plumb("log --json").exits(0).json();
    assert_eq!(runs.as_array().unwrap().iter().map(counts).collect::<Vec<_>>(), [[0, 11, 0], [11, 0, 0]]);
}

#[test]
fn a_budget_holds_for_the_whole_growth() {
    let scene = study();
    // The limits are what a step takes at most: two seeds of two arms are 40 s, and so is the table at the end.
    let limited = |file: &str, time: &str| format!("{{ {file} }}\nrun.time = \"{time}\"");
    let (score, verdict) = ("metrics = \"metrics.json\"", "rule = \"rule.txt\"");
    scene.edit(&format!("{{ {score} }}"), &limited(score, "10s"));
    scene.edit(&format!("{{ {verdict} }}"), &limited(verdict, "40s"));
    let told = scene.plumb("run p.toml --budget 40cpu-s").exits(2);
    assert!(told.stderr.contains("of it spent)"), "{}", told.stderr);
    assert_eq!(scene.executed(), "a/0 a/1 a/2 a/3 a/4 b/0 b/1 b/2 b/3 b/4");
    scene.plumb("run p.toml --budget 40cpu-s").exits(0);
    assert_eq!(scene.executed(), "verdict", "this run has spent nothing before");
}
