//! Reads a step's events as they are appended to its file. A step may write anything there, and as much as it likes:
//! what is held at once is bounded, and what is no event is nobody's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::redact::Redactor;
use crate::protocol::StepEvent;

/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;
/// A longer line is no event, and is not waited for.
const LONGEST_LINE: usize = 1 << 20;

/// Reads whole lines as they are appended to a file that may not be there yet.
pub(super) struct Follower<'a> {
    path: PathBuf,
    read: u64,
    /// The start of a line whose end is not there yet.
    begun: Vec<u8>,
    /// Inside a line that is too long.
    skipping: bool,
    redactor: &'a Redactor,
}

impl<'a> Follower<'a> {
    pub(super) fn new(path: &Path, redactor: &'a Redactor) -> Self {
        Self { path: path.to_owned(), read: 0, begun: Vec::new(), skipping: false, redactor }
    }

    /// Tells what is new.
    pub(super) fn read(&mut self, told: &mut dyn FnMut(StepEvent)) {
        let Ok(mut file) = File::open(&self.path) else { return };
        if file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        loop {
            let mut fresh = Vec::new();
            match Read::by_ref(&mut file).take(CHUNK).read_to_end(&mut fresh) {
                Ok(length) if length > 0 => self.read += length as u64,
                _ => return,
            }
            self.take(&fresh, told);
        }
    }

    fn take(&mut self, fresh: &[u8], told: &mut dyn FnMut(StepEvent)) {
        let mut lines = fresh.split(|byte| *byte == b'\n');
        let unfinished = lines.next_back().unwrap_or_default();
        for line in lines {
            self.begin(line);
            self.end(told);
        }
        self.begin(unfinished);
    }

    fn begin(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > LONGEST_LINE {
            self.begun = Vec::new();
            self.skipping = true;
        } else if !self.skipping {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self, told: &mut dyn FnMut(StepEvent)) {
        let line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.skipping) {
            return;
        }
        let clean = if self.redactor.is_idle() { line } else { self.redactor.whole(&line) };
        if let Ok(event) = serde_json::from_slice(&clean) {
            told(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const EVENT: &str = "{\"event\":\"checkpoint\",\"step\":7}\n";

    /// What is told of a file that grows by these pieces.
    fn told(pieces: &[Vec<u8>]) -> usize {
        let redactor = Redactor::default();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut follower = Follower::new(file.path(), &redactor);
        let mut events = 0;
        for piece in pieces {
            file.write_all(piece).unwrap();
            follower.read(&mut |event| {
                assert_eq!(event, StepEvent::Checkpoint { step: 7 });
                events += 1;
            });
        }
        events
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_and_hides_no_later_event() {
        let endless = vec![b'x'; 3 * LONGEST_LINE];
        assert_eq!(told(&[EVENT.into(), endless, b"more\n".to_vec(), EVENT.into()]), 2);
    }

    proptest! {
        #[test]
        fn events_are_told_wherever_the_writes_end(cuts in prop::collection::vec(1_usize..40, 0..12)) {
            let text = EVENT.repeat(5).into_bytes();
            let (mut pieces, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece.to_vec());
                rest = more;
            }
            pieces.push(rest.to_vec());
            prop_assert_eq!(told(&pieces), 5);
        }

        #[test]
        fn no_bytes_between_events_make_the_reader_stumble(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let noise: Vec<u8> = noise.into_iter().filter(|byte| *byte != b'\n').chain([b'\n']).collect();
            prop_assert_eq!(told(&[EVENT.into(), noise, EVENT.into()]), 2);
        }
    }
}
