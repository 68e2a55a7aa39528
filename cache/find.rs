//! Finding actions by the first digits of their keys, as people type them. Reads names only.

use crate::files::{listed, name_of};
use crate::store::Store;
use crate::{ActionKey, CacheError};

impl Store {
    /// The actions with a record whose keys begin with these hex digits, sorted; fewer than two digits find none.
    pub fn actions_by_prefix(&self, prefix: &str) -> Result<Vec<ActionKey>, CacheError> {
        let digits = prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let Some((fan, rest)) = prefix.split_at_checked(2).filter(|_| digits) else { return Ok(Vec::new()) };
        let listed = listed(&self.inner.layout.folder("actions").join(fan))?;
        let names = listed.iter().map(|path| name_of(path)).filter(|name| name.starts_with(rest));
        Ok(names.filter_map(|name| format!("{fan}{name}").parse().ok()).collect())
    }
}
