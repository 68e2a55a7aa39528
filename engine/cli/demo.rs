//! `plumb demo`: puts the embedded miniature into a folder and makes sure that it can run there. Running it is
//! `plumb run`'s business; a miniature that the user edited is never overwritten.

use std::path::{Path, PathBuf};

use plumb_engine::stage::Worker;

use crate::printer::Printer;
use crate::setup::SetupError;

/// The miniature, part of the program: `plumb demo` needs no checkout.
pub const MINIATURE: &str = include_str!("../../pipelines/miniature.toml");

/// Writes the miniature into `folder` and returns its path. Refuses where the worker is missing, so that nobody waits
/// for the first half of a run that cannot end.
pub fn prepare(folder: &Path, printer: &Printer) -> Result<PathBuf, SetupError> {
    if worker_program(&plumb_stages::worker::TORCH).is_none() {
        return Err(SetupError::usage(
            "the miniature trains models, and `plumb-torch` is not there",
            "type `plumb setup`",
        ));
    }
    let file = folder.join("miniature.toml");
    match std::fs::read_to_string(&file) {
        Ok(text) if text == MINIATURE => {}
        Ok(_) => printer.note(&format!("`{}` differs from the built-in one: yours is run", file.display())),
        Err(_) => {
            std::fs::create_dir_all(folder).map_err(|error| SetupError::file("make the folder", folder, &error))?;
            std::fs::write(&file, MINIATURE).map_err(|error| SetupError::file("write", &file, &error))?;
            printer.note(&format!("wrote `{}`: read it, change it, run it again", file.display()));
        }
    }
    Ok(file)
}

/// Where a worker lies: its variable, then beside this program, then PATH.
fn worker_program(worker: &Worker) -> Option<PathBuf> {
    let Worker::Program { name, variable, .. } = worker else { return std::env::current_exe().ok() };
    if let Some(given) = std::env::var_os(variable) {
        return Some(PathBuf::from(given));
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    beside.into_iter().chain(on_path).find(|candidate| candidate.is_file())
}
