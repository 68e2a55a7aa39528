//! plumb: the command line, a thin thing over the engine.
//!
//! A program with stage kinds of its own is a `plumb` with them:
//!
//! ```no_run
//! use plumb_engine::io::Io;
//! use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
//!
//! struct Count;
//!
//! impl Declare for Count {
//!     const KIND: &'static str = "mine.count";
//!     const VERSION: u32 = 1;
//!     const ABOUT: &'static str = "Counts the bytes of a file";
//!     const DETERMINISM: Determinism = Determinism::Exact;
//!     const INPUTS: &'static [InputSpec] = &[InputSpec::required("file", "What to count")];
//!     const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("count", "count.txt", "The number")];
//!     type Params = std::collections::BTreeMap<String, String>;
//! }
//!
//! impl Stage for Count {
//!     fn run(_params: Self::Params, io: &Io) -> Result<(), StageError> {
//!         let (from, to) = (io.input("file")?, io.output("count")?);
//!         let bytes = std::fs::read(from).map_err(|error| StageError::file("read", from, &error))?;
//!         std::fs::write(to, bytes.len().to_string()).map_err(|error| StageError::file("write", to, &error))
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     plumb::main(&plumb_stages::registry().with::<Count>())
//! }
//! ```

pub mod allowance;
pub mod args;
pub mod artifact;
pub mod bundle;
pub mod cache;
pub mod choice;
pub mod compare;
pub mod context;
pub mod demo;
pub mod detach;
pub mod display;
pub mod drawing;
pub mod exit;
pub mod export;
pub mod graph;
pub mod growth;
pub mod init;
pub mod key;
pub mod lock;
pub mod log;
pub mod meter;
pub mod paint;
pub mod plan;
pub mod printer;
pub mod report;
pub mod resources;
pub mod results;
pub mod run;
pub mod scores;
pub mod setup;
pub mod show;
pub mod signals;
pub mod status;
pub mod stop;
pub mod summary;
pub mod table;
mod testimony;
pub mod trouble;
pub mod units;
pub mod verify;
pub mod watch;
pub mod why;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use plumb_engine::command;
use plumb_engine::execute::{child, keeper};
use plumb_engine::stage::Registry;

use crate::args::{Command, CommandLine};
use crate::context::Context;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::trouble::Trouble;

/// Does what the command line says, with these stage kinds and the engine's own `command`.
pub fn main(registry: &Registry) -> ExitCode {
    let line = CommandLine::parse();
    if let Command::Step(args) = &line.command {
        return child::step_main(registry, &args.folder);
    }
    if let Command::Keep(args) = &line.command {
        return keeper::keep_main(&args.folder);
    }
    tell_bugs();
    start_tracing();
    let registry = registry.clone().insert(Arc::new(command::Command::default()));
    let context = Context { registry, printer: Printer::new(), place: line.place };
    let exit = dispatch(&context, &line.command).unwrap_or_else(|trouble| {
        trouble.tell(&context.printer);
        trouble.exit()
    });
    match context.printer.lost() {
        Some(why) => {
            context.printer.error(&format!("cannot write to stdout: {why}"), None);
            Exit::Failed.into()
        }
        None => exit.into(),
    }
}

fn dispatch(context: &Context, command: &Command) -> Result<Exit, Trouble> {
    match command {
        Command::Run(args) => run::run(context, args),
        Command::Watch(args) => watch::run(context, args),
        Command::Stop(args) => stop::run(context, args),
        Command::Plan(args) => plan::run(context, args),
        Command::Verify(args) => verify::run(context, args),
        Command::Report(args) => report::run(context, args),
        Command::Export(args) => export::run(context, args),
        Command::Why(args) => why::run(context, args),
        Command::Compare(args) => compare::run(context, args),
        Command::Status(args) => status::run(context, args),
        Command::Show(args) => show::run(context, args),
        Command::Graph(args) => graph::run(context, args),
        Command::Log(args) => log::run(context, args),
        Command::Lock(args) => lock::run(context, args),
        Command::Open(args) => artifact::open(context, args),
        Command::Get(args) => artifact::get(context, args),
        Command::Bundle(args) => bundle::run(context, args),
        Command::Cache(args) => cache::run(context, args),
        Command::Key(args) => key::run(context, args),
        Command::Setup(args) => setup::run(args, &context.printer).map(|()| Exit::Done).map_err(Into::into),
        Command::Demo(args) => run::demo(context, args),
        Command::Init(args) => init::run(context, args),
        Command::Completions(args) => Ok(complete(context, args.shell)),
        Command::Step(_) | Command::Keep(_) => Ok(Exit::Bug),
    }
}

fn complete(context: &Context, shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(&CommandLine::command()), "plumb", &mut script);
    context.printer.bytes(&script);
    Exit::Done
}

// The generators offer hidden commands too.
fn visible(whole: &clap::Command) -> clap::Command {
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new("plumb").args(whole.get_arguments()).subcommands(commands.cloned())
}

// A printer of its own: the panic may have come while the other one was printing.
fn tell_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        let hint = "please report it with the command you typed; `RUST_BACKTRACE=1` tells more";
        Printer::plain().error(&format!("this is a bug of plumb: {panic}"), Some(hint));
    }));
}

fn start_tracing() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("PLUMB_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
