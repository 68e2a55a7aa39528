//! The lineage index is only a memory: a plan that has it says what a plan without it says, whatever was edited, made
//! afresh or disowned before.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plumb_cache::Digest;
use plumb_engine::execute::Stop;
use plumb_engine::execute::executor::{Ending, Executor, How, Launch};
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::plan::{Plan, State};
use plumb_engine::protocol::StepEvent;
use proptest::prelude::*;

use crate::house::House;

/// More than the walk reads before its index is kept.
const STAGES: usize = 160;

/// `word out input…`: writes a digest of the word and the inputs; of the word `draw`, another one each time.
#[derive(Default)]
struct Digests {
    drawn: AtomicUsize,
}

impl Executor for Digests {
    fn run(&self, launch: &Launch, _: &Stop, _: &mut dyn FnMut(StepEvent)) -> Ending {
        let [word, out, inputs @ ..] = &launch.arguments[..] else { unreachable!("the pipeline gives both") };
        let mut text = word.to_string_lossy().into_owned();
        if text.starts_with("draw") {
            write!(text, "{}", self.drawn.fetch_add(1, Ordering::Relaxed)).unwrap();
        }
        inputs.iter().for_each(|input| text += &fs::read_to_string(input).unwrap());
        fs::write(out, Digest::of(text.as_bytes()).to_string()).unwrap();
        Ending::without_a_process(How::Exited(0), Duration::ZERO)
    }
}

/// Stages with up to two earlier ones each as inputs, and a word.
#[derive(Debug, Clone)]
struct Pipeline {
    inputs: Vec<Vec<usize>>,
    words: Vec<String>,
}

impl Pipeline {
    fn text(&self) -> String {
        let mut text = String::from("schema = 1\n[pipeline]\nname = \"demo\"\n");
        for (index, (inputs, word)) in self.inputs.iter().zip(&self.words).enumerate() {
            write!(text, "[stage.s{index}]\nuses = \"command\"\noutputs.x = \"x\"\n").unwrap();
            inputs.iter().for_each(|input| writeln!(text, "inputs.i{input} = \"s{input}.x\"").unwrap());
            let inputs: String = inputs.iter().map(|input| format!(", \"{{in:i{input}}}\"")).collect();
            writeln!(text, "with.argv = [\"digest\", \"{word}\", \"{{out:x}}\"{inputs}]").unwrap();
        }
        text
    }
}

fn pipelines() -> impl Strategy<Value = Pipeline> {
    let stage = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..3, 0_u8..10);
    prop::collection::vec(stage, STAGES).prop_map(|stages| {
        let (mut inputs, mut words) = (Vec::new(), Vec::new());
        for (index, (first, second, how_many, draws)) in stages.into_iter().enumerate() {
            // Near ones, so that lineages are long.
            let near = |from: prop::sample::Index| index - 1 - from.index(index.min(6));
            let all = if index == 0 { Vec::new() } else { vec![near(first), near(second)] };
            let chosen: BTreeSet<usize> = all.into_iter().take(usize::from(how_many)).collect();
            inputs.push(chosen.into_iter().collect());
            words.push(format!("{}{index}", if draws == 0 { "draw" } else { "word" }));
        }
        Pipeline { inputs, words }
    })
}

#[derive(Debug, Clone)]
enum Edit {
    /// Another word.
    Word(prop::sample::Index),
    /// The first word again.
    Back(prop::sample::Index),
    /// Once more, although it is there.
    Fresh(prop::sample::Index),
    Disown(prop::sample::Index),
}

fn edits() -> impl Strategy<Value = Vec<(Edit, bool)>> {
    let index = any::<prop::sample::Index>;
    let edit = prop_oneof![
        index().prop_map(Edit::Word),
        index().prop_map(Edit::Back),
        index().prop_map(Edit::Fresh),
        index().prop_map(Edit::Disown),
    ];
    prop::collection::vec((edit, any::<bool>()), 1..5)
}

/// What a plan says of each step, with the very result of a hit.
fn told(graph: &Graph, plan: &Plan) -> Vec<String> {
    let state = |id: StepId| match &plan.step(id).state {
        State::Hit { record } => format!("hit {}", record.result_digest()),
        State::Run { why } => format!("run {why:?}"),
        State::MayRun { waits_on } => format!("may run {waits_on:?}"),
        State::NotNeeded => "not needed".into(),
    };
    (0..graph.steps.len()).map(|index| format!("s{index} {}", state(StepId(index)))).collect()
}

fn index_file(house: &House) -> Option<PathBuf> {
    let listed = fs::read_dir(house.store.root().join("v1/index")).ok()?;
    let is = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lineage-"));
    listed.flatten().map(|entry| entry.path()).find(is)
}

/// Whether an index was there; plans with it and without it, which agree.
fn agree(house: &House, graph: &Graph) -> Result<bool, TestCaseError> {
    let Some(file) = index_file(house) else { return Ok(false) };
    let kept = fs::read(&file).unwrap();
    let with = told(graph, &house.plan(graph));
    fs::remove_file(&file).unwrap();
    let without = told(graph, &house.plan(graph));
    fs::write(&file, kept).unwrap();
    prop_assert_eq!(with, without);
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_with_the_lineage_index_is_the_plan_without_it(first in pipelines(), edits in edits()) {
        let mut house = House::new();
        house.options.executor = Arc::new(Digests::default());
        let mut now = first.clone();
        house.run(&now.text());
        house.planned(&now.text());
        let mut compared = 0;
        for (edit, runs) in edits {
            house.options.plan.fresh.clear();
            match edit {
                Edit::Word(at) => now.words[at.index(STAGES)] += "x",
                Edit::Back(at) => now.words[at.index(STAGES)].clone_from(&first.words[at.index(STAGES)]),
                Edit::Fresh(at) => drop(house.options.plan.fresh.insert(StepId(at.index(STAGES)))),
                Edit::Disown(at) => {
                    let plan = house.plan(&house.graph(&now.text(), &[]));
                    if let Some(record) = plan.record_of(StepId(at.index(STAGES))) {
                        house.store.disown(&record.action, "doubtful").unwrap();
                    }
                }
            }
            let graph = house.graph(&now.text(), &[]);
            compared += usize::from(agree(&house, &graph)?);
            if runs {
                house.run_graph(&graph);
                compared += usize::from(agree(&house, &graph)?);
            }
        }
        prop_assert!(compared > 0, "no index was ever kept");
    }
}
