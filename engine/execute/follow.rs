//! Reads a step's events as they are appended to its file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::redact::Redactor;
use crate::protocol::StepEvent;

/// Reads whole lines as they are appended to a file that may not be there yet.
pub(super) struct Follower<'a> {
    path: PathBuf,
    read: u64,
    redactor: &'a Redactor,
}

impl<'a> Follower<'a> {
    pub(super) fn new(path: &Path, redactor: &'a Redactor) -> Self {
        Self { path: path.to_owned(), read: 0, redactor }
    }

    /// Tells what is new. A line that is no event is nobody's.
    pub(super) fn read(&mut self, told: &mut dyn FnMut(StepEvent)) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut fresh = Vec::new();
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut fresh)).is_err() {
            return;
        }
        let whole = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        let clean =
            if self.redactor.is_idle() { fresh[..whole].to_vec() } else { self.redactor.whole(&fresh[..whole]) };
        clean.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).for_each(told);
    }
}
