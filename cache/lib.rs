//! plumb-cache: bytes, digests, trees, action records and the content-addressed store on disk. Knows no TOML, no
//! graph and no stage; never prints, never reads the clock into anything it stores.
//!
//! ```text
//! digest    Digest, RecipeKey, ActionKey          artifact     a file or folder by its digest
//! tree      a folder as canonical text            record       what one action made, with both documents
//! error     CacheError and its hints              layout       which path holds what
//! store     opening a cache, its folders          session      this process's scratch space
//! blobs     writing and verifying blobs           files        temp file, fsync, hard link, seal
//! ingest    bytes come in                         walk         folder to tree
//! read      is it there, what is it               materialise  bytes go out
//! records   publishing and finding records        ancestry     what records were made from
//! hash      digests of files                      index        digests of unchanged sources
//! lineage   what results were made from, indexed
//! stamp     what `stat` says                      claim, lock  who runs what just now
//! fetched   what came from the network
//! disown    results that are not to be used      pins, projects  what is never collected
//! uses      what runs use                         gate     between those who use and the collector
//! census    all there is                          collect  what need not be there
//! figures   what the bytes are
//! find      by the first digits of a key
//! verify    every byte again                      pack     files that share pieces
//! keys      who signs                             signed   records that say who vouches for them
//! trust     whose records are used                layer    a place that several people share
//! marks     what people have disowned, shared
//! testimony who else says the same, or otherwise
//! upstream  the layers that are asked for what is not here
//! holdings  the results of a cache or a layer
//! bundle    results with their lineage in one file
//! outbox    results that wait to be sent
//! ```

mod ancestry;
mod artifact;
mod blobs;
mod bundle;
mod census;
mod claim;
mod collect;
mod digest;
mod disown;
mod error;
mod fetched;
mod figures;
mod files;
mod find;
mod gate;
mod hash;
mod holdings;
mod index;
mod ingest;
mod keys;
mod layer;
mod layout;
mod lineage;
mod lock;
mod marks;
mod materialise;
mod memo;
mod outbox;
mod pack;
mod pins;
mod projects;
mod read;
mod recollection;
mod record;
mod records;
mod session;
mod signed;
mod stamp;
mod store;
mod testimony;
mod tree;
mod trust;
mod upstream;
mod uses;
mod verify;
mod walk;

pub use ancestry::Ancestry;
pub use artifact::{Artifact, ArtifactKind};
pub use bundle::{Bundle, Bundled, Exported, Imported, Importing, Inputs};
pub use census::{Census, Kept};
pub use claim::{Claim, Claimed};
pub use collect::{CollectOptions, Collection, Evicted, Leftover, LeftoverKind};
pub use digest::{ACTION_CONTEXT, ActionKey, Digest, DigestError, RECIPE_CONTEXT, RecipeKey, derive_key};
pub use disown::{Disowned, Mark};
pub use error::CacheError;
pub use fetched::Fetched;
pub use figures::{Figures, Share};
pub use gate::Hold;
pub use holdings::{Clash, Holding, Holdings};
pub use keys::{KeyError, PublicKey, SecretKey};
pub use layer::{Catalogue, Entry as CatalogueEntry, Layer, Parcel, Place, Published, Pushed, Shipment, Shipped};
pub use lineage::{Lineage, LineageIndex};
pub use marks::{LastWords, SignedMarks, Statement};
pub use materialise::{Materialise, Method};
pub use outbox::Waiting;
pub use pack::Packed;
pub use pins::Pin;
pub use projects::Project;
pub use recollection::Recollection;
pub use record::{ActionRecord, Cost, RECORD_FORMAT, Realisation, RecordedOutput};
pub use records::Publication;
pub use signed::SignedRecord;
pub use stamp::{FileStamp, Seal, seal_of, stat_of};
pub use store::{Store, StoreOptions};
pub use testimony::{Other, SharedMark, Testimony};
pub use tree::{Entry, Node, Tree};
pub use trust::{Policy, Verdict, Witnesses};
pub use upstream::{Loss, Opener, Origin, Refused, Upstream, Warn};
pub use uses::Uses;
pub use verify::{Lost, Progress, Repair, Verified};
