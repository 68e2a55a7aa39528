//! The stat index: digests of sources that have not changed since they were hashed. A cache of a cache: damaged or
//! deleted, it costs hashing once more. Never trusts a file as young as the clock's granularity.
//!
//! A text of lines `device inode size modified changed digest checksum`, appended to; a torn line does not read and is
//! skipped; the last line of a file counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::files;
use crate::{CacheError, Digest, FileStamp};

/// Lines that say nothing new are dropped once there are this many more lines than files.
const SLACK: usize = 10_000;

type Entries = BTreeMap<(u64, u64), (FileStamp, Digest)>;

/// The index, read at its first use.
#[derive(Debug)]
pub(crate) struct StatIndex {
    path: PathBuf,
    writable: bool,
    entries: OnceLock<Mutex<Entries>>,
}

impl StatIndex {
    pub(crate) fn new(path: PathBuf, writable: bool) -> StatIndex {
        StatIndex { path, writable, entries: OnceLock::new() }
    }

    /// The digest of the file with this stamp, if it was hashed before.
    pub(crate) fn find(&self, stamp: &FileStamp) -> Option<Digest> {
        let entries = self.entries();
        let (known, digest) = entries.get(&(stamp.device, stamp.inode))?;
        (known == stamp).then_some(*digest)
    }

    /// Keeps a digest, unless the file is too young to be told from its next version.
    pub(crate) fn keep(&self, stamp: FileStamp, digest: Digest) -> Result<(), CacheError> {
        if stamp.is_young() {
            return Ok(());
        }
        self.entries().insert((stamp.device, stamp.inode), (stamp, digest));
        match self.writable {
            true => files::append(&self.path, &line(&stamp, &digest)),
            false => Ok(()),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        let entries = self.entries.get_or_init(|| Mutex::new(load(&self.path, self.writable)));
        entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path, writable: bool) -> Entries {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut entries = Entries::new();
    let mut lines = 0;
    for (stamp, digest) in text.lines().inspect(|_| lines += 1).filter_map(parse) {
        entries.insert((stamp.device, stamp.inode), (stamp, digest));
    }
    if writable && lines > entries.len() + SLACK {
        rewrite(path, &entries);
    }
    entries
}

/// Two processes may do this at once, or lose a line that is appended meanwhile: that is a file to hash again.
fn rewrite(path: &Path, entries: &Entries) {
    let text: String = entries.values().map(|(stamp, digest)| line(stamp, digest)).collect();
    let temp = path.with_extension(std::process::id().to_string());
    let done = std::fs::write(&temp, text).and_then(|()| std::fs::rename(&temp, path));
    if let Err(error) = done {
        tracing::warn!("the index of sources was not shortened: {error}");
    }
}

fn line(stamp: &FileStamp, digest: &Digest) -> String {
    let FileStamp { device, inode, size, modified, changed } = stamp;
    let mut line = format!("{device} {inode} {size} {modified} {changed} {digest}");
    let sum = Digest::of(line.as_bytes()).short();
    writeln!(line, " {sum}").expect("writing to a string does not fail");
    line
}

fn parse(line: &str) -> Option<(FileStamp, Digest)> {
    let (body, sum) = line.rsplit_once(' ')?;
    if Digest::of(body.as_bytes()).short() != sum {
        return None;
    }
    let mut fields = body.split(' ');
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (device, inode, size) = (number()?, number()?, number()?);
    let (modified, changed) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let digest = fields.next()?.parse().ok()?;
    Some((FileStamp { device, inode, size, modified, changed }, digest))
}
