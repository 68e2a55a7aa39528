//! The scratch space of one process: a folder in the cache, held by a lock, in which files are written before they get
//! their place and in which steps run. What a dead process left is swept by the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::CacheError;
use crate::lock::FileLock;

/// How many processes of one number a host can have: containers share cache folders and host names.
const NAMESAKES: u32 = 10_000;

/// The scratch folder of this process.
#[derive(Debug)]
pub(crate) struct Session {
    folder: PathBuf,
    next: AtomicU64,
    _lock: FileLock,
}

impl Session {
    /// Makes the folder of this process under `scratch`.
    pub(crate) fn start(scratch: &Path) -> Result<Session, CacheError> {
        let failed = |source| CacheError::writing("making a scratch folder in", scratch, source);
        for namesake in 0..NAMESAKES {
            let name = format!("{}-{namesake}", holder());
            let lock = FileLock::try_take(&scratch.join(format!("{name}.lock")), "").map_err(failed)?;
            if let Some(lock) = lock {
                let folder = scratch.join(name);
                clear(&folder).and_then(|()| fs::create_dir(&folder)).map_err(failed)?;
                return Ok(Session { folder, next: AtomicU64::new(0), _lock: lock });
            }
        }
        Err(failed(io::Error::other("too many processes of this number hold a scratch folder")))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path that nobody else uses.
    pub(crate) fn fresh(&self) -> PathBuf {
        self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Session {
    /// Scratch folders that are still in use stay, and are swept by the next process.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            tracing::debug!("the scratch folder `{}` stays behind: {error}", self.folder.display());
        }
    }
}

/// This process, on this host.
pub(crate) fn holder() -> String {
    let uname = rustix::system::uname();
    format!("{}-{}", uname.nodename().to_string_lossy().replace('/', "_"), std::process::id())
}

/// Takes away the scratch folders whose processes are dead.
pub(crate) fn sweep(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let lock = entry?.path();
        if lock.extension().is_some_and(|extension| extension == "lock") {
            // Gone meanwhile, or held: either way it is not ours to sweep.
            if let Ok(Some(_held)) = FileLock::try_take(&lock, "") {
                clear(&lock.with_extension(""))?;
            }
        }
    }
    Ok(())
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
