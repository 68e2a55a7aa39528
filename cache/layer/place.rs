//! Where a layer lies: an object store, and what is known of it beyond what every store can do. Whoever makes one brings
//! the store; a folder is made here, so that one that vanishes is no empty layer.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;

use super::folder::Parts;

/// Where a layer lies.
pub struct Place {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// Uploads in parts that go on after a break; without, they start anew.
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
    pub(super) access: Access,
    pub(super) root: Option<Root>,
    pub(super) advice: Option<&'static str>,
}

/// What can be done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Full,
    /// Objects can be read whose names are known: a web server, which lists nothing.
    ReadOnly,
}

/// A folder that was there when the layer was opened.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// In an object store.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Place {
        Place { objects, parts: None, access: Access::Full, root: None, advice: None }
    }

    /// In a store whose uploads go on after a break.
    pub fn resuming<T: ObjectStore + MultipartStore>(objects: T) -> Place {
        let objects = Arc::new(objects);
        let parts: Arc<dyn MultipartStore> = objects.clone();
        Place { parts: Some(parts), ..Place::new(objects) }
    }

    /// In a folder, which must be there: one that is not is probably a file server that is not mounted.
    pub fn folder(path: &Path) -> io::Result<Place> {
        let metadata = fs::metadata(path)?;
        let objects = LocalFileSystem::new_with_prefix(path).map_err(io::Error::other)?;
        let parts: Arc<dyn MultipartStore> = Arc::new(Parts::new(path));
        let root = Root { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        Ok(Place { parts: Some(parts), root: Some(root), ..Place::new(Arc::new(objects)) })
    }

    /// That can be read only, and lists nothing: what it holds is in its object `list`.
    #[must_use]
    pub fn read_only(self) -> Place {
        Place { access: Access::ReadOnly, ..self }
    }

    /// With what to do where it refuses.
    #[must_use]
    pub fn advising(self, advice: &'static str) -> Place {
        Place { advice: Some(advice), ..self }
    }
}

impl Root {
    /// What is wrong with it by now, if anything: a file server that went away leaves an empty folder, or another one,
    /// which must neither be filled nor pass for the layer.
    pub(super) fn trouble(&self) -> Option<String> {
        match fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == (self.device, self.inode) => None,
            Ok(_) => Some(format!("another folder is at `{}` than before", self.path.display())),
            Err(error) => Some(format!("its folder `{}` is gone: {error}", self.path.display())),
        }
    }
}
