//! What `stat` says about a file, to tell whether it changed without reading it. Never part of a digest.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::CacheError;

/// As young as this (nanoseconds), a file may change again without its times moving: two seconds cover coarse file
/// systems and the skew of a network file system's clock.
const YOUNG: i64 = 2_000_000_000;

/// The identity, size and times of one file. Any write moves at least the change time, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileStamp {
    /// The device it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its bytes changed, in nanoseconds.
    pub modified: i64,
    /// When anything about it changed, in nanoseconds.
    pub changed: i64,
}

impl FileStamp {
    pub(crate) fn of(metadata: &Metadata) -> FileStamp {
        FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file was changed so lately that it could change again unseen. The clock is compared with the file
    /// system's times here, and goes nowhere else.
    pub(crate) fn is_young(&self) -> bool {
        let now = clock_gettime(ClockId::Realtime);
        let now = nanoseconds(now.tv_sec, now.tv_nsec);
        now.saturating_sub(self.modified.max(self.changed)) < YOUNG
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// The stamp of the file that this path leads to.
pub fn stat_of(path: &Path) -> Result<FileStamp, CacheError> {
    let metadata = std::fs::metadata(path).map_err(|source| CacheError::system("looking at", path, source))?;
    Ok(FileStamp::of(&metadata))
}

/// The stamps of a source file, or of every file in a source folder: taken before a step and again after it. A file
/// that is written twice within one tick of the clock (some milliseconds), to the same length, looks the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// By path within the source; a lone file's path is empty.
    files: BTreeMap<String, FileStamp>,
}

impl Seal {
    /// The first path that differs in the later seal, appeared or went away. Empty for a lone file.
    pub fn changed(&self, later: &Seal) -> Option<String> {
        let paths = self.files.keys().chain(later.files.keys());
        paths.filter(|path| self.files.get(*path) != later.files.get(*path)).min().cloned()
    }
}

/// The seal of a file or folder. Symlinks are followed, since a step reads through them; one that leads nowhere, or
/// back up to a folder it is in, is left out.
pub fn seal_of(path: &Path) -> Result<Seal, CacheError> {
    let mut files = BTreeMap::new();
    seal_into(&mut files, path, String::new(), &mut Vec::new())?;
    Ok(Seal { files })
}

fn seal_into(
    files: &mut BTreeMap<String, FileStamp>,
    path: &Path,
    name: String,
    above: &mut Vec<(u64, u64)>,
) -> Result<(), CacheError> {
    let stamp = stat_of(path)?;
    let identity = (stamp.device, stamp.inode);
    if !path.is_dir() {
        files.insert(name, stamp);
        return Ok(());
    }
    if above.contains(&identity) {
        return Ok(());
    }
    above.push(identity);
    let failed = |source| CacheError::system("listing", path, source);
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let dangling = entry.file_type().map_err(failed)?.is_symlink() && !entry.path().exists();
        if !dangling {
            seal_into(files, &entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy()), above)?;
        }
    }
    above.pop();
    Ok(())
}
