//! Finds the program that runs a kind: this one, or another of the house.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::stage::{StageError, Worker};

/// The program of a worker: its environment variable, then beside this program, then on `PATH`.
pub fn find(worker: Worker, own: &Path) -> Result<PathBuf, StageError> {
    let Worker::Program { name, variable, remedy } = worker else { return Ok(own.to_owned()) };
    if let Some(given) = std::env::var_os(variable).filter(|given| !given.is_empty()) {
        let given = PathBuf::from(given);
        let missing = || StageError::new(format!("`{variable}` names `{}`, which is no file", given.display()));
        return if given.is_file() {
            Ok(given.clone())
        } else {
            Err(missing().hint(format!("unset `{variable}`, or make the worker with `{remedy}`")))
        };
    }
    let folders = own.parent().map(Path::to_owned).into_iter();
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let mut places = folders.chain(std::env::split_paths(&path)).map(|folder| folder.join(name));
    let missing = || StageError::new(format!("the worker `{name}` that runs this step is not there"));
    places.find(|place| place.is_file()).ok_or_else(|| missing().hint(format!("`{remedy}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_worker_is_told_with_the_command_that_makes_it() {
        let worker = Worker::Program { name: "plumb-nobody", variable: "PLUMB_NOBODY_TEST", remedy: "plumb setup" };
        let error = find(worker, Path::new("/nowhere/plumb")).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("`plumb setup`"));
        assert!(error.message.contains("`plumb-nobody`"), "{error}");
    }

    #[test]
    fn a_worker_beside_this_program_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("plumb-helper");
        std::fs::write(&beside, "").unwrap();
        let worker = Worker::Program { name: "plumb-helper", variable: "PLUMB_NOBODY_TEST", remedy: "" };
        assert_eq!(find(worker, &folder.path().join("plumb")).unwrap(), beside);
        assert_eq!(find(Worker::Own, Path::new("/x/plumb")).unwrap(), Path::new("/x/plumb"));
    }
}
