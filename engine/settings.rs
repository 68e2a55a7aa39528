//! The `run` table of a stage: resources, limits, retries. Manner only, so nothing here enters a key.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::io::Manner;

/// Why an attempt may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryCause {
    /// Killed for memory.
    Oom,
    /// Taken away by the executor.
    Preempted,
    /// Ran past `time`.
    Timeout,
    /// Any other failure.
    Failed,
}

/// `run = { … }` after typing.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    /// CPU slots.
    pub cpu: usize,
    /// GPU slots.
    pub gpu: usize,
    /// Memory in bytes, where the user says.
    pub mem: Option<u64>,
    /// Wall-clock limit.
    pub time: Option<Duration>,
    /// How often an attempt may be repeated.
    pub retries: u32,
    /// For which causes.
    pub retry_on: Vec<RetryCause>,
    /// Device and threads as the step sees them.
    pub manner: Manner,
}

impl RunSettings {
    /// What a step is given, in words that are equal where the resources are: costs are compared among equals only.
    pub fn resources(&self) -> String {
        let Manner { device, threads } = &self.manner;
        format!("cpu {}, gpu {}, device {device}, threads {threads}", self.cpu, self.gpu)
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        Self { cpu: 1, gpu: 0, mem: None, time: None, retries: 0, retry_on: Vec::new(), manner: Manner::default() }
    }
}
