//! The hub's cache on this machine, laid out as `huggingface_hub` does:
//!
//! ```text
//! models--owner--name/refs/REVISION            the commit that a branch or tag was
//! models--owner--name/snapshots/COMMIT/PATH    a relative symlink to a blob
//! models--owner--name/blobs/ETAG               the bytes; ETAG.incomplete while they come
//! .locks/models--owner--name/ETAG.lock         held while a blob comes
//! ```
//!
//! Nothing that is there is ever overwritten.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::address::{Address, is_commit};
use super::api::RemoteFile;
use crate::source::download::on_disk;
use crate::source::network::FetchError;

/// `HF_HOME`, or where the hub's tools keep it.
pub fn home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("HF_HOME").or_else(|| Some(base()?.join("huggingface")))
}

/// The folder of all repositories.
fn root() -> Result<PathBuf, FetchError> {
    let set = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].iter().find_map(std::env::var_os).map(PathBuf::from);
    let root = set.or_else(|| Some(home()?.join("hub")));
    root.ok_or_else(|| FetchError::wrong("there is no home folder for the hub's cache").hint("set `HF_HOME`"))
}

/// The files of one commit, as far as they are on this machine.
#[derive(Debug)]
pub struct Snapshot {
    root: PathBuf,
    /// `models--owner--name`.
    pub repository: String,
    /// The commit.
    pub commit: String,
}

impl Snapshot {
    /// Of a commit.
    pub fn at(address: &Address, commit: &str) -> Result<Snapshot, FetchError> {
        Ok(Snapshot { root: root()?, repository: address.cache_name(), commit: commit.into() })
    }

    /// What a revision was when it was last fetched, if there is anything of it.
    pub fn of_revision(address: &Address, revision: &str) -> Result<Option<Snapshot>, FetchError> {
        let commit = match is_commit(revision) {
            true => Some(revision.to_owned()),
            false => {
                let reference = root()?.join(address.cache_name()).join("refs").join(revision);
                fs::read_to_string(reference).ok().map(|text| text.trim().to_owned()).filter(|text| is_commit(text))
            }
        };
        let Some(commit) = commit else { return Ok(None) };
        let snapshot = Snapshot::at(address, &commit)?;
        Ok(snapshot.folder().is_dir().then_some(snapshot))
    }

    /// Where a file of it is to be found.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Whether a file is here whole.
    pub fn holds(&self, file: &RemoteFile) -> bool {
        let found = fs::metadata(self.file(&file.name));
        found.is_ok_and(|found| found.is_file() && file.size.is_none_or(|size| size == found.len()))
    }

    /// Every file that is here.
    pub fn names(&self) -> Result<Vec<String>, FetchError> {
        let (mut names, mut folders) = (Vec::new(), vec![String::new()]);
        while let Some(above) = folders.pop() {
            let folder = self.folder().join(&above);
            let failed = |error: io::Error| on_disk("list", &folder, &error);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let is_folder = entry.file_type().map_err(failed)?.is_dir();
                if is_folder { &mut folders } else { &mut names }.push(if is_folder {
                    format!("{above}{name}/")
                } else {
                    format!("{above}{name}")
                });
            }
        }
        names.sort();
        Ok(names)
    }

    /// Where the bytes of this ETag are, or go to. A hub's word must not lead out of the folder.
    pub fn blob(&self, etag: &str) -> Result<PathBuf, FetchError> {
        if etag.is_empty() || !etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(FetchError::wrong(format!("the hub names a file's bytes `{etag}`")));
        }
        let blobs = self.repository_folder().join("blobs");
        make(&blobs)?;
        Ok(blobs.join(etag))
    }

    /// The lock that the hub's own tools hold, too, while these bytes come.
    pub fn lock_of(&self, etag: &str) -> PathBuf {
        self.root.join(".locks").join(&self.repository).join(format!("{etag}.lock"))
    }

    /// The bytes are whole: from now on they are a blob.
    pub fn keep(&self, partial: &Path, blob: &Path) -> Result<(), FetchError> {
        fs::rename(partial, blob).map_err(|error| on_disk("move into place", blob, &error))
    }

    /// Makes a file of this commit lead to a blob.
    pub fn link(&self, name: &str, blob: &Path) -> Result<(), FetchError> {
        let place = self.file(name);
        make(place.parent().unwrap_or(&place))?;
        let up = "../".repeat(name.split('/').count() + 1);
        let etag = blob.file_name().unwrap_or_default();
        match symlink(Path::new(&up).join("blobs").join(etag), &place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && place.exists() => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // It leads nowhere: its blob was deleted. The new one has the same name, or the hub's word has changed.
                let again =
                    fs::remove_file(&place).and_then(|()| symlink(Path::new(&up).join("blobs").join(etag), &place));
                again.map_err(|_| on_disk("link", &place, &error))
            }
            done => done.map_err(|error| on_disk("link", &place, &error)),
        }
    }

    /// Notes which commit a branch or tag is just now.
    pub fn name_revision(&self, revision: &str) -> Result<(), FetchError> {
        if revision == self.commit || is_commit(revision) {
            return Ok(());
        }
        let place = self.repository_folder().join("refs").join(revision);
        if fs::read_to_string(&place).is_ok_and(|known| known == self.commit) {
            return Ok(());
        }
        make(place.parent().unwrap_or(&place))?;
        fs::write(&place, &self.commit).map_err(|error| on_disk("write", &place, &error))
    }

    fn repository_folder(&self) -> PathBuf {
        self.root.join(&self.repository)
    }

    fn folder(&self) -> PathBuf {
        self.repository_folder().join("snapshots").join(&self.commit)
    }
}

fn make(folder: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(folder).map_err(|error| {
        on_disk("make the folder", folder, &error)
            .hint("set `HF_HOME` or `HF_HUB_CACHE` to a folder that can be written")
    })
}
