//! What re-runs and what does not.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use plumb_engine::execute::Stop;
use plumb_engine::execute::executor::{Ending, Executor, How, Launch};
use plumb_engine::explain::{Explanation, why};
use plumb_engine::graph::StepId;
use plumb_engine::protocol::StepEvent;

use crate::house::House;

/// `clean` drops the comment of the source, `count` counts, `report` reports.
const CHAIN: &str = r#"
schema = 1
[pipeline]
name = "demo"
goal = ["report"]
[source.raw]
path = "raw.txt"
[stage.clean]
uses = "command"
inputs.raw = "source.raw"
outputs.text = "clean.txt"
with.argv = ["sh", "-c", "grep -v '^#' {in:raw} > {out:text}"]
[stage.count]
uses = "command"
inputs.text = "clean.text"
outputs.count = "count.txt"
with.argv = ["sh", "-c", "wc -l < {in:text} | tr -d ' ' > {out:count}"]
[stage.report]
uses = "command"
inputs.count = "count.count"
outputs.table = "table.md"
with.argv = ["sh", "-c", "echo \"$TITLE: $(cat {in:count})\" > {out:table}"]
with.env = { TITLE = "lines" }
"#;

fn ran_once() -> House {
    let house = House::new();
    house.write("raw.txt", "# one comment\na\nb\n");
    house.run(CHAIN);
    house
}

