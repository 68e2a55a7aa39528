//! `plumb lock`: pins what the sources hold now, and shows what that changes.

use std::path::PathBuf;

use clap::Args;
use plumb_engine::source::Sources;
use plumb_engine::source::accept::{Change, State};
use plumb_engine::source::lock::{LockFile, Pin};
use serde::Serialize;

use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// Shown under the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb lock r-align.toml                 pin every source in r-align.lock
  plumb lock r-align.toml pairs           accept the change of one source
  plumb lock r-align.toml --check         say what differs and write nothing; exit code 2 if anything does

The lock file stands beside the pipeline and belongs into version control. Once it is there, a source that holds
other bytes is an error until it is accepted here. Without one, sources are simply hashed: an `http` or `s3`
address and a branch of a hub are then asked for at every plan. A source that is pinned is not asked for: where
its bytes are in the cache, no network is needed.";

/// `plumb lock`.
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Sources to look at [default: all]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Write nothing, and fail if the lock file is not what it should be
    #[arg(long)]
    pub check: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What was done, for machines.
#[derive(Debug, Serialize)]
struct Report {
    lock: PathBuf,
    written: bool,
    sources: Vec<Line>,
}

/// One source of it.
#[derive(Debug, Serialize)]
struct Line {
    source: String,
    state: &'static str,
    was: Option<Pin>,
    now: Option<Pin>,
}

/// Runs the command.
pub fn run(context: &Context, args: &LockArgs) -> Result<Exit, Trouble> {
    let graph = context.load(&args.pipeline, &[])?;
    let store = context.store()?;
    let (lock, changes) =
        context.telling(|tell| Sources { graph: &graph, store: &store, tell }.accept(&args.sources))?;
    let place = LockFile::place(&graph.file);
    let differs = changes.iter().any(|change| change.state() != State::Same);
    let written = !args.check && (differs || !place.exists());
    if written {
        lock.write(&graph.file)?;
    }
    if args.form.json {
        let sources = changes.into_iter().map(line).collect();
        context.printer.json(&Report { lock: place, written, sources });
    } else {
        print(context, &changes);
        let name = place.display();
        let told = match (written, differs) {
            (true, _) => format!("wrote {name}"),
            (false, true) => {
                format!("{name} is not what it should be: `plumb lock {}` writes it", graph.file.display())
            }
            (false, false) => format!("{name} is as it should be"),
        };
        context.printer.note(&told);
    }
    Ok(if args.check && differs { Exit::Wrong } else { Exit::Done })
}

fn line(Change { name, was, now }: Change) -> Line {
    let change = Change { name, was, now };
    let state = word(change.state());
    Line { source: change.name, state, was: change.was, now: change.now }
}

fn word(state: State) -> &'static str {
    match state {
        State::New => "new",
        State::Changed => "changed",
        State::Same => "same",
        State::Dropped => "dropped",
    }
}

/// A change shows what was pinned under what is there.
fn print(context: &Context, changes: &[Change]) {
    let mut table = Table::new(["source", "", "size", "digest", "from"]);
    for change in changes {
        let state = change.state();
        let tone = match state {
            State::Same => Tone::Faint,
            State::New => Tone::Good,
            State::Changed | State::Dropped => Tone::Warn,
        };
        let first = change.now.as_ref().or(change.was.as_ref());
        let was = change.was.as_ref().filter(|_| state == State::Changed);
        for (pin, name, word) in [(first, change.name.as_str(), word(state)), (was, "", "was")] {
            let Some(pin) = pin else { continue };
            let size = Cell::number(units::size(pin.size));
            table.row([name.into(), Cell::toned(tone, word), size, short(&pin.digest).into(), from(pin).into()]);
        }
    }
    if !table.is_empty() {
        context.printer.table(&table);
    }
}

/// `tree:` or `file:` and twelve digits: enough to see that two differ.
fn short(digest: &str) -> String {
    digest.chars().take("tree:".len() + 12).collect()
}

fn from(pin: &Pin) -> String {
    match &pin.version {
        Some(version) => format!("{} ({version})", pin.from),
        None => pin.from.clone(),
    }
}
