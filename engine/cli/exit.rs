//! What the command line tells the shell when it ends.

use std::process::ExitCode;

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for is done.
    Done,
    /// A step failed.
    Failed,
    /// The pipeline or the command line is wrong.
    Wrong,
    /// The cache cannot be used.
    Cache,
    /// A bug of ours.
    Bug,
    /// The user stopped the run.
    Stopped,
}

impl Exit {
    /// What another `plumb` has told the shell; a bug where it was killed.
    pub fn from_code(code: Option<i32>) -> Self {
        match code {
            Some(0) => Self::Done,
            Some(1) => Self::Failed,
            Some(2) => Self::Wrong,
            Some(3) => Self::Cache,
            Some(130) => Self::Stopped,
            _ => Self::Bug,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Wrong => 2,
            Exit::Cache => 3,
            Exit::Bug => 101,
            Exit::Stopped => 130,
        })
    }
}
