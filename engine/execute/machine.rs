//! How much this run may use: what the user says, else what the machine and its control groups give this process.
//! What nobody asks for is not looked up: asking the driver for its GPUs takes longer than planning.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::settings::{Gpus, RunSettings};

/// What the user says; `None` is found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU slots.
    pub cpus: Option<usize>,
    /// GPUs by the names that `CUDA_VISIBLE_DEVICES` takes: an index or a UUID.
    pub gpus: Option<Vec<String>>,
    /// Bytes of memory.
    pub mem: Option<u64>,
    /// Bytes on the cache's file system.
    pub disk: Option<u64>,
}

/// What may be used in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// CPU slots, at least one.
    pub cpus: usize,
    /// GPUs, by the names that `CUDA_VISIBLE_DEVICES` takes.
    pub gpus: Vec<String>,
    /// Bytes of memory.
    pub mem: u64,
    /// Bytes on the cache's file system.
    pub disk: u64,
}

impl Limits {
    /// CPU slots: what the user says, else the cores.
    pub fn cpus(&self) -> usize {
        self.cpus.unwrap_or_else(cores).max(1)
    }
}

impl Machine {
    /// What there is for these steps, with the cache in this folder.
    pub fn find<'a>(limits: &Limits, cache: &Path, steps: impl Iterator<Item = &'a RunSettings> + Clone) -> Self {
        let asks = |what: fn(&RunSettings) -> bool| steps.clone().any(what);
        let nothing = |asked: bool, found: fn() -> u64| if asked { found() } else { u64::MAX };
        let gpus = || if asks(|run| run.gpu != Gpus::Exactly(0)) { visible_gpus() } else { Vec::new() };
        Self {
            cpus: limits.cpus(),
            gpus: limits.gpus.clone().unwrap_or_else(gpus),
            mem: limits.mem.unwrap_or_else(|| nothing(asks(|run| run.mem.is_some()), memory)),
            disk: limits.disk.unwrap_or_else(|| if asks(|run| run.disk.is_some()) { space(cache) } else { u64::MAX }),
        }
    }
}

/// The cores that affinity and control groups leave to this process.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `CUDA_VISIBLE_DEVICES` where it is set, else those of the driver.
fn visible_gpus() -> Vec<String> {
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(listed) => listed_gpus(&listed),
        Err(_) => (0..driver_gpus()).map(|index| index.to_string()).collect(),
    }
}

/// As CUDA reads it: what follows the first entry that names no GPU does not count.
fn listed_gpus(listed: &str) -> Vec<String> {
    let names_one = |name: &&str| !name.is_empty() && !name.starts_with('-');
    listed.split(',').map(str::trim).take_while(names_one).map(String::from).collect()
}

fn driver_gpus() -> usize {
    let mut listing = Command::new("nvidia-smi");
    let told = listing.arg("-L").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let told = told.ok().filter(|told| told.status.success());
    let count = |told: std::process::Output| {
        told.stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"GPU ")).count()
    };
    told.map_or_else(device_files, count)
}

fn device_files() -> usize {
    let number = |name: &str| name.strip_prefix("nvidia").is_some_and(|rest| rest.parse::<u16>().is_ok());
    let listed = fs::read_dir("/dev").into_iter().flatten().flatten();
    listed.filter(|entry| entry.file_name().to_str().is_some_and(number)).count()
}

/// The machine's memory, or what the control groups of this process leave of it.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = control_groups("memory")
        .into_iter()
        .flat_map(|folder| ["memory.max", "memory.limit_in_bytes"].map(|name| read_number(&folder.join(name))));
    limits.flatten().chain(total_memory(&text)).min().unwrap_or(u64::MAX)
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The folders of the control groups that this process is in, version 1 and 2, up to their roots. In a container the
/// path may be one of the host's: then the root is the container's own.
pub(super) fn control_groups(controller: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let folders = text.lines().flat_map(|line| match *line.splitn(3, ':').collect::<Vec<_>>() {
        [_, "", path] => up_to_root(Path::new("/sys/fs/cgroup"), path),
        [_, names, path] if names.split(',').any(|name| name == controller) => {
            up_to_root(&Path::new("/sys/fs/cgroup").join(controller), path)
        }
        _ => Vec::new(),
    });
    folders.filter(|folder| folder.is_dir()).collect()
}

fn up_to_root(root: &Path, path: &str) -> Vec<PathBuf> {
    let inside = Path::new(path.trim_start_matches('/'));
    inside.ancestors().map(|part| root.join(part)).collect()
}

/// What is free where the cache is.
fn space(cache: &Path) -> u64 {
    rustix::fs::statvfs(cache).map_or(u64::MAX, |told| told.f_bavail.saturating_mul(told.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_listed_as_cuda_reads_them() {
        assert_eq!(listed_gpus("2, 5"), ["2", "5"]);
        assert_eq!(listed_gpus("GPU-8932f937,1"), ["GPU-8932f937", "1"]);
        assert_eq!(listed_gpus("0,-1,1"), ["0"]);
        assert_eq!([listed_gpus(""), listed_gpus("-1")], [Vec::<String>::new(), Vec::new()]);
    }

    #[test]
    fn memory_is_the_least_of_what_machine_and_groups_allow() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       24116000 kB\n"), Some(24_116_000 * 1024));
        let found = memory();
        assert!(found > 1 << 20 && found < u64::MAX, "{found}");
        assert_eq!(up_to_root(Path::new("/c"), "/a/b"), [Path::new("/c/a/b"), Path::new("/c/a"), Path::new("/c/")]);
    }

    #[test]
    fn what_the_user_says_counts_and_what_nobody_asks_for_is_not_looked_up() {
        let limits = Limits { cpus: Some(0), gpus: Some(vec!["7".into()]), ..Limits::default() };
        let found = Machine::find(&limits, Path::new("/nowhere"), [RunSettings::default()].iter());
        assert_eq!(found, Machine { cpus: 1, gpus: vec!["7".into()], mem: u64::MAX, disk: u64::MAX });
    }
}
