//! Which path of the cache holds what. Only names: touches no file.
//!
//! ```text
//! v1/cas/ab/cdef…          blobs: read-only, sealed (see `blobs`)
//! v1/actions/ab/cdef…      one record an action; written last, so a reader never sees a record without its blobs
//! v1/recipes/ab/cdef…      lines of action keys, first published first: an index, checked before use
//! v1/by_stage/ab/cdef…     lines of what a stage of a pipeline published: a hint for `why`
//! v1/witnesses/ab/cdef…/   later results of an action that differ from its record
//! v1/past/ab/cdef…         records whose bytes were collected: for `why` and for ancestry
//! v1/claims/               one lock a running action          v1/state/   checkpoints, by action key
//! v1/disowned/             results that are not to be used
//! v1/packs/ab/cdef…        manifests of files kept in pieces  v1/splits/  how files could be cut
//! v1/pins/, v1/projects/   roots of garbage collection        v1/runs/    histories      v1/logs/  logs
//! v1/gate, v1/turnstile    locks between runs and the collector
//! v1/views/                trees checked out for people       v1/scratch/ what is being written or run
//! v1/quarantine/           what was found damaged             v1/index/   unchanged sources, downloads, lineages
//! v1/partial/              downloads that were cut           v1/layers/  catalogues of layers
//! v1/uploads/              uploads that were cut
//! v1/outbox/LAYER/        results that wait to be sent to a layer
//! v1/signed/ab/cdef…/      records that came from others, as they signed them
//! v1/marks/                results that others have disowned, as they signed it
//! v1/confirmed/ab/cdef…    what was made here after it had come from others
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{ActionKey, Digest, PublicKey, RecipeKey};

/// The version of the layout is the name of its folder: another layout lives beside this one.
const VERSION: &str = "v1";

/// Made when the cache is, so that no later write has to ask.
const FOLDERS: [&str; 18] = [
    "cas",
    "actions",
    "recipes",
    "by_stage",
    "witnesses",
    "past",
    "claims",
    "disowned",
    "state",
    "packs",
    "splits",
    "pins",
    "projects",
    "runs",
    "logs",
    "views",
    "quarantine",
    "index",
];

/// The paths of a cache.
#[derive(Debug)]
pub(crate) struct Layout {
    base: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Layout {
        Layout { base: root.join(VERSION) }
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Every folder of the cache; the scratch folder last: where it is, all are.
    pub(crate) fn folders(&self) -> impl Iterator<Item = PathBuf> {
        FOLDERS.iter().map(|name| self.base.join(name)).chain([self.scratch()])
    }

    pub(crate) fn folder(&self, name: &'static str) -> PathBuf {
        self.base.join(name)
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.base.join("scratch")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.fanned("cas", digest)
    }

    pub(crate) fn action(&self, key: &ActionKey) -> PathBuf {
        self.fanned("actions", &key.digest())
    }

    pub(crate) fn past(&self, key: &ActionKey) -> PathBuf {
        self.fanned("past", &key.digest())
    }

    pub(crate) fn witnesses(&self, key: &ActionKey) -> PathBuf {
        self.fanned("witnesses", &key.digest())
    }

    pub(crate) fn recipe(&self, key: &RecipeKey) -> PathBuf {
        self.fanned("recipes", &key.digest())
    }

    /// Names are hashed, so that no name of a pipeline can leave the folder.
    pub(crate) fn stage(&self, pipeline: &str, stage: &str) -> PathBuf {
        self.fanned("by_stage", &Digest::of(format!("{pipeline}\n{stage}").as_bytes()))
    }

    pub(crate) fn claim(&self, key: &ActionKey) -> PathBuf {
        self.base.join("claims").join(key.to_string())
    }

    pub(crate) fn disowned(&self, key: &ActionKey) -> PathBuf {
        self.base.join("disowned").join(key.to_string())
    }

    /// Where the manifest of a file that is kept in pieces lies.
    pub(crate) fn pack(&self, whole: &Digest) -> PathBuf {
        self.fanned("packs", whole)
    }

    /// Where the pieces of a file that could be kept so are remembered.
    pub(crate) fn split(&self, whole: &Digest) -> PathBuf {
        self.fanned("splits", whole)
    }

    pub(crate) fn pin(&self, key: &ActionKey) -> PathBuf {
        self.base.join("pins").join(key.to_string())
    }

    pub(crate) fn state(&self, key: &ActionKey) -> PathBuf {
        self.base.join("state").join(key.to_string())
    }

    pub(crate) fn view(&self, tree: &Digest) -> PathBuf {
        self.base.join("views").join(tree.to_string())
    }

    pub(crate) fn stat_index(&self) -> PathBuf {
        self.base.join("index").join("stat")
    }

    pub(crate) fn fetched(&self, name: &Digest) -> PathBuf {
        self.fanned("index/fetched", name)
    }

    pub(crate) fn partial(&self, name: &Digest) -> PathBuf {
        self.base.join("partial").join(name.to_string())
    }

    /// Where an upload to a layer is noted while it goes on.
    pub(crate) fn upload(&self, name: &Digest) -> PathBuf {
        self.base.join("uploads").join(name.to_string())
    }

    /// Where the record of an action lies as somebody else has signed it.
    pub(crate) fn signed(&self, key: &ActionKey, recipe: &RecipeKey, signer: &PublicKey) -> PathBuf {
        self.signed_folder(key).join(format!("{recipe}.{}", signer.hex()))
    }

    /// Where the record lies that this cache made of an action after it had somebody else's.
    pub(crate) fn confirmed(&self, key: &ActionKey) -> PathBuf {
        self.fanned("confirmed", &key.digest())
    }

    /// Where a list of marks lies that somebody has shared.
    pub(crate) fn marks(&self, signer: &PublicKey, digest: &Digest) -> PathBuf {
        self.base.join("marks").join(format!("{}.{digest}", signer.hex()))
    }

    pub(crate) fn signed_folder(&self, key: &ActionKey) -> PathBuf {
        self.fanned("signed", &key.digest())
    }

    /// Where a part of a layer's catalogue is kept once it was read.
    pub(crate) fn segment(&self, digest: &Digest) -> PathBuf {
        self.base.join("layers").join(digest.to_string())
    }

    /// Names are hashed, as for stages.
    pub(crate) fn memo(&self, what: &str, of: &str) -> PathBuf {
        self.base.join("index").join(format!("{what}-{}", Digest::of(of.as_bytes()).short()))
    }

    /// Asked for several times a step: made in one piece.
    fn fanned(&self, folder: &str, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = OsString::with_capacity(self.base.as_os_str().len() + folder.len() + hex.len() + 3);
        path.push(&self.base);
        for part in [folder, &hex[..2], &hex[2..]] {
            path.push("/");
            path.push(part);
        }
        path.into()
    }
}
