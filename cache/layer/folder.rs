//! Uploads in parts into a folder: each is a file under `uploads` until it is whole, and then moves to its place. Parts
//! may come in any order, and after a break the rest of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Name;
use object_store::{Error, MultipartId, PutPayload, PutResult, Result};

use super::{names, uploads};

/// The uploads of a folder.
#[derive(Debug)]
pub(super) struct Parts {
    root: PathBuf,
}

impl Parts {
    pub(super) fn new(root: &Path) -> Parts {
        Parts { root: root.to_owned() }
    }

    /// Where an upload lies until it is whole. An id that is none of ours names nothing.
    fn upload(&self, id: &str) -> Result<PathBuf> {
        match !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(self.root.join(names::uploads().as_ref()).join(id)),
            false => Err(failed(Path::new(id), ErrorKind::NotFound.into())),
        }
    }
}

#[async_trait]
impl MultipartStore for Parts {
    async fn create_multipart(&self, _name: &Name) -> Result<MultipartId> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(&self.root, error.into()))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.upload(&id)?;
        blocking(move || {
            // Never the root itself: that would be the folder of a file server that went away.
            let folder = path.parent().unwrap_or(&path);
            let version = folder.parent().unwrap_or(folder);
            for folder in [version, folder] {
                match fs::create_dir(folder) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(folder, error)),
                    _ => {}
                }
            }
            File::create_new(&path).map(|_| id).map_err(|error| failed(&path, error))
        })
        .await
    }

    async fn put_part(&self, _name: &Name, id: &MultipartId, index: usize, part: PutPayload) -> Result<PartId> {
        let path = self.upload(id)?;
        blocking(move || {
            let write = || {
                let file = OpenOptions::new().write(true).open(&path)?;
                let mut at = index as u64 * uploads::PART;
                for bytes in &part {
                    file.write_all_at(bytes, at)?;
                    at += bytes.len() as u64;
                }
                Ok(PartId { content_id: part.content_length().to_string() })
            };
            write().map_err(|error: io::Error| failed(&path, error))
        })
        .await
    }

    async fn complete_multipart(&self, name: &Name, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let (path, place) = (self.upload(id)?, self.root.join(name.as_ref()));
        blocking(move || {
            let finish = || {
                let file = File::open(&path)?;
                let lengths = parts.iter().map(|part| part.content_id.parse::<u64>().map_err(io::Error::other));
                if file.metadata()?.len() != lengths.sum::<io::Result<u64>>()? {
                    return Err(io::Error::other("parts are missing"));
                }
                file.sync_all()?;
                place.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::rename(&path, &place)
            };
            finish().map_err(|error| failed(&path, error))?;
            Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
        })
        .await
    }

    async fn abort_multipart(&self, _name: &Name, id: &MultipartId) -> Result<()> {
        let path = self.upload(id)?;
        blocking(move || fs::remove_file(&path).map_err(|error| failed(&path, error))).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn failed(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound { path: path.display().to_string(), source: error.into() },
        ErrorKind::PermissionDenied => {
            Error::PermissionDenied { path: path.display().to_string(), source: error.into() }
        }
        _ => Error::Generic { store: "folder", source: format!("`{}`: {error}", path.display()).into() },
    }
}
