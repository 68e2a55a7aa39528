//! Figures of a cache: what its bytes are, which of them several results share, and how artifacts get from it to other
//! file systems. Changes nothing but a small file made and taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::blobs::{Temp, settle};
use crate::census::{Census, Reach, digest_of, files_below};
use crate::files;
use crate::store::Store;
use crate::{ActionKey, CacheError, Digest, Method};

/// Some of the bytes of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The bytes of a cache, each counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Blobs of results.
    pub results: Share,
    /// Blobs of diagnostics alone.
    pub diagnostics: Share,
    /// Blobs that are lists of folders.
    pub folders: Share,
    /// Blobs that no result stands on.
    pub others: Share,
    /// Everything that is no blob, by the name of its folder.
    pub beside: BTreeMap<String, Share>,
    /// Bytes of blobs that one result stands on.
    pub unique: u64,
    /// Bytes of blobs that several results stand on.
    pub shared: u64,
    /// What the results would weigh if nothing were shared.
    pub unshared: u64,
}

impl Figures {
    /// All bytes.
    pub fn bytes(&self) -> u64 {
        let blobs = [self.results, self.diagnostics, self.folders, self.others];
        blobs.iter().chain(self.beside.values()).map(|share| share.bytes).sum()
    }
}

impl Share {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

impl Store {
    /// Counts the bytes of a census.
    pub fn figures(&self, census: &Census) -> Result<Figures, CacheError> {
        let mut results = BTreeSet::new();
        let mut folders = BTreeSet::new();
        let mut owners: BTreeMap<Digest, usize> = BTreeMap::new();
        for kept in &census.kept {
            let mut all = Reach::default();
            for (_, artifact, diagnostic) in &kept.outputs {
                let mut reach = Reach::default();
                self.reach(census, artifact, &mut reach);
                if !diagnostic {
                    results.extend(reach.blobs.iter().copied());
                }
                folders.extend(reach.folders.iter().copied());
                all.blobs.extend(reach.blobs);
            }
            all.blobs.into_iter().for_each(|digest| *owners.entry(digest).or_default() += 1);
        }
        let mut figures = Figures::default();
        for (digest, bytes) in &census.blobs {
            let owners = owners.get(digest).copied().unwrap_or(0);
            let share = match owners {
                0 => &mut figures.others,
                _ if folders.contains(digest) => &mut figures.folders,
                _ if results.contains(digest) => &mut figures.results,
                _ => &mut figures.diagnostics,
            };
            share.add(*bytes);
            match owners {
                0 => {}
                1 => figures.unique += bytes,
                _ => figures.shared += bytes,
            }
            figures.unshared += bytes * owners as u64;
        }
        figures.beside = self.beside()?;
        Ok(figures)
    }

    /// What is in the cache and no blob; further names of blobs weigh nothing.
    pub(crate) fn beside(&self) -> Result<BTreeMap<String, Share>, CacheError> {
        let mut beside: BTreeMap<String, Share> = BTreeMap::new();
        let folders = files::listed(self.inner.layout.base())?;
        for folder in folders.iter().filter(|path| path.is_dir() && files::name_of(path) != "cas") {
            let share = beside.entry(files::name_of(folder).to_owned()).or_default();
            let files = files_below(folder)?;
            files.iter().for_each(|(_, metadata)| share.add(crate::census::weight(metadata)));
        }
        beside.retain(|_, share| share.files > 0);
        Ok(beside)
    }

    /// The actions of which somebody else's signed record came here.
    pub fn signed_actions(&self) -> Result<BTreeSet<ActionKey>, CacheError> {
        let found = files_below(&self.inner.layout.folder("signed"))?;
        let named = found.iter().filter_map(|(path, _)| digest_of(path.parent()?));
        Ok(named.filter_map(|digest| digest.to_string().parse().ok()).collect())
    }

    /// How files get from the cache into a folder: for readers, and for who may write.
    pub fn methods_into(&self, folder: &Path) -> Result<(Method, Method), CacheError> {
        let failed = |source| CacheError::placing("trying a link in", folder, source);
        let temp = Temp::new(self)?;
        let made = files::create(&temp.path).and_then(|file| settle(&file, files::Durability::Memory));
        made.map_err(failed)?;
        let place = tempfile::Builder::new().prefix(".plumb-").tempdir_in(folder).map_err(failed)?;
        if reflink_copy::reflink(&temp.path, place.path().join("clone")).is_ok() {
            return Ok((Method::Reflink, Method::Reflink));
        }
        match fs::hard_link(&temp.path, place.path().join("link")) {
            Ok(()) => Ok((Method::HardLink, Method::Copy)),
            Err(_) => Ok((Method::Copy, Method::Copy)),
        }
    }
}
