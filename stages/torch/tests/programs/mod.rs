//! Both programs of this build, on the miniature with too few steps to learn anything. For tests only.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The worker.
const WORKER: &str = env!("CARGO_BIN_EXE_plumb-torch");

/// `plumb` of the same build. `cargo test -p plumb-torch` alone does not make it; `cargo test --workspace` does.
pub fn plumb() -> Option<PathBuf> {
    let beside = Path::new(WORKER).with_file_name("plumb");
    if !beside.exists() {
        eprintln!("skipped: `{}` is not there; `cargo build` makes it", beside.display());
        return None;
    }
    Some(beside)
}

/// `plumb VERB --json` on the miniature.
#[allow(dead_code, reason = "each test binary uses one of the two")]
pub fn command(plumb: &Path, verb: &str, cache: &Path, more: &[&str]) -> Command {
    let mut command = command_on("../../pipelines/miniature.toml", plumb, verb, cache, more);
    command.args(["--profile", "smoke"]);
    command
}

/// `plumb VERB --json` on a pipeline beside the tests.
#[allow(dead_code, reason = "each test binary uses one of the two")]
pub fn command_on(pipeline: &str, plumb: &Path, verb: &str, cache: &Path, more: &[&str]) -> Command {
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join(pipeline);
    let mut command = Command::new(plumb);
    command.args([verb, "--json", "--cache"]).arg(cache).arg(&pipeline).args(more);
    command.env("PLUMB_TORCH", WORKER);
    command
}
