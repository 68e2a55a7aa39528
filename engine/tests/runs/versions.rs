//! A stage whose behaviour version was raised.

use expect_test::expect;
use plumb_engine::graph::Graph;
use plumb_engine::io::Io;
use plumb_engine::pipeline::{Selection, parse_text};
use plumb_engine::plan::State;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Registry, Stage, StageError};

use crate::house::House;
use crate::worker::{Params, Upper};

const PIPELINE: &str = "
schema = 1
[source.raw]
path = \"raw.txt\"
[stage.shout]
uses = \"test.upper\"
inputs.text = \"source.raw\"
";

/// `test.upper` after somebody changed what it does.
struct Changed;

impl Declare for Changed {
    const KIND: &'static str = Upper::KIND;
    const VERSION: u32 = Upper::VERSION + 1;
    const ABOUT: &'static str = Upper::ABOUT;
    const DETERMINISM: Determinism = Upper::DETERMINISM;
    const INPUTS: &'static [InputSpec] = Upper::INPUTS;
    const OUTPUTS: &'static [OutputSpec] = Upper::OUTPUTS;
    type Params = Params;
}

impl Stage for Changed {
    fn run(_params: Params, _io: &Io) -> Result<(), StageError> {
        Err(StageError::new("this test only plans"))
    }
}

fn graph(house: &House, registry: &Registry) -> Graph {
    parse_text(&house.path("demo.toml"), PIPELINE, registry, &Selection::default()).unwrap()
}

#[test]
fn a_raised_behaviour_version_runs_the_stage_again_and_says_so() {
    let house = House::new();
    house.write("raw.txt", "text\n");
    let before = graph(&house, &Registry::default().with::<Upper>());
    assert!(house.run_graph(&before).summary.failed.is_empty());
    assert!(house.plan(&before).is_done(), "the same version is a hit");
    let after = graph(&house, &Registry::default().with::<Changed>());
    let plan = house.plan(&after);
    let State::Run { why } = &plan.steps[0].state else { panic!("{:?}", plan.steps[0]) };
    expect!["the stage's behaviour version is 2, was 1"].assert_eq(&plumb_engine::explain::sentence(&why[0]));
}
