//! The `run` table of a stage: resources, limits, retries, secrets, sandbox. Manner only, so nothing here enters a
//! key. Reading it from TOML is `pipeline/settings.rs`; what it means for scheduling is `execute/slots.rs`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::io::Manner;

/// One key of the `run` table, for `plumb show run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What may be written there.
    pub is: &'static str,
    /// What it does.
    pub about: &'static str,
}

/// The keys of the `run` table. A test holds them against the reader.
pub const KEYS: [Key; 14] = [
    Key { name: "cpu", is: "1", about: "CPUs it takes; numeric code uses as many threads" },
    Key { name: "threads", is: "as cpu", about: "threads of numeric code, where that differs" },
    Key {
        name: "device",
        is: "\"auto\"",
        about: "`cpu`, `cuda`, `cuda:1` (the second of its own GPUs), or `auto`: a GPU if it was given one",
    },
    Key {
        name: "gpu",
        is: "0",
        about: "GPUs it is given, through CUDA_VISIBLE_DEVICES, and sees no others; \"auto\": one if there is one",
    },
    Key { name: "gpu_share", is: "1", about: "how many steps it bears on each of its GPUs, itself included" },
    Key {
        name: "mem",
        is: "\"64GiB\"",
        about: "memory that is kept for it. Ten times a second the memory of its processes is added up (shared pages once); a step that holds more is killed and has failed as `oom`",
    },
    Key {
        name: "disk",
        is: "\"1TiB\"",
        about: "space on the cache's disk that is kept for it. Twice a second what lies in its outputs, working and state folders is added up; a step that fills more is killed and has failed",
    },
    Key {
        name: "time",
        is: "\"1h30m\"",
        about: "after so long it is asked to end, ten seconds later killed; failed as `timeout`",
    },
    Key {
        name: "retry",
        is: "{ max = 2, on = [\"oom\", \"preempted\", \"timeout\", \"failed\"], backoff = \"30s\" }",
        about: "other attempts, for these causes (left out: any); `backoff` is the pause before the first, each further one is twice as long. Checkpoints in its state folder stay",
    },
    Key {
        name: "secrets",
        is: "[\"NAME\", { name = \"OTHER\", file = \"~/.token\" }]",
        about: "given in its environment, taken from the caller's or from a file; what it says shows their names instead",
    },
    Key {
        name: "sandbox",
        is: "true, { mount = [\"/opt/conda\"] }",
        about: "runs a `command` under bubblewrap: no network; of the file system the machine's programs, its inputs and these, read-only",
    },
    Key {
        name: "endpoint",
        is: "{ url = \"http://127.0.0.1:8000/v1\", api_key = \"NAME\", concurrency = 16, timeout = \"10m\", max_retries = 5, prompt_price = 0.0, completion_price = 0.0 }",
        about: "the OpenAI-compatible server that a judge is asked at; `api_key` names one of its `secrets`, prices are for a million tokens",
    },
    Key {
        name: "max_requests",
        is: "10000",
        about: "it asks no more than this often, answers that were kept and attempts that failed aside and included; 0 only says what it would ask",
    },
    Key {
        name: "max_cost",
        is: "5.0",
        about: "it asks no more once its requests cost this much, by the prices of `endpoint`",
    },
];

/// Why an attempt may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryCause {
    /// Killed for memory, or out of memory on a GPU.
    Oom,
    /// Ended by somebody else's signal.
    Preempted,
    /// Ran past `time`.
    Timeout,
    /// Any other failure.
    Failed,
}

/// How many GPUs a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gpus {
    /// This many. A step sees the GPUs that it was given and no others, so 0 hides them all.
    Exactly(usize),
    /// One where the machine offers any, else none.
    IfAny,
}

impl Gpus {
    /// How many at most.
    pub fn most(self) -> usize {
        match self {
            Self::Exactly(count) => count,
            Self::IfAny => 1,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Exactly(count) => count.to_string(),
            Self::IfAny => "auto".into(),
        }
    }
}

