//! The record of one action: what was asked (both canonical documents), what came out, from what, and at what cost.
//! A record proves itself: its file opens with its own checksum, and its documents hash to its keys. Never points to a
//! blob that was not stored before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ActionKey, Artifact, Digest, RecipeKey};

/// The number of the record's layout. Another layout is another number, and this code reads only its own.
pub const RECORD_FORMAT: u32 = 1;

const HEADER: &str = "plumb-record 1 ";

/// What one execution of one action made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRecord {
    /// `RECORD_FORMAT`.
    pub format: u32,
    /// The key of `action_document`.
    pub action: ActionKey,
    /// The key of `recipe_document`.
    pub recipe: RecipeKey,
    /// The canonical document that was hashed into `action`.
    pub action_document: String,
    /// The canonical document that was hashed into `recipe`.
    pub recipe_document: String,
    /// By output name.
    pub outputs: BTreeMap<String, RecordedOutput>,
    /// The realisations this result was made from: those of the inputs' producers. What they were made from is in
    /// their own records (`Store::ancestry` follows them): a chain of n steps would otherwise cost n² bytes.
    pub ancestry: BTreeMap<RecipeKey, Realisation>,
    /// What it took.
    pub cost: Cost,
    /// Libraries, device, host: what was there, for whoever compares two results.
    pub environment: BTreeMap<String, String>,
    /// The address of the step when it was made.
    pub step: String,
    /// The name of its stage.
    pub stage: String,
    /// The name of its pipeline.
    pub pipeline: String,
    /// RFC 3339; given by the caller, who owns the clock.
    pub made_at: String,
    /// Who made it.
    pub made_by: String,
}

/// One output of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedOutput {
    /// Its bytes.
    pub artifact: Artifact,
    /// The file name it was made under.
    pub file: String,
    /// Kept for people; never an input and never compared.
    pub diagnostic: bool,
}

/// The one result that was chosen for a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realisation {
    /// The action that made it.
    pub action: ActionKey,
    /// `ActionRecord::result_digest` of its record.
    pub result: Digest,
}

/// What a step took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall_seconds: f64,
    /// Seconds of all its cores.
    pub cpu_seconds: f64,
    /// The most memory it held.
    pub peak_memory_bytes: u64,
}

impl ActionRecord {
    /// The digest over the names and identities of the outputs that are results: two executions with the same one
    /// agree.
    pub fn result_digest(&self) -> Digest {
        let mut text = String::new();
        for (name, output) in self.outputs.iter().filter(|(_, output)| !output.diagnostic) {
            text.push_str(&format!("{}:{name} {}\n", name.len(), output.artifact.identity()));
        }
        Digest::of(text.as_bytes())
    }

    /// What stands for this record in the ancestry of a step that used it.
    pub fn realisation(&self) -> Realisation {
        Realisation { action: self.action, result: self.result_digest() }
    }

    /// Says what is wrong with this record, if anything: format, documents that do not hash to the keys, costs that
    /// are not numbers.
    pub fn check(&self) -> Result<(), String> {
        if self.format != RECORD_FORMAT {
            return Err(format!("its format is {}, not {RECORD_FORMAT}", self.format));
        }
        if ActionKey::of_document(&self.action_document) != self.action {
            return Err("its action document does not hash to its action key".into());
        }
        if RecipeKey::of_document(&self.recipe_document) != self.recipe {
            return Err("its recipe document does not hash to its recipe key".into());
        }
        match self.cost.wall_seconds.is_finite() && self.cost.cpu_seconds.is_finite() {
            true => Ok(()),
            false => Err("its cost is not a number".into()),
        }
    }

    /// The bytes of the record's file: a line with the checksum of the rest, then JSON.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        self.check()?;
        let body = serde_json::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("{HEADER}{}\n{body}\n", Digest::of(format!("{body}\n").as_bytes())).into_bytes())
    }

    /// The record in these bytes, if they are whole and it proves itself.
    pub fn decode(bytes: &[u8]) -> Result<ActionRecord, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let (head, body) = text.split_once('\n').ok_or("it has no header")?;
        let sum: Digest = head
            .strip_prefix(HEADER)
            .ok_or("its header is not that of a record")?
            .parse()
            .map_err(|_| "its checksum does not read")?;
        if Digest::of(body.as_bytes()) != sum {
            return Err("its checksum is wrong".into());
        }
        let record: ActionRecord = serde_json::from_str(body).map_err(|error| error.to_string())?;
        record.check().map(|()| record)
    }
}
