//! Builds `plumb-torch` from the source checkout and puts it beside `plumb`. Never builds from anything else: there
//! is no ready-made worker to download.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::SetupError;
use super::libtorch::Libtorch;
use crate::printer::Printer;

/// The checkout this program was built from, or the one around the current folder.
pub fn source_checkout() -> Result<PathBuf, SetupError> {
    let here = std::env::current_dir().unwrap_or_default();
    let candidates = std::iter::once(Path::new(env!("CARGO_MANIFEST_DIR"))).chain(here.ancestors());
    candidates
        .filter(|folder| folder.join("stages/torch/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .next()
        .ok_or_else(|| {
            SetupError::usage(
                "the worker is built from plumb's source, and there is no checkout here",
                "type `plumb setup` inside a checkout, or `plumb setup --libtorch-only` and build plumb-torch yourself",
            )
        })
}

/// Builds the worker and returns where it lies, beside this program.
pub fn build(source: &Path, libtorch: &Libtorch, printer: &Printer) -> Result<PathBuf, SetupError> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "-p", "plumb-torch", "--message-format=json-render-diagnostics"]);
    cargo.current_dir(source).stdin(Stdio::null()).stderr(Stdio::inherit());
    libtorch.apply(&mut cargo);
    let output = cargo.output().map_err(|error| SetupError::failed(format!("run `cargo`: {error}")))?;
    if !output.status.success() {
        return Err(SetupError::failed("the worker did not build")
            .hint_with("cargo's message is above; the build needs g++ and about 2 GB of memory"));
    }
    let built = executable(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| SetupError::failed("cargo built the worker and did not say where it lies"))?;
    place_beside_plumb(&built, printer)
}

/// The program named by cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    parsed
        .filter(|message| message["target"]["name"] == "plumb-torch")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// By a copy and a rename, so that a worker that is running is not written into.
fn place_beside_plumb(built: &Path, printer: &Printer) -> Result<PathBuf, SetupError> {
    let own = std::env::current_exe().map_err(|error| SetupError::failed(format!("find this program: {error}")))?;
    let place = own.with_file_name("plumb-torch");
    if place == built || std::fs::canonicalize(&place).is_ok_and(|found| found == built) {
        return Ok(place);
    }
    let new = place.with_extension(format!("new-{}", std::process::id()));
    let copied = std::fs::copy(built, &new).and_then(|_| std::fs::rename(&new, &place));
    if let Err(error) = copied {
        let _ = std::fs::remove_file(&new);
        printer.note(&format!(
            "`{}` cannot be written ({error}): set PLUMB_TORCH={}",
            place.display(),
            built.display()
        ));
        return Ok(built.to_path_buf());
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_found_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"plumb_torch"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"plumb-torch"},"executable":"/t/release/plumb-torch"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/plumb-torch")));
    }
}
