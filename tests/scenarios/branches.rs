//! Axes, plans, grafts, gathers and profiles: which branches there are, and which of them run.

use expect_test::expect;

use crate::harness::Scene;

/// base (no axis) -> train (reward, seed) -> verdict (gathers both).
const STUDY: &str = r#"schema = 1

[params]
size = "big"

[axes]
reward = ["label", "rationale"]
seed = { replicate = 2 }

[stage.base]
uses = "command"
with.argv = ["sh", "-c", "echo base >> $HOME/ran; echo $0 > {out:data}", { param = "size" }]
outputs = { data = "data.txt" }

[stage.train]
uses = "command"
inputs.data = "base.data"
with.argv = ["sh", "-c", "echo $0-$1 >> $HOME/ran; echo $(cat {in:data}) $0 $1 > {out:model}", { axis = "reward" }, { axis = "seed" }]
outputs = { model = "model.txt" }

[stage.verdict]
uses = "command"
inputs.models = { all = "train.model", over = ["reward", "seed"] }
with.argv = ["sh", "-c", "echo verdict >> $HOME/ran; tr , '\n' < {in:models} | grep -o '\"reward\": *\"[a-z]*\"' > {out:table}"]
outputs = { table = "table.txt" }

[profile.smoke]
params = { size = "small" }
axes = { seed = { replicate = 1 } }
"#;

fn study() -> Scene {
    Scene::new(STUDY)
}

fn study_that_ran() -> Scene {
    let scene = study();
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "base label-0 label-1 rationale-0 rationale-1 verdict");
    scene
}

#[test]
fn an_axis_reaches_only_the_stages_that_name_it_or_consume_it() {
    let scene = study();
    scene.plumb("plan p.toml").exits(0).prints(expect![[r#"
        run      base                           no earlier result of this stage is known
        may run  train                          waits on base
        may run  train@seed=1                   waits on base
        may run  train@reward=rationale         waits on base
        may run  train@reward=rationale,seed=1  waits on base
        may run  verdict                        waits on train, train@seed=1, train@reward=rationale and 1 more

        stage    hit  run  may run  saves     time  known from
        base       -    1        -      -  unknown  no history
        train      -    -        4      -  unknown  no history
        verdict    -    -        1      -  unknown  no history

        0 steps in the cache, 1 to run, 5 may run; how long that takes is unknown
    "#]]);
}

#[test]
fn a_new_axis_value_runs_only_its_own_branches_and_the_gather() {
    let scene = study_that_ran();
    scene.edit("[\"label\", \"rationale\"]", "[\"label\", \"rationale\", \"graded\"]");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "graded-0 graded-1 verdict");
    scene.edit("replicate = 2", "replicate = 3");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "graded-2 label-2 rationale-2 verdict");
}

#[test]
fn a_removed_axis_value_runs_only_the_gather_and_brings_back_nothing_lost() {
    let scene = study_that_ran();
    scene.edit("[\"label\", \"rationale\"]", "[\"label\"]");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "verdict");
    scene.edit("[\"label\"]", "[\"label\", \"rationale\"]");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn one_branch_can_be_run_by_its_address() {
    let scene = study();
    scene.plumb("run p.toml train@reward=rationale,seed=1").exits(0);
    assert_eq!(scene.executed(), "base rationale-1");
    scene.plumb("run p.toml train@seed=0").exits(0);
    assert_eq!(scene.executed(), "label-0 rationale-0");
}

#[test]
fn an_axis_selection_runs_those_branches_only() {
    let scene = study();
    scene.plumb("run p.toml train --axis reward=label --axis seed=0..1").exits(0);
    assert_eq!(scene.executed(), "base label-0 label-1");
}

#[test]
fn a_profile_changes_parameters_and_axes() {
    let scene = study_that_ran();
    scene.plumb("run p.toml --profile smoke").exits(0);
    assert_eq!(scene.executed(), "base label-0 rationale-0 verdict");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn one_change_at_a_time_is_the_default_and_a_cross_adds_the_rest() {
    let scene = study();
    scene.edit("seed = { replicate = 2 }", "kl = [0.0, 0.01]");
    scene.edit("over = [\"reward\", \"seed\"]", "over = [\"reward\", \"kl\"]");
    scene.edit("{ axis = \"seed\" }", "{ axis = \"kl\" }");
    scene.edit("\n[profile.smoke]\nparams = { size = \"small\" }\naxes = { seed = { replicate = 1 } }\n", "");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "base label-0.0 label-0.01 rationale-0.0 verdict");
    scene.edit("[stage.base]", "[[plan]]\nmode = \"cross\"\nover = { reward = \"*\", kl = \"*\" }\n\n[stage.base]");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "rationale-0.01 verdict");
}

