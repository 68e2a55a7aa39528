//! How long a pipeline file takes to become a graph: a chain and a layered DAG of 1,000 and 10,000 stages.
//! `cargo bench -p plumb-engine --bench load`. Prints the median CPU time of nine loads, and of TOML's parser alone; runs and hashes nothing.

use std::fmt::Write as _;
use std::path::Path;

use plumb_engine::pipeline::{Selection, parse_text};
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const LOADS: usize = 9;
const WIDTH: usize = 100;

/// Parameters of the one kind.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// A number.
    number: u32,
    /// A rate.
    #[serde(default)]
    rate: f64,
    /// A name.
    #[serde(default)]
    name: String,
}

struct Node;

impl Declare for Node {
    const KIND: &'static str = "bench.node";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "does nothing";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] =
        &[InputSpec::optional("a", "first"), InputSpec::optional("b", "second"), InputSpec::optional("c", "third")];
    const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("out", "out.txt", "the output")];
    type Params = Params;
}

fn stage(text: &mut String, index: usize, inputs: &[(&str, usize)]) {
    write!(text, "[stage.s{index}]\nuses = \"bench.node\"\n").expect("writing to a String cannot fail");
    for (name, producer) in inputs {
        writeln!(text, "inputs.{name} = \"s{producer}.out\"").expect("writing to a String cannot fail");
    }
    writeln!(text, "with = {{ number = {index}, rate = 0.5 }}\n").expect("writing to a String cannot fail");
}

/// Each stage needs the one before it.
fn chain(stages: usize) -> String {
    let mut text = "schema = 1\n".to_string();
    for index in 0..stages {
        let before = index.checked_sub(1).map(|before| ("a", before));
        stage(&mut text, index, before.as_slice());
    }
    text
}

/// Layers of a hundred; each stage needs three of the layer above.
fn layered(stages: usize) -> String {
    let mut text = "schema = 1\n".to_string();
    for index in 0..stages {
        let above = |shift: usize| (index / WIDTH - 1) * WIDTH + (index + shift) % WIDTH;
        if index < WIDTH {
            stage(&mut text, index, &[]);
        } else {
            stage(&mut text, index, &[("a", above(0)), ("b", above(7)), ("c", above(31))]);
        }
    }
    text
}

/// The median in milliseconds of CPU time: what else the machine does must not show.
fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..LOADS)
        .map(|_| {
            let start = cpu_seconds();
            work();
            (cpu_seconds() - start) * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[LOADS / 2]
}

fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn load(text: &str, registry: &Registry) -> usize {
    let graph = parse_text(Path::new("bench.toml"), text, registry, &Selection::default());
    graph.expect("the generated pipeline is right").steps.len()
}

#[expect(clippy::print_stdout, reason = "a benchmark's only product is what it prints")]
fn main() {
    let registry = Registry::default().declare::<Node>();
    for stages in [1_000, 10_000] {
        for (shape, text) in [("chain", chain(stages)), ("layered", layered(stages))] {
            let toml = median(|| drop(toml::de::DeTable::parse(&text)));
            let whole = median(|| assert_eq!(load(&text, &registry), stages));
            println!("{shape:8} {stages:6} steps  {whole:8.1} ms, of which TOML {toml:8.1} ms");
        }
    }
}
