//! Which object of a layer holds what. Only names: asks nobody.

use object_store::path::Path as Name;

use crate::{ActionKey, Digest, PublicKey};

/// The version of the layout is the first part of every name: another layout lives beside this one.
const VERSION: &str = "plumb-1";

pub(crate) fn format() -> Name {
    Name::from(format!("{VERSION}/format"))
}

pub(crate) fn blob(digest: &Digest) -> Name {
    fanned("cas", digest)
}

pub(super) fn pack(digest: &Digest) -> Name {
    Name::from(format!("{VERSION}/packs/{digest}"))
}

pub(super) fn pack_index(digest: &Digest) -> Name {
    Name::from(format!("{VERSION}/packs/{digest}.index"))
}

pub(super) fn action(key: &ActionKey) -> Name {
    fanned("actions", &key.digest())
}

/// Everything else that is said of an action.
pub(super) fn witnesses(key: &ActionKey) -> Name {
    fanned("witnesses", &key.digest())
}

pub(super) fn witness(key: &ActionKey, result: &Digest, signer: &PublicKey) -> Name {
    witnesses(key).join(format!("{result}.{}", signer.hex()))
}

pub(crate) fn segments() -> Name {
    Name::from(format!("{VERSION}/segments"))
}

/// The names of all segments, for those who cannot list them.
pub(super) fn list() -> Name {
    Name::from(format!("{VERSION}/list"))
}

/// What is being sent into a folder.
pub(super) fn uploads() -> Name {
    Name::from(format!("{VERSION}/uploads"))
}

/// Where all lists of disowned results are.
pub(super) fn all_marks() -> Name {
    Name::from(format!("{VERSION}/disowned"))
}

/// Their names, for those who cannot list them.
pub(super) fn list_of_marks() -> Name {
    all_marks().join("list")
}

pub(super) fn marks(signer: &PublicKey, digest: &Digest) -> Name {
    all_marks().join(signer.hex()).join(digest.to_string())
}

/// Whose list an object says it is, and which.
pub(super) fn marks_named(name: &Name) -> Option<(PublicKey, Digest)> {
    let mut parts = name.as_ref().rsplit('/');
    let digest = parts.next()?.parse().ok()?;
    Some((format!("ed25519:{}", parts.next()?).parse().ok()?, digest))
}

fn fanned(folder: &str, digest: &Digest) -> Name {
    let hex = digest.to_string();
    Name::from(format!("{VERSION}/{folder}/{}/{}", &hex[..2], &hex[2..]))
}
