//! Detached steps (`plumb run --detach`): each has a keeper, a process of its own (`plumb __keep FOLDER`) that runs
//! the program and writes down how it ended. The keeper outlives the runner; its folder lies beside the action's state
//! folder, so that the next runner finds the step by its key, follows it to its end, and publishes what it made.
//!
//! ```text
//! state/KEY.kept/   launch.json  what to run (secrets come through a pipe)      keeper.lock  held while the keeper lives
//!                   ending.json  how it ended, renamed into place last          the rest     as in any scratch folder
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::executor::{Ending, Executor, How, Launch};
use super::follow::Follower;
use super::local::Local;
use super::reap;
use super::secrets::Secrets;
use super::stop::{Stop, Urgency};
use super::strays;
use crate::clock::Stopwatch;
use crate::error::EngineError;
use crate::protocol::StepEvent;

const LAUNCH: &str = "launch.json";
const LOCK: &str = "keeper.lock";
const ENDING: &str = "ending.json";

/// How often a kept step's events are read and stops are noticed. Its end is noticed at once.
const TICK: Duration = Duration::from_millis(100);
/// How long a keeper may take from its start to holding its lock.
const START: Duration = Duration::from_secs(10);

/// Where the detached step of an action is kept, given the action's state folder.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.with_extension("kept")
}

/// The kept steps of a cache, running or ended, by the names of their actions.
pub(super) fn all(states: &Path) -> Vec<(String, KeptStep)> {
    let paths = fs::read_dir(states).into_iter().flatten().flatten().map(|entry| entry.path());
    let kept = paths.filter(|path| path.extension().is_some_and(|extension| extension == "kept"));
    let named = |path: PathBuf| Some((path.file_stem()?.to_str()?.to_owned(), KeptStep::look(&path)?));
    kept.filter_map(named).collect()
}

/// A step that is kept, or was until it ended.
pub(super) struct KeptStep {
    folder: PathBuf,
    launch: Launch,
    /// The keeper, where this process has started it.
    child: Option<Child>,
}

impl KeptStep {
    /// The kept step in this folder, running or ended. What a keeper left half-done is cleared away.
    pub(super) fn find(folder: &Path) -> Result<Option<Self>, EngineError> {
        if !folder.exists() {
            return Ok(None);
        }
        if let Some(step) = Self::look(folder) {
            return Ok(Some(step));
        }
        fs::remove_dir_all(folder).map_err(EngineError::io("clear away", folder))?;
        Ok(None)
    }

    /// The same without clearing anything away.
    fn look(folder: &Path) -> Option<Self> {
        let launch = serde_json::from_slice(&fs::read(folder.join(LAUNCH)).ok()?).ok()?;
        // What was stopped is no result of whoever comes later: to them it never ran.
        let there = is_alive(folder) || ending(folder).is_some_and(|ending| ending.how != How::Stopped);
        there.then(|| Self { folder: folder.to_owned(), launch, child: None })
    }

