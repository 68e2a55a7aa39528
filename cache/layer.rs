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
//! plumb-1/list                    the names of the segments, for those who cannot list them
//! plumb-1/disowned/SIGNER/DIGEST  results that somebody has disowned, signed (see `marks`)
//! plumb-1/uploads/ID              in a folder only: what is not whole yet
//! ```
//!
//! Everything but `list` is written once and never changed. Whoever may write into a layer may take away, damage and
//! add; none of that makes a wrong result: it is found out by digests and signatures, and is a miss.

mod asking;
mod blobs;
mod catalogue;
mod folder;
pub(crate) mod limits;
mod marks;
pub(crate) mod names;
mod packs;
mod parcel;
mod passage;
mod place;
mod pull;
mod push;
mod records;
mod runtime;
mod segments;
mod uploads;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use object_store::path::Path as Name;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::Semaphore;

use self::asking::{Patience, Pulse, SENDING, SILENCE, persist, within};
pub use self::catalogue::{Catalogue, Entry};
pub use self::parcel::Parcel;
use self::place::Access;
pub use self::place::Place;
pub(crate) use self::pull::LONGEST_FOLDER;
pub(crate) use self::push::blobs_of;
pub use self::push::{Pushed, Shipment, Shipped};
pub use self::records::Published;
use self::runtime::Broken;
use crate::pack::Manifest;
use crate::{CacheError, Digest};

/// What is in `format`.
pub(crate) const FORMAT: &[u8] = b"plumb-layer 1\n";

/// A place that several people share. Cheap to clone.
#[derive(Clone)]
pub struct Layer {
    inner: Arc<Inner>,
    /// Once it is set, nothing is waited for any more.
    stopped: Arc<AtomicBool>,
}

struct Inner {
    name: String,
    objects: Arc<dyn ObjectStore>,
    place: Place,
    /// The indexes of packs that were read before.
    indexes: Mutex<BTreeMap<Digest, Arc<Manifest>>>,
    /// The packs that were asked for last.
    whole: Mutex<VecDeque<packs::Whole>>,
    /// A permit for each part that is in memory, sent or received, of whatever blob.
    parts: Semaphore,
    /// The same for what comes, each of the length of a part that is sent.
    coming: Semaphore,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer `{}`", self.inner.name)
    }
}

impl Layer {
    /// The layer of this name in this store.
    pub fn new(name: impl Into<String>, objects: Arc<dyn ObjectStore>) -> Layer {
        Layer::at(name, Place::new(objects))
    }

    /// The layer of this name at this place.
    pub fn at(name: impl Into<String>, place: Place) -> Layer {
        let objects = Arc::clone(&place.objects);
        let (parts, coming) = (Semaphore::new(blobs::AT_ONCE), Semaphore::new(blobs::COMING));
        let (indexes, whole) = (Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { name: name.into(), objects, place, indexes, whole, parts, coming });
        Layer { inner, stopped: Arc::default() }
    }

    /// The same, which nobody waits for once this is set.
    pub(crate) fn heeding(self, stopped: &Arc<AtomicBool>) -> Layer {
        Layer { stopped: Arc::clone(stopped), ..self }
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
        self.wait_meanwhile(work, || {})
    }

    /// The same; `meanwhile` is called now and then.
    fn wait_meanwhile<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CacheError>> + Send + 'static,
        meanwhile: impl FnMut(),
    ) -> Result<T, CacheError> {
        runtime::wait(work, &self.stopped, meanwhile).unwrap_or_else(|broken| match broken {
            Broken::Stopped => Err(CacheError::Stopped),
            Broken::Failed(why) => Err(self.inner.trouble("working on it", why)),
        })
    }
}

