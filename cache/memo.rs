//! Memos: what could be found out again and is kept to save the time, each in one file: `steps` of a file, the
//! `lineage` and the `records` of a pipeline. Only a memory: a memo that is damaged, cut or gone is none, and the next one replaces it.
//!
//! ```text
//! plumb-memo 1\n   checksum (32)   the rest
//! ```

use std::fs;

use bytes::Bytes;

use crate::files::Durability;
use crate::store::Store;
use crate::{CacheError, Digest};

const HEADER: &[u8] = b"plumb-memo 1\n";

impl Store {
    /// What was kept of this thing, if it is whole.
    pub fn memo(&self, what: &'static str, of: &str) -> Option<Bytes> {
        let bytes = Bytes::from(fs::read(self.inner.layout.memo(what, of)).ok()?);
        opened(&bytes).map(|body| bytes.slice_ref(body))
    }

    /// Keeps something, instead of what was kept. Two processes may do so at once: either is right.
    pub fn keep_memo(&self, what: &'static str, of: &str, bytes: &[u8]) -> Result<(), CacheError> {
        self.must_write("keeping a memo")?;
        let path = self.inner.layout.memo(what, of);
        let whole = [HEADER, Digest::of(bytes).as_bytes(), bytes].concat();
        self.replace(&path, &whole, Durability::Memory, "writing")
    }
}

fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, body) = bytes.strip_prefix(HEADER)?.split_at_checked(32)?;
    (Digest::of(body).as_bytes() == sum).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    #[test]
    fn what_was_kept_is_found_and_the_last_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(store.memo("lineage", "one"), None);
        for bytes in [b"first".as_slice(), b"", b"last"] {
            store.keep_memo("lineage", "one", bytes).unwrap();
            assert_eq!(store.memo("lineage", "one").unwrap(), bytes);
        }
        assert_eq!(store.memo("lineage", "other"), None);
        assert_eq!(store.memo("steps", "one"), None);
    }

    #[test]
    fn a_damaged_memo_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        store.keep_memo("lineage", "one", b"what was found out").unwrap();
        let path = store.inner.layout.memo("lineage", "one");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(store.memo("lineage", "one"), None, "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(store.memo("lineage", "one"), None, "cut at {at}");
        }
    }
}