#[test]
fn a_graft_pins_its_input_and_does_not_carry_the_axis() {
    let scene = study_that_ran();
    let compare = r#"
[stage.first]
uses = "command"
inputs.model = { from = "train.model", at = { reward = "label", seed = 0 } }
with.argv = ["sh", "-c", "echo first >> $HOME/ran; cat {in:model} > {out:text}"]
outputs = { text = "first.txt" }
"#;
    scene.write("p.toml", &format!("{}{compare}", scene.read("p.toml")));
    scene.plumb("run p.toml first").exits(0);
    assert_eq!(scene.executed(), "first");
    assert_eq!(scene.result("first.text"), "big label 0\n");
}

#[test]
fn a_gather_sees_its_branches_in_the_order_of_the_axes() {
    let scene = study_that_ran();
    let labels = scene.result("verdict.table").replace(' ', "");
    assert_eq!(
        labels,
        "\"reward\":\"label\"\n\"reward\":\"label\"\n\"reward\":\"rationale\"\n\"reward\":\"rationale\"\n"
    );
}

#[test]
fn a_failed_branch_fails_its_gather_unless_it_is_marked() {
    let scene = study();
    scene.edit("echo $0-$1 >> $HOME/ran;", "echo $0-$1 >> $HOME/ran; [ $0$1 != rationale1 ] &&");
    scene.plumb("run p.toml --keep-going").exits(1);
    assert_eq!(scene.executed(), "base label-0 label-1 rationale-0 rationale-1");
    scene.edit("over = [\"reward\", \"seed\"] }", "over = [\"reward\", \"seed\"], missing = \"mark\" }");
    scene.plumb("run p.toml --keep-going").exits(1);
    assert_eq!(scene.executed(), "rationale-1 verdict");
}

#[test]
fn a_gather_whose_only_branch_failed_still_ends() {
    let scene = Scene::new(
        r#"schema = 1

[axes]
seed = { replicate = 1 }

[stage.bad]
uses = "command"
with.argv = ["sh", "-c", "exit 1", { axis = "seed" }]
outputs = ["out"]

[stage.table]
uses = "command"
inputs.all = { all = "bad.out", over = ["seed"], missing = "mark" }
with.argv = ["sh", "-c", "echo table >> $HOME/ran; cp {in:all} {out:out}"]
outputs = ["out"]
"#,
    );
    scene.plumb("run p.toml --keep-going").exits(1);
    assert_eq!(scene.executed(), "table");
}

#[test]
fn the_graph_is_drawn_by_stages_and_by_steps() {
    let scene = study();
    scene.plumb("graph p.toml").exits(0).prints(expect![[r#"
        digraph "p" {
          rankdir = LR
          node [shape = box, fontname = "sans-serif"]
          edge [fontname = "sans-serif", fontsize = 10]
          "base" [label = "base\ncommand"]
          "train" [label = "train\ncommand ×4"]
          "verdict" [label = "verdict\ncommand"]
          "base" -> "train" [label = "data"]
          "train" -> "verdict" [label = "model", style = dashed]
        }
    "#]]);
    scene.plumb("graph p.toml train --steps").exits(2);
    scene.plumb("graph p.toml --steps --format mermaid").exits(0).prints(expect![[r#"
        graph LR
          n0["base<br>command"]
          n1["train<br>command"]
          n2["train@seed=1<br>command"]
          n3["train@reward=rationale<br>command"]
          n4["train@reward=rationale,seed=1<br>command"]
          n5["verdict<br>command"]
          n0 -->|data| n1
          n0 -->|data| n2
          n0 -->|data| n3
          n0 -->|data| n4
          n1 -.->|model| n5
          n2 -.->|model| n5
          n3 -.->|model| n5
          n4 -.->|model| n5
    "#]]);
    let drawn = scene.plumb("graph p.toml --json").exits(0).json();
    assert_eq!(drawn["nodes"][1]["steps"], 4);
}
