//! Where steps run: one trait, so that a cluster can stand where the local machine does. An executor starts a
//! program in a prepared scratch folder and follows it; it knows no key, no record and no pipeline.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::stop::Stop;
use crate::protocol::StepEvent;

/// A program that is ready to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its working folder.
    pub folder: PathBuf,
    /// Its environment.
    pub environment: Environment,
    /// The GPUs it may use; `None` leaves the choice to it.
    pub gpus: Option<Vec<u32>>,
    /// Where its standard output and standard error go.
    pub log: PathBuf,
    /// Where it may append its events.
    pub events: PathBuf,
    /// How long it may run.
    pub time: Option<Duration>,
}

/// What a program sees of the runner's environment.
#[derive(Debug, Clone)]
pub enum Environment {
    /// All of it: workers of the house.
    Inherited,
    /// `PATH`, `HOME` and these: programs of the user.
    Closed(BTreeMap<String, String>),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It ran past its time and was killed.
    TimedOut,
    /// The user stopped it.
    Stopped,
    /// It could not be started.
    NotStarted(String),
}

/// A program's end and what it took.
#[derive(Debug, Clone)]
pub struct Ending {
    /// How it ended.
    pub how: How,
    /// From start to end.
    pub wall: Duration,
    /// User and system time of it and its children.
    pub cpu: Duration,
    /// The most memory one of its processes held.
    pub peak_memory_bytes: u64,
}

/// Runs programs.
pub trait Executor: Send + Sync {
    /// Runs a program to its end, tells its events as they come, and heeds `stop`. Blocks its thread.
    fn run(&self, launch: &Launch, stop: &Stop, told: &mut dyn FnMut(StepEvent)) -> Ending;
}
