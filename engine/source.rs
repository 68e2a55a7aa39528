//! Sources: what comes from outside. Where it lies (`place`), what it is now, and how its bytes come before a step. A
//! source enters keys as the digest of its content and as nothing else.
//!
//! ```text
//! place      parsing an address            lock, drift   what was accepted, and what is not that
//! local      bytes on this machine         glob, folder  which files; a folder from their digests
//! http s3 hub   one kind of server each    network       asking, retrying, keeping secrets
//! download   one file, from where it was cut             checksum  what others call their bytes
//! ```
//!
//! A source on this machine is hashed at each look (a `stat`, if it has not changed). A remote one is asked for at each
//! look, unless it names its bytes for ever (a commit, a SHA-256) or the lock file pins it: then the cache is enough,
//! and there need be no network. What is fetched goes into the cache.

pub mod accept;
pub(crate) mod aws;
mod checksum;
mod download;
mod drift;
mod folder;
mod glob;
mod http;
mod hub;
mod local;
pub mod lock;
pub mod network;
pub mod place;
mod s3;

use std::collections::{BTreeMap, BTreeSet};

use plumb_cache::{Artifact, CacheError, Fetched, Store};
use rayon::prelude::*;

use self::download::Progress;
pub use self::download::Tell;
use self::drift::Drift;
pub use self::glob::Include;
pub use self::local::Local;
use self::lock::LockFile;
use self::network::FetchError;
pub use self::place::Place;
use crate::error::EngineError;
use crate::graph::{Graph, Source, SourceId};

/// A source, and the path inside it that some step asks for.
pub type SourcePath = (SourceId, Option<String>);

/// What a source is.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its bytes.
    pub artifact: Artifact,
    /// What its server calls them: `commit:…`, `etag:…`, `date:…`.
    pub version: Option<String>,
    /// When they last changed, as far as anybody tells; for people.
    pub changed_at: Option<String>,
}

impl Known {
    fn of(artifact: Artifact) -> Self {
        Self { artifact, version: None, changed_at: None }
    }

    fn fetched(Fetched { artifact, version, .. }: Fetched) -> Self {
        Self { version: (!version.is_empty()).then_some(version), ..Self::of(artifact) }
    }
}

/// Looks at the sources of one pipeline.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The pipeline.
    pub graph: &'a Graph,
    /// The cache.
    pub store: &'a Store,
    /// Who hears of what is fetched.
    pub tell: Tell<'a>,
}

/// What was found of the sources that some step uses.
#[derive(Debug, Default)]
pub struct Found {
    /// What each is.
    pub artifacts: BTreeMap<SourcePath, Artifact>,
    /// Where those lie that are on this machine.
    pub locals: BTreeMap<SourcePath, Local>,
}

