//! Pins: results that are never collected. `pins/ACTION` is the line `plumb-pin 1`, then a note for people.

use std::fs;
use std::io::ErrorKind;

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
        let temp = self.session("pinning a result")?.fresh();
        let new = !path.exists();
        let written = files::write_through(&temp, format!("{HEADER}{}\n", note.trim()).as_bytes(), Durability::Disk);
        let placed = written.and_then(|()| files::make_parent(&path)).and_then(|()| fs::rename(&temp, &path));
        placed.map(|()| new).map_err(|source| CacheError::writing("pinning", &path, source))
    }

    /// Takes a pin out; says whether there was one.
    pub fn unpin(&self, action: &ActionKey) -> Result<bool, CacheError> {
        self.must_write("unpinning a result")?;
        let path = self.inner.layout.pin(action);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(CacheError::writing("unpinning", &path, source)),
        }
    }

    /// Every pin, by action. A file whose note does not read pins all the same.
    pub fn pins(&self) -> Result<Vec<Pin>, CacheError> {
        let folder = self.inner.layout.folder("pins");
        let failed = |source| CacheError::system("listing", &folder, source);
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(failed)?,
        };
        let mut pins = Vec::new();
        for entry in listed {
            let name = entry.map_err(failed)?.file_name();
            let Some(action) = name.to_str().and_then(|name| name.parse::<ActionKey>().ok()) else { continue };
            let text = read_if_there(&folder.join(&name))?.unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let note = text.strip_prefix(HEADER).unwrap_or_default().trim().to_owned();
            pins.push(Pin { action, note });
        }
        pins.sort_by_key(|pin| pin.action);
        Ok(pins)
    }
}
