//! Shared marks: what people say of results that are not to be used, signed, in lists that are passed on through layers
//! and kept here once they were read. A list says for each result that it is disowned, or that this is taken back; of
//! one signer's words on one result the one with the highest number counts, so an old list that is put back changes
//! nothing. Whether anybody is obeyed is `disown`'s question.
//!
//! ```text
//! plumb-marks 1 SIGNER SIGNATURE       64 and 128 hex digits
//! {json}                               a line for each result
//!
//! v1/marks/SIGNER.DIGEST               the lists that were read
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::digest::bytes_of;
use crate::files::{self, Durability};
use crate::keys::hex;
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, CacheError, Digest, Mark, Policy, PublicKey, Realisation, SecretKey, SignedRecord};

const HEADER: &str = "plumb-marks 1 ";

/// What is signed begins with this, so that no signature over anything else can be taken for a mark.
const DOMAIN: &[u8] = b"plumb signed marks v1\n";

/// A longer list is refused before it is read: a mark has some three hundred bytes.
pub(crate) const LONGEST: usize = 64 << 20;

/// What somebody says of one result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The action that made it.
    pub action: ActionKey,
    /// `ActionRecord::result_digest` of its record.
    pub result: Digest,
    /// Of its signer's statements on this result the one with the highest number counts.
    pub number: u64,
    /// The earlier mark is taken back.
    pub taken_back: bool,
    /// In the signer's words.
    pub reason: String,
    /// RFC 3339.
    pub at: String,
    /// The step it was made as, for people.
    pub step: String,
}

impl Statement {
    /// The result that it is about.
    pub fn made(&self) -> Realisation {
        Realisation { action: self.action, result: self.result }
    }
}

/// A list of statements with the key of who vouches for it. There is none whose signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMarks {
    signer: PublicKey,
    statements: Vec<Statement>,
    text: Vec<u8>,
}

impl SignedMarks {
    /// Signs statements.
    pub fn sign(statements: Vec<Statement>, key: &SecretKey) -> Result<SignedMarks, String> {
        let lines = statements.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let body = lines.map_err(|error| error.to_string())?.join("\n");
        let signature = key.sign(&[DOMAIN, body.as_bytes()].concat());
        let text = format!("{HEADER}{} {}\n{body}", key.public().hex(), hex(&signature)).into_bytes();
        Ok(SignedMarks { signer: key.public(), statements, text })
    }

    /// The list in these bytes, if its signature holds; else what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<SignedMarks, String> {
        if bytes.len() > LONGEST {
            return Err(format!("it has {} bytes", bytes.len()));
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no header")?;
        let (head, body) = (&bytes[..end], &bytes[end + 1..]);
        let head = head.strip_prefix(HEADER.as_bytes()).ok_or("its header is not that of signed marks")?;
        let (signer, signature) = head.split_at_checked(64).ok_or("its signer does not read")?;
        let signer =
            bytes_of(signer).and_then(|signer| PublicKey::from_bytes(&signer)).ok_or("its signer is no key")?;
        let signature = signature.strip_prefix(b" ").and_then(bytes_of).ok_or("its signature does not read")?;
        if !signer.has_signed(&[DOMAIN, body].concat(), &signature) {
            return Err(format!("it was not signed so by `{signer}`"));
        }
        let body = std::str::from_utf8(body).map_err(|_| "it is not text")?;
        let statements = body.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        let statements = statements.map_err(|error| error.to_string())?;
        Ok(SignedMarks { signer, statements, text: bytes.to_owned() })
    }

    /// Who vouches for it.
    pub fn signer(&self) -> PublicKey {
        self.signer
    }

    /// What is said.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// As it is passed on.
    pub fn encode(&self) -> &[u8] {
        &self.text
    }
}

/// What each signer says of each result: their last word on it.
pub type LastWords = BTreeMap<(PublicKey, Realisation), Statement>;

