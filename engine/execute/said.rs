//! What a step with secrets says, on its way into the log without them. Read by the thread that follows the step:
//! steps without secrets write into their log themselves, which costs nothing.

use std::fs::File;
use std::io::{ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use super::redact::Redactor;

/// A pipe from a step, and the log it ends in.
pub(super) struct Said {
    /// `None` once all who could write are gone.
    pipe: Option<PipeReader>,
    log: File,
    redactor: Redactor,
    /// What may be the start of a secret.
    held: Vec<u8>,
}

impl Said {
    /// The pipe must not block.
    pub(super) fn new(pipe: PipeReader, log: File, redactor: Redactor) -> Self {
        Self { pipe: Some(pipe), log, redactor, held: Vec::new() }
    }

    /// What to wait for.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there.
    pub(super) fn pump(&mut self) {
        let mut chunk = [0; 64 * 1024];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.take(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        let mut stream = self.redactor.resume(std::mem::take(&mut self.held));
        let clean = stream.push(chunk);
        self.held = stream.held();
        self.write(&clean);
    }

    /// The step has ended: the rest, with what was held back. A daemon that escaped may keep the pipe open for ever,
    /// so nobody waits for its end.
    pub(super) fn close(mut self) {
        self.pump();
        let mut stream = self.redactor.resume(std::mem::take(&mut self.held));
        let rest = stream.finish();
        self.write(&rest);
    }

    // A full disk loses log lines; it must not fail a step whose outputs are fine.
    fn write(&mut self, clean: &[u8]) {
        if let Err(error) = self.log.write_all(clean) {
            tracing::debug!("what a step said is lost: {error}");
        }
    }
}
