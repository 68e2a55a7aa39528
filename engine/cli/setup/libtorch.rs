//! Which libtorch is used: the one the user chose, Python's, or the one that setup fetches. Checks its version
//! itself, because a wheel's folder has no `build-version` and torch-sys then checks nothing. Never downloads.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::SetupError;
use super::wheels::{VERSION, WHEELS};

/// A libtorch, chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Libtorch {
    /// The user's own (`--libtorch` or LIBTORCH): a folder with `include` and `lib`.
    Given(PathBuf),
    /// The torch that `python3` imports (LIBTORCH_USE_PYTORCH).
    Python,
    /// The one of plumb's own folder in the user's cache: its root, which holds `torch` and `nvidia`.
    Fetched(PathBuf),
}

impl Libtorch {
    /// Follows the order of torch-sys (LIBTORCH_USE_PYTORCH before LIBTORCH), after the command line.
    pub fn choose(option: Option<&Path>) -> Result<Self, SetupError> {
        if let Some(folder) = option {
            return Ok(Self::Given(absolute(folder)?));
        }
        if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
            return Ok(Self::Python);
        }
        match std::env::var_os("LIBTORCH").filter(|folder| !folder.is_empty()) {
            Some(folder) => Ok(Self::Given(absolute(Path::new(&folder))?)),
            None => own_root().map(Self::Fetched),
        }
    }

    /// Whether nothing needs to be downloaded.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Given(_) | Self::Python => true,
            Self::Fetched(root) => is_complete(root),
        }
    }

    /// Refuses a libtorch of another version than `tch` is written against.
    pub fn check_version(&self) -> Result<(), SetupError> {
        let found = match self {
            Self::Given(folder) => version_of_folder(folder)?,
            Self::Python => version_of_python()?,
            Self::Fetched(root) => version_of_folder(&root.join("torch"))?,
        };
        if release(&found) == VERSION || std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
            return Ok(());
        }
        Err(SetupError::usage(
            format!("libtorch {VERSION} is needed, and {} is {found}", self.name()),
            format!("unset it to let `plumb setup` fetch one, or `pip install torch=={VERSION}`"),
        ))
    }

    /// What a shell must export to build against it.
    pub fn shell_lines(&self) -> Vec<String> {
        match self.folder() {
            None => vec!["export LIBTORCH_USE_PYTORCH=1".into()],
            Some(folder) => vec![
                "unset LIBTORCH_USE_PYTORCH".into(),
                format!("export LIBTORCH={}", quoted(&folder.to_string_lossy())),
            ],
        }
    }

    /// Gives a child process the same.
    pub fn apply(&self, command: &mut Command) {
        match self.folder() {
            None => command.env("LIBTORCH_USE_PYTORCH", "1"),
            Some(folder) => command.env_remove("LIBTORCH_USE_PYTORCH").env("LIBTORCH", folder),
        };
    }

    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Given(folder) => Some(folder.clone()),
            Self::Python => None,
            Self::Fetched(root) => Some(root.join("torch")),
        }
    }

    fn name(&self) -> String {
        match self.folder() {
            Some(folder) => format!("`{}`", folder.display()),
            None => "the torch of `python3`".into(),
        }
    }
}

/// Whether every kept library is there in full. The tree is renamed into place when it is complete, so that this
/// only finds what somebody damaged later.
pub fn is_complete(root: &Path) -> bool {
    let libraries = WHEELS.iter().flat_map(|wheel| wheel.files);
    let sizes =
        |(file, bytes): &(&str, u64)| std::fs::metadata(root.join(file)).is_ok_and(|found| found.len() == *bytes);
    libraries.into_iter().all(sizes)
        && ["torch/lib/libtorch.so", "torch/include", "torch/build-version"].iter().all(|path| root.join(path).exists())
}

fn own_root() -> Result<PathBuf, SetupError> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    let cache = cache.ok_or_else(|| SetupError::usage("no home folder is known", "set HOME or XDG_CACHE_HOME"))?;
    Ok(cache.join("plumb").join(format!("libtorch-{VERSION}-cpu")))
}

fn absolute(folder: &Path) -> Result<PathBuf, SetupError> {
    std::fs::canonicalize(folder).map_err(|error| {
        SetupError::usage(
            format!("libtorch in `{}`: {error}", folder.display()),
            "give the folder that holds `include` and `lib`",
        )
    })
}

fn version_of_folder(folder: &Path) -> Result<String, SetupError> {
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    let found = read("build-version").or_else(|| python_version(&read("version.py")?));
    found.map(|text| text.trim().to_string()).ok_or_else(|| {
        SetupError::usage(
            format!("`{}` has neither `build-version` nor `version.py`: its version cannot be told", folder.display()),
            "give the folder that holds `include` and `lib`, as `…/site-packages/torch`",
        )
    })
}

/// The version that a wheel's `version.py` assigns, as `__version__ = '2.11.0+cu130'`.
fn python_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    Some(line.split_once('=')?.1.trim().trim_matches(['\'', '"']).to_string())
}

fn version_of_python() -> Result<String, SetupError> {
    let output = Command::new("python3").args(["-c", "import torch; print(torch.__version__)"]).output();
    let output = output.map_err(|error| SetupError::failed(format!("run `python3`: {error}")))?;
    if !output.status.success() {
        return Err(SetupError::usage(
            "LIBTORCH_USE_PYTORCH is set, and `python3` cannot import torch",
            format!("put the environment with torch {VERSION} first on PATH, or unset LIBTORCH_USE_PYTORCH"),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// `2.11.0` of `2.11.0+cu130`.
fn release(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_wheel_is_read_from_its_version_py() {
        let text = "from typing import Optional\n__version__ = '2.11.0+cu130'\ndebug = False\n";
        assert_eq!(python_version(text).as_deref().map(release), Some("2.11.0"));
        assert_eq!(python_version("debug = False\n"), None);
    }

    #[test]
    fn exported_paths_survive_a_shell() {
        let lines = Libtorch::Given("/tmp/it's here".into()).shell_lines();
        assert_eq!(lines.last().map(String::as_str), Some(r"export LIBTORCH='/tmp/it'\''s here'"));
    }
}
