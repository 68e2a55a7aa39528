//! Sources that are not what the lock file pins: the sentences that tell it, with what is pinned, what is there now,
//! and the command that accepts it.

use std::fmt::Write as _;
use std::path::Path;

use super::Known;
use super::lock::{LockFile, Pin};
use crate::error::EngineError;
use crate::graph::Source;

/// One source that is not as pinned.
#[derive(Debug)]
pub struct Drift<'a> {
    /// The source.
    pub source: &'a Source,
    /// What is pinned; nothing for a source that is not in the lock file.
    pub pin: Option<&'a Pin>,
    /// What is there, if it was looked at.
    pub now: Option<Known>,
}

/// The error of all that drifted.
pub fn error(pipeline: &Path, drifts: &[Drift<'_>]) -> EngineError {
    let lock = LockFile::place(pipeline);
    let lock = lock.file_name().unwrap_or_default().to_string_lossy();
    let told: Vec<String> = drifts.iter().map(|drift| drift.text(&lock)).collect();
    let names: Vec<&str> = drifts.iter().map(|drift| drift.source.name.as_str()).collect();
    let command = format!("`plumb lock {} {}`", pipeline.display(), names.join(" "));
    let hint = match drifts.iter().all(|drift| drift.pin.is_none()) {
        true => format!("pin what is there now: {command}"),
        false => format!("if the change is meant, accept it: {command}; if not, put the pinned bytes back"),
    };
    EngineError::Lock { message: told.join("\n"), hint: Some(hint) }
}

impl Drift<'_> {
    fn text(&self, lock: &str) -> String {
        let name = &self.source.name;
        let mut text = match self.pin {
            None => format!("source `{name}` is not pinned in `{lock}`"),
            Some(pin) if pin.from != self.source.written => {
                format!("source `{name}` is another one than `{lock}` pins")
            }
            Some(_) => format!("source `{name}` is not what `{lock}` pins"),
        };
        let elsewhere = self.pin.is_some_and(|pin| pin.from != self.source.written);
        if let Some(pin) = self.pin {
            let _ = write!(text, "\n  pinned  {}  {} bytes  accepted {}", pin.digest, pin.size, pin.pinned_at);
            let _ = write!(text, "{}", versioned(pin.version.as_deref()));
            if elsewhere {
                let _ = write!(text, "  from `{}`", pin.from);
            }
        }
        let Some(now) = &self.now else {
            let _ = write!(text, "\n  now     from `{}`", self.source.written);
            return text;
        };
        let _ = write!(text, "\n  now     {}  {} bytes", now.artifact.identity(), now.artifact.size);
        if let Some(changed) = &now.changed_at {
            let _ = write!(text, "  changed {changed}");
        }
        let _ = write!(text, "{}", versioned(now.version.as_deref()));
        if elsewhere {
            let _ = write!(text, "  from `{}`", self.source.written);
        }
        text
    }
}

fn versioned(version: Option<&str>) -> String {
    version.filter(|version| !version.is_empty()).map(|version| format!("  {version}")).unwrap_or_default()
}