    /// Starts a keeper for a launch whose folder is laid out.
    pub(super) fn start(folder: &Path, launch: Launch, own_program: &Path) -> Result<Self, EngineError> {
        write_whole(folder, LAUNCH, &launch)?;
        let mut command = Command::new(own_program);
        command.arg("__keep").arg(folder).current_dir("/").stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let own_session = || rustix::process::setsid().map(drop).map_err(Into::into);
        // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(own_session) };
        let mut child = command.spawn().map_err(EngineError::io("start a keeper with", own_program))?;
        strays::is_own(child.id());
        let secrets =
            serde_json::to_vec(launch.secrets.values()).map_err(|error| EngineError::Bug(error.to_string()))?;
        let given = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(&secrets));
        given.map_err(EngineError::io("give its secrets to the keeper of", folder))?;
        let mut kept = Self { folder: folder.to_owned(), launch, child: Some(child) };
        kept.wait_for_the_lock();
        Ok(kept)
    }

    fn wait_for_the_lock(&mut self) {
        let watch = Stopwatch::start();
        while watch.elapsed() < START && !is_alive(&self.folder) && !self.folder.join(ENDING).exists() {
            if self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
                return;
            }
            pause(None, Duration::from_millis(2));
        }
    }

    /// Whether it has not ended.
    pub(super) fn goes_on(&self) -> bool {
        is_alive(&self.folder)
    }

    /// Where it is kept.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was launched.
    pub(super) fn launch(&self) -> &Launch {
        &self.launch
    }

    /// The keeper's process; `None` once the step has ended.
    pub(super) fn process(&self) -> Option<u32> {
        is_alive(&self.folder).then(|| fs::read_to_string(self.folder.join(LOCK)).ok()?.trim().parse().ok()).flatten()
    }

    /// Follows the step to its end, tells its events, and heeds `stop`.
    pub(super) fn follow(mut self, stop: &Stop, told: &mut dyn FnMut(StepEvent)) -> Ending {
        let watch = Stopwatch::start();
        let redactor = self.launch.secrets.redactor();
        let mut events = Follower::new(&self.launch.events, &redactor);
        let keeper = self.child.as_ref().map(Child::id).or_else(|| self.process());
        let keeper = keeper.and_then(|process| Pid::from_raw(process.cast_signed()));
        let handle = keeper.and_then(reap::handle);
        let mut asked = Urgency::GoOn;
        // The lock is looked at first: between its release and this look the ending was written.
        while is_alive(&self.folder) {
            let urgency = stop.urgency();
            if urgency > asked
                && let Some(keeper) = keeper
            {
                // Once for "end it", once more for "now".
                let _ = kill_process(keeper, Signal::TERM);
                asked = if asked == Urgency::GoOn { Urgency::Gently } else { Urgency::Now };
            }
            events.read(told);
            pause(handle.as_ref().map(AsFd::as_fd), TICK);
        }
        events.read(told);
        if let Some(child) = &mut self.child {
            // It has let go of its lock: nothing is left to wait for but its end.
            let _ = child.wait();
        }
        ending(&self.folder).unwrap_or_else(|| Ending::without_a_process(How::Lost, watch.elapsed()))
    }
}

/// How a step ended, once it has.
fn ending(folder: &Path) -> Option<Ending> {
    serde_json::from_slice(&fs::read(folder.join(ENDING)).ok()?).ok()
}

/// Waits for a process's end, or for so long.
pub(super) fn pause(handle: Option<BorrowedFd<'_>>, longest: Duration) {
    let mut watched: Vec<PollFd<'_>> =
        handle.into_iter().map(|handle| PollFd::from_borrowed_fd(handle, PollFlags::IN)).collect();
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
    // Interrupted or not: the caller looks again.
    let _ = poll(&mut watched, Some(&wait));
}

/// Whether somebody holds the keeper's lock.
pub(super) fn is_alive(folder: &Path) -> bool {
    let file = File::options().read(true).write(true).open(folder.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn write_whole(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), EngineError> {
    let (temporary, path) = (folder.join(format!(".{name}.tmp")), folder.join(name));
    let text = serde_json::to_vec(value).map_err(|error| EngineError::Bug(error.to_string()))?;
    fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)).map_err(EngineError::io("write", &path))
}

/// The keeper's own process: runs what `launch.json` says, and writes `ending.json`.
pub fn keep_main(folder: &Path) -> ExitCode {
    match keep(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn keep(folder: &Path) -> Result<(), EngineError> {
    let path = folder.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let mut lock = lock.map_err(EngineError::io("open", &path))?;
    // Whoever looks whether it is held holds it for a moment.
    let taken = lock.lock().map_err(EngineError::io("lock", &path));
    taken.and_then(|()| writeln!(lock, "{}", std::process::id()).map_err(EngineError::io("write", &path)))?;
    let mut given = String::new();
    std::io::stdin().read_to_string(&mut given).map_err(EngineError::io("read the secrets for", folder))?;
    let read = |error: serde_json::Error| EngineError::Bug(format!("what a keeper was told does not read: {error}"));
    let secrets: BTreeMap<String, String> = serde_json::from_str(&given).map_err(read)?;
    let text = fs::read(folder.join(LAUNCH)).map_err(EngineError::io("read", &folder.join(LAUNCH)))?;
    let launch = Launch { secrets: Secrets::given(secrets), ..serde_json::from_slice(&text).map_err(read)? };
    let stop = Stop::default();
    listen(stop.clone());
    let ending = Local::alone().run(&launch, &stop, &mut |_| {});
    write_whole(folder, ENDING, &ending)
}

/// Asks the step to stop at each request to terminate.
fn listen(stop: Stop) {
    let serve = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            while terminate.recv().await.is_some() {
                stop.ask();
            }
        });
    };
    std::thread::spawn(serve);
}
