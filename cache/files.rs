//! Putting a finished file in its place, once: temp file, fsync, hard link. Never replaces, but where it says so.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::CacheError;

/// The modification time of every blob: the first second of 2000. Whoever writes into a blob, through whichever link,
/// moves it, so that one `stat` tells. Nothing is stored beside the blob, copies of the cache keep it, and it does not
/// move when links come and go, as the change time does.
pub(crate) const SEALED_SECONDS: i64 = 946_684_800;

/// What became of a file that was to be put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is there now.
    New,
    /// Another one was there before; nothing was changed.
    Taken,
}

/// Makes the file read-only and gives it the seal.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(SEALED_SECONDS as u64)))
}

/// Whether the file still has its seal.
pub(crate) fn is_sealed(metadata: &fs::Metadata) -> bool {
    metadata.mtime() == SEALED_SECONDS && metadata.mtime_nsec() == 0
}

/// A new file that nobody else has open.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// Writes a whole new file and brings it to the disk.
pub(crate) fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
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
