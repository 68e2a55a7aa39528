//! What a failure, a stop and a lie leave behind.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use plumb_engine::error::ExitClass;
use plumb_engine::event::Event;
use plumb_engine::execute::executor::{Ending, Executor, Launch};
use plumb_engine::execute::local::Local;
use plumb_engine::execute::stop::Stop;
use plumb_engine::protocol::StepEvent;

use crate::house::House;

fn step(name: &str, more: &str) -> String {
    format!("[stage.{name}]\nuses = \"command\"\noutputs.out = \"{name}.txt\"\n{more}\n")
}

/// A step that copies what another made.
fn copy(name: &str, of: &str) -> String {
    step(name, &format!("inputs.x = \"{of}.out\"\nwith.argv = [\"cp\", \"{{in:x}}\", \"{{out:out}}\"]"))
}

fn pipeline(stages: &[String]) -> String {
    format!("schema = 1\n[pipeline]\nname = \"demo\"\n{}", stages.concat())
}

#[test]
fn a_failed_step_publishes_nothing_and_is_tried_again_next_time() {
    let house = House::new();
    let text = pipeline(&[
        step("bad", "with.argv = [\"sh\", \"-c\", \"echo half > {out:out}; echo oops >&2; exit 3\"]"),
        copy("after", "bad"),
    ]);
    let ran = house.run(&text);
    expect![[r#"
        planned 2: 0 hit, 1 run, 1 may run
        start bad: no earlier result of this stage is known
        failed bad: the program exited with status 3
        skipped after (bad)
        ran 0, 0 hits, 1 failed, 1 skipped"#]]
    .assert_eq(&ran.told());
    assert_eq!(ran.summary.class(), ExitClass::StepFailed);
    let log = ran.events.iter().find_map(|event| match event {
        Event::Failed { log, .. } => log.clone(),
        _ => None,
    });
    assert_eq!(std::fs::read_to_string(log.unwrap()).unwrap(), "oops\n");
    assert_eq!(house.run(&text).started()["bad"], 1);
}

#[test]
fn keep_going_runs_the_independent_branch_and_without_it_nothing_new_starts() {
    let text = pipeline(&[
        // The longest way starts first: without these it would be `good`.
        step("bad", "with.argv = [\"false\"]"),
        copy("worse", "bad"),
        copy("worst", "worse"),
        step("good", "with.argv = [\"touch\", \"{out:out}\"]"),
        copy("later", "good"),
    ]);
    let mut house = House::new();
    house.options.limits.cpus = Some(1);
    let ran = house.run(&text);
    assert_eq!(
        (ran.summary.ran.len(), ran.summary.failed.len(), ran.summary.skipped.len()),
        (0, 1, 4),
        "{}",
        ran.told()
    );
    house.options.keep_going = true;
    let ran = house.run(&text);
    assert_eq!(
        (ran.summary.ran.len(), ran.summary.failed.len(), ran.summary.skipped.len()),
        (2, 1, 2),
        "{}",
        ran.told()
    );
}

#[test]
fn an_output_that_was_not_written_is_named() {
    let house = House::new();
    let ran = house.run(&pipeline(&[step("lazy", "with.argv = [\"true\"]")]));
    expect!["the step ended well but did not write its output `out` (`lazy.txt`)"].assert_eq(&ran.error("lazy"));
}

#[test]
fn a_source_that_changes_while_the_step_runs_spoils_the_result() {
    let house = House::new();
    house.write("raw.txt", "before\n");
    let text = pipeline(&[
        "[source.raw]\npath = \"raw.txt\"\n".into(),
        step(
            "copy",
            "inputs.raw = \"source.raw\"\nwith.argv = [\"sh\", \"-c\", \"cp {in:raw} {out:out}; echo after > ROOT/raw.txt\"]",
        ),
    ]);
    let ran = house.run(&text);
    expect!["`raw` changed while the step ran, so its result is not kept"].assert_eq(&ran.error("copy"));
}

#[test]
fn a_retry_keeps_the_state_folder() {
    let house = House::new();
    let script = "test -e {state}/mark && touch {out:out} || { touch {state}/mark; exit 1; }";
    let text = pipeline(&[step(
        "flaky",
        &format!("with.argv = [\"sh\", \"-c\", \"{script}\"]\nrun = {{ retry = {{ max = 2, on = [\"failed\"] }} }}"),
    )]);
    expect![[r#"
        planned 1: 0 hit, 1 run, 0 may run
        start flaky: no earlier result of this stage is known
        retry flaky: the program exited with status 1
        start flaky (attempt 2): no earlier result of this stage is known
        done flaky
        ran 1, 0 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&house.run(&text).told());
}

#[test]
fn a_step_past_its_time_is_ended() {
    let house = House::new();
    let text = pipeline(&[step("slow", "with.argv = [\"sleep\", \"600\"]\nrun = { time = \"1s\" }")]);
    expect!["the step ran past its time of 1 s"].assert_eq(&house.run(&text).error("slow"));
}

/// Asks the run to stop as soon as a program has started.
struct StopsIt(Local);

impl Executor for StopsIt {
    fn run(&self, launch: &Launch, stop: &Stop, told: &mut dyn FnMut(StepEvent)) -> Ending {
        stop.ask();
        self.0.run(launch, stop, told)
    }
}

#[test]
fn a_stopped_run_ends_its_children_and_skips_the_rest() {
    let mut house = House::new();
    house.options.executor = Arc::new(StopsIt(Local::default()));
    let text = pipeline(&[step("slow", "with.argv = [\"sleep\", \"600\"]"), copy("after", "slow")]);
    let ran = house.run(&text);
    expect![[r#"
        planned 2: 0 hit, 1 run, 1 may run
        start slow: no earlier result of this stage is known
        skipped slow (stopped)
        skipped after (stopped)
        ran 0, 0 hits, 0 failed, 2 skipped"#]]
    .assert_eq(&ran.told());
    assert_eq!(ran.summary.class(), ExitClass::Stopped);
    assert!(ran.summary.took < Duration::from_secs(60));
}

#[test]
fn a_gather_that_marks_what_is_missing_runs_without_it() {
    let mut house = House::new();
    house.options.keep_going = true;
    let text = r#"
schema = 1
[pipeline]
name = "demo"
[axes]
seed = { replicate = 3 }
[stage.score]
uses = "command"
outputs.items = "items.txt"
with.argv = ["sh", "-c", "test $SEED != 1 && echo $SEED > {out:items}"]
with.env = { SEED = { axis = "seed" } }
[stage.table]
uses = "command"
inputs.items = { all = "score.items", over = ["seed"], missing = "mark" }
outputs.table = "table.json"
with.argv = ["cp", "{in:items}", "{out:table}"]
"#;
    let ran = house.run(text);
    assert_eq!((ran.summary.ran.len(), ran.summary.failed.len()), (3, 1), "{}", ran.told());
    let table = ran.summary.records.iter().find(|(_, record)| record.stage == "table").unwrap();
    let bytes = house.store.read(&table.1.outputs["table"].artifact).unwrap();
    let branches: Vec<plumb_engine::io::Branch> = serde_json::from_slice(&bytes).unwrap();
    let found: Vec<(&str, bool)> =
        branches.iter().map(|branch| (branch.labels["seed"].as_str(), branch.path.is_some())).collect();
    assert_eq!(found, [("0", true), ("1", false), ("2", true)]);
}
