//! What planning and running cost per step: `cargo bench -p plumb-engine --bench plan [STEPS [PLANS]]`. A chain and a
//! layered graph of trivial `command` steps, and one stage at many branches; the first run goes through an executor that writes the outputs itself,
//! so that what remains is plumb's own work; then no-op plans of everything, and a plan and an estimate where everything
//! is to run again; then real processes.

#![allow(clippy::print_stdout, reason = "a bench reports to whoever started it")]
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plumb_cache::{Store, StoreOptions};
use plumb_engine::command::Command;
use plumb_engine::estimate::Forecast;
use plumb_engine::execute::executor::{Ending, Executor, How, Launch};
use plumb_engine::execute::{RunOptions, Stop, run};
use plumb_engine::graph::Graph;
use plumb_engine::pipeline::{Selection, parse_text};
use plumb_engine::plan::{PlanOptions, plan};
use plumb_engine::protocol::StepEvent;
use plumb_engine::stage::Registry;

/// Writes its second argument to the file that its third names.
struct Writes;

impl Executor for Writes {
    fn run(&self, launch: &Launch, _: &Stop, _: &mut dyn FnMut(StepEvent)) -> Ending {
        let [.., text, out] = &launch.arguments[..] else { unreachable!("the bench gives both") };
        std::fs::write(out, text.as_encoded_bytes()).unwrap();
        Ending::without_a_process(How::Exited(0), Duration::ZERO)
    }
}

fn stage(text: &mut String, index: usize, inputs: &[usize]) {
    write!(text, "[stage.s{index}]\nuses = \"command\"\noutputs.out = \"out\"\n").unwrap();
    for (number, input) in inputs.iter().enumerate() {
        writeln!(text, "inputs.i{number} = \"s{input}.out\"").unwrap();
    }
    writeln!(text, "with.argv = [\"sh\", \"-c\", \"printf %s $0 > $1\", \"{index}\", \"{{out:out}}\"]").unwrap();
}

fn chain(steps: usize) -> String {
    let mut text = String::from("schema = 1\n");
    for index in 0..steps {
        let before: Vec<usize> = index.checked_sub(1).into_iter().collect();
        stage(&mut text, index, &before);
    }
    text
}

/// Ten layers; each step reads two of the layer above. The last layer's steps are the goals.
fn layers(steps: usize) -> String {
    let width = steps / 10;
    let mut text = String::from("schema = 1\n");
    for index in 0..steps {
        let (layer, place) = (index / width, index % width);
        let inputs =
            if layer == 0 { Vec::new() } else { vec![index - width, (layer - 1) * width + (place + 1) % width] };
        stage(&mut text, index, &inputs);
    }
    text
}

fn graph(text: &str) -> Graph {
    let registry = Registry::default().insert(Arc::new(Command::default()));
    parse_text(Path::new("/bench.toml"), text, &registry, &Selection::default()).unwrap()
}

fn timed<T>(what: &str, steps: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    println!(
        "{what:<44} {:>9.1} ms {:>9.1} us/step",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e6 / steps as f64
    );
    result
}

fn measure(name: &str, text: &str, (steps, plans): (usize, usize), executor: Option<Arc<dyn Executor>>) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    let graph = timed(&format!("{name}: load"), steps, || graph(text));
    let mut options = RunOptions::default();
    options.executor = executor.unwrap_or(options.executor);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    timed(&format!("{name}: cold plan"), steps, || plan(&graph, &store, &PlanOptions::default()).unwrap());
    timed(&format!("{name}: first run"), steps, || runtime.block_on(run(&graph, &store, &options, |_| {})).unwrap());
    for _ in 0..plans {
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        timed(&format!("{name}: no-op plan"), steps, || plan(&graph, &store, &PlanOptions::default()).unwrap());
    }
    let again = runtime.block_on(run(&graph, &store, &options, |_| {}));
    assert!(again.unwrap().ran.is_empty());
    forecast(name, text, steps, &store);
}

/// Every step another one, with a history: why each runs, and what it will take.
fn forecast(name: &str, text: &str, steps: usize, store: &Store) {
    let graph = graph(&text.replace("printf %s", "printf  %s"));
    let plan = timed(&format!("{name}: plan of all to run"), steps, || plan(&graph, store, &PlanOptions::default()));
    let plan = plan.unwrap();
    let forecast = timed(&format!("{name}: estimate of all"), steps, || Forecast::of(&graph, &plan, store)).unwrap();
    let (known, all) = (forecast.total(forecast.steps.keys()).known, forecast.steps.keys().copied().collect());
    assert_eq!(known, steps);
    timed(&format!("{name}: makespan"), steps, || forecast.makespan(&graph, &plan, &all, 8)).unwrap();
}

/// One stage at so many values of an axis, and a table of them.
fn branches(steps: usize) -> String {
    let values: Vec<String> = (0..steps - 1).map(|value| value.to_string()).collect();
    format!(
        "schema = 1\n[axes]\na = [{}]\n[stage.s]\nuses = \"command\"\noutputs.out = \"out\"\n\
         with.argv = [\"sh\", \"-c\", \"printf %s $0 > $1\", {{ axis = \"a\" }}, \"{{out:out}}\"]\n\
         [stage.t]\nuses = \"command\"\noutputs.out = \"out\"\ninputs.all = {{ all = \"s.out\", over = [\"a\"] }}\n\
         with.argv = [\"sh\", \"-c\", \"printf %s $0 > $1\", \"t\", \"{{out:out}}\"]\n",
        values.join(", ")
    )
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let size = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(3));
    measure("chain", &chain(size.0), size, Some(Arc::new(Writes)));
    measure("layers", &layers(size.0), size, Some(Arc::new(Writes)));
    measure("branches", &branches(size.0), size, Some(Arc::new(Writes)));
    measure("real processes, layers", &layers(200), (200, 3), None);
    measure("real processes, chain", &chain(200), (200, 3), None);
}
