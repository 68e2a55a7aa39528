//! What goes on on a cache, of whatever terminal: runs, and steps that a run detached and left behind. Asks them to end
//! as Ctrl-C would, and waits for their end. Whether something goes on is told by the lock that it holds, so a process
//! number that has been used again stands for nobody.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plumb_cache::Store;
use rustix::process::{Pid, Signal};
use serde::Serialize;

use super::keeper::{self, pause};
use super::reap;
use crate::clock::Stopwatch;
use crate::error::EngineError;
use crate::history::{self, RunHeader};
use crate::maker;

/// How often it is looked whether what was asked to end has ended, and how often `now` asks again.
const TICK: Duration = Duration::from_millis(100);
/// What was asked to end kills its steps after ten seconds; who has not ended by now never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run, or a step that no run follows, that has not ended.
#[derive(Debug, Serialize)]
pub struct Going {
    /// The run.
    pub run: String,
    /// The log of the step that it left behind, which is named after it; `None` where it is the run itself.
    pub step: Option<String>,
    /// Its runner, or the step's keeper.
    pub process: u32,
    /// The machine that it runs on.
    pub host: String,
    #[serde(skip)]
    lock: Lock,
}

#[derive(Debug)]
enum Lock {
    Run(Store),
    /// In the folder of a kept step.
    Keeper(PathBuf),
}

/// How a thing is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Its steps are asked to end, and killed after ten seconds.
    Gently,
    /// Its steps are killed.
    Now,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// It has ended.
    Ended,
    /// It runs on another machine, which has to be asked there.
    Elsewhere,
    /// It was asked and has not ended.
    GoesOn,
}

/// The runs that go on.
pub fn runs(store: &Store) -> Result<Vec<Going>, EngineError> {
    let unended = history::runs(store, None)?.into_iter().filter(|header| header.outcome.is_none());
    let live = unended.filter(|header| store.run_goes_on(&header.id));
    Ok(live
        .map(|RunHeader { id, process, host, .. }| Going {
            run: id,
            step: None,
            process,
            host,
            lock: Lock::Run(store.clone()),
        })
        .collect())
}

/// The detached steps that go on, with the runs that started them.
pub fn steps(store: &Store) -> Vec<Going> {
    let kept = keeper::all(&store.states_folder()).into_iter();
    kept.filter_map(|(_, step)| {
        let (process, host, folder) = (step.process()?, step.launch().host.clone(), step.folder().to_owned());
        let log = &step.launch().log;
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        // `runs/RUN/logs/STEP.log`
        let run = name(log.parent()?.parent()?)?;
        let label = log.file_stem()?.to_string_lossy().into_owned();
        Some(Going { run, step: Some(label), process, host, lock: Lock::Keeper(folder) })
    })
    .collect()
}

impl Going {
    /// Whether it has not ended.
    fn goes_on(&self) -> bool {
        match &self.lock {
            Lock::Run(store) => store.run_goes_on(&self.run),
            Lock::Keeper(folder) => keeper::is_alive(folder),
        }
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&self, manner: Manner) -> Stopping {
        if !self.host.is_empty() && self.host != maker::host() {
            return Stopping::Elsewhere;
        }
        let Some(process) = Pid::from_raw(self.process.cast_signed()) else { return Stopping::GoesOn };
        // Taken before the lock is looked at: whoever holds the lock now is the one that the handle stands for.
        let handle = reap::handle(process);
        let watch = Stopwatch::start();
        let mut asked = false;
        while self.goes_on() {
            if watch.elapsed() > PATIENCE {
                return Stopping::GoesOn;
            }
            // Asked again, a run kills its steps.
            if !asked || manner == Manner::Now {
                ask(process, handle.as_ref());
                asked = true;
            }
            pause(handle.as_ref().map(AsFd::as_fd), TICK);
        }
        Stopping::Ended
    }
}

/// Who is gone already needs no asking.
#[cfg(target_os = "linux")]
fn ask(process: Pid, handle: Option<&OwnedFd>) {
    let _ = match handle {
        Some(handle) => rustix::process::pidfd_send_signal(handle, Signal::TERM),
        None => rustix::process::kill_process(process, Signal::TERM),
    };
}

#[cfg(not(target_os = "linux"))]
fn ask(process: Pid, _handle: Option<&OwnedFd>) {
    let _ = rustix::process::kill_process(process, Signal::TERM);
}
