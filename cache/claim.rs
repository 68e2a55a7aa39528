//! Claims: who is running which action just now. Advisory: whoever ignores them gets a result or a witness, never a
//! wrong one. A claim is let go when its holder drops it or dies; nobody waits in here.

use std::fs;

use crate::lock::FileLock;
use crate::session::holder;
use crate::store::Store;
use crate::{ActionKey, CacheError};

/// A held claim; let go when dropped.
#[derive(Debug)]
pub struct Claim {
    key: ActionKey,
    _lock: FileLock,
}

impl Claim {
    /// The action that is claimed.
    pub fn key(&self) -> &ActionKey {
        &self.key
    }
}

/// What became of asking for a claim.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Mine(Claim),
    /// Another runner has it.
    Held {
        /// Who, in its own words, with host and process.
        by: String,
    },
}

impl Store {
    /// Asks for the claim on an action, without waiting.
    pub fn claim(&self, key: &ActionKey, who: &str) -> Result<Claimed, CacheError> {
        self.must_write("claiming an action")?;
        let path = self.inner.layout.claim(key);
        let taken = FileLock::try_take(&path, &format!("{who} ({})\n", holder()));
        match taken.map_err(|source| CacheError::writing("claiming", &path, source))? {
            Some(lock) => Ok(Claimed::Mine(Claim { key: *key, _lock: lock })),
            None => {
                let by = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                Ok(Claimed::Held { by: if by.is_empty() { "another runner".into() } else { by } })
            }
        }
    }
}
