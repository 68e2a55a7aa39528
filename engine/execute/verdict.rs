//! What the end of a step's program means: done, or a failure with its cause.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::child;
use super::executor::{Ending, How, Launch};
use super::memory;
use super::slots::bytes;
use super::task::{Failure, Task, Trouble};
use crate::protocol::ExitMarker;
use crate::settings::RetryCause;
use crate::stage::StageError;

/// So much of a log's end is searched for complaints about memory.
const LAST_WORDS: u64 = 64 * 1024;

/// A program that has ended.
pub(super) struct Ended<'a> {
    pub(super) launch: &'a Launch,
    pub(super) ending: &'a Ending,
    /// Length of the log before it started.
    pub(super) before: u64,
}

/// How long the log of a launch is by now.
pub(super) fn log_length(launch: &Launch) -> u64 {
    fs::metadata(&launch.log).map_or(0, |log| log.len())
}

/// An attempt at a step that is to be judged.
pub(super) struct Verdict<'a> {
    pub(super) task: &'a Task,
    pub(super) ended: &'a Ended<'a>,
}

impl Verdict<'_> {
    /// The worker's environment if the step ended well.
    pub(super) fn of(&self, scratch: &Path) -> Result<BTreeMap<String, String>, Trouble> {
        let redactor = self.ended.launch.secrets.redactor();
        let marker = fs::read(scratch.join(child::EXIT)).ok().map(|text| redactor.whole(&text));
        let marker = marker.and_then(|text| serde_json::from_slice::<ExitMarker>(&text).ok());
        let open = self.task.kind.declaration().open;
        match (&self.ended.ending.how, marker) {
            (How::Exited(0), None) if open => Ok(BTreeMap::new()),
            (How::Exited(0), Some(ExitMarker { ok: true, environment, .. })) => Ok(environment),
            (How::Exited(_), Some(ExitMarker { error: Some(error), hint, .. })) if !open => {
                let oom = error.to_lowercase().contains("out of memory") || memory::complains(&error);
                failed(StageError { message: error, hint }, if oom { RetryCause::Oom } else { RetryCause::Failed })
            }
            (how, _) => Err(Trouble::Failed(self.failure(how))),
        }
    }

    fn failure(&self, how: &How) -> Failure {
        match how {
            How::Exited(137) | How::Signalled(9) => self.killed(how),
            How::Exited(_) | How::Signalled(_) if self.complains() => {
                Failure::new(StageError::new(format!("{}: it was out of memory", told(how))), RetryCause::Oom)
            }
            How::Exited(126 | 127) if self.task.kind.declaration().open => {
                let error = StageError::new(format!("{}: a command was not found", told(how)));
                let seen = "only `PATH` and `HOME` are passed on, and the working folder holds only `with.files`";
                Failure::new(error.hint(seen), RetryCause::Failed)
            }
            How::Signalled(15) => Failure::new(StageError::new(told(how)), RetryCause::Preempted),
            How::Exited(_) | How::Signalled(_) => Failure::new(StageError::new(told(how)), RetryCause::Failed),
            How::TimedOut => {
                let limit = self.task.run.time.unwrap_or_default().as_secs();
                let error = StageError::new(format!("the step ran past its time of {limit} s"));
                Failure::new(error.hint("raise `run.time`"), RetryCause::Timeout)
            }
            How::TooBig { held } => {
                let (held, limit) = (bytes(*held), bytes(self.task.run.mem.unwrap_or(0)));
                let error = StageError::new(format!("the step held {held} of memory, more than its {limit}"));
                Failure::new(error.hint("raise `run.mem`"), RetryCause::Oom)
            }
            How::Overfull { held } => {
                let (held, limit) = (bytes(*held), bytes(self.task.run.disk.unwrap_or(0)));
                let error = StageError::new(format!("the step filled {held} of disk, more than its {limit}"));
                Failure::new(error.hint("raise `run.disk`"), RetryCause::Failed)
            }
            How::Stopped => Failure::new(StageError::new("stopped"), RetryCause::Failed).by_the_user(),
            How::Lost => Failure::new(
                StageError::new("what followed the step was killed, and the step with it"),
                RetryCause::Preempted,
            ),
            How::NotStarted(why) => Failure::new(StageError::new(why.clone()), RetryCause::Failed),
        }
    }

    /// Somebody sent SIGKILL: the kernel where it counts one more, else perhaps the kernel.
    fn killed(&self, how: &How) -> Failure {
        let (why, cause) = match self.ended.ending.oom {
            Some(true) => ("the kernel killed it for want of memory", RetryCause::Oom),
            Some(false) => ("somebody killed it, and not the kernel for want of memory", RetryCause::Preempted),
            None => ("perhaps killed for want of memory", RetryCause::Oom),
        };
        Failure::new(StageError::new(format!("{}: {why}", told(how))), cause)
    }

    /// Whether this attempt's last words say that it was out of memory.
    fn complains(&self) -> bool {
        let words = || -> std::io::Result<Vec<u8>> {
            let mut log = File::open(&self.ended.launch.log)?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(self.ended.before.max(length.saturating_sub(LAST_WORDS))))?;
            let mut words = Vec::new();
            log.read_to_end(&mut words)?;
            Ok(words)
        };
        words().is_ok_and(|words| memory::complains(&String::from_utf8_lossy(&words)))
    }
}

fn failed<T>(error: StageError, cause: RetryCause) -> Result<T, Trouble> {
    Err(Trouble::Failed(Failure::new(error, cause)))
}

fn told(how: &How) -> String {
    match how {
        How::Exited(status) => format!("the program exited with status {status}"),
        How::Signalled(9) => "the program was killed (signal 9)".to_string(),
        How::Signalled(signal) => format!("the program died of signal {signal}"),
        _ => "the program ended".to_string(),
    }
}
