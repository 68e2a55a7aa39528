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

use crate::digest::bytes_of;
use crate::keys::hex;
use crate::{ActionRecord, PublicKey, SecretKey};

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

fn signed_text(bytes: &[u8]) -> Vec<u8> {
    [DOMAIN, bytes].concat()
}
