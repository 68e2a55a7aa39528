//! `plumb setup`: fetches libtorch and builds the worker. Says first what it will do and how much it costs, and
//! asks. Never touches a libtorch that the user chose, never needs Python at run time, never prints by itself.

mod fetch;
mod libtorch;
mod wheels;
mod worker;

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use crate::exit::Exit;
use crate::printer::Printer;
use libtorch::Libtorch;

/// `plumb setup`.
#[derive(Debug, Clone, Args)]
pub struct SetupArgs {
    /// Do not ask before downloading
    #[arg(short, long)]
    pub yes: bool,
    /// Only say what would be fetched and built
    #[arg(long)]
    pub dry_run: bool,
    /// Use the libtorch in this folder (it holds `include` and `lib`) instead of fetching one
    #[arg(long, value_name = "DIR")]
    pub libtorch: Option<PathBuf>,
    /// Fetch libtorch, and do not build the worker
    #[arg(long)]
    pub libtorch_only: bool,
    /// Print what a shell must export to build against this libtorch: eval "$(plumb setup --print-env)"
    #[arg(long, conflicts_with_all = ["yes", "dry_run", "libtorch_only"])]
    pub print_env: bool,
}

/// Why setup stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The command line or the environment is wrong: exit 2.
    #[error("{message}")]
    Usage {
        /// What is wrong and what was expected.
        message: String,
        /// What to type.
        hint: String,
    },
    /// A download, an unpacking or a build went wrong: exit 1.
    #[error("{message}")]
    Failed {
        /// What was being done, and what came back.
        message: String,
        /// What helps, where known.
        hint: Option<String>,
    },
}

impl SetupError {
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    pub(crate) fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed(format!("{doing} `{}`: {error}", path.display()))
    }

    fn hint_with(self, text: impl Into<String>) -> Self {
        match self {
            Self::Failed { message, .. } => Self::Failed { message, hint: Some(text.into()) },
            usage @ Self::Usage { .. } => usage,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Usage { hint, .. } => Some(hint),
            Self::Failed { hint, .. } => hint.as_deref(),
        }
    }

    /// What the process ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Wrong,
            Self::Failed { .. } => Exit::Failed,
        }
    }
}

/// Runs `plumb setup`.
pub fn run(args: &SetupArgs, printer: &Printer) -> Result<(), SetupError> {
    let libtorch = Libtorch::choose(args.libtorch.as_deref())?;
    if args.print_env {
        return print_env(&libtorch, printer);
    }
    let fetches = !libtorch.is_ready();
    let source = if args.libtorch_only { None } else { Some(worker::source_checkout()?) };
    announce(&libtorch, fetches, source.as_deref(), printer);
    if args.dry_run {
        return Ok(());
    }
    if (fetches || source.is_some()) && !args.yes {
        confirm(printer)?;
    }
    if let Libtorch::Fetched(root) = &libtorch {
        fetch::fetch(root, printer)?;
    }
    libtorch.check_version()?;
    if let Some(source) = source {
        let program = worker::build(&source, &libtorch, printer)?;
        printer.note(&format!("built `{}`; try `plumb demo`", program.display()));
    }
    Ok(())
}

fn print_env(libtorch: &Libtorch, printer: &Printer) -> Result<(), SetupError> {
    if !libtorch.is_ready() {
        return Err(SetupError::failed("there is no libtorch yet").hint_with("type `plumb setup --libtorch-only`"));
    }
    libtorch.check_version()?;
    for line in libtorch.shell_lines() {
        printer.data(&line);
    }
    Ok(())
}

fn announce(libtorch: &Libtorch, fetches: bool, source: Option<&std::path::Path>, printer: &Printer) {
    match libtorch {
        Libtorch::Given(folder) => printer.note(&format!("libtorch: yours, in `{}`", folder.display())),
        Libtorch::Python => printer.note("libtorch: the one of `python3`, since LIBTORCH_USE_PYTORCH is set"),
        Libtorch::Fetched(root) if fetches => fetch::announce(root, printer),
        Libtorch::Fetched(root) => printer.note(&format!("libtorch: already there, in `{}`", root.display())),
    }
    if let Some(source) = source {
        printer.note(&format!(
            "worker: `cargo build --release -p plumb-torch` in `{}` (a few minutes the first time)",
            source.display()
        ));
    }
}

fn confirm(printer: &Printer) -> Result<(), SetupError> {
    if !std::io::stdin().is_terminal() {
        return Err(SetupError::usage("cannot ask: standard input is not a terminal", "type `plumb setup --yes`"));
    }
    if printer.ask("go on?") {
        return Ok(());
    }
    Err(SetupError::failed("nothing was done: the answer was not `y`"))
}
