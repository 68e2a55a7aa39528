//! `plumb setup` through the binary. A stand-in `python3` plays pip and leaves sparse files of the right sizes, so
//! that nothing is downloaded; the C compiler is the real one.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const FAKE_PYTHON: &str = r#"#!/bin/bash
set -e
echo "python3 ${*:1:3}" >> "$LOG"
if [ "$2" = pip ]; then
  while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest=$2; [ "$1" = --requirement ] && wanted=$2; shift; done
  case $(cat "$wanted") in
    torch==2.11.0*) [ -z "$FAIL_TORCH" ]; name=torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl size=530604548 ;;
    nvidia-cuda-runtime==*) name=nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl size=2243632 ;;
    nvidia-cuda-cupti==*) name=nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl size=10715597 ;;
  esac
  truncate -s $size "$dest/$name"
  exit
fi
tree=$4
shift 4
for member in "$@"; do
  mkdir -p "$tree/$(dirname "$member")"
  case $member in
    */) mkdir -p "$tree/$member" ;;
    *libc10.so) truncate -s 1498969 "$tree/$member" ;;
    *libgomp.so.1) truncate -s 254009 "$tree/$member" ;;
    *libtorch_cpu.so) truncate -s 451209129 "$tree/$member" ;;
    *libcudart.so.13) truncate -s 704288 "$tree/$member" ;;
    *libcupti.so.13) truncate -s 4152208 "$tree/$member" ;;
  esac
done
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("bin");
        std::fs::create_dir(&programs).unwrap();
        std::fs::write(programs.join("python3"), FAKE_PYTHON).unwrap();
        std::fs::set_permissions(programs.join("python3"), PermissionsExt::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn libtorch(&self) -> PathBuf {
        self.path("cache/plumb/libtorch-2.11.0-cpu")
    }

    fn setup(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plumb"));
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.arg("setup").args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", path).env("XDG_CACHE_HOME", self.path("cache")).env("LOG", self.path("log"));
        for name in ["LIBTORCH", "LIBTORCH_USE_PYTORCH", "LIBTORCH_BYPASS_VERSION_CHECK"] {
            command.env_remove(name);
        }
        command
    }

    fn pip_calls(&self) -> usize {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().filter(|line| line.starts_with("python3 -m pip")).count()
    }
}

#[track_caller]
fn told(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "`{words}` is not in:\n{text}");
}

fn has(folder: &Path, file: &str) -> bool {
    folder.join(file).exists()
}

#[test]
fn a_dry_run_says_how_much_and_makes_nothing() {
    let place = Place::new();
    let output = place.setup(&["--dry-run", "--libtorch-only"]).output().unwrap();
    told(&output, 0, "544 MB to download with pip, 498 MB on disk");
    assert!(!place.path("cache").exists());
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_downloaded() {
    let place = Place::new();
    told(&place.setup(&["--libtorch-only"]).output().unwrap(), 2, "plumb setup --yes");
    assert_eq!(place.pip_calls(), 0);
}

#[test]
fn a_finished_setup_is_found_and_leaves_no_wheels() {
    let place = Place::new();
    told(&place.setup(&["--yes", "--libtorch-only"]).output().unwrap(), 0, "3 of 3: torch 2.11.0");
    let libtorch = place.libtorch();
    assert_eq!(std::fs::read_to_string(libtorch.join("torch/build-version")).unwrap(), "2.11.0+cpu\n");
    assert!(has(&libtorch, "torch/lib/libtorch.so") && has(&libtorch, "torch/include"));
    assert!(!has(libtorch.parent().unwrap(), "libtorch-2.11.0-cpu.partial"));

    told(&place.setup(&["--libtorch-only"]).output().unwrap(), 0, "already there");
    assert_eq!(place.pip_calls(), 3);

    let exports = place.setup(&["--print-env"]).output().unwrap();
    let expected = format!("unset LIBTORCH_USE_PYTORCH\nexport LIBTORCH='{}'\n", libtorch.join("torch").display());
    assert_eq!(String::from_utf8_lossy(&exports.stdout), expected);
}

#[test]
fn a_failed_download_leaves_no_libtorch_and_the_next_setup_finishes() {
    let place = Place::new();
    let failed = place.setup(&["--yes", "--libtorch-only"]).env("FAIL_TORCH", "1").output().unwrap();
    told(&failed, 1, "goes on from there");
    assert!(!place.libtorch().exists());
    told(&place.setup(&["--print-env"]).output().unwrap(), 1, "plumb setup --libtorch-only");
    told(&place.setup(&["--yes", "--libtorch-only"]).output().unwrap(), 0, "3 of 3");
    assert!(place.libtorch().exists());
}

#[test]
fn a_truncated_library_is_made_again() {
    let place = Place::new();
    told(&place.setup(&["--yes", "--libtorch-only"]).output().unwrap(), 0, "3 of 3");
    std::fs::File::create(place.libtorch().join("torch/lib/libc10.so")).unwrap();
    told(&place.setup(&["--yes", "--libtorch-only"]).output().unwrap(), 0, "3 of 3");
    assert_eq!(std::fs::metadata(place.libtorch().join("torch/lib/libc10.so")).unwrap().len(), 1_498_969);
}

#[test]
fn two_setups_at_once_download_once() {
    let place = Place::new();
    let spawn = || place.setup(&["--yes", "--libtorch-only"]).stderr(Stdio::null()).spawn().unwrap();
    let both = [spawn(), spawn()];
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(place.pip_calls(), 3);
}

#[test]
fn a_libtorch_of_another_version_is_refused() {
    let place = Place::new();
    let own = place.path("torch");
    std::fs::create_dir(&own).unwrap();
    told(&place.setup(&["--print-env"]).env("LIBTORCH", &own).output().unwrap(), 2, "its version cannot be told");
    std::fs::write(own.join("version.py"), "__version__ = '2.9.1+cu130'\n").unwrap();
    told(&place.setup(&["--print-env"]).env("LIBTORCH", &own).output().unwrap(), 2, "is 2.9.1+cu130");
    std::fs::write(own.join("version.py"), "__version__ = '2.11.0+cu130'\n").unwrap();
    let output = place.setup(&["--print-env"]).env("LIBTORCH", &own).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("export LIBTORCH="));
    assert_eq!(place.pip_calls(), 0);
}
