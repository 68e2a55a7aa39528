//! The local machine as an executor: one child process in a process group of its own, followed until its end. The
//! child dies with the runner even if that is killed (`PR_SET_PDEATHSIG`; its own children by the guardian), and takes
//! its group with it when it ends.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group};

use super::executor::{Ending, Environment, Executor, How, Launch};
use super::guardian::{Guardian, announce};
use super::stop::{Stop, Urgency};
use crate::clock::Stopwatch;
use crate::plan::facts::close_environment;
use crate::protocol::StepEvent;

/// How often a running step's events are read and stops are noticed. Its end is noticed at once.
const TICK: Duration = Duration::from_millis(100);
/// How long a child may take to end once asked.
const GRACE: Duration = Duration::from_secs(10);

/// Runs steps on this machine.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Started with the first step; `None` inside where there is no shell.
    guardian: Arc<OnceLock<Option<Guardian>>>,
}

impl Local {
    fn guardian_pipe(&self) -> Option<RawFd> {
        self.guardian.get_or_init(Guardian::start).as_ref()?.pipe()
    }

    fn let_go(&self, child: Pid) {
        if let Some(Some(guardian)) = self.guardian.get() {
            guardian.let_go(child);
        }
    }
}

impl Executor for Local {
    fn run(&self, launch: &Launch, stop: &Stop, told: &mut dyn FnMut(StepEvent)) -> Ending {
        let watch = Stopwatch::start();
        let nothing = |how| Ending { how, wall: watch.elapsed(), cpu: Duration::ZERO, peak_memory_bytes: 0 };
        let child = match spawn(launch, self.guardian_pipe()) {
            Ok(child) => child,
            Err(why) => return nothing(How::NotStarted(why)),
        };
        let ended = wait_aside(self.clone(), child);
        let mut events = Follower::new(&launch.events);
        let mut end = None;
        let mut asked: Option<Duration> = None;
        loop {
            match ended.recv_timeout(TICK) {
                Ok(exit) => {
                    events.read(told);
                    return exit.ending(end, watch.elapsed());
                }
                Err(RecvTimeoutError::Disconnected) => return nothing(How::NotStarted("it was lost".into())),
                Err(RecvTimeoutError::Timeout) => events.read(told),
            }
            let now = watch.elapsed();
            let urgency = stop.urgency();
            if end.is_none() && urgency > Urgency::GoOn {
                end = Some(How::Stopped);
            } else if end.is_none() && launch.time.is_some_and(|limit| now > limit) {
                end = Some(How::TimedOut);
            }
            match (&end, asked) {
                (None, _) => {}
                (Some(_), None) if urgency < Urgency::Now => {
                    asked = Some(now);
                    signal(child, Signal::TERM);
                }
                (Some(_), Some(since)) if urgency < Urgency::Now && now < since + GRACE => {}
                _ => signal(child, Signal::KILL),
            }
        }
    }
}

/// Nobody is left to tell that a group is gone already.
fn signal(child: Pid, signal: Signal) {
    let _ = kill_process_group(child, signal);
}

/// OpenMP reads it before a worker's `main`. Threads that spin while they wait cost more on a busy machine than they
/// work: a training step of two threads took 21 CPU-seconds against 4.7.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

fn spawn(launch: &Launch, guardian: Option<RawFd>) -> Result<Pid, String> {
    let log = File::options().create(true).append(true).open(&launch.log);
    let log = log.map_err(|error| format!("open the log `{}`: {error}", launch.log.display()))?;
    let errors = log.try_clone().map_err(|error| format!("open the log `{}`: {error}", launch.log.display()))?;
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments).current_dir(&launch.folder);
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    if let Environment::Closed(listed) = &launch.environment {
        close_environment(&mut command, listed);
    } else if std::env::var_os(WAIT_POLICY).is_none() {
        command.env(WAIT_POLICY, "passive");
    }
    if let Some(gpus) = &launch.gpus {
        let indices: Vec<String> = gpus.iter().map(u32::to_string).collect();
        command.env("CUDA_VISIBLE_DEVICES", indices.join(","));
    }
    die_with_runner(&mut command, guardian);
    let child = command.spawn().map_err(|error| format!("start `{}`: {error}", launch.program.display()))?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| "it has no process number".into())
}

/// The signal is tied to the thread that starts the child: the one that follows it to its end.
#[cfg(target_os = "linux")]
fn die_with_runner(command: &mut Command, guardian: Option<RawFd>) {
    let runner = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Some(pipe) = guardian {
            announce(pipe, rustix::process::getpid());
        }
        // The runner may have died before the call: then nobody would kill the child.
        if rustix::process::getppid() == Some(runner) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec the closure only makes a few system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(bind) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_runner(_command: &mut Command, _guardian: Option<RawFd>) {}

struct Exit {
    status: i32,
    usage: libc::rusage,
}

/// Waits for a child on a thread of its own, so that its end is noticed at once.
fn wait_aside(local: Local, child: Pid) -> mpsc::Receiver<Exit> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Until it is reaped the child's number stands for its group, so what it left behind can be ended safely.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(rustix::process::waitid(WaitId::Pid(child), options), Err(rustix::io::Errno::INTR)) {}
        signal(child, Signal::KILL);
        local.let_go(child);
        if let Some(exit) = reap(child) {
            // The receiver is gone only if the runner is.
            let _ = sender.send(exit);
        }
    });
    receiver
}

fn reap(child: Pid) -> Option<Exit> {
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live values of the right types; the child is ours and not reaped yet.
        let done = unsafe { libc::wait4(child.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) };
        if done == child.as_raw_nonzero().get() {
            return Some(Exit { status, usage });
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return None;
        }
    }
}

impl Exit {
    fn ending(&self, end: Option<How>, wall: Duration) -> Ending {
        let own = if libc::WIFSIGNALED(self.status) {
            How::Signalled(libc::WTERMSIG(self.status))
        } else {
            How::Exited(libc::WEXITSTATUS(self.status))
        };
        // A child that was asked to end and yet finished its work did its work.
        let how = match end {
            Some(asked) if own != How::Exited(0) => asked,
            _ => own,
        };
        let cpu = time(self.usage.ru_utime) + time(self.usage.ru_stime);
        Ending { how, wall, cpu, peak_memory_bytes: peak_memory(&self.usage) }
    }
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
}

/// Linux counts kibibytes, macOS bytes.
fn peak_memory(usage: &libc::rusage) -> u64 {
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(unit)
}

/// Reads whole lines as they are appended to a file that may not be there yet.
struct Follower {
    path: PathBuf,
    read: u64,
}

impl Follower {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0 }
    }

    fn read(&mut self, told: &mut dyn FnMut(StepEvent)) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut fresh = Vec::new();
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut fresh)).is_err() {
            return;
        }
        let whole = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        fresh[..whole].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).for_each(told);
    }
}
