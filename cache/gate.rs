//! The gate between those who use results and the one who collects them. Whoever looks results up and then says that it
//! uses them, or stores bytes and then a record of them, holds the gate in between; the collector closes it, so that it
//! never sees half of either. Held for moments, never while a step runs.
//!
//! Two locks of the system: `gate` is shared by holders and taken whole by the collector. Shared locks could keep a
//! collector out for ever, so it takes `turnstile` first, through which every new holder has to pass.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::CacheError;
use crate::store::{Store, lock};

/// The gate is held, and nothing is collected; let go when dropped.
#[derive(Debug)]
pub struct Hold {
    store: Store,
}

/// This process's part in the gate: its holders share one lock, so that a holder that asks again never waits for a
/// collector that waits for it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    holders: usize,
    _held: Option<File>,
}

/// The gate is closed: nobody uses or stores anything new. Opened when dropped.
#[derive(Debug)]
pub(crate) struct Closed {
    _turnstile: File,
    _gate: File,
}

impl Store {
    /// Holds the gate; waits while a collector is at work. Of a cache that cannot be written nothing is held.
    pub fn hold(&self) -> Result<Hold, CacheError> {
        let mut gate = lock(&self.inner.gate);
        if gate.holders == 0 && self.writable() {
            gate._held = Some(self.pass()?);
        }
        gate.holders += 1;
        Ok(Hold { store: self.clone() })
    }

    fn pass(&self) -> Result<File, CacheError> {
        let turnstile = self.lock_file("turnstile")?;
        let gate = self.lock_file("gate")?;
        let passed = turnstile.lock_shared().and_then(|()| gate.lock_shared());
        passed.map_err(|source| CacheError::system("locking", self.inner.layout.base(), source))?;
        Ok(gate)
    }

    /// Closes the gate. `waiting` is told if somebody has to be waited for.
    pub(crate) fn close_gate(&self, waiting: &mut dyn FnMut()) -> Result<Closed, CacheError> {
        self.must_write("collecting")?;
        let turnstile = self.lock_file("turnstile")?;
        let gate = self.lock_file("gate")?;
        let mut told = false;
        for file in [&turnstile, &gate] {
            match file.try_lock() {
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(CacheError::system("locking", self.root(), source)),
            }
            if !std::mem::replace(&mut told, true) {
                waiting();
            }
            file.lock().map_err(|source| CacheError::system("locking", self.root(), source))?;
        }
        Ok(Closed { _turnstile: turnstile, _gate: gate })
    }

    fn lock_file(&self, name: &'static str) -> Result<File, CacheError> {
        let path = self.inner.layout.folder(name);
        open(&path).map_err(|source| CacheError::writing("opening the lock", &path, source))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut gate = lock(&self.store.inner.gate);
        gate.holders -= 1;
        if gate.holders == 0 {
            gate._held = None;
        }
    }
}
