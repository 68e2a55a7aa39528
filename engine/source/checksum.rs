//! Checksums that others publish: SHA-256 of a file, git's SHA-1 of a blob, S3's MD5. Never a digest of plumb's own.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::Md5;
use sha1::Sha1;
use sha2::digest::Update;
use sha2::{Digest, Sha256};

use super::download::on_disk;
use super::network::FetchError;

/// The checksum of a file's bytes, as lowercase hex.
pub fn of_file(path: &Path, hasher: impl Digest + Update) -> Result<String, FetchError> {
    let sum = || read_all(File::open(path)?, hasher);
    sum().map_err(|error| on_disk("read", path, &error))
}

/// Whether a file is what a hub's ETag says: the SHA-256 of a large file, git's name of a small one. Another kind of
/// ETag says nothing that could be checked.
pub fn matches(path: &Path, etag: &str) -> Result<bool, FetchError> {
    let hex = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    match etag.len() {
        64 if hex => Ok(of_file(path, Sha256::new())? == etag),
        40 if hex => {
            let length = std::fs::metadata(path).map_err(|error| on_disk("read", path, &error))?.len();
            let hasher = Digest::chain_update(Sha1::new(), format!("blob {length}\0"));
            Ok(of_file(path, hasher)? == etag)
        }
        _ => Ok(true),
    }
}

/// Whether a file is what an S3 ETag says: the MD5 of an object that was put in one piece. `None` where it says nothing:
/// the ETag of an object in parts is no digest of its bytes.
pub fn matches_md5(path: &Path, etag: &str) -> Result<Option<bool>, FetchError> {
    let md5 = etag.trim_matches('"');
    match md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(Some(of_file(path, Md5::new())?.eq_ignore_ascii_case(md5))),
        false => Ok(None),
    }
}

fn read_all(mut file: File, mut hasher: impl Digest) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => Digest::update(&mut hasher, &buffer[..read]),
        }
    }
}
