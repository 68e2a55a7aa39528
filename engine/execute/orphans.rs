//! Daemons of steps: who left its process group and lost its parent, so that no signal to the group reaches it. The
//! runner adopts such processes (`PR_SET_CHILD_SUBREAPER`) and knows by a variable in their environment whose they are.
//! Those that throw their environment away as well are strays.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::clock;

/// The variable that marks every process of a step.
pub(super) const MARK: &str = "PLUMB_STEP";

/// What marks the processes of one run, apart from those of every other.
#[derive(Debug)]
pub(super) struct Mark {
    run: String,
    steps: AtomicU64,
}

impl Default for Mark {
    fn default() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let mut run = format!("{}-{}", clock::stamp(), std::process::id());
        let _ = write!(run, "-{}-", RUNS.fetch_add(1, Ordering::Relaxed));
        Self { run, steps: AtomicU64::new(0) }
    }
}

impl Mark {
    /// How the marks of all its steps begin.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// The mark of one more step.
    pub(super) fn step(&self) -> String {
        format!("{}{}", self.run, self.steps.fetch_add(1, Ordering::Relaxed))
    }
}

/// From now on this process is given the orphans among its descendants.
#[cfg(target_os = "linux")]
pub(super) fn adopt() {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!("daemons of steps are not adopted: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn adopt() {}

/// However many generations of daemons there are: killing one orphans its children, which are ours next.
pub(super) const GENERATIONS: usize = 64;

/// The orphans that a step has left so far.
pub(super) fn of(mark: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={mark}");
    adopted().into_iter().filter(|pid| is_marked(*pid, &wanted)).collect()
}

/// Ends the orphans that a step has left.
pub(super) fn end(mark: &str) {
    for _ in 0..GENERATIONS {
        let ours = of(mark);
        if ours.is_empty() {
            return;
        }
        for pid in ours {
            // Gone already, or not to be killed by us: both are seen in the next round, or never again.
            let _ = kill_process(pid, Signal::KILL);
            super::reap::reap(pid);
        }
    }
}

/// The children of the main thread: it is the one that orphans are given to.
pub(super) fn adopted() -> Vec<Pid> {
    let own = std::process::id();
    let listed = fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn is_marked(pid: Pid, wanted: &str) -> bool {
    environment(pid).split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// Whether it bears the mark of any step.
pub(super) fn is_marked_at_all(pid: Pid) -> bool {
    let start = format!("{MARK}=");
    environment(pid).split(|byte| *byte == 0).any(|variable| variable.starts_with(start.as_bytes()))
}

fn environment(pid: Pid) -> Vec<u8> {
    fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default()
}
