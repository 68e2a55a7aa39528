//! Finding actions by the first digits of their keys, as people type them. Reads names only.

use std::fs;
use std::io::ErrorKind;

use crate::store::Store;
use crate::{ActionKey, CacheError};

impl Store {
    /// The actions with a record whose keys begin with these hex digits, sorted; fewer than two digits find none.
    pub fn actions_by_prefix(&self, prefix: &str) -> Result<Vec<ActionKey>, CacheError> {
        let digits = prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let Some((fan, rest)) = prefix.split_at_checked(2).filter(|_| digits) else { return Ok(Vec::new()) };
        let folder = self.inner.layout.folder("actions").join(fan);
        let failed = |source| CacheError::system("listing", &folder, source);
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in listed {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            if name.starts_with(rest) {
                found.extend(format!("{fan}{name}").parse::<ActionKey>().ok());
            }
        }
        found.sort();
        Ok(found)
    }
}
