//! `plumb run --detach`: the same command again as a process of its own session, which outlives the terminal. Returns
//! once that has planned, and says how to follow it and how to stop it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use plumb_engine::execute::RunOptions;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::trouble::Trouble;

/// The option that the second process is started with.
const INSIDE: &str = "--detached";

/// What the second process says once it has planned.
#[derive(Debug, Serialize, Deserialize)]
pub struct Began {
    /// The run's id.
    pub run: String,
    /// Process of the runner.
    pub process: u32,
}

/// Starts the second process.
pub fn start(context: &Context, file: &Path, json: bool) -> Result<Exit, Trouble> {
    let failed = |error: std::io::Error| {
        Trouble::failed(format!("the run could not be detached: {error}"), "run it without `--detach`")
    };
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    arguments.insert(end, INSIDE.into());
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let own_session = || rustix::process::setsid().map(drop).map_err(Into::into);
    // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(own_session) };
    let mut runner = command.spawn().map_err(failed)?;
    let mut line = String::new();
    if let Some(stdout) = runner.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
    }
    match serde_json::from_str::<Began>(&line) {
        Ok(began) => tell(&context.printer, file, &began, json),
        // It ended before it ran anything, and has said why.
        Err(_) => return Ok(Exit::from_code(runner.wait().map_err(failed)?.code())),
    }
    Ok(Exit::Done)
}

fn tell(printer: &Printer, file: &Path, began: &Began, json: bool) {
    if json {
        return printer.json(began);
    }
    let (file, Began { run, process }) = (file.display(), began);
    printer.note(&format!("detached: run {run} goes on as process {process}"));
    printer.note(&format!("  see how far it is:     plumb status {file}; plumb log {file} STEP"));
    printer.note(&format!("  wait for it:           plumb run {file}"));
    printer.note(&format!("  stop it and its steps: plumb stop {run}"));
}

/// Makes a run's options those of the second process: it says that it began, and from then on nothing to the terminal.
pub fn inside(options: RunOptions) -> RunOptions {
    RunOptions { detached: true, began: Some(begin), ..options }
}

fn begin(run: &str) {
    Printer::plain().json_line(&Began { run: run.into(), process: std::process::id() });
    if let Ok(nowhere) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        // What the run tells is in its history; the terminal may be gone.
        let (out, errors) = (rustix::stdio::dup2_stdout(&nowhere), rustix::stdio::dup2_stderr(&nowhere));
        if let Err(error) = out.and(errors) {
            tracing::warn!("the detached run still speaks to the terminal: {error}");
        }
    }
}
