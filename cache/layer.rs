//! Layers: places that several people share, each behind an object store: a bucket, a folder on a file server. Bytes go
//! there under the names of their digests, and come back only as those bytes; records go there signed. Opens no address
//! and knows no credential: whoever makes a layer brings the store.
//!
//! ```text
//! plumb-1/format                  which layout this is; also shows whether the store honours conditional puts
//! plumb-1/cas/ab/cdef…            a blob as it is
//! plumb-1/packs/DIGEST            many small blobs, one after the other
//! plumb-1/packs/DIGEST.index      which: a manifest (see `pack`) of the pack
//! plumb-1/actions/ab/cdef…        the signed record of an action that came first
//! plumb-1/witnesses/ab/cdef…/RESULT.SIGNER     another result of it, or the same by another signer
//! plumb-1/segments/DIGEST         the catalogue: the records of one push, or of many (see `segments`)
//! ```
//!
//! Everything is written once and never changed. Whoever may write into a layer may take away, damage and add; none of
//! that makes a wrong result: it is found out by digests and signatures, and is a miss.

mod blobs;
mod catalogue;
pub(crate) mod limits;
pub(crate) mod names;
mod packs;
mod parcel;
mod pull;
mod push;
mod records;
mod runtime;
mod segments;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use object_store::path::Path as Name;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

pub use self::catalogue::{Catalogue, Entry};
pub use self::parcel::Parcel;
pub(crate) use self::pull::LONGEST_FOLDER;
pub(crate) use self::push::blobs_of;
pub use self::push::{Pushed, Shipment, Shipped};
pub use self::records::Published;
use crate::pack::Manifest;
use crate::{CacheError, Digest};

/// What is in `format`.
pub(crate) const FORMAT: &[u8] = b"plumb-layer 1\n";

/// A place that several people share. Cheap to clone.
#[derive(Clone)]
pub struct Layer {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    objects: Arc<dyn ObjectStore>,
    /// The indexes of packs that were read before.
    indexes: Mutex<BTreeMap<Digest, Arc<Manifest>>>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer `{}`", self.inner.name)
    }
}

impl Layer {
    /// The layer of this name in this store.
    pub fn new(name: impl Into<String>, objects: Arc<dyn ObjectStore>) -> Layer {
        Layer { inner: Arc::new(Inner { name: name.into(), objects, indexes: Mutex::default() }) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Makes the layer where there is none, and says whether the store honours conditional puts: one that does not lets
    /// a later record take the place of the first.
    pub fn prepare(&self) -> Result<bool, CacheError> {
        let inner = Arc::clone(&self.inner);
        self.wait(async move {
            inner.create(&names::format(), FORMAT.to_vec()).await?;
            inner.create(&names::format(), FORMAT.to_vec()).await.map(|again| !again)
        })
    }

    /// Waits for work on the layer from anywhere, also from within another runtime.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CacheError>> + Send + 'static,
    ) -> Result<T, CacheError> {
        runtime::wait(work).unwrap_or_else(|why| Err(self.inner.failed("working on it", &why)))
    }
}

impl Inner {
    /// Puts an object where there is none; `false` where there is one.
    async fn create(&self, name: &Name, bytes: Vec<u8>) -> Result<bool, CacheError> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(name, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("writing to it", &error)),
        }
    }

    /// Puts an object in the place of whatever is there: for what its name says all about.
    async fn put(&self, name: &Name, bytes: Vec<u8>) -> Result<(), CacheError> {
        let put = self.objects.put(name, PutPayload::from(bytes)).await;
        put.map(|_| ()).map_err(|error| self.failed("writing to it", &error))
    }

    /// A whole small object; `None` where there is none. One that is longer is refused before it is read.
    async fn get(&self, name: &Name, longest: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let failed = |error: Error| self.failed("reading from it", &error);
        let found = match self.objects.get(name).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(failed)?,
        };
        if found.meta.size > longest {
            return Err(self.lied(name, format!("it has {} bytes", found.meta.size)));
        }
        let mut bytes = Vec::new();
        let mut stream = found.into_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(failed)?);
            if bytes.len() as u64 > longest {
                return Err(self.lied(name, "it is longer than it was said to be".into()));
            }
        }
        Ok(Some(bytes))
    }

    /// The length of an object; `None` where there is none.
    async fn length(&self, name: &Name) -> Result<Option<u64>, CacheError> {
        match self.objects.head(name).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("looking into it", &error)),
        }
    }

    fn failed(&self, doing: &'static str, why: &dyn fmt::Display) -> CacheError {
        // What a server says goes over many lines.
        let why = why.to_string().lines().next().unwrap_or_default().to_owned();
        CacheError::Layer { layer: self.name.clone(), doing, why }
    }

    fn lied(&self, object: &Name, why: String) -> CacheError {
        CacheError::LayerLied { layer: self.name.clone(), object: object.to_string(), why }
    }
}
