//! A small program for the engine's own tests: one kind of the house, run by `worker __step SCRATCH`, and a runner that
//! can be killed, `worker run FILE CACHE`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use plumb_cache::{Store, StoreOptions};
use plumb_engine::command::Command;
use plumb_engine::execute::child::step_main;
use plumb_engine::execute::keeper::keep_main;
use plumb_engine::execute::{RunOptions, run};
use plumb_engine::io::Io;
use plumb_engine::pipeline::{Selection, load};
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Registry, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `test.upper`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What is put before the text.
    #[serde(default)]
    prefix: String,
}

/// Upper-cases a text; the prefix `panic` panics.
pub struct Upper;

impl Declare for Upper {
    const KIND: &'static str = "test.upper";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "Upper-cases a text";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required("text", "The text")];
    const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("text", "text.txt", "The text in capitals")];
    type Params = Params;
}

impl Stage for Upper {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        assert_ne!(params.prefix, "panic", "asked to panic");
        let from = io.input("text")?;
        let text = std::fs::read_to_string(from).map_err(|error| StageError::file("read", from, &error))?;
        io.progress(1, Some(1), "texts");
        io.metric(0, "length", 4.0);
        let to = io.output("text")?;
        let text = params.prefix + &text.to_uppercase();
        std::fs::write(to, text).map_err(|error| StageError::file("write", to, &error))
    }
}

/// The kinds that the tests use.
pub fn registry() -> Registry {
    Registry::default().with::<Upper>().insert(Arc::new(Command::default()))
}

/// A runner that a test can kill.
fn run_file(file: &Path, cache: &Path) -> ExitCode {
    let graph = load(file, &registry(), &Selection::default()).expect("the test's pipeline is right");
    let store = Store::open(cache, StoreOptions::default()).expect("the test's cache opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let summary = runtime.block_on(run(&graph, &store, &RunOptions::default(), |_| {}));
    summary.map_or(ExitCode::FAILURE, |summary| ExitCode::from(summary.class().code()))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, step, scratch] if step == "__step" => step_main(&registry(), Path::new(scratch)),
        [_, keep, folder] if keep == "__keep" => keep_main(Path::new(folder)),
        [_, run, file, cache] if run == "run" => run_file(Path::new(file), Path::new(cache)),
        _ => ExitCode::FAILURE,
    }
}
