//! The worker program: `plumb-torch __step SCRATCH` runs one step, `plumb-torch --version` says what it runs on.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use plumb_engine::execute::child::step_main_in;
use plumb_engine::stage::StageError;
use plumb_torch::{device, stages};

fn main() -> ExitCode {
    device::keep_memory();
    device::load_cuda();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [command, scratch] if command == "__step" => match device::check_version() {
            Ok(()) => step_main_in(&stages::registry(), Path::new(scratch), device::describe()),
            Err(error) => refuse(&error),
        },
        [flag] if flag == "--version" || flag == "-V" => show_version(),
        _ => refuse(
            &StageError::new("expected `__step SCRATCH` or `--version`")
                .hint("plumb-torch is run by `plumb`: type `plumb run`"),
        ),
    }
}

fn show_version() -> ExitCode {
    let found = device::describe();
    let libtorch = format!("libtorch {} ({})", found["libtorch"], found["devices"]);
    let line = format!("plumb-torch {}, {libtorch}\n", env!("CARGO_PKG_VERSION"));
    match std::io::stdout().write_all(line.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(error: &StageError) -> ExitCode {
    let hint = error.hint.as_ref().map_or(String::new(), |hint| format!("hint: {hint}\n"));
    // Nothing is left to tell where standard error is closed.
    let _ = std::io::stderr().write_all(format!("error: {error}\n{hint}").as_bytes());
    ExitCode::from(2)
}
