//! A repository of a Hugging Face hub: models and data sets, by revision. Looks first at what `hf download` has left on
//! this machine, asks the hub only for what that cannot tell, and leaves what it fetches where `huggingface_hub`
//! finds it. A commit names its files for ever; a branch is asked for at each look.

mod address;
mod api;
mod local;

use std::collections::BTreeMap;
use std::path::Path;

use plumb_cache::{Artifact, Fetched, Store};

pub use address::Address;

use self::api::{Api, RemoteFile};
use self::local::Snapshot;
use super::Known;
use super::checksum;
use super::download::{Came, Download, Progress, beside, hold};
use super::folder;
use super::glob::Include;
use super::in_cache;
use super::lock::Pin;
use super::network::{self, Failure, FetchError};

/// A repository, or a part of it, as a source.
pub struct Repository<'a> {
    /// Which.
    pub address: &'a Address,
    /// Which of its files.
    pub include: &'a Include,
    /// What the lock file pins.
    pub pin: Option<&'a Pin>,
}

impl Repository<'_> {
    /// What is there now, or at the pinned commit; its bytes are in the cache afterwards.
    pub fn look(&self, store: &Store, progress: Progress<'_>) -> Result<Known, FetchError> {
        let pinned = self.pin.and_then(|pin| pin.version.as_deref()?.strip_prefix("commit:"));
        let revision = pinned.unwrap_or(&self.address.revision);
        if let Some(known) = self.pinned_here(revision, store)? {
            return Ok(known);
        }
        if address::is_commit(revision)
            && let Some(known) = self.recall(store, revision)
        {
            return Ok(known);
        }
        network::wait(self.fetch(revision, store, progress))?
    }

    /// What the hub's own tools left is as good as a download, if it is what is pinned.
    fn pinned_here(&self, commit: &str, store: &Store) -> Result<Option<Known>, FetchError> {
        let (Some(pin), Some(snapshot)) = (self.pin, Snapshot::of_revision(self.address, commit)?) else {
            return Ok(None);
        };
        let names: Vec<String> = snapshot.names()?.into_iter().filter(|name| self.wants(name)).collect();
        if names.is_empty() {
            return Ok(None);
        }
        let known = self.take_in_unremembered(store, &snapshot, names)?;
        Ok((known.artifact.identity() == pin.digest).then_some(known))
    }

    async fn fetch(&self, revision: &str, store: &Store, mut progress: Progress<'_>) -> Result<Known, FetchError> {
        let api = Api::new(self.address)?;
        let commit = match api::is_offline() {
            true => Err(offline(self.address)),
            false => api.commit(revision).await,
        };
        let listed = match commit {
            Ok(commit) => match self.recall(store, &commit) {
                Some(known) => return Ok(known),
                None => api.files(&commit).await.map(|files| (commit, files)),
            },
            Err(error) => Err(error),
        };
        let (commit, files) = match listed {
            Err(error) if error.kind == Failure::Line => {
                return self.without_network(revision, store, &progress, error);
            }
            listed => listed?,
        };
        let wanted: Vec<RemoteFile> = files.into_iter().filter(|file| self.wants(&file.name)).collect();
        if wanted.is_empty() {
            return Err(self.nothing(&commit));
        }
        let snapshot = Snapshot::at(self.address, &commit)?;
        let missing: Vec<&RemoteFile> = wanted.iter().filter(|file| !snapshot.holds(file)).collect();
        progress.total = missing.iter().map(|file| file.size).sum();
        for file in &missing {
            fetch_file(&api, &snapshot, file, &mut progress).await.map_err(|error| self.by_hand(&commit, error))?;
        }
        snapshot.name_revision(revision)?;
        let names = wanted.iter().map(|file| file.name.clone());
        let known = self.take_in(store, &snapshot, names.collect())?;
        if !missing.is_empty() {
            progress.finish();
        }
        Ok(known)
    }

    /// No hub: what is on this machine of that revision counts, as it does for `huggingface_hub`.
    fn without_network(
        &self,
        revision: &str,
        store: &Store,
        progress: &Progress<'_>,
        error: FetchError,
    ) -> Result<Known, FetchError> {
        let found = Snapshot::of_revision(self.address, revision)?;
        let Some(snapshot) = found else { return Err(self.by_hand(revision, error)) };
        let names: Vec<String> = snapshot.names()?.into_iter().filter(|name| self.wants(name)).collect();
        if names.is_empty() {
            return Err(self.by_hand(revision, error));
        }
        progress.warn(format!(
            "the hub was not asked ({error}): `{}` is what this machine has of it, {} at commit {}",
            self.address,
            crate::source::files(names.len()),
            snapshot.commit
        ));
        self.take_in_unremembered(store, &snapshot, names)
    }

    fn take_in(&self, store: &Store, snapshot: &Snapshot, names: Vec<String>) -> Result<Known, FetchError> {
        let known = self.take_in_unremembered(store, snapshot, names)?;
        let (about, version) = (self.address.to_string(), known.version.clone().unwrap_or_default());
        let fetched = Fetched { about, version, artifact: known.artifact };
        store.remember(&self.name(&snapshot.commit), &fetched).map_err(in_cache)?;
        Ok(known)
    }

    fn take_in_unremembered(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        names: Vec<String>,
    ) -> Result<Known, FetchError> {
        let mut files: BTreeMap<String, Artifact> = BTreeMap::new();
        for name in names {
            let artifact = store.ingest(&snapshot.file(&name)).map_err(in_cache)?;
            files.insert(self.inside(&name).to_owned(), artifact);
        }
        let artifact = match files.get("") {
            Some(file) => *file,
            None => folder::store(store, &files).map_err(in_cache)?,
        };
        Ok(Known { version: Some(format!("commit:{}", snapshot.commit)), ..Known::of(artifact) })
    }

    fn recall(&self, store: &Store, commit: &str) -> Option<Known> {
        let fetched = store.recall(&self.name(commit))?;
        store.present(&fetched.artifact).then(|| Known::fetched(fetched))
    }

    /// What a commit's files are remembered under.
    fn name(&self, commit: &str) -> String {
        let Address { path, .. } = self.address;
        format!("hub {} {} {commit} {path} {}", api::endpoint(), self.address.repository(), self.include)
    }

    fn wants(&self, name: &str) -> bool {
        let path = self.address.path.as_str();
        let under =
            path.is_empty() || name == path || name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        under && self.include.wants(name)
    }

    /// A file's name in the source: relative to the path that the address names, empty where it names the very file.
    fn inside<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.address.path.as_str()).map_or(name, |rest| rest.trim_start_matches('/'))
    }

    fn nothing(&self, commit: &str) -> FetchError {
        let hint = match self.include.is_everything() {
            true => "check the path in the address".to_owned(),
            false => format!("check the path in the address, and `include` ({})", self.include),
        };
        FetchError::wrong(format!("`{}` holds no such file at commit {commit}", self.address)).hint(hint)
    }

    /// What plumb cannot fetch, the user's own tools may: what they leave is found.
    fn by_hand(&self, revision: &str, error: FetchError) -> FetchError {
        let command = self.address.download_command(revision);
        let told = error.hint.clone().unwrap_or_default();
        let hint = format!("{told}\nor fetch it where there is a network, `{command}`: plumb finds what that leaves");
        FetchError { hint: Some(hint.trim_start().into()), ..error }
    }
}

