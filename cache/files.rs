//! Putting a finished file in its place, once: temp file, fsync, hard link. Never replaces, but where it says so.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::blobs::Temp;
use crate::store::Store;
use crate::{CacheError, Digest};

/// The modification time of every blob: the first second of 2000. Whoever writes into a blob, through whichever link,
/// moves it, so that one `stat` tells. Nothing is stored beside the blob, copies of the cache keep it, and it does not
/// move when links come and go, as the change time does.
pub(crate) const SEALED_SECONDS: i64 = 946_684_800;

/// How far a stored file is brought before its name is given out.
///
/// A blob that is only in the system's memory may be lost or torn by a power cut, with its seal whole, and such a seal
/// would lie. So it gets another seal, which holds only until the machine is started again: afterwards the blob is
/// hashed before it counts. Records and trees carry checksums anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On the disk: `fsync`.
    Disk,
    /// In the system's memory, which writes it when it likes.
    Memory,
}

/// The nanoseconds of a seal that holds until the machine is started again; `None` where the system does not say which
/// start this is.
fn this_start() -> Option<u32> {
    static START: OnceLock<Option<u32>> = OnceLock::new();
    *START.get_or_init(|| {
        let id = fs::read("/proc/sys/kernel/random/boot_id").ok().filter(|id| !id.is_empty())?;
        let digest = *Digest::of(&id).as_bytes();
        Some(1 + u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % 999_999_999)
    })
}

/// What became of a file that was to be put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is there now.
    New,
    /// Another one was there before; nothing was changed.
    Taken,
}

/// Makes the file read-only and gives it the seal.
pub(crate) fn seal(file: &File, durability: Durability) -> io::Result<()> {
    let nanoseconds = match durability {
        Durability::Disk => 0,
        Durability::Memory => this_start().unwrap_or(0),
    };
    file.set_permissions(Permissions::from_mode(0o444))?;
    let time = SystemTime::UNIX_EPOCH + Duration::new(SEALED_SECONDS as u64, nanoseconds);
    file.set_times(FileTimes::new().set_modified(time))
}

/// Whether the file still has its seal.
pub(crate) fn is_sealed(metadata: &fs::Metadata) -> bool {
    let nanoseconds = metadata.mtime_nsec();
    let holds = nanoseconds == 0 || this_start().is_some_and(|start| nanoseconds == i64::from(start));
    metadata.mtime() == SEALED_SECONDS && holds
}

/// Brings a sealed file to the disk, unless its seal says that it may not be there: a file system that keeps no
/// nanoseconds, or a system that does not say when it was started, leaves no other way.
pub(crate) fn bring(file: &File, durability: Durability) -> io::Result<()> {
    match durability == Durability::Memory && file.metadata()?.mtime_nsec() != 0 {
        true => Ok(()),
        false => file.sync_all(),
    }
}

/// A new file that nobody else has open.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// Writes a whole new file that proves itself.
pub(crate) fn write_through(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    match durability {
        Durability::Disk => file.sync_data(),
        Durability::Memory => Ok(()),
    }
}

/// Gives a finished file a second name, making the folder if need be.
pub(crate) fn link(file: &Path, place: &Path) -> io::Result<Placed> {
    let linked = match fs::hard_link(file, place) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_parent(place)?;
            fs::hard_link(file, place)
        }
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(Placed::New),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => already(file, place),
        Err(error) => Err(error),
    }
}

/// A network file system may answer a repeated request with "already there" although the first one was ours.
fn already(file: &Path, place: &Path) -> io::Result<Placed> {
    let (ours, theirs) = (fs::metadata(file)?, fs::symlink_metadata(place)?);
    let same = ours.dev() == theirs.dev() && ours.ino() == theirs.ino();
    Ok(if same { Placed::New } else { Placed::Taken })
}

pub(crate) fn make_parent(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), fs::create_dir_all)
}

impl Store {
    /// Writes a whole small file in the place of the one that is there, if any: a reader sees the old or the new.
    pub(crate) fn replace(
        &self,
        place: &Path,
        bytes: &[u8],
        durability: Durability,
        doing: &'static str,
    ) -> Result<(), CacheError> {
        let temp = Temp::new(self)?;
        let written = write_through(&temp.path, bytes, durability);
        let placed = written.and_then(|()| make_parent(place)).and_then(|()| fs::rename(&temp.path, place));
        placed.map_err(|source| CacheError::writing(doing, place, source))
    }
}

/// Sets the times of a file to now.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
}

/// Removes a file that may be gone already; says whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool, CacheError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(CacheError::writing("removing", path, source)),
    }
}

/// What is in a folder, sorted; nothing where there is none.
pub(crate) fn listed(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let failed = |source| CacheError::system("listing", folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// The last part of a path as text; empty where it is none.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Adds a line to an index file in one write: two writers never mix within a line.
pub(crate) fn append(path: &Path, line: &str) -> Result<(), CacheError> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    let opened = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => make_parent(path).and_then(|()| open()),
        opened => opened,
    };
    let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    written.map_err(|source| CacheError::writing("adding to", path, source))
}
