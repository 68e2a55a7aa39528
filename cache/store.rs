//! A cache on disk: opening it, and its folders. What it does with bytes is in `blobs`, `ingest`, `read` and
//! `materialise`, what it does with records in `records` and `ancestry`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rustix::fs::Access;
use tempfile::TempDir;

use crate::disown::Marks;
use crate::files::Durability;
use crate::gate::Gate;
use crate::index::StatIndex;
use crate::layout::Layout;
use crate::session::{self, Session};
use crate::upstream::Upstream;
use crate::uses::Uses;
use crate::{ActionKey, CacheError, Digest, FileStamp, Policy, Tree};

/// How a store is used.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Believe no `stat`: hash every source and every blob whenever it is used.
    pub paranoid: bool,
    /// Bring every result to the disk before its record. Without it a power cut may lose results, and still no wrong one
    /// is ever used (see `files::Durability`).
    pub durable: bool,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { paranoid: false, durable: true }
    }
}

/// A cache on disk. Cheap to clone; every clone is the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones of a store share.
#[derive(Debug)]
pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) layout: Layout,
    writable: bool,
    pub(crate) options: StoreOptions,
    pub(crate) sources: StatIndex,
    session: OnceLock<Session>,
    starting: Mutex<()>,
    /// Blobs whose bytes this process has hashed, with the stamp they had then.
    pub(crate) hashed: Mutex<BTreeMap<Digest, FileStamp>>,
    /// Trees that were read before: they are small, and each is asked for once for every time it is an input.
    pub(crate) trees: Mutex<BTreeMap<Digest, Arc<Tree>>>,
    /// The results that were disowned, as of the last look.
    pub(crate) disowned: Mutex<Arc<Marks>>,
    /// This process's part in the gate.
    pub(crate) gate: Mutex<Gate>,
    /// The lists of the runs that this process is about.
    pub(crate) uses: Mutex<Vec<Weak<Uses>>>,
    /// Devices onto which a reflink from the cache was refused: asking costs a file made and taken away.
    pub(crate) unlinkable: Mutex<BTreeSet<u64>>,
    /// The layers that are asked for what is not here.
    pub(crate) upstream: OnceLock<Upstream>,
    /// Counts the lists of marks that came.
    pub(crate) marks_heard: AtomicU64,
    /// Whom the owner of this cache believes.
    people: OnceLock<Policy>,
}

impl Store {
    /// `$XDG_CACHE_HOME/plumb`, or `~/.cache/plumb`.
    pub fn default_path() -> Result<PathBuf, CacheError> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        base.map(|base| base.join("plumb")).ok_or(CacheError::NoHome)
    }

    /// Opens the cache in this folder and makes it if need be. One that is there and cannot be written opens for
    /// reading.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Store, CacheError> {
        let root = std::path::absolute(path).map_err(|source| CacheError::system("opening the cache", path, source))?;
        let layout = Layout::new(&root);
        let writable = prepare(&root, &layout)?;
        if writable && let Err(error) = session::sweep(&layout.scratch()) {
            tracing::warn!("old scratch folders were not swept: {error}");
        }
        let inner = Inner {
            sources: StatIndex::new(layout.stat_index(), writable),
            root,
            layout,
            writable,
            options,
            session: OnceLock::new(),
            starting: Mutex::default(),
            hashed: Mutex::default(),
            trees: Mutex::default(),
            disowned: Mutex::default(),
            gate: Mutex::default(),
            uses: Mutex::default(),
            unlinkable: Mutex::default(),
            upstream: OnceLock::new(),
            marks_heard: AtomicU64::new(0),
            people: OnceLock::new(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The folder it was opened in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Whether results are brought to the disk before their records.
    pub fn durable(&self) -> bool {
        self.inner.options.durable
    }

    /// Whether anything can be stored in it.
    pub fn writable(&self) -> bool {
        self.inner.writable
    }

    /// A new folder on the cache's file system for a step to run in; what is ingested from it is moved in rather than
    /// copied. It goes away with the value, or with the process's death.
    pub fn scratch_folder(&self) -> Result<TempDir, CacheError> {
        let session = self.session("making a scratch folder")?;
        let made = tempfile::Builder::new().prefix("step-").tempdir_in(session.folder());
        made.map_err(|source| CacheError::writing("making a scratch folder in", session.folder(), source))
    }

    /// The folder of an action's checkpoints and finished requests: it survives failures and retries, and is never an
    /// input.
    pub fn state_folder(&self, key: &ActionKey) -> Result<PathBuf, CacheError> {
        self.must_write("keeping a checkpoint")?;
        let folder = self.inner.layout.state(key);
        fs::create_dir_all(&folder).map_err(|source| CacheError::writing("making", &folder, source))?;
        Ok(folder)
    }

    /// Where the state folders of all actions are.
    pub fn states_folder(&self) -> PathBuf {
        self.inner.layout.folder("state")
    }

    /// Where the histories of runs are kept.
    pub fn runs_folder(&self) -> PathBuf {
        self.inner.layout.folder("runs")
    }

    /// Says whom the owner of this cache believes and what they are called. Only the first time counts.
    pub fn set_people(&self, people: Policy) {
        let _ = self.inner.people.set(people);
    }

    pub(crate) fn people(&self) -> Option<&Policy> {
        self.inner.people.get()
    }

    /// How far what is stored is brought.
    pub(crate) fn durability(&self) -> Durability {
        if self.inner.options.durable { Durability::Disk } else { Durability::Memory }
    }

    /// Where the logs of steps are kept.
    pub fn logs_folder(&self) -> PathBuf {
        self.inner.layout.folder("logs")
    }

    /// The way in of everything that writes.
    pub(crate) fn must_write(&self, doing: &'static str) -> Result<(), CacheError> {
        match self.inner.writable {
            true => Ok(()),
            false => Err(CacheError::ReadOnly { doing, path: self.inner.root.clone() }),
        }
    }

    /// This process's scratch folder, made at its first use.
    pub(crate) fn session(&self, doing: &'static str) -> Result<&Session, CacheError> {
        self.must_write(doing)?;
        if let Some(session) = self.inner.session.get() {
            return Ok(session);
        }
        let _one_at_a_time = lock(&self.inner.starting);
        if let Some(session) = self.inner.session.get() {
            return Ok(session);
        }
        let session = Session::start(&self.inner.layout.scratch())?;
        Ok(self.inner.session.get_or_init(|| session))
    }
}

/// A panic elsewhere leaves these maps whole: they are only memories.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes what is missing of the cache; answers whether it can be written.
fn prepare(root: &Path, layout: &Layout) -> Result<bool, CacheError> {
    let base = layout.base();
    if base.is_dir() && rustix::fs::access(base, Access::WRITE_OK).is_err() {
        return Ok(false);
    }
    if layout.scratch().is_dir() {
        return Ok(true);
    }
    for folder in layout.folders() {
        fs::create_dir_all(&folder).map_err(|source| CacheError::writing("making the cache", root, source))?;
    }
    Ok(true)
}
