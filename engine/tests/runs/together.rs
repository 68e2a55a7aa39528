//! Several runners, a killed one, and several results of one recipe.

use std::fs;
use std::process::Command;

use expect_test::expect;
use plumb_cache::{Claimed, Store, StoreOptions};
use plumb_engine::event::Event;
use plumb_engine::execute::run;
use plumb_engine::graph::StepId;

use crate::house::House;

#[test]
fn two_runs_at_once_execute_each_step_once() {
    let house = House::new();
    let stages: String = (0..6)
        .map(|index| {
            format!(
                "[stage.s{index}]\nuses = \"command\"\noutputs.x = \"x\"\n\
                 with.argv = [\"sh\", \"-c\", \"echo {index} >> ROOT/ran.txt; echo {index} > {{out:x}}\"]\n"
            )
        })
        .collect();
    let text = format!("schema = 1\n[pipeline]\nname = \"demo\"\n{stages}");
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| house.run(&text).summary.records.len())).collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), 6);
        }
    });
    let mut lines: Vec<String> = house.read("ran.txt").lines().map(String::from).collect();
    lines.sort();
    assert_eq!(lines, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_runner_waits_for_whoever_holds_the_action_and_uses_its_result() {
    let house = House::new();
    let text = "schema = 1\n[pipeline]\nname = \"demo\"\n[stage.a]\nuses = \"command\"\noutputs.x = \"x\"\n\
                with.argv = [\"touch\", \"{out:x}\"]\n";
    let graph = house.graph(text, &[]);
    let action = house.plan(&graph).step(StepId(0)).action.unwrap();
    let other = Store::open(house.store.root(), StoreOptions::default()).unwrap();
    let Claimed::Mine(claim) = other.claim(&action, "another").unwrap() else { panic!("nobody else is here") };

    let mut claim = Some(claim);
    let mut waited = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let summary = runtime.block_on(run(&graph, &house.store, &house.options, |event| {
        if let Event::Waiting { holder, .. } = event {
            assert!(holder.contains("another"), "{holder}");
            waited += 1;
            drop(claim.take());
        }
    }));
    assert_eq!((waited, summary.unwrap().ran.len()), (1, 1));
}

/// `draw` gives another result whenever it runs; `left` and `right` stand on it.
const DRAW: &str = r#"
schema = 1
[pipeline]
name = "demo"
[stage.draw]
uses = "command"
outputs.x = "x"
with.argv = ["cp", "/proc/sys/kernel/random/uuid", "{out:x}"]
[stage.left]
uses = "command"
inputs.x = "draw.x"
outputs.y = "y"
with.argv = ["cp", "{in:x}", "{out:y}"]
[stage.right]
uses = "command"
inputs.x = "draw.x"
outputs.y = "y"
with.argv = ["sh", "-c", "cat {in:x} > {out:y}"]
"#;

#[test]
fn results_of_two_draws_are_never_mixed() {
    let house = House::new();
    house.run_graph(&house.graph(DRAW, &["left"]));
    // The draw is lost, so `right` needs another one: `left` then stands on a draw that this run does not use.
    let graph = house.graph(DRAW, &[]);
    let drawn = house.plan(&graph).artifact_of(StepId(0), "x").unwrap();
    std::fs::remove_file(house.store.path_of(&drawn).unwrap()).unwrap();
    // `left` has the same bytes as the draw, so their blob is one: give `left` its own back by running all.
    let ran = house.run(DRAW);
    assert_eq!(ran.summary.records.len(), 3, "{}", ran.told());
    assert_eq!(house.output(DRAW, "left", "y"), house.output(DRAW, "right", "y"));
}

#[test]
fn a_hit_that_stands_on_another_draw_than_the_run_is_run_again() {
    let house = House::new();
    let text = DRAW.replace(
        "\"cp\", \"{in:x}\"",
        "\"sh\", \"-c\", \"echo left; cat {in:x} > {out:y}; echo left >> {out:y}\", \"{in:x}\"",
    );
    house.run_graph(&house.graph(&text, &["left"]));
    let graph = house.graph(&text, &[]);
    let drawn = house.plan(&graph).artifact_of(StepId(0), "x").unwrap();
    std::fs::remove_file(house.store.path_of(&drawn).unwrap()).unwrap();
    let ran = house.run(&text);
    expect![[r#"
        planned 3: 1 hit, 1 run, 1 may run
        hit left
        start draw: output `x` is missing from the cache, or damaged there
        done draw
        start right: no earlier result of this stage is known
        done right
        start left: its result was made from another result of `draw` than this run uses
        done left
        ran 3, 0 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&ran.told());
    let (left, right) = (house.output(&text, "left", "y"), house.output(&text, "right", "y"));
    assert_eq!(left.lines().next(), right.lines().next());
}

#[test]
fn what_a_step_has_started_dies_with_a_runner_that_is_killed() {
    let house = House::new();
    let alive = house.path("alive");
    assert!(Command::new("mkfifo").arg(&alive).status().unwrap().success());
    let text = format!(
        "schema = 1\n[stage.launch]\nuses = \"command\"\noutputs.x = \"x\"\n\
         with.argv = [\"sh\", \"-c\", \"(sleep 60; echo survived) > {} & wait\"]\n",
        alive.display()
    );
    house.write("demo.toml", &text);
    let worker = house.options.own_program.clone().unwrap();
    let mut runner =
        Command::new(worker).arg("run").arg(house.path("demo.toml")).arg(house.path("cache")).spawn().unwrap();
    // Opening waits for the step's own child to open it; reading ends when the last of them is dead.
    let mut pipe = fs::File::open(&alive).unwrap();
    runner.kill().unwrap();
    runner.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut pipe, &mut said).unwrap();
    assert_eq!(said, "");
}
