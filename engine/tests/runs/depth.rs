//! Depth: a chain of ten thousand stages is planned, run and run again correctly. The test's threads have small stacks,
//! so that a walk that calls itself once a stage would not live. What a stage does is done in this process: here plumb's
//! own work is tested, not ten thousand shells.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use plumb_engine::execute::executor::{Ending, Executor, How, Launch};
use plumb_engine::execute::stop::Stop;
use plumb_engine::explain;
use plumb_engine::graph::StepId;
use plumb_engine::protocol::StepEvent;

use crate::house::House;

const DEPTH: usize = 10_000;
const AGAIN: usize = 2_000;

/// Does what `count TEXT OUT` and `count IN OUT` say: the first writes `TEXT 0`, the others one more than they read.
struct Counts;

impl Executor for Counts {
    fn run(&self, launch: &Launch, _: &Stop, _: &mut dyn FnMut(StepEvent)) -> Ending {
        let [from, to] = &launch.arguments[..] else { unreachable!("the chain gives both") };
        let said = match fs::read_to_string(from) {
            Ok(before) => {
                let (name, count) = before.split_once(' ').unwrap();
                format!("{name} {}", count.parse::<usize>().unwrap() + 1)
            }
            Err(_) => format!("{} 0", from.display()),
        };
        fs::write(to, said).unwrap();
        Ending::without_a_process(How::Exited(0), Duration::ZERO)
    }
}

fn chain(name: &str) -> String {
    let mut text = String::from("schema = 1\n");
    for index in 0..DEPTH {
        write!(text, "[stage.s{index}]\nuses = \"command\"\noutputs.out = \"out\"\n").unwrap();
        match index.checked_sub(1) {
            None => writeln!(text, "with.argv = [\"count\", \"{name}\", \"{{out:out}}\"]").unwrap(),
            Some(before) => writeln!(
                text,
                "inputs.before = \"s{before}.out\"\nwith.argv = [\"count\", \"{{in:before}}\", \"{{out:out}}\"]"
            )
            .unwrap(),
        }
    }
    text
}

fn house() -> House {
    let mut house = House::new();
    house.options.executor = Arc::new(Counts);
    house.options.limits.cpus = Some(1);
    house
}

#[test]
fn a_chain_of_ten_thousand_stages_runs_once_and_again_from_its_far_end() {
    let house = house();
    let (first, second) = (chain("first"), chain("second"));
    assert_eq!(house.run(&first).summary.ran.len(), DEPTH);
    assert_eq!(house.output(&first, &format!("s{}", DEPTH - 1), "out"), format!("first {}", DEPTH - 1));
    assert!(house.run(&first).summary.ran.is_empty(), "a run that has nothing to do");

    let mut everything = house.graph(&first, &[]);
    everything.goals = (0..DEPTH).map(StepId).collect();
    let all = house.run_graph(&everything).summary;
    assert_eq!((all.ran.len(), all.hits()), (0, DEPTH), "all on one realisation of each stage");

    let graph = house.graph(&second, &[]);
    let plan = house.plan(&graph);
    assert_eq!((plan.counts().runs, plan.counts().may_run), (1, DEPTH - 1), "the far end runs, the rest may");
    let why = explain::why(&graph, &plan, &house.store, StepId(DEPTH - 1)).unwrap();
    assert_eq!(why.len(), DEPTH, "followed up to the far end");

    // As deep again as it takes to show that nothing is silently stale; ten thousand once are seconds enough.
    let part = house.graph(&second, &[&format!("s{AGAIN}")]);
    let ran = house.run_graph(&part).summary.ran.len();
    assert_eq!(ran, AGAIN + 1);
    assert_eq!(house.output(&second, &format!("s{AGAIN}"), "out"), format!("second {AGAIN}"));
}

#[test]
fn a_circle_of_ten_thousand_stages_is_told() {
    let text = chain("first").replacen("outputs.out", "inputs.before = \"s9999.out\"\noutputs.out", 1);
    let house = house();
    let registry = crate::worker::registry();
    let told = plumb_engine::pipeline::parse_text(
        &house.path("demo.toml"),
        &text,
        &registry,
        &plumb_engine::pipeline::Selection::default(),
    );
    let told = told.err().expect("a circle is an error").diagnostics;
    assert!(told[0].message.contains("s0 -> s9999 -> s9998"), "{}", &told[0].message[..100]);
}