async fn fetch_file(
    api: &Api,
    snapshot: &Snapshot,
    file: &RemoteFile,
    progress: &mut Progress<'_>,
) -> Result<(), FetchError> {
    let etag = match &file.etag {
        Some(etag) => etag.clone(),
        None => api.etag(&snapshot.commit, &file.name).await?,
    };
    let _held = hold(&snapshot.lock_of(&etag))?;
    let blob = snapshot.blob(&etag)?;
    if !blob.exists() {
        let partial = beside(&blob, ".incomplete");
        download(api, snapshot, file, &etag, &partial, progress).await?;
        snapshot.keep(&partial, &blob)?;
    }
    snapshot.link(&file.name, &blob)
}

/// Downloads until the bytes are those that the hub's ETag names: once more from the start, if a part was bad.
async fn download(
    api: &Api,
    snapshot: &Snapshot,
    file: &RemoteFile,
    etag: &str,
    partial: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), FetchError> {
    let download = Download { request: api.resolve(&snapshot.commit, &file.name)?, partial, immutable: true };
    let earlier = progress.done;
    for last in [false, true] {
        progress.done = earlier;
        let promised = match download.run(api.client(), progress).await.map_err(|error| api.explain(error))? {
            Came::Whole(first, _) => api::etag_of(&first),
            Came::Unchanged => None,
        };
        if checksum::matches(partial, etag)? && promised.is_none_or(|promised| promised == etag) {
            return Ok(());
        }
        download.forget()?;
        if last {
            break;
        }
    }
    let message =
        format!("`{}` of `{}` came with bytes that are not those of its ETag {etag}", file.name, snapshot.repository);
    Err(FetchError::wrong(message).hint("a proxy or mirror may have changed it: check `HF_ENDPOINT` and `HTTPS_PROXY`"))
}

fn offline(address: &Address) -> FetchError {
    let message = format!("`HF_HUB_OFFLINE` is set, so `{address}` is not asked for");
    FetchError::new(message, Failure::Line).hint("unset it to ask the hub")
}
