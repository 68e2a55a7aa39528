//! A cache, and a layer in an object store that a test can reach into; and one that fails on purpose. Tests nothing
//! itself.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Name;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use plumb_cache::{ActionRecord, Artifact, CacheError, Digest, Layer, SecretKey, SignedRecord, Store};
use tempfile::TempDir;

use crate::support::{House, record};

/// An object store that fails on purpose.
#[derive(Debug)]
pub struct Faulty {
    inner: InMemory,
    /// So many of the next reads fail.
    failing_reads: AtomicUsize,
    /// Whether a put of what shall not be there yet replaces it all the same.
    ignores_conditions: bool,
    /// So many lists and reads were asked for.
    lists: AtomicUsize,
    reads: AtomicUsize,
}

impl Faulty {
    pub fn new(failing_reads: usize, ignores_conditions: bool) -> Faulty {
        let (lists, reads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Faulty { inner: InMemory::new(), failing_reads: failing_reads.into(), ignores_conditions, lists, reads }
    }

    /// The lists and reads since the last call.
    pub fn asked(&self) -> (usize, usize) {
        (self.lists.swap(0, Ordering::SeqCst), self.reads.swap(0, Ordering::SeqCst))
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, name: &Name, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.ignores_conditions {
            options.mode = PutMode::Overwrite;
        }
        self.inner.put_opts(name, payload, options).await
    }

    async fn put_multipart_opts(&self, name: &Name, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(name, options).await
    }

    async fn get_opts(&self, name: &Name, options: GetOptions) -> Result<GetResult> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let failing = self.failing_reads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match failing {
            Ok(_) => Err(Error::Generic { store: "faulty", source: "503 Service Unavailable".into() }),
            Err(_) => self.inner.get_opts(name, options).await,
        }
    }

    fn delete_stream(&self, names: BoxStream<'static, Result<Name>>) -> BoxStream<'static, Result<Name>> {
        self.inner.delete_stream(names)
    }

    fn list(&self, prefix: Option<&Name>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Name>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Name, to: &Name, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A cache, and a layer in an object store that the test can reach into.
pub struct Scene {
    pub house: House,
    pub store: Store,
    pub objects: Arc<dyn ObjectStore>,
    pub layer: Layer,
    _folder: TempDir,
}

impl Scene {
    pub fn of(objects: Arc<dyn ObjectStore>) -> Scene {
        let house = House::new();
        let layer = Layer::new("lab", objects.clone());
        Scene { store: house.quick_store(), house, objects, layer, _folder: TempDir::new().unwrap() }
    }

    pub fn in_memory() -> Scene {
        Scene::of(Arc::new(InMemory::new()))
    }

    pub fn everywhere() -> [Scene; 2] {
        let folder = TempDir::new().unwrap();
        let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        [Scene::in_memory(), Scene { _folder: folder, ..Scene::of(objects) }]
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let (objects, name) = (self.objects.clone(), Name::from(name));
        wait(async move { objects.get(&name).await.unwrap().bytes().await.unwrap().to_vec() })
    }

    pub fn write(&self, name: &str, bytes: Vec<u8>) {
        let (objects, name) = (self.objects.clone(), Name::from(name));
        wait(async move { objects.put(&name, bytes.into()).await.map(drop) }).unwrap();
    }

    /// The objects in a folder of the layer.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let (objects, folder) = (self.objects.clone(), Name::from(folder));
        let listed = wait(async move { objects.list_with_delimiter(Some(&folder)).await.unwrap() });
        listed.objects.into_iter().map(|found| found.location.to_string()).collect()
    }

    pub fn send(&self, bytes: &[u8]) -> Artifact {
        let artifact = self.store.ingest_bytes(bytes).unwrap();
        assert!(self.layer.send_blob(&self.store, &artifact.digest, artifact.size).unwrap());
        artifact
    }

    /// What comes of asking for a blob: its bytes; that there is none; why it is refused. Never half a file.
    pub fn fetched(&self, artifact: &Artifact) -> std::result::Result<Option<Vec<u8>>, CacheError> {
        let dest = self.house.path("fetched");
        let fetched = self.layer.fetch_blob(&artifact.digest, artifact.size, &dest);
        assert_eq!(dest.exists(), matches!(fetched, Ok(true)));
        let bytes = fs::read(&dest).ok();
        let _ = fs::remove_file(dest);
        fetched.map(|_| bytes)
    }

    pub fn signed(&self, text: &str, key: &SecretKey) -> SignedRecord {
        SignedRecord::sign(self.record("one", text), key).unwrap()
    }

    pub fn record(&self, action: &str, text: &str) -> ActionRecord {
        record(action, self.store.ingest_bytes(text.as_bytes()).unwrap())
    }
}

pub fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub fn place(folder: &str, digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("plumb-1/{folder}/{}/{}", &hex[..2], &hex[2..])
}

pub fn lied(fetched: std::result::Result<Option<Vec<u8>>, CacheError>) -> bool {
    matches!(fetched, Err(CacheError::LayerLied { .. } | CacheError::Layer { .. }))
}
