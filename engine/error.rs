//! What the engine returns when a plan or a run cannot go on at all. A failed step is no such error: it is told as
//! an event and counted in the summary. Each error belongs to a class of exit codes.

use std::path::{Path, PathBuf};

use plumb_cache::CacheError;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// 0: everything is done.
    Done,
    /// 1: a step failed.
    StepFailed,
    /// 2: the pipeline or the command line is wrong.
    BadInput,
    /// 3: the cache cannot be used.
    Cache,
    /// 130: the user stopped it.
    Stopped,
}

impl ExitClass {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            ExitClass::Done => 0,
            ExitClass::StepFailed => 1,
            ExitClass::BadInput => 2,
            ExitClass::Cache => 3,
            ExitClass::Stopped => 130,
        }
    }
}

/// An error that ends a plan or a run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The pipeline asks for what cannot be.
    #[error("{message}")]
    Pipeline {
        /// What and where.
        message: String,
        /// What to type.
        hint: Option<String>,
    },
    /// A source or a listed file cannot be read.
    #[error("{what} `{name}` cannot be read: {source}")]
    Source {
        /// `source`, or `file of step`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        source: CacheError,
    },
    /// A source cannot be had from where it lies.
    #[error("source `{name}`: {message}")]
    Fetch {
        /// Its name.
        name: String,
        /// What was asked for, and what came of it.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Sources are not what the lock file pins, or the lock file cannot be used.
    #[error("{message}")]
    Lock {
        /// Each source, with what is pinned and what is there.
        message: String,
        /// What to type.
        hint: Option<String>,
    },
    /// A probe of a `command` step failed.
    #[error("the probe `{probe}` of step `{step}` failed: {why}")]
    Probe {
        /// The program and its arguments.
        probe: String,
        /// Address of the step.
        step: String,
        /// Its exit status, or why it could not be started.
        why: String,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file of the engine's own (history, logs) cannot be used.
    #[error("{doing} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A step that somebody asked about is not there, or has no result.
    #[error("{message}")]
    NoResult {
        /// What is missing.
        message: String,
        /// What to type.
        hint: Option<String>,
    },
    /// Something that must not happen.
    #[error("this is a bug of plumb: {0}")]
    Bug(String),
}

impl EngineError {
    /// The exit code's class.
    pub fn class(&self) -> ExitClass {
        match self {
            EngineError::Pipeline { .. }
            | EngineError::Source { .. }
            | EngineError::Fetch { .. }
            | EngineError::Lock { .. }
            | EngineError::Probe { .. } => ExitClass::BadInput,
            EngineError::Cache(_) | EngineError::Io { .. } => ExitClass::Cache,
            EngineError::NoResult { .. } | EngineError::Bug(_) => ExitClass::StepFailed,
        }
    }

    /// What the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::Pipeline { hint, .. }
            | EngineError::NoResult { hint, .. }
            | EngineError::Fetch { hint, .. }
            | EngineError::Lock { hint, .. } => hint.clone(),
            EngineError::Cache(error) | EngineError::Source { source: error, .. } => error.hint(),
            EngineError::Probe { .. } => Some("run it by hand in the pipeline's folder to see why".into()),
            EngineError::Bug(_) => Some("please report it with the command you typed".into()),
            EngineError::Io { .. } => None,
        }
    }

    /// An error of the system on a file of the engine's own.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.to_owned();
        move |source| EngineError::Io { doing, path, source }
    }
}
