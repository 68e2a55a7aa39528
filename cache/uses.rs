//! What runs use: `runs/RUN/uses` lists the actions whose results a run asked for or made. While the run goes on the
//! list is locked and everything on it is kept; afterwards the lists of the last runs are roots of the collector.
//!
//! The line `plumb-uses 1 PROJECT`, then `action KEY` or `source DIGEST` a line. A run that was killed leaves a list
//! without a lock; a torn last line names nothing.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::files::{listed, name_of};
use crate::records::read_if_there;
use crate::store::{Store, lock};
use crate::{ActionKey, CacheError, Digest};

const HEADER: &str = "plumb-uses 1 ";

/// The list of a run that goes on; the run ends with it.
#[derive(Debug)]
pub struct Uses {
    path: PathBuf,
    file: File,
    listed: Mutex<BTreeSet<Digest>>,
}

impl Uses {
    /// Lists actions. Whoever looked them up holds the gate (`Store::hold`) until this is done.
    pub fn add(&self, actions: impl IntoIterator<Item = ActionKey>) -> Result<(), CacheError> {
        self.list("action", actions.into_iter().map(|action| action.digest()))
    }

    /// Lists sources: those that lie in the cache are kept.
    pub fn add_sources(&self, sources: impl IntoIterator<Item = Digest>) -> Result<(), CacheError> {
        self.list("source", sources.into_iter())
    }

    fn list(&self, what: &str, digests: impl Iterator<Item = Digest>) -> Result<(), CacheError> {
        let mut listed = lock(&self.listed);
        let lines: String =
            digests.filter(|digest| listed.insert(*digest)).map(|digest| format!("{what} {digest}\n")).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let written = (&self.file).write_all(lines.as_bytes());
        written.map_err(|source| CacheError::writing("adding to", &self.path, source))
    }
}

/// The list of a run, as the collector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    /// The name of its folder, which sorts by time.
    pub(crate) run: String,
    /// What stands for the pipeline file that was run.
    pub(crate) project: String,
    /// Whether the run goes on.
    pub(crate) live: bool,
    pub(crate) actions: Vec<ActionKey>,
    pub(crate) sources: Vec<Digest>,
}

impl Store {
    /// Starts the list of a run of a pipeline file, in the folder that the run has below `runs_folder`. What this store
    /// publishes while the list lives is added to it.
    pub fn uses(&self, run: &str, file: &Path) -> Result<Arc<Uses>, CacheError> {
        self.must_write("starting a run")?;
        let path = self.runs_folder().join(run).join("uses");
        let start = || -> io::Result<File> {
            let mut file_of = OpenOptions::new().append(true).create(true).open(&path)?;
            file_of.lock()?;
            writeln!(file_of, "{HEADER}{}", project_name(file))?;
            Ok(file_of)
        };
        let started = start().map_err(|source| CacheError::writing("writing", &path, source))?;
        let uses = Arc::new(Uses { path, file: started, listed: Mutex::default() });
        let mut all = lock(&self.inner.uses);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&uses));
        Ok(uses)
    }

    /// Adds to the lists of this process's runs.
    pub(crate) fn note_use(&self, action: ActionKey) -> Result<(), CacheError> {
        let lists: Vec<Arc<Uses>> = lock(&self.inner.uses).iter().filter_map(std::sync::Weak::upgrade).collect();
        lists.iter().try_for_each(|uses| uses.add([action]))
    }

    /// Whether a run has not ended: it holds the lock of its list.
    pub fn run_goes_on(&self, run: &str) -> bool {
        let path = self.runs_folder().join(run).join("uses");
        path.exists() && is_live(&path)
    }

    /// The runs of a pipeline file whose lists are there.
    pub fn runs_of(&self, file: &Path) -> Result<Vec<String>, CacheError> {
        let project = project_name(file);
        let used = self.all_used()?.into_iter().filter(|used| used.project == project);
        Ok(used.map(|used| used.run).collect())
    }

    /// The actions on the list of each run, latest first: what it used and what it made.
    pub fn used_by_runs(&self) -> Result<Vec<(String, Vec<ActionKey>)>, CacheError> {
        Ok(self.all_used()?.into_iter().map(|used| (used.run, used.actions)).collect())
    }

    /// The actions whose results a run asked for or made; none where its list is gone.
    pub fn used_by(&self, run: &str) -> Result<Vec<ActionKey>, CacheError> {
        let path = self.runs_folder().join(run).join("uses");
        let used = read_if_there(&path)?.and_then(|bytes| parse(&bytes, run.to_owned(), false));
        Ok(used.map(|used| used.actions).unwrap_or_default())
    }

    /// The lists of all runs, latest first.
    pub(crate) fn all_used(&self) -> Result<Vec<Used>, CacheError> {
        let mut all = Vec::new();
        for folder in listed(&self.runs_folder())?.into_iter().rev() {
            let path = folder.join("uses");
            if let Some(bytes) = read_if_there(&path)? {
                all.extend(parse(&bytes, name_of(&folder).to_owned(), is_live(&path)));
            }
        }
        Ok(all)
    }
}

/// Names a pipeline file without saying where it lies.
pub(crate) fn project_name(file: &Path) -> String {
    let whole = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    Digest::of(whole.as_os_str().as_encoded_bytes()).short()
}

fn parse(bytes: &[u8], run: String, live: bool) -> Option<Used> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once('\n')?;
    let project = head.strip_prefix(HEADER)?.to_owned();
    let mut used = Used { run, project, live, actions: Vec::new(), sources: Vec::new() };
    for line in body.lines() {
        match line.split_once(' ') {
            Some(("action", key)) => used.actions.extend(key.parse::<ActionKey>().ok()),
            Some(("source", digest)) => used.sources.extend(digest.parse::<Digest>().ok()),
            _ => {}
        }
    }
    Some(used)
}

/// A lock that cannot be asked for is taken for one that is held.
fn is_live(path: &Path) -> bool {
    match File::open(path).map(|file| file.try_lock_shared()) {
        Ok(Ok(())) => false,
        Ok(Err(TryLockError::WouldBlock | TryLockError::Error(_))) | Err(_) => true,
    }
}
