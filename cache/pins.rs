//! Pins: results that are never collected. `pins/ACTION` is the line `plumb-pin 1`, then a note for people.

use crate::files::{self, Durability};
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, CacheError};

const HEADER: &str = "plumb-pin 1\n";

/// A pinned action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The action whose result stays.
    pub action: ActionKey,
    /// Why, in the words of who pinned it.
    pub note: String,
}

impl Store {
    /// Pins the result of an action; says whether it was not pinned before.
    pub fn pin(&self, action: &ActionKey, note: &str) -> Result<bool, CacheError> {
        self.must_write("pinning a result")?;
        let path = self.inner.layout.pin(action);
        let new = !path.exists();
        let text = format!("{HEADER}{}\n", note.trim());
        self.replace(&path, text.as_bytes(), Durability::Disk, "pinning").map(|()| new)
    }

    /// Takes a pin out; says whether there was one.
    pub fn unpin(&self, action: &ActionKey) -> Result<bool, CacheError> {
        self.must_write("unpinning a result")?;
        files::remove_file(&self.inner.layout.pin(action))
    }

    /// Every pin, by action. A file whose note does not read pins all the same.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        let mut pins = Vec::new();
        for path in files::listed(&self.inner.layout.folder("pins"))? {
            let Ok(action) = files::name_of(&path).parse::<ActionKey>() else { continue };
            let text = read_if_there(&path)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let note = text.strip_prefix(HEADER).unwrap_or_default().trim().to_owned();
            pins.push(Pin { action, note });
        }
        Ok(pins)
    }
}
