//! Signed records: what is passed on between caches. The exact bytes of a record, and who vouches for them.
//!
//! ```text
//! plumb-signed 1 SIGNER SIGNATURE      64 and 128 hex digits
//! plumb-record 1 CHECKSUM              the record's own file, as it lies in a cache
//! {json}
//! ```
//!
//! The signature is over a domain tag and all bytes of the record: its format, both documents, the names and digests of
//! its outputs, its ancestry, environment, cost and time. So a record can be carried by anybody, under any name, and is
//! still what its signer said; where it is found proves nothing. One action has a record for each recipe that came to
//! it, since the recipe's document and ancestry are inside. Whom to believe is `trust`'s question.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::census::{digest_of, files_below};
use crate::digest::bytes_of;
use crate::files::listed;
use crate::keys::hex;
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, ActionRecord, CacheError, PublicKey, Realisation, RecipeKey, SecretKey};

const HEADER: &str = "plumb-signed 1 ";

/// What is signed begins with this, so that nothing else that a key ever signs can be taken for a record.
const DOMAIN: &[u8] = b"plumb signed record v1\n";

/// A longer record is refused before it is read: a gather of a hundred thousand branches takes some tens of MB.
pub(crate) const LONGEST: usize = 256 << 20;

/// A record with the key of who vouches for it. There is none whose signature does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedRecord {
    signer: PublicKey,
    signature: [u8; 64],
    record: ActionRecord,
    /// The record's bytes as they were signed: another writer may put the same JSON otherwise.
    bytes: Vec<u8>,
}

impl SignedRecord {
    /// Signs a record.
    pub fn sign(record: ActionRecord, key: &SecretKey) -> Result<SignedRecord, String> {
        let bytes = record.encode()?;
        let signature = key.sign(&signed_text(&bytes));
        Ok(SignedRecord { signer: key.public(), signature, record, bytes })
    }

    /// Who vouches for it.
    pub fn signer(&self) -> PublicKey {
        self.signer
    }

    /// What was made.
    pub fn record(&self) -> &ActionRecord {
        &self.record
    }

    /// As it is passed on.
    pub fn encode(&self) -> Vec<u8> {
        let head = format!("{HEADER}{} {}\n", self.signer.hex(), hex(&self.signature));
        [head.as_bytes(), &self.bytes].concat()
    }

    /// The record in these bytes, if its signature holds and it proves itself: both keys are computed again from both
    /// documents. Else what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<SignedRecord, String> {
        if bytes.len() > LONGEST {
            return Err(format!("it has {} bytes", bytes.len()));
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no header")?;
        let (head, bytes) = (&bytes[..end], &bytes[end + 1..]);
        let head = head.strip_prefix(HEADER.as_bytes()).ok_or("its header is not that of a signed record")?;
        let (signer, signature) = head.split_at_checked(64).ok_or("its signer does not read")?;
        let signer =
            bytes_of(signer).and_then(|signer| PublicKey::from_bytes(&signer)).ok_or("its signer is no key")?;
        let signature = signature.strip_prefix(b" ").and_then(bytes_of).ok_or("its signature does not read")?;
        if !signer.has_signed(&signed_text(bytes), &signature) {
            return Err(format!("it was not signed so by `{signer}`"));
        }
        let record = ActionRecord::decode(bytes)?;
        Ok(SignedRecord { signer, signature, record, bytes: bytes.to_owned() })
    }
}

impl Store {
    /// What others have signed of an action, of those records that came from them. What is not among these was made
    /// here.
    pub fn signed_by_others(&self, action: &ActionKey) -> Result<Vec<SignedRecord>, CacheError> {
        let mut signed = Vec::new();
        for path in listed(&self.inner.layout.signed_folder(action))? {
            let read = read_if_there(&path)?.map(|bytes| SignedRecord::decode(&bytes));
            signed.extend(read.and_then(Result::ok).filter(|signed| signed.record().action == *action));
        }
        Ok(signed)
    }

