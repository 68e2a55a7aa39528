//! Where steps run: one trait, so that a cluster can stand where the local machine does. An executor starts a
//! program in a prepared scratch folder and follows it; it knows no key, no record and no pipeline.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::secrets::Secrets;
use super::stop::Stop;
use crate::protocol::StepEvent;

/// A program that is ready to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its working folder.
    pub folder: PathBuf,
    /// Its environment.
    pub environment: Environment,
    /// CPUs that are kept for it.
    #[serde(default)]
    pub cpu: usize,
    /// The GPUs it may use, as `CUDA_VISIBLE_DEVICES` names them; it sees no others.
    pub gpus: Vec<String>,
    /// How many steps it bears on each of its GPUs, itself included.
    #[serde(default)]
    pub gpu_share: usize,
    /// What else stands in its environment, and never in what it says.
    #[serde(skip)]
    pub secrets: Secrets,
    /// The machine that it runs on.
    #[serde(default)]
    pub host: String,
    /// Where its standard output and standard error go.
    pub log: PathBuf,
    /// Where it may append its events.
    pub events: PathBuf,
    /// How long it may run.
    pub time: Option<Duration>,
    /// How many bytes of memory it and its descendants may hold.
    pub mem: Option<u64>,
    /// How many bytes it may fill in the folders that it writes to.
    #[serde(default)]
    pub disk: Option<u64>,
    /// Those folders.
    #[serde(default)]
    pub writes: Vec<PathBuf>,
}

/// What a program sees of the runner's environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Environment {
    /// All of it: workers of the house.
    Inherited,
    /// `PATH`, `HOME` and these: programs of the user.
    Closed(BTreeMap<String, String>),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It ran past its time and was killed.
    TimedOut,
    /// It held more memory than it may and was killed.
    TooBig {
        /// How much it held.
        held: u64,
    },
    /// It filled more disk than it may and was killed.
    Overfull {
        /// How much it filled.
        held: u64,
    },
    /// The user stopped it.
    Stopped,
    /// It could not be started.
    NotStarted(String),
    /// Whoever followed it was killed, and it with them.
    Lost,
}

/// A program's end and what it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ending {
    /// How it ended.
    pub how: How,
    /// Where it was killed: whether the kernel did it for want of memory; `None` where nobody tells.
    pub oom: Option<bool>,
    /// From start to end.
    pub wall: Duration,
    /// User and system time of it and its children.
    pub cpu: Duration,
    /// The most memory one of its processes held.
    pub peak_memory_bytes: u64,
}

impl Ending {
    /// Of what never ran, or of which nothing is known.
    pub fn without_a_process(how: How, wall: Duration) -> Self {
        Self { how, oom: None, wall, cpu: Duration::ZERO, peak_memory_bytes: 0 }
    }
}

/// Runs programs.
pub trait Executor: Send + Sync {
    /// What a run's history calls it.
    fn name(&self) -> &'static str {
        "local"
    }

    /// Runs a program to its end, tells its events as they come, and heeds `stop`. Blocks its thread.
    fn run(&self, launch: &Launch, stop: &Stop, told: &mut dyn FnMut(StepEvent)) -> Ending;
}
