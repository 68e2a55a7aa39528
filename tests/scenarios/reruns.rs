//! What a change re-runs, and what it does not.

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect;

use crate::harness::Scene;

/// raw -> prep (sorts) -> count (lines) -> report (with a word). `count` forgets what the lines say.
pub const CHAIN: &str = r#"schema = 1

[params]
word = "lines"

[source.raw]
path = "raw.txt"

[stage.prep]
uses = "command"
inputs.raw = "source.raw"
with.argv = ["sh", "-c", "echo prep >> $HOME/ran; sort {in:raw} > {out:sorted}"]
outputs = { sorted = "sorted.txt" }

[stage.count]
uses = "command"
inputs.lines = "prep.sorted"
with.argv = ["sh", "-c", "echo count >> $HOME/ran; wc -l < {in:lines} | tr -d ' ' > {out:number}"]
outputs = { number = "number.txt" }

[stage.report]
uses = "command"
inputs.number = "count.number"
with.argv = ["sh", "-c", "echo report >> $HOME/ran; echo $(cat {in:number}) $0 > {out:text}", { param = "word" }]
outputs = { text = "report.txt" }
"#;

/// The chain with three lines of input.
pub fn chain() -> Scene {
    let scene = Scene::new(CHAIN);
    scene.write("raw.txt", "b\na\nc\n");
    scene
}

/// The chain after its first run.
pub fn chain_that_ran() -> Scene {
    let scene = chain();
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count prep report");
    scene
}

