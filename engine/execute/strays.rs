//! Daemons of steps that have thrown away their environment, and with it their step's mark. They are given to this
//! process like other orphans, and are known by that: children of its main thread that it did not start. Whose they
//! are is one of the steps that ran when they came; when the last of these ends, so do they.
//!
//! Only where the whole process is a runner's own, and had no children when it began: elsewhere a child that is not
//! known here may be somebody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid, kill_process};

use super::guardian::Guardian;
use super::memory;
use super::orphans::{self, GENERATIONS};
use super::reap::reap;
use crate::clock::Stopwatch;

/// How often it is looked who came.
const TICK: Duration = Duration::from_millis(100);

/// Children of this process that outlive the thread that started them: guardians and keepers.
static OWN: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// This child is nobody's daemon.
pub(super) fn is_own(child: u32) {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.extend(Pid::from_raw(child.cast_signed()));
}

/// Those of a run.
#[derive(Debug)]
pub(super) struct Strays {
    /// The running steps by their marks, with their groups.
    running: BTreeMap<String, Pid>,
    seen: Vec<Stray>,
    watch: Stopwatch,
    looked: Duration,
}

#[derive(Debug)]
struct Stray {
    process: Pid,
    /// The steps that it may be of.
    of: BTreeSet<String>,
    /// Its process group, where that is no step's own.
    group: Option<Pid>,
}

impl Strays {
    /// For a process that is the runner's own; `None` where it has children already.
    pub(super) fn watch() -> Option<Self> {
        let alone = orphans::adopted().is_empty();
        let watch = Stopwatch::start();
        alone.then(|| Self { running: BTreeMap::new(), seen: Vec::new(), watch, looked: Duration::ZERO })
    }

    pub(super) fn began(&mut self, mark: &str, group: Pid) {
        self.running.insert(mark.into(), group);
    }

    /// Looks who came, not too often, and has the guardian end them if the runner is killed.
    pub(super) fn look_now_and_then(&mut self, guardian: Option<&Guardian>) {
        let now = self.watch.elapsed();
        if now >= self.looked + TICK {
            self.looked = now;
            self.look(guardian);
        }
    }

    /// Ends those that can be of no other step.
    pub(super) fn ended(&mut self, mark: &str, guardian: Option<&Guardian>) {
        for _ in 0..GENERATIONS {
            self.look(guardian);
            for stray in &mut self.seen {
                stray.of.remove(mark);
            }
            let theirs = self.seen.iter().filter(|stray| stray.of.is_empty());
            if theirs.filter(|stray| end(stray.process)).count() == 0 {
                break;
            }
        }
        self.running.remove(mark);
    }

    fn look(&mut self, guardian: Option<&Guardian>) {
        let listed = orphans::adopted();
        let (stay, gone) = self.seen.drain(..).partition(|stray: &Stray| listed.contains(&stray.process));
        self.seen = stay;
        for Stray { group, .. } in gone {
            if let (Some(group), Some(guardian)) = (group.filter(|group| !self.knows(*group)), guardian) {
                guardian.let_go(group);
            }
        }
        for process in listed {
            // A keeper starts its step from its main thread: the step itself is a child like its orphans.
            let step = self.running.values().any(|step| *step == process);
            let known = step || self.seen.iter().any(|stray| stray.process == process);
            if !known && !own(process) && !orphans::is_marked_at_all(process) {
                self.came(process, guardian);
            }
        }
    }

    fn came(&mut self, process: Pid, guardian: Option<&Guardian>) {
        let group = getpgid(Some(process)).ok();
        let owner = self.running.iter().find(|(_, step)| Some(**step) == group).map(|(mark, _)| mark.clone());
        // The guardian knows the groups of the steps themselves.
        let group = group.filter(|_| owner.is_none());
        if let (Some(group), Some(guardian)) = (group.filter(|group| !self.knows(*group)), guardian) {
            guardian.guard(group);
        }
        let of = owner.map_or_else(|| self.running.keys().cloned().collect(), |owner| BTreeSet::from([owner]));
        self.seen.push(Stray { process, of, group });
    }

    fn knows(&self, group: Pid) -> bool {
        self.seen.iter().any(|stray| stray.group == Some(group))
    }
}

fn own(pid: Pid) -> bool {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
}

/// Ends one with all that it started; says whether it could be ended.
fn end(pid: Pid) -> bool {
    for process in memory::tree(pid) {
        // Gone already, or not ours to kill.
        let _ = kill_process(process, Signal::KILL);
    }
    let killed = kill_process(pid, Signal::KILL).is_ok();
    if killed {
        reap(pid);
    }
    killed
}
