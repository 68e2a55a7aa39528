//! Makes the CPU-only libtorch: three pinned wheels through the user's own pip, the few members that are needed,
//! and an empty `libtorch.so`. Works in a folder beside the final one and renames it when it is complete, so that a
//! crash leaves either nothing or a download to go on from; one setup at a time holds the lock.
//!
//! Unpacking is Python's `zipfile` (it checks every member's CRC): pip needs Python anyway, and a zip crate would be
//! one more dependency of `plumb` for this one use.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::SetupError;
use super::libtorch::is_complete;
use super::wheels::{TREE_BYTES, VERSION, WHEELS, Wheel, download_bytes, megabytes};
use crate::printer::Printer;

const UNPACK: &str = include_str!("unpack.py");

/// Says what is downloaded and how much room it takes.
pub fn announce(root: &Path, printer: &Printer) {
    printer.note(&format!(
        "libtorch {VERSION} for the CPU: {} to download with pip, {} on disk in `{}` ({} while it is unpacked)",
        megabytes(download_bytes()),
        megabytes(TREE_BYTES),
        root.display(),
        megabytes(download_bytes() + TREE_BYTES),
    ));
    for wheel in &WHEELS {
        printer.note(&format!("  {} {}, {}", wheel.package, wheel.version, megabytes(wheel.bytes)));
    }
    printer.note("for a GPU, or a libtorch of your own, set LIBTORCH_USE_PYTORCH=1 or LIBTORCH first");
}

/// Makes `root`, or finds it made.
pub fn fetch(root: &Path, printer: &Printer) -> Result<(), SetupError> {
    if is_complete(root) {
        return Ok(());
    }
    refuse_other_platforms()?;
    let parent = root.parent().unwrap_or(Path::new("."));
    make_folder(parent)?;
    let _lock = lock(root, printer)?;
    if is_complete(root) {
        printer.note("libtorch: the other setup has made it");
        return Ok(());
    }
    let partial = beside(root, "partial");
    let (wheels, tree) = (partial.join("wheels"), partial.join("tree"));
    make_folder(&wheels)?;
    refuse_full_disk(parent, &wheels)?;
    remove(&tree)?;
    make_folder(&tree)?;
    for (index, wheel) in WHEELS.iter().enumerate() {
        printer.note(&format!("{} of {}: {} {}", index + 1, WHEELS.len(), wheel.package, wheel.version));
        unpack(wheel, &download(wheel, &wheels)?, &tree)?;
    }
    make_umbrella(&tree.join("torch/lib/libtorch.so"))?;
    write(&tree.join("torch/build-version"), &format!("{VERSION}+cpu\n"))?;
    if !is_complete(&tree) {
        return Err(SetupError::failed(format!("the wheels did not hold what was expected, see `{}`", tree.display())));
    }
    move_into_place(&tree, root)?;
    remove(&partial)?;
    printer.note(&format!("libtorch: `{}`", root.display()));
    Ok(())
}

fn refuse_other_platforms() -> Result<(), SetupError> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(());
    }
    Err(SetupError::usage(
        "`plumb setup` fetches libtorch for x86-64 Linux only",
        format!(
            "`pip install torch=={VERSION}` and set LIBTORCH_USE_PYTORCH=1, or set LIBTORCH to a libtorch {VERSION}"
        ),
    ))
}

/// Held until the process ends or the file is dropped; the file itself stays, since removing it would race.
fn lock(root: &Path, printer: &Printer) -> Result<File, SetupError> {
    let path = beside(root, "lock");
    let told = |error: std::io::Error| SetupError::file("lock", &path, &error);
    let file = File::options().create(true).append(true).open(&path).map_err(told)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            printer.note("another `plumb setup` is at work: waiting for it");
            file.lock().map_err(told)?;
        }
        Err(TryLockError::Error(error)) => return Err(told(error)),
    }
    Ok(file)
}

