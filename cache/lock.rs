//! A lock that is a file: held by one process, let go by its death. Never waits.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A held lock. Its file is taken away when it is let go.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Takes the lock and writes into its file who holds it; `None` where another holds it.
    pub(crate) fn try_take(path: &Path, who: &str) -> io::Result<Option<FileLock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if !is_still(path, &file)? {
            return FileLock::try_take(path, who);
        }
        file.set_len(0)?;
        (&file).write_all(who.as_bytes())?;
        Ok(Some(FileLock { path: path.to_owned(), _file: file }))
    }
}

/// A holder takes the file away before it lets go: what we locked may be a file that has no name any more.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("the lock `{}` stays behind: {error}", self.path.display());
        }
    }
}
