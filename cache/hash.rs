//! Digests of files, as fast as the machine reads them. Never follows a folder, never stores anything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use blake3::Hasher;

use crate::Digest;

/// From this length on, mapping the file and hashing on every core is faster than reading it.
pub(crate) const LARGE: u64 = 1 << 20;

/// The digest of a file of about this size. A large one is mapped: whoever truncates it meanwhile stops this process
/// (as with `b3sum`); who merely changes it is found out by its stamp.
pub(crate) fn hash_file(path: &Path, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    match size >= LARGE {
        true => hasher.update_mmap_rayon(path)?,
        false => hasher.update_reader(File::open(path)?)?,
    };
    Ok(finish(&hasher))
}

/// Copies and hashes in one pass: the length of the bytes that were written, whatever the source does.
pub(crate) fn copy_hashing(mut from: File, to: &mut dyn Write, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; LARGE as usize];
    let mut length = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update_rayon(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        length += read as u64;
    }
}

pub(crate) fn finish(hasher: &Hasher) -> Digest {
    Digest::from_bytes(*hasher.finalize().as_bytes())
}
