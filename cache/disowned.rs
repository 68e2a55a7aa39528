//! Disowned results: an empty file `disowned/ACTION` says that the record of this action is not to be used, nor what
//! was made from it. A new result of the action takes the mark away. Reads the folder once a store: a run keeps to
//! what was disowned when it began.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;

use crate::store::{Store, lock};
use crate::{ActionKey, CacheError};

impl Store {
    /// Whether any result is disowned: if none is, no ancestry has to be looked at.
    pub fn any_disowned(&self) -> Result<bool, CacheError> {
        self.with_disowned(|marks| !marks.is_empty())
    }

    /// Whether the record of this action is not to be used.
    pub fn is_disowned(&self, key: &ActionKey) -> Result<bool, CacheError> {
        self.with_disowned(|marks| marks.contains(key))
    }

    /// Disowns the record of an action.
    pub fn disown(&self, key: &ActionKey) -> Result<(), CacheError> {
        self.must_write("disowning a result")?;
        let path = self.inner.layout.disowned(key);
        let folder = self.inner.layout.folder("disowned");
        let made = fs::create_dir_all(&folder).and_then(|()| fs::File::create(&path).map(drop));
        made.map_err(|source| CacheError::writing("disowning", &path, source))?;
        self.with_disowned_mut(|marks| {
            marks.insert(*key);
        })
    }

    /// Takes the mark away again.
    pub fn own_again(&self, key: &ActionKey) -> Result<(), CacheError> {
        let path = self.inner.layout.disowned(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(CacheError::writing("removing", &path, error));
            }
            _ => {}
        }
        self.with_disowned_mut(|marks| {
            marks.remove(key);
        })
    }

    fn with_disowned<T>(&self, look: impl FnOnce(&BTreeSet<ActionKey>) -> T) -> Result<T, CacheError> {
        let mut known = lock(&self.inner.disowned);
        let marks = match known.take() {
            Some(marks) => marks,
            None => self.read_disowned()?,
        };
        Ok(look(known.insert(marks)))
    }

    fn with_disowned_mut(&self, change: impl FnOnce(&mut BTreeSet<ActionKey>)) -> Result<(), CacheError> {
        self.with_disowned(|_| ())?;
        if let Some(marks) = lock(&self.inner.disowned).as_mut() {
            change(marks);
        }
        Ok(())
    }

    fn read_disowned(&self) -> Result<BTreeSet<ActionKey>, CacheError> {
        let folder = self.inner.layout.folder("disowned");
        let failed = |source| CacheError::system("listing", &folder, source);
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            listed => listed.map_err(failed)?,
        };
        let mut marks = BTreeSet::new();
        for entry in listed {
            let name = entry.map_err(failed)?.file_name();
            marks.extend(name.to_str().and_then(|name| name.parse::<ActionKey>().ok()));
        }
        Ok(marks)
    }
}