    /// Everything here that came from this signer.
    pub fn signed_by(&self, signer: &PublicKey) -> Result<Vec<SignedRecord>, CacheError> {
        let mut signed = Vec::new();
        // A file's name says whose it is, so that those of all others are not read.
        let named = format!(".{}", signer.hex());
        for (path, _) in files_below(&self.inner.layout.folder("signed"))? {
            if !path.to_string_lossy().ends_with(&named) {
                continue;
            }
            let read = read_if_there(&path)?.and_then(|bytes| SignedRecord::decode(&bytes).ok());
            signed.extend(read.filter(|signed| signed.signer() == *signer));
        }
        Ok(signed)
    }

    /// Files among them that prove nothing any more, with the actions they were about: the records that came with them
    /// would pass for one's own.
    pub(crate) fn broken_signatures(&self) -> Result<Vec<(ActionKey, PathBuf)>, CacheError> {
        let mut broken = Vec::new();
        for (path, _) in files_below(&self.inner.layout.folder("signed"))? {
            let named = path.parent().and_then(digest_of).and_then(|digest| digest.to_string().parse().ok());
            let Some(action): Option<ActionKey> = named else { continue };
            let Some(bytes) = read_if_there(&path)? else { continue };
            if !SignedRecord::decode(&bytes).is_ok_and(|signed| signed.record().action == action) {
                broken.push((action, path));
            }
        }
        Ok(broken)
    }

    /// Everything that a record was made from, as far as it is remembered, each in its signer's words or, if it was made
    /// here, signed with this key; the record itself last.
    pub fn signed_lineage(&self, record: &ActionRecord, key: &SecretKey) -> Result<Vec<SignedRecord>, CacheError> {
        let mut lineage = vec![self.signed_here(record.clone(), key)?];
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<(RecipeKey, Realisation)> = record.ancestry.clone().into_iter().collect();
        while let Some((recipe, made)) = waiting.pop() {
            if !seen.insert((recipe, made)) {
                continue;
            }
            if let Some(above) = self.word_on(&recipe, &made, key)? {
                waiting.extend(above.record().ancestry.clone());
                lineage.push(above);
            }
        }
        lineage.reverse();
        Ok(lineage)
    }

    /// How an ancestor was made, in the words of whoever made it. What is not told of here was not made here: the lists of
    /// layers may tell of it, and it is never signed with this key.
    pub(crate) fn word_on(
        &self,
        recipe: &RecipeKey,
        made: &Realisation,
        key: &SecretKey,
    ) -> Result<Option<SignedRecord>, CacheError> {
        match self.lineage_here(recipe, &made.action)?.filter(|here| here.realisation() == *made) {
            Some(here) => self.signed_here(here, key).map(Some),
            None => {
                self.read_layers();
                Ok(self.upstream().and_then(|upstream| upstream.word_on(recipe, made)))
            }
        }
    }

    /// A record in its signer's words or, if it was made here, signed with this key.
    pub(crate) fn signed_here(&self, record: ActionRecord, key: &SecretKey) -> Result<SignedRecord, CacheError> {
        let others = self.signed_by_others(&record.action)?;
        let same =
            |other: &ActionRecord| other.recipe == record.recipe && other.result_digest() == record.result_digest();
        let action = record.action;
        // One's own word comes before that of others, so that they get to hear it.
        if let Some(own) = self.confirmed(&action)?.filter(same) {
            return SignedRecord::sign(own, key).map_err(|why| CacheError::BadRecord { action, why });
        }
        match others.into_iter().find(|signed| same(signed.record())) {
            Some(signed) => Ok(signed),
            None => SignedRecord::sign(record, key).map_err(|why| CacheError::BadRecord { action, why }),
        }
    }
}

fn signed_text(bytes: &[u8]) -> Vec<u8> {
    [DOMAIN, bytes].concat()
}