fn refuse_full_disk(parent: &Path, wheels: &Path) -> Result<(), SetupError> {
    let here: u64 =
        WHEELS.iter().filter_map(|wheel| Some(std::fs::metadata(wheels.join(wheel.file)).ok()?.len())).sum();
    let needed = (download_bytes() + TREE_BYTES).saturating_sub(here);
    let disk = rustix::fs::statvfs(parent).map_err(|error| SetupError::file("look at", parent, &error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let message = format!("`{}` has {} free, and {} is needed", parent.display(), megabytes(free), megabytes(needed));
    Err(SetupError::failed(message).hint_with("make room, or set XDG_CACHE_HOME to a folder on another disk"))
}

/// pip checks the SHA-256, and keeps a wheel that an earlier setup left whole. The platform is spelled out so that
/// any Python can fetch the very file that is pinned.
fn download(wheel: &Wheel, folder: &Path) -> Result<PathBuf, SetupError> {
    let requirement = folder.join(format!("{}.txt", wheel.package));
    write(&requirement, &format!("{}=={} --hash=sha256:{}\n", wheel.package, wheel.version, wheel.sha256))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"])
        .args(["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311", "--abi", "none"])
        .args(["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_25_x86_64"])
        .args(["--platform", "manylinux2014_x86_64", "--dest"])
        .arg(folder)
        .arg("--requirement")
        .arg(&requirement);
    run(&mut pip, "python3").map_err(|error| {
        error.hint_with("pip's own message is above; what was downloaded is kept, and `plumb setup` goes on from there")
    })?;
    let path = folder.join(wheel.file);
    match std::fs::metadata(&path) {
        Ok(found) if found.len() == wheel.bytes => Ok(path),
        _ => Err(SetupError::failed(format!("pip did not leave `{}` with {} bytes", path.display(), wheel.bytes))),
    }
}

fn unpack(wheel: &Wheel, path: &Path, tree: &Path) -> Result<(), SetupError> {
    let mut python = Command::new("python3");
    python.args(["-c", UNPACK]).arg(path).arg(tree).args(wheel.folders);
    python.args(wheel.files.iter().map(|(file, _)| file));
    run(&mut python, "python3")
}

/// The wheel's `libtorch.so` is an empty umbrella that wants the CUDA libraries: an empty one wants nothing.
fn make_umbrella(path: &Path) -> Result<(), SetupError> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(["-shared", "-fPIC", "-Wl,-soname,libtorch.so", "-x", "c", "/dev/null", "-o"]).arg(path);
    run(&mut command, &compiler.to_string_lossy()).map_err(|error| {
        error.hint_with("install a C and C++ compiler (gcc and g++): the worker's build needs them too")
    })
}

/// A damaged tree gives way; two renames are as near to atomic as folders allow, under the lock.
fn move_into_place(tree: &Path, root: &Path) -> Result<(), SetupError> {
    let old = beside(root, "old");
    remove(&old)?;
    if root.exists() {
        std::fs::rename(root, &old).map_err(|error| SetupError::file("move aside", root, &error))?;
    }
    std::fs::rename(tree, root).map_err(|error| SetupError::file("move into place", root, &error))?;
    remove(&old)
}

/// Runs a program whose output the user may watch: on stderr, because stdout is for data.
fn run(command: &mut Command, name: &str) -> Result<(), SetupError> {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    let stderr = stderr.map_err(|error| SetupError::failed(format!("share the terminal with `{name}`: {error}")))?;
    let status = command.stdin(Stdio::null()).stdout(Stdio::from(stderr)).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(SetupError::failed(format!("`{name}` failed ({status})"))),
        Err(error) => Err(SetupError::failed(format!("run `{name}`: {error}")).hint_with(format!("install `{name}`"))),
    }
}

fn beside(root: &Path, suffix: &str) -> PathBuf {
    let mut name = root.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{suffix}"));
    root.with_file_name(name)
}

fn make_folder(path: &Path) -> Result<(), SetupError> {
    std::fs::create_dir_all(path).map_err(|error| SetupError::file("make the folder", path, &error))
}

fn remove(path: &Path) -> Result<(), SetupError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(SetupError::file("remove", path, &error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), SetupError> {
    let told = |error: std::io::Error| SetupError::file("write", path, &error);
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(told)
}
