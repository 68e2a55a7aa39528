//! A step under bubblewrap: no network, and of the file system only the machine's programs (read-only), the step's own
//! inputs (read-only), its outputs, its working folder and its state. What the pipeline does not declare is not there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::secrets::at_home;
use crate::settings::Sandbox;
use crate::stage::StageError;

/// The program.
const BWRAP: &str = "bwrap";

/// The machine's programs and what their loader and name look-ups need; what is not there is left out. On most
/// systems `/bin` and `/lib` are links into `/usr`, which are bound by what they point to.
const SYSTEM: [&str; 18] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/mime.types",
    "/etc/python3",
];

/// What a step may touch.
pub(super) struct Inside<'a> {
    pub(super) settings: &'a Sandbox,
    /// Read-only.
    pub(super) inputs: &'a Path,
    /// The folders it may write to.
    pub(super) writable: [&'a Path; 3],
    /// A file it may append to.
    pub(super) events: &'a Path,
    /// Where it starts.
    pub(super) folder: &'a Path,
    /// Whether it was given GPUs.
    pub(super) gpus: bool,
}

/// The arguments of bubblewrap before the program's own.
pub(super) fn arguments(inside: &Inside<'_>) -> Vec<OsString> {
    let mut arguments = Arguments(Vec::new());
    arguments.plain(["--unshare-all", "--die-with-parent", "--new-session"]);
    for path in SYSTEM {
        arguments.bind("--ro-bind-try", Path::new(path));
    }
    arguments.plain(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    // The home folder that `HOME` names is there and empty.
    if let Some(home) = std::env::var_os("HOME").filter(|home| Path::new(home).is_absolute() && home != "/") {
        arguments.0.extend(["--tmpfs".into(), home]);
    }
    for path in &inside.settings.mount {
        arguments.bind("--ro-bind", &at_home(path, Path::new("/")));
    }
    if inside.gpus {
        for device in gpu_devices() {
            arguments.bind("--dev-bind-try", &device);
        }
    }
    arguments.bind("--ro-bind", inside.inputs);
    for path in inside.writable {
        arguments.bind("--bind", path);
    }
    arguments.bind("--bind", inside.events);
    arguments.0.extend(["--chdir".into(), inside.folder.into(), "--".into()]);
    arguments.0
}

/// The program that makes the sandbox.
pub(super) fn program() -> OsString {
    BWRAP.into()
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn plain<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn bind(&mut self, how: &str, path: &Path) {
        self.0.extend([how.into(), path.into(), path.into()]);
    }
}

fn gpu_devices() -> Vec<PathBuf> {
    let listed = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let nvidia = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvidia"));
    listed.filter(nvidia).collect()
}

/// Whether a sandbox can be made here: tried once a run, since a kernel may forbid what is installed.
pub(super) fn check() -> Result<(), StageError> {
    let mut trial = Command::new(BWRAP);
    trial.args(["--unshare-all", "--ro-bind", "/", "/", "true"]).stdin(Stdio::null());
    let install = "install the package `bubblewrap` (`apt-get install bubblewrap`), or take `run.sandbox` away";
    let told = trial.output().map_err(|error| {
        StageError::new(format!("`run.sandbox` needs `{BWRAP}`, which cannot be started: {error}")).hint(install)
    })?;
    if told.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&told.stderr);
    let last = said.lines().last().unwrap_or("it said nothing");
    let allow = "let users make user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, \
                 `user.max_user_namespaces`, on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`), \
                 or take `run.sandbox` away";
    Err(StageError::new(format!("this system lets nobody make a sandbox: {last}")).hint(allow))
}
