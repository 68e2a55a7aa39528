//! plumb-cache: bytes, digests, trees, action records and the content-addressed store on disk. Knows no TOML, no
//! graph and no stage; never prints, never reads the clock into anything it stores.
//!
//! ```text
//! digest    Digest, RecipeKey, ActionKey      artifact  a file or folder by its digest
//! tree      a folder as canonical text        record    what one action made, with both documents
//! error     CacheError and its hints          layout    which path holds what
//! ```

mod artifact;
mod digest;
mod error;
mod record;
mod tree;

pub use artifact::{Artifact, ArtifactKind};
pub use digest::{ACTION_CONTEXT, ActionKey, Digest, DigestError, RECIPE_CONTEXT, RecipeKey, derive_key};
pub use error::CacheError;
pub use record::{ActionRecord, Cost, RECORD_FORMAT, Realisation, RecordedOutput};
pub use tree::{Entry, Node, Tree};