impl Store {
    /// Keeps a list that was read, or that was signed here. Says whether it is new.
    pub fn keep_marks(&self, marks: &SignedMarks) -> Result<bool, CacheError> {
        let place = self.inner.layout.marks(&marks.signer, &Digest::of(&marks.text));
        if place.exists() {
            return Ok(false);
        }
        self.replace(&place, &marks.text, Durability::Disk, "keeping marks in")?;
        self.look_at_marks_again();
        self.inner.marks_heard.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether a list of this signer is kept.
    pub(crate) fn keeps_marks(&self, signer: &PublicKey, digest: &Digest) -> bool {
        self.inner.layout.marks(signer, digest).exists()
    }

    /// How often a list came that was not known: another number, and what was found out about marks is out of date.
    pub fn marks_heard(&self) -> u64 {
        self.inner.marks_heard.load(Ordering::Relaxed)
    }

    /// Everybody's last word on every result that lists speak of, whoever they are. A list that does not read any more
    /// says nothing.
    pub fn last_words(&self) -> Result<LastWords, CacheError> {
        let mut last = LastWords::new();
        for path in files::listed(&self.inner.layout.folder("marks"))? {
            let Some(Ok(marks)) = read_if_there(&path)?.map(|bytes| SignedMarks::decode(&bytes)) else { continue };
            for statement in marks.statements {
                let place = (marks.signer, statement.made());
                // Of two with one number, which no honest signer makes, the mark counts: it is the safer word.
                let order = |statement: &Statement| (statement.number, !statement.taken_back);
                if last.get(&place).is_none_or(|known| order(known) < order(&statement)) {
                    last.insert(place, statement);
                }
            }
        }
        Ok(last)
    }
}

/// Marks that do not come from this cache.
#[derive(Debug, Default)]
pub(crate) struct Imposed {
    /// Everybody's last word.
    pub(crate) words: LastWords,
    /// What people who are trusted have shared.
    pub(crate) by_people: BTreeMap<(ActionKey, Digest), Mark>,
    /// What is here by the word of distrusted keys alone.
    pub(crate) by_signer: BTreeMap<(ActionKey, Digest), Mark>,
}

impl Store {
    /// Costs nothing where nobody has shared a mark and nobody is distrusted.
    pub(crate) fn imposed_marks(&self) -> Result<Imposed, CacheError> {
        let mut imposed = Imposed { words: self.last_words()?, ..Imposed::default() };
        let Some(people) = self.people() else { return Ok(imposed) };
        for ((signer, made), statement) in &imposed.words {
            if people.knows_and_trusts(signer) && !statement.taken_back {
                let by = format!("shared by {}", people.called(signer));
                let mark = Mark { reason: statement.reason.clone(), by, at: statement.at.clone() };
                imposed.by_people.insert((made.action, made.result), mark);
            }
        }
        if !people.distrusted().is_empty() {
            imposed.by_signer = self.marks_for_signers(people)?;
        }
        Ok(imposed)
    }

    /// The results that came from distrusted keys, and that nobody else vouches for here: neither this cache, which made
    /// them too, nor anybody who is not distrusted.
    fn marks_for_signers(&self, people: &Policy) -> Result<BTreeMap<(ActionKey, Digest), Mark>, CacheError> {
        let mut marks = BTreeMap::new();
        for signer in people.distrusted() {
            for signed in self.signed_by(signer)? {
                let made = signed.record().realisation();
                let of_it = |word: &SignedRecord| word.record().realisation() == made;
                let others = self.signed_by_others(&made.action)?;
                let another = others.iter().any(|word| of_it(word) && !people.distrusted().contains(&word.signer()));
                if !another && self.confirmed(&made.action)?.is_none_or(|own| own.realisation() != made) {
                    let reason = format!("signed by {}, who is distrusted", people.called(signer));
                    marks.insert((made.action, made.result), Mark::from(reason.as_str()));
                }
            }
        }
        Ok(marks)
    }
}