/// A secret by name; its value is read when the step starts and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The variable under which the step sees it.
    pub name: String,
    /// Where its value is.
    pub from: SecretPlace,
}

/// Where the value of a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretPlace {
    /// In the runner's environment, under the secret's name.
    Environment,
    /// In a file: the whole of it but for the line's end; `~/` is the home folder, else from the pipeline's folder.
    File(PathBuf),
}

/// A step under bubblewrap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sandbox {
    /// Folders and files that are mounted read-only beside the system's, such as a Python environment.
    pub mount: Vec<PathBuf>,
}

/// `run = { … }` after typing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// CPU slots.
    pub cpu: usize,
    /// GPUs, chosen by the scheduler.
    pub gpu: Gpus,
    /// How many steps may be on each of its GPUs at once, itself included.
    pub gpu_share: usize,
    /// Memory in bytes: reserved, and the step is ended when it holds more.
    pub mem: Option<u64>,
    /// Space on the cache's file system in bytes: reserved, and the step is ended when it fills more.
    pub disk: Option<u64>,
    /// Wall-clock limit.
    pub time: Option<Duration>,
    /// How often an attempt may be repeated.
    pub retries: u32,
    /// For which causes.
    pub retry_on: Vec<RetryCause>,
    /// The pause before the first repetition; each further one is twice as long.
    pub backoff: Duration,
    /// Secrets that it is given.
    pub secrets: Vec<Secret>,
    /// Whether it runs under bubblewrap.
    pub sandbox: Option<Sandbox>,
    /// Whom it asks, and how much.
    pub asking: Asking,
    /// Device and threads as the step sees them.
    pub manner: Manner,
}

/// Asking a remote service: the server and the limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Asking {
    /// The server.
    pub endpoint: Option<Endpoint>,
    /// Requests at most.
    pub max_requests: Option<u64>,
    /// Cost at most, in the currency of the prices.
    pub max_cost: Option<f64>,
}

/// An OpenAI-compatible server, and how it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Up to and including `/v1`.
    pub url: String,
    /// Which of the step's secrets is the key.
    pub api_key: Option<String>,
    /// Requests under way at once, at most; fewer while the server says that it is too many.
    pub concurrency: usize,
    /// How long one may take.
    pub timeout: Duration,
    /// How often a request is repeated that failed for a passing cause.
    pub max_retries: u32,
    /// Of a million tokens of prompts.
    pub prompt_price: f64,
    /// Of a million tokens of completions.
    pub completion_price: f64,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            url: String::new(),
            api_key: None,
            concurrency: 16,
            timeout: Duration::from_secs(600),
            max_retries: 5,
            prompt_price: 0.0,
            completion_price: 0.0,
        }
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            cpu: 1,
            gpu: Gpus::Exactly(0),
            gpu_share: 1,
            mem: None,
            disk: None,
            time: None,
            retries: 0,
            retry_on: Vec::new(),
            backoff: Duration::ZERO,
            secrets: Vec::new(),
            sandbox: None,
            asking: Asking::default(),
            manner: Manner::default(),
        }
    }
}

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl RunSettings {
    /// What a step is given, in words that are equal where the resources are: costs are compared among equals only.
    pub fn resources(&self) -> String {
        let Manner { device, threads } = &self.manner;
        format!("cpu {}, gpu {}, device {device}, threads {threads}", self.cpu, self.gpu.words())
    }

    /// The pause after the failure of this attempt (1-based): `backoff`, then twice that, and so on.
    pub fn pause_after(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(doubled).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let run = RunSettings { backoff: Duration::from_secs(10), ..RunSettings::default() };
        let pauses = [1, 2, 3, 20, u32::MAX].map(|attempt| run.pause_after(attempt).as_secs());
        assert_eq!(pauses, [10, 20, 40, 3600, 3600]);
        assert_eq!(RunSettings::default().pause_after(9), Duration::ZERO);
    }
}