#[test]
fn a_first_run_runs_everything_and_a_second_runs_nothing() {
    let house = House::new();
    house.write("raw.txt", "a\nb\n");
    expect![[r#"
        planned 3: 0 hit, 1 run, 2 may run
        start clean: no earlier result of this stage is known
        done clean
        start count: no earlier result of this stage is known
        done count
        start report: no earlier result of this stage is known
        done report
        ran 3, 0 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&house.run(CHAIN).told());
    assert_eq!(house.output(CHAIN, "report", "table"), "lines: 2\n");
    expect![[r#"
        planned 3: 3 hit, 0 run, 0 may run
        hit clean
        hit count
        hit report
        ran 0, 3 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&house.run(CHAIN).told());
}

#[test]
fn a_source_that_gives_the_same_bytes_stops_the_wave_there() {
    let house = ran_once();
    house.write("raw.txt", "# another comment\na\nb\n");
    expect![[r#"
        clean: run (source `raw` has other content (file:a692af0ce8bc, was file:2e5daf28a08f))
        count: may run (waits on clean)
        report: may run (waits on count)"#]]
    .assert_eq(&house.planned(CHAIN));
    expect![[r#"
        planned 3: 0 hit, 1 run, 2 may run
        start clean: source `raw` has other content (file:a692af0ce8bc, was file:2e5daf28a08f)
        done clean (unchanged)
        hit count (early cutoff)
        hit report (early cutoff)
        ran 1, 2 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&house.run(CHAIN).told());
    expect![[r#"
        clean: hit
        count: hit
        report: hit"#]]
    .assert_eq(&house.planned(CHAIN));
}

#[test]
fn a_changed_parameter_runs_its_stage_and_not_those_before_it() {
    let house = ran_once();
    let changed = CHAIN.replace("TITLE = \"lines\"", "TITLE = \"rows\"");
    expect![[r#"
        planned 3: 2 hit, 1 run, 0 may run
        hit clean
        hit count
        start report: `env.TITLE` is "rows", was "lines"
        done report
        ran 1, 2 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&house.run(&changed).told());
    assert!(house.run(CHAIN).summary.ran.is_empty(), "going back finds the old result");
}

#[test]
fn renaming_the_pipeline_its_stages_and_its_comments_runs_nothing() {
    let house = ran_once();
    let renamed = CHAIN
        .replace("name = \"demo\"", "name = \"other\" # renamed")
        .replace("stage.clean", "stage.tidy")
        .replace("clean.text", "tidy.text");
    assert!(house.run(&renamed).summary.ran.is_empty());
}

#[test]
fn why_follows_a_changed_input_to_its_source() {
    let house = ran_once();
    house.write("raw.txt", "a\nb\nc\n");
    house.run(CHAIN);
    let graph = house.graph(CHAIN, &[]);
    let chain = why(&graph, &house.plan(&graph), &house.store, StepId(2)).unwrap();
    let line = |one: &Explanation| {
        let causes: Vec<&str> = one.causes.iter().map(|told| told.sentence.split(" (file").next().unwrap()).collect();
        format!("{} {} {:?}: {}", one.depth, one.step, one.verdict, causes.join("; "))
    };
    let told: Vec<String> = chain.iter().map(line).collect();
    expect![[r#"
        0 report Hit: input `count` has other content (from `count`)
        1 count Hit: input `text` has other content (from `clean`)
        2 clean Hit: source `raw` has other content"#]]
    .assert_eq(&told.join("\n"));
    assert_eq!(chain[0].causes[0].because, Some(1));
}

#[test]
fn a_goal_that_is_present_needs_nothing_upstream() {
    let house = ran_once();
    let graph = house.graph(CHAIN, &[]);
    let plan = house.plan(&graph);
    let clean = plan.artifact_of(StepId(0), "text").unwrap();
    let blob = house.store.path_of(&clean).unwrap();
    std::fs::remove_file(blob).unwrap();
    assert!(house.run(CHAIN).summary.ran.is_empty());

    let changed = CHAIN.replace("wc -l", "wc -c");
    expect![[r#"
        clean: run (output `text` is missing from the cache, or damaged there)
        count: may run (waits on clean)
        report: may run (waits on count)"#]]
    .assert_eq(&house.planned(&changed));
    assert_eq!(house.run(&changed).summary.ran.len(), 3);
}

#[test]
fn fresh_runs_a_step_whose_result_is_there() {
    let mut house = ran_once();
    let graph = house.graph(CHAIN, &[]);
    house.options.plan.fresh.insert(StepId(1));
    expect![[r#"
        planned 3: 3 hit, 0 run, 0 may run
        hit clean
        hit count
        hit report
        ran 0, 3 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&house.run_graph(&graph).told());
}

/// Writes `x` to the file that the last argument names, and starts nothing.
struct Writes;

impl Executor for Writes {
    fn run(&self, launch: &Launch, _: &Stop, _: &mut dyn FnMut(StepEvent)) -> Ending {
        let how = match launch.arguments.last() {
            Some(out) => std::fs::write(out, "x").map_or(How::Exited(1), |()| How::Exited(0)),
            None => How::Exited(1),
        };
        Ending::without_a_process(how, Duration::ZERO)
    }
}

#[test]
fn a_long_chain_is_skipped_and_cut_off_without_running_out_of_stack() {
    let mut house = House::new();
    house.options.executor = Arc::new(Writes);
    let steps = 1000;
    let chain = |first: &str| {
        let mut text = format!(
            "schema = 1\n[pipeline]\nname = \"demo\"\ngoal = [\"s{steps}\"]\n\
             [stage.s0]\nuses = \"command\"\noutputs.x = \"x\"\nwith.argv = {first}\n"
        );
        for index in 1..=steps {
            text += &format!(
                "[stage.s{index}]\nuses = \"command\"\noutputs.x = \"x\"\ninputs.x = \"s{}.x\"\n\
                 with.argv = [\"w\", \"{index}\", \"{{out:x}}\"]\n",
                index - 1
            );
        }
        text
    };
    assert_eq!(house.run(&chain("[\"fails\"]")).summary.skipped.len(), steps);
    assert_eq!(house.run(&chain("[\"w\", \"{out:x}\"]")).summary.ran.len(), steps + 1);
    let ran = house.run(&chain("[\"w\", \"other\", \"{out:x}\"]"));
    assert_eq!((ran.summary.ran.len(), ran.summary.hits()), (1, steps));
}