impl Inner {
    /// Puts an object where there is none; `false` where there is one. Of a put that was cut nobody knows whether it
    /// went through: tried again, it then finds what it has put itself.
    async fn create(&self, name: &Name, bytes: Vec<u8>) -> Result<bool, CacheError> {
        self.check_writable()?;
        let payload = PutPayload::from(bytes);
        let put = persist(Patience::Writer, SENDING, || {
            self.objects.put_opts(name, payload.clone(), PutOptions::from(PutMode::Create))
        });
        match put.await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(self.failed("writing to it", &error)),
        }
    }

    /// Puts an object in the place of whatever is there: for what its name says all about.
    async fn put(&self, name: &Name, bytes: Vec<u8>) -> Result<(), CacheError> {
        self.check_writable()?;
        let payload = PutPayload::from(bytes);
        let put = persist(Patience::Writer, SENDING, || self.objects.put(name, payload.clone()));
        put.await.map(|_| ()).map_err(|error| self.failed("writing to it", &error))
    }

    /// A whole small object; `None` where there is none. One that is longer is refused before it is read.
    async fn get(&self, name: &Name, longest: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let got = persist(Patience::Reader, asking::NEVER, || self.get_once(name, longest)).await;
        match got {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(why)) => Err(self.lied(name, why)),
            Err(Error::NotFound { .. }) => self.missing(),
            Err(error) => Err(self.failed("reading from it", &error)),
        }
    }

    /// Its bytes, or why they are refused.
    async fn get_once(&self, name: &Name, longest: u64) -> object_store::Result<Result<Vec<u8>, String>> {
        let found = within(SILENCE, self.objects.get(name)).await?;
        if found.meta.size > longest {
            return Ok(Err(format!("it has {} bytes", found.meta.size)));
        }
        let (mut bytes, mut stream, mut pulse) = (Vec::new(), found.into_stream(), Pulse::default());
        while let Some(chunk) = within(SILENCE, stream.try_next()).await? {
            pulse.beat(chunk.len())?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > longest {
                return Ok(Err("it is longer than it was said to be".into()));
            }
        }
        Ok(Ok(bytes))
    }

    /// The length of an object; `None` where there is none.
    async fn length(&self, name: &Name) -> Result<Option<u64>, CacheError> {
        match persist(Patience::Reader, SILENCE, || self.objects.head(name)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => self.missing(),
            Err(error) => Err(self.failed("looking into it", &error)),
        }
    }

    /// The objects under a name.
    async fn list(&self, folder: &Name) -> Result<Vec<ObjectMeta>, CacheError> {
        let listed = persist(Patience::Reader, asking::NEVER, || async {
            let (mut objects, mut listed) = (Vec::new(), self.objects.list(Some(folder)));
            while let Some(found) = within(SILENCE, listed.try_next()).await? {
                objects.push(found);
            }
            Ok(objects)
        });
        let objects = listed.await.map_err(|error| self.failed("listing it", &error))?;
        if objects.is_empty() {
            self.missing::<()>()?;
        }
        Ok(objects)
    }

    /// Nothing is there; or is the whole place gone?
    fn missing<T>(&self) -> Result<Option<T>, CacheError> {
        self.place
            .root
            .as_ref()
            .and_then(|root| root.trouble())
            .map_or(Ok(None), |why| Err(self.trouble("reading from it", why)))
    }

    fn check_writable(&self) -> Result<(), CacheError> {
        if self.place.access == Access::ReadOnly {
            return Err(CacheError::LayerReadOnly { layer: self.name.clone() });
        }
        self.place
            .root
            .as_ref()
            .and_then(|root| root.trouble())
            .map_or(Ok(()), |why| Err(self.trouble("writing to it", why)))
    }

    fn failed(&self, doing: &'static str, error: &Error) -> CacheError {
        tracing::debug!("the layer `{}` failed ({doing}): {error}", self.name);
        self.trouble(doing, asking::told(error, self.place.advice))
    }

    fn trouble(&self, doing: &'static str, why: String) -> CacheError {
        CacheError::Layer { layer: self.name.clone(), doing, why }
    }

    fn lied(&self, object: &Name, why: String) -> CacheError {
        CacheError::LayerLied { layer: self.name.clone(), object: object.to_string(), why }
    }
}