#[test]
fn a_first_run_runs_everything_and_a_second_one_nothing() {
    let scene = chain();
    scene.plumb("run p.toml -j 1").exits(0).says(expect![[r#"
        ---
           plan  3 steps  0 in the cache, 1 to run, 2 may run
          start  prep  no earlier result of this stage is known
           done  prep  [TIME]
          start  count  no earlier result of this stage is known
           done  count  [TIME]
          start  report  no earlier result of this stage is known
           done  report  [TIME]

          step  time  why
          prep  ran  [TIME]  no earlier result of this stage is known
          count  ran  [TIME]  no earlier result of this stage is known
          report  ran  [TIME]  no earlier result of this stage is known

        ran 3 steps in [TIME]
    "#]]);
    assert_eq!(scene.executed(), "count prep report");
    scene.plumb("run p.toml -j 1").exits(0).says(expect![[r#"
        ---
           plan  3 steps  3 in the cache, 0 to run

        nothing to run in [TIME], 3 hits saved [TIME]
    "#]]);
    assert_eq!(scene.executed(), "");
}

#[test]
fn changing_a_comment_runs_nothing() {
    let scene = chain_that_ran();
    scene.edit("[stage.count]", "# counts the lines\n[stage.count]");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn changing_key_order_and_quoting_runs_nothing() {
    let scene = chain_that_ran();
    scene.edit(
        "uses = \"command\"\ninputs.number = \"count.number\"\n",
        "inputs = { 'number' = 'count.number' }\nuses = 'command'\n",
    );
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn renaming_a_stage_runs_nothing() {
    let scene = chain_that_ran();
    scene.edit("[stage.count]", "[stage.tally]");
    scene.edit("count.number", "tally.number");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn renaming_the_pipeline_or_moving_its_folder_runs_nothing() {
    let scene = chain_that_ran();
    let elsewhere = scene.read("p.toml").replace("schema = 1", "schema = 1\n[pipeline]\nname = \"other\"");
    scene.write("elsewhere/q.toml", &elsewhere);
    scene.write("elsewhere/raw.txt", &scene.read("raw.txt"));
    scene.plumb("run elsewhere/q.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn changing_the_manner_of_running_runs_nothing() {
    let scene = chain_that_ran();
    scene.edit("outputs = { number", "run = { cpu = 2, time = \"1h\" }\noutputs = { number");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn touching_a_source_without_changing_its_bytes_runs_nothing() {
    let scene = chain_that_ran();
    scene.write("raw.txt", "b\na\nc\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn changing_a_parameter_runs_its_stage_only_where_nothing_depends_on_it() {
    let scene = chain_that_ran();
    scene.edit("word = \"lines\"", "word = \"rows\"");
    scene.plumb("run p.toml -j 1").exits(0).says(expect![[r#"
        ---
           plan  3 steps  2 in the cache, 1 to run
          start  report  `argv[3]` is "rows", was "lines"
           done  report  [TIME]

          step  time  why
          report  ran  [TIME]  `argv[3]` is "rows", was "lines"
          count  1 hit  [TIME]  saved
          prep  1 hit  [TIME]  saved

        ran 1 step in [TIME], 2 hits saved [TIME]
    "#]]);
    assert_eq!(scene.executed(), "report");
    assert_eq!(scene.result("report.text"), "3 rows\n");
}

#[test]
fn setting_a_parameter_on_the_command_line_is_as_good_as_editing_it() {
    let scene = chain_that_ran();
    scene.plumb("run p.toml --set word=rows").exits(0);
    assert_eq!(scene.executed(), "report");
    scene.edit("word = \"lines\"", "word = \"rows\"");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn changing_a_parameter_back_runs_nothing() {
    let scene = chain_that_ran();
    scene.plumb("run p.toml --set word=rows").exits(0);
    scene.executed();
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn an_upstream_that_ran_again_to_the_same_bytes_stops_there() {
    let scene = chain_that_ran();
    scene.write("raw.txt", "c\na\nb\n");
    scene.plumb("run p.toml -j 1").exits(0).says(expect![[r#"
        ---
           plan  3 steps  0 in the cache, 1 to run, 2 may run
          start  prep  source `raw` has other content (file:[DIGEST], was file:[DIGEST])
           done  prep  the same bytes as before, [TIME]
            hit  count  its inputs came out as before; saved [TIME]
            hit  report  its inputs came out as before; saved [TIME]

          step  time  why
          prep  ran, same bytes  [TIME]  source `raw` has other content (file:[DIGEST], was file:[DIGEST])
          count  1 hit  [TIME]  saved
          report  1 hit  [TIME]  saved

        ran 1 step in [TIME], 2 hits saved [TIME]
    "#]]);
    assert_eq!(scene.executed(), "prep");
}

#[test]
fn only_those_that_depend_on_changed_bytes_run_again() {
    let scene = chain_that_ran();
    scene.write("raw.txt", "x\ny\nz\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count prep");
    scene.write("raw.txt", "x\ny\n");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count prep report");
    assert_eq!(scene.result("report.text"), "2 lines\n");
}

#[test]
fn a_goal_that_is_present_needs_nothing_upstream() {
    let scene = chain_that_ran();
    scene.forget("prep.sorted");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
    scene.plumb("run p.toml prep").exits(0);
    assert_eq!(scene.executed(), "prep");
}

#[test]
fn a_damaged_blob_is_found_on_reading_and_made_again() {
    let scene = chain_that_ran();
    scene.damage("prep.sorted");
    scene.edit("wc -l <", "wc -c <");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count prep report");
    assert_eq!(scene.result("report.text"), "6 lines\n");
}

#[test]
fn selecting_a_step_runs_only_what_it_needs() {
    let scene = chain();
    scene.plumb("run p.toml count").exits(0);
    assert_eq!(scene.executed(), "count prep");
}

#[test]
fn a_salt_disowns_what_was_made_without_it() {
    let scene = chain_that_ran();
    scene.edit("outputs = { number", "salt = \"2\"\noutputs = { number");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_step_asked_for_afresh_runs_again_and_its_new_result_is_used() {
    let scene = chain_that_ran();
    scene.edit("wc -l < {in:lines} | tr -d ' '", "wc -l < {in:lines} | tr -d ' '; date +%N");
    scene.edit("echo $(cat {in:number})", "cat {in:number}; echo $(head -n 1 {in:number})");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "count report");
    let before = scene.result("count.number");
    scene.plumb("run p.toml --fresh count").exits(0);
    assert_eq!(scene.executed(), "count report");
    assert_ne!(scene.result("count.number"), before);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "");
}

#[test]
fn a_hit_that_only_its_inputs_led_to_is_found_by_its_recipe_from_then_on() {
    let scene = chain_that_ran();
    let recipes = || files(&scene.path("cache/v1/recipes"));
    let first = recipes();
    // Another recipe of `prep` with the same bytes, made by a run that asks for nothing else.
    scene.edit("sort {in:raw} >", "sort -s {in:raw} >");
    scene.plumb("run p.toml prep").exits(0);
    assert_eq!(scene.executed(), "prep");
    let with_prep = recipes();
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "the plan finds the rest by what `prep` made");
    assert_eq!(recipes().len(), with_prep.len() + 2, "`count` and `report` are listed under their new recipes");
    with_prep.iter().filter(|path| !first.contains(path)).for_each(|path| fs::remove_file(path).unwrap());
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.executed(), "", "the goal is found at once, and nothing that came before it is asked for");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
