//! How much of a large blob has come or gone: counted by the work, told by whoever waits for it. What is told adds up to
//! the blob's length once it is done, and never to more: of what is asked for again nothing is told twice.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that have passed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Passage(Arc<AtomicU64>);

impl Passage {
    pub(super) fn count(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What is written into `to` passes.
    pub(super) fn counting<'p, W>(&'p self, to: &'p mut W) -> Counted<'p, W> {
        Counted { passage: self, to }
    }
}

/// A file whose bytes are counted as they are written.
pub(super) struct Counted<'p, W> {
    passage: &'p Passage,
    to: &'p mut W,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.passage.count(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Tells how far a blob is.
pub(super) struct Teller<'t> {
    passage: Passage,
    size: u64,
    told: u64,
    progress: &'t (dyn Fn(u64) + Sync),
}

impl<'t> Teller<'t> {
    pub(super) fn new(passage: &Passage, size: u64, progress: &'t (dyn Fn(u64) + Sync)) -> Teller<'t> {
        Teller { passage: passage.clone(), size, told: 0, progress }
    }

    /// What has passed since the last time.
    pub(super) fn tell(&mut self) {
        self.tell_up_to(self.passage.0.load(Ordering::Relaxed).min(self.size));
    }

    /// It is there, however it came.
    pub(super) fn done(mut self) {
        self.tell_up_to(self.size);
    }

    fn tell_up_to(&mut self, passed: u64) {
        if let Some(new) = passed.checked_sub(self.told).filter(|new| *new > 0) {
            self.told = passed;
            (self.progress)(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_adds_up_to_the_length_and_never_to_more() {
        let (passage, told) = (Passage::default(), AtomicU64::new(0));
        let progress = |bytes| {
            told.fetch_add(bytes, Ordering::Relaxed);
        };
        let mut teller = Teller::new(&passage, 100, &progress);
        let mut file = Vec::new();
        passage.counting(&mut file).write_all(&[0; 60]).unwrap();
        teller.tell();
        assert_eq!(told.load(Ordering::Relaxed), 60);
        // Once more from the beginning.
        passage.counting(&mut file).write_all(&[0; 60]).unwrap();
        teller.tell();
        assert_eq!(told.load(Ordering::Relaxed), 100);
        teller.done();
        assert_eq!((told.load(Ordering::Relaxed), file.len()), (100, 120));
    }
}
