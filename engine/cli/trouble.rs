//! Why a command ends without having done what was asked, with its exit code. A failed step is no trouble of this
//! kind: the run's summary tells it.

use plumb_cache::CacheError;
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::error::{EngineError, ExitClass};

use crate::exit::Exit;
use crate::printer::Printer;
use crate::setup::SetupError;

/// An error of the command line.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The pipeline is wrong, or does not hold what was selected.
    #[error(transparent)]
    Pipeline(#[from] Diagnostics),
    /// The engine could not plan or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The command line asks for what is not there.
    #[error("{message}")]
    Usage {
        /// What is wrong, and what was expected.
        message: String,
        /// What to type.
        hint: Option<String>,
    },
    /// There is no result yet, or it could not be copied.
    #[error("{message}")]
    Failed {
        /// What is missing or went wrong.
        message: String,
        /// What to type.
        hint: Option<String>,
    },
    /// `plumb setup` stopped.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl From<CacheError> for Trouble {
    fn from(error: CacheError) -> Self {
        Self::Engine(error.into())
    }
}

impl Trouble {
    /// The command line is wrong.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// What was asked for could not be done.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: Some(hint.into()) }
    }

    /// A file of the user's could not be used.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Failed { message: format!("{doing} `{}`: {error}", path.display()), hint: None }
    }

    /// What the shell is told.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Pipeline(_) | Self::Usage { .. } => Exit::Wrong,
            Self::Failed { .. } => Exit::Failed,
            Self::Engine(EngineError::Bug(_)) => Exit::Bug,
            Self::Engine(error) => exit_of(error.class()),
            Self::Setup(error) => error.exit(),
        }
    }

    /// Prints it. A pipeline's diagnostics bring their own places and hints.
    pub fn tell(&self, printer: &Printer) {
        match self {
            Self::Pipeline(diagnostics) => printer.note(diagnostics.render().trim_end()),
            Self::Engine(error) => {
                let elsewhere = "choose another cache with `--cache DIR` or `PLUMB_CACHE=DIR`";
                let cache = self.exit() == Exit::Cache;
                let hint = error.hint().or_else(|| cache.then(|| elsewhere.into()));
                printer.error(&error.to_string(), hint.as_deref());
            }
            Self::Usage { message, hint } | Self::Failed { message, hint } => printer.error(message, hint.as_deref()),
            Self::Setup(error) => printer.error(&error.to_string(), error.hint()),
        }
    }
}

/// The engine's word for an exit as the command line's.
pub fn exit_of(class: ExitClass) -> Exit {
    match class {
        ExitClass::Done => Exit::Done,
        ExitClass::StepFailed => Exit::Failed,
        ExitClass::BadInput => Exit::Wrong,
        ExitClass::Cache => Exit::Cache,
        ExitClass::Stopped => Exit::Stopped,
    }
}