impl Sources<'_> {
    /// What these are: as the lock file pins them, where there is one and it is right.
    pub fn find(&self, used: BTreeSet<SourcePath>) -> Result<Found, EngineError> {
        let lock = LockFile::read(&self.graph.file)?;
        let whole: BTreeSet<SourceId> = used.iter().map(|(id, _)| *id).collect();
        let is_needed = |id: &SourceId| lock.is_some() || !matches!(self.graph.source(*id).place, Place::Path(_));
        let known = self.known(whole.into_iter().filter(is_needed).collect(), lock.as_ref())?;
        let found = used.into_par_iter().map(|path| self.part(&known, path));
        let mut all = Found::default();
        for (path, artifact, local) in found.collect::<Result<Vec<_>, EngineError>>()? {
            all.locals.extend(local.map(|local| (path.clone(), local)));
            all.artifacts.insert(path, artifact);
        }
        Ok(all)
    }

    /// Whole sources; all that the lock file does not pin are one error.
    fn known(&self, ids: Vec<SourceId>, lock: Option<&LockFile>) -> Result<BTreeMap<SourceId, Known>, EngineError> {
        let look = |id: SourceId| {
            let source = self.graph.source(id);
            let Some(lock) = lock else { return Ok((id, Ok(self.look(source)?))) };
            let pin = lock.pins.get(&source.name);
            let pinned = pin.filter(|pin| pin.from == source.written).and_then(|pin| Some((pin, pin.artifact()?)));
            if let (Some((pin, artifact)), true) = (pinned, source.place.is_remote()) {
                return Ok((id, Ok(Known { version: pin.version.clone(), ..Known::of(artifact) })));
            }
            // Something new on a server is not downloaded only to be refused.
            let now = if source.place.is_remote() { None } else { Some(self.look(source)?) };
            match (pin, now) {
                (Some(pin), Some(now)) if pin.holds(source, &now) => Ok((id, Ok(now))),
                (pin, now) => Ok((id, Err(Drift { source, pin, now: now.map(|now| dated(source, now)) }))),
            }
        };
        let looked = ids.into_par_iter().map(look).collect::<Result<Vec<_>, EngineError>>()?;
        let (mut known, mut drifts) = (BTreeMap::new(), Vec::new());
        for (id, looked) in looked {
            match looked {
                Ok(one) => drop(known.insert(id, one)),
                Err(drift) => drifts.push(drift),
            }
        }
        if drifts.is_empty() { Ok(known) } else { Err(drift::error(&self.graph.file, &drifts)) }
    }

    /// What a source is now, whatever the lock file says. The bytes of a remote one are in the cache afterwards.
    pub fn look(&self, source: &Source) -> Result<Known, EngineError> {
        let unreadable = |error| EngineError::Source { what: "source", name: source.name.clone(), source: error };
        if let Some(local) = local_of(source)? {
            let artifact = local.digest(self.store).map_err(unreadable)?;
            return Ok(Known::of(artifact));
        }
        match &source.place {
            Place::Store(digest) => self.store.lookup(digest).map(Known::of).map_err(|error| missing(source, error)),
            _ => self.ask(source, None),
        }
    }

    /// Makes sure that the bytes of a source that does not lie on this machine are in the cache, and are the ones that
    /// the keys were made with.
    pub fn fetch(&self, id: SourceId) -> Result<(), EngineError> {
        let source = self.graph.source(id);
        if !source.place.is_remote() {
            return Ok(());
        }
        let lock = LockFile::read(&self.graph.file)?;
        let Some(pin) = lock.as_ref().and_then(|lock| lock.pins.get(&source.name)) else {
            return self.look(source).map(drop);
        };
        if pin.artifact().is_some_and(|artifact| self.store.present(&artifact)) {
            return Ok(());
        }
        let now = self.ask(source, Some(pin))?;
        match pin.holds(source, &now) {
            true => Ok(()),
            false => Err(drift::error(&self.graph.file, &[Drift { source, pin: Some(pin), now: Some(now) }])),
        }
    }

    fn ask(&self, source: &Source, pin: Option<&lock::Pin>) -> Result<Known, EngineError> {
        let progress = Progress::new(self.tell, &source.name, source.place.to_string());
        let asked = match &source.place {
            Place::Http(url) => {
                let (sha256, secret) = (source.sha256.as_deref(), source.secret.as_deref());
                http::Web { url, sha256, secret }.look(self.store, progress)
            }
            Place::S3(place) => s3::Objects { place, include: &source.include }.look(self.store, progress),
            Place::Hub(address) => {
                hub::Repository { address, include: &source.include, pin }.look(self.store, progress)
            }
            Place::Path(_) | Place::Glob(_) | Place::Store(_) => return self.look(source),
        };
        asked.map_err(|FetchError { message, hint, cache, .. }| match cache {
            Some(error) => (*error).into(),
            None => EngineError::Fetch { name: source.name.clone(), message, hint },
        })
    }

    /// What is at a path inside a source.
    fn part(
        &self,
        known: &BTreeMap<SourceId, Known>,
        path: SourcePath,
    ) -> Result<(SourcePath, Artifact, Option<Local>), EngineError> {
        let source = self.graph.source(path.0);
        let unreadable = |error| EngineError::Source { what: "source", name: source.name.clone(), source: error };
        let subpath = path.1.clone().unwrap_or_default();
        let local = match local_of(source)? {
            Some(local) if subpath.is_empty() => Some(local),
            Some(local) => Some(local.inside(&subpath).ok_or_else(|| nothing_at(source, &subpath))?),
            None => None,
        };
        let whole = known.get(&path.0).map(|known| known.artifact);
        let artifact = match (&local, whole) {
            (_, Some(whole)) if subpath.is_empty() => whole,
            (Some(local), _) => local.digest(self.store).map_err(unreadable)?,
            (None, whole) => {
                let whole = whole.ok_or_else(|| EngineError::Bug(format!("`{}` was not looked at", source.name)))?;
                if !self.store.present(&whole) {
                    self.fetch(path.0)?;
                }
                self.store.subpath(&whole, &subpath).map_err(|error| match error {
                    CacheError::NoSuchPath { .. } => nothing_at(source, &subpath),
                    error => unreadable(error),
                })?
            }
        };
        Ok((path, artifact, local))
    }
}

/// A source's bytes, if they lie on this machine outside the cache.
fn local_of(source: &Source) -> Result<Option<Local>, EngineError> {
    let glob = match &source.place {
        Place::Path(path) => return Ok(Some(Local::At(path.clone()))),
        Place::Glob(glob) => glob,
        _ => return Ok(None),
    };
    let listed = glob.files().map_err(|(path, error)| EngineError::Fetch {
        name: source.name.clone(),
        message: format!("cannot list `{}`: {error}", path.display()),
        hint: None,
    })?;
    match listed.is_empty() {
        true => Err(EngineError::Fetch {
            name: source.name.clone(),
            message: format!("no file matches `{glob}` in `{}`", glob.base().display()),
            hint: Some(
                "a name that begins with a dot matches only a pattern with that dot; `**` goes into folders".into(),
            ),
        }),
        false => Ok(Some(Local::Files(listed))),
    }
}

/// With the time of a local source's youngest file, which costs a walk.
fn dated(source: &Source, known: Known) -> Known {
    let local = local_of(source).ok().flatten();
    Known { changed_at: local.and_then(|local| local.changed_at()).or(known.changed_at), ..known }
}

fn nothing_at(source: &Source, subpath: &str) -> EngineError {
    EngineError::Fetch {
        name: source.name.clone(),
        message: format!("there is no `{subpath}` in `{}`", source.written),
        hint: None,
    }
}

fn missing(source: &Source, error: CacheError) -> EngineError {
    EngineError::Fetch {
        name: source.name.clone(),
        message: error.to_string(),
        hint: Some("make it again with the pipeline that made it, or name the cache that has it: `--cache DIR`".into()),
    }
}

/// The cache's trouble while fetching; the class of the error stays with the cache's own words.
fn in_cache(error: CacheError) -> FetchError {
    FetchError { cache: Some(Box::new(error)), ..FetchError::wrong("the cache failed") }
}

/// `1 file`, `2 files`.
fn files(number: usize) -> String {
    if number == 1 { "1 file".into() } else { format!("{number} files") }
}
