//! How much memory a step's processes hold, and whether the kernel has killed for want of memory. Both are read from
//! `/proc` and the control groups, which needs no privilege: a limit on address space would be simpler and would break
//! CUDA, which reserves far more than it uses, and control groups of our own need a delegation that few machines give.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::process::Pid;

use super::machine::control_groups;

/// Whether these processes and their descendants hold more than this; then how much. Shared pages are counted once: the
/// cheap sum, which counts them often, only says when the exact one (which walks every page) is worth asking for.
pub(super) fn above(roots: impl Iterator<Item = Pid>, limit: u64) -> Option<u64> {
    let tree = descendants(roots);
    let resident: u64 = tree.iter().filter_map(|process| resident(process)).sum();
    if resident <= limit {
        return None;
    }
    let held = tree.iter().filter_map(|process| proportional(process).or_else(|| self::resident(process))).sum();
    (held > limit).then_some(held)
}

/// The folders in `/proc` of processes and their descendants.
fn descendants(roots: impl Iterator<Item = Pid>) -> Vec<PathBuf> {
    let folder = |pid: &str| Path::new("/proc").join(pid);
    let mut tree: Vec<PathBuf> = roots.map(|root| folder(&root.as_raw_nonzero().to_string())).collect();
    let mut next = 0;
    while next < tree.len() {
        let children = children(&tree[next]);
        tree.extend(children.iter().map(|pid| folder(pid)));
        next += 1;
    }
    tree
}

/// The descendants of a process.
pub(super) fn tree(root: Pid) -> Vec<Pid> {
    let number = |folder: &PathBuf| Pid::from_raw(folder.file_name()?.to_str()?.parse().ok()?);
    descendants(std::iter::once(root)).iter().skip(1).filter_map(number).collect()
}

fn children(process: &Path) -> Vec<String> {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let listed = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    listed.flat_map(|text| text.split_whitespace().map(String::from).collect::<Vec<_>>()).collect()
}

fn resident(process: &Path) -> Option<u64> {
    let text = fs::read_to_string(process.join("statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn proportional(process: &Path) -> Option<u64> {
    let text = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Counts the kernel's kills for memory: those in this process's control group where it tells them, else those of the
/// whole machine. Each rise explains one killed step.
#[derive(Debug)]
pub(super) struct KernelKills {
    counter: Option<PathBuf>,
    explained: Mutex<u64>,
}

impl KernelKills {
    /// Counts from now on.
    pub(super) fn watch() -> Self {
        let group = control_groups("memory").into_iter();
        let files = group.flat_map(|folder| ["memory.events", "memory.oom_control"].map(|name| folder.join(name)));
        let counter = files.chain([PathBuf::from("/proc/vmstat")]).find(|path| kills(path).is_some());
        let explained = counter.as_deref().and_then(kills).unwrap_or(0);
        Self { counter, explained: Mutex::new(explained) }
    }

    /// Whether a step that was just killed died for want of memory; `None` where nobody tells.
    pub(super) fn explain(&self) -> Option<bool> {
        let now = kills(self.counter.as_deref()?)?;
        let mut explained = self.explained.lock().ok()?;
        let rose = now > *explained;
        *explained += u64::from(rose);
        Some(rose)
    }
}

fn kills(counter: &Path) -> Option<u64> {
    count(&fs::read_to_string(counter).ok()?)
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// What programs say when they ask a GPU (or the machine) for memory that is not there.
const COMPLAINTS: [&str; 7] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    "OutOfMemoryError",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED: Out of memory",
    "can't allocate memory",
    "std::bad_alloc",
];

/// Whether a program's last words say that it was out of memory.
pub(super) fn complains(words: &str) -> bool {
    COMPLAINTS.iter().any(|complaint| words.contains(complaint)) || words.lines().any(|line| line == "MemoryError")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_from_every_kind_of_counter() {
        assert_eq!(count("low 0\noom 4\noom_kill 3\noom_group_kill 0\n"), Some(3), "memory.events");
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2), "memory.oom_control");
        assert_eq!(count("nr_free_pages 1\noom_kill 7\n"), Some(7), "vmstat");
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn each_kill_explains_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("memory.events");
        let told = |kills: u64| fs::write(&counter, format!("oom_kill {kills}\n")).unwrap();
        told(5);
        let kills = KernelKills { counter: Some(counter.clone()), explained: Mutex::new(5) };
        assert_eq!(kills.explain(), Some(false));
        told(7);
        assert_eq!([kills.explain(), kills.explain(), kills.explain()], [Some(true), Some(true), Some(false)]);
        fs::remove_file(&counter).unwrap();
        assert_eq!(kills.explain(), None);
    }

    #[test]
    fn this_process_holds_more_than_a_page_and_less_than_everything() {
        let own = rustix::process::getpid();
        assert!(above([own].into_iter(), 4096).is_some_and(|held| held > 4096));
        assert_eq!(above([own].into_iter(), u64::MAX), None);
    }

    #[test]
    fn the_words_of_torch_are_known() {
        assert!(complains("RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB"));
        assert!(complains("torch.OutOfMemoryError: x") && complains("Traceback\nMemoryError\n"));
        assert!(!complains("out of cheese"));
    }
}
