//! The request-level store: what a remote service answered to one question becomes at once a record of its own in the
//! cache, so that a killed or extended run asks nothing twice, and two stages that ask the same share the answer.
//! A step reaches it through the handle in `step.json`. Knows questions as texts, and no judge.

use std::collections::BTreeMap;
use std::path::PathBuf;

use plumb_cache::{
    ActionKey, ActionRecord, CacheError, Cost, RECORD_FORMAT, RecipeKey, RecordedOutput, Store, StoreOptions,
};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::settings::Asking;
use crate::stage::StageError;

const OUTPUT: &str = "reply";

/// What a step needs to reach the store, and how it is to ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handle {
    /// The cache.
    pub cache: PathBuf,
    /// Whether an answer is brought to the disk before it counts.
    pub durable: bool,
    /// The pipeline, the stage and the step that ask first.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// The branch address.
    pub step: String,
    /// Who runs it.
    pub made_by: String,
    /// Server, pace and limits.
    pub asking: Asking,
}

/// The answers that lie in a cache.
#[derive(Debug)]
pub struct Answers {
    store: Store,
    handle: Handle,
}

impl Answers {
    /// Opens the store behind a handle.
    pub fn open(handle: &Handle) -> Result<Self, StageError> {
        let options = StoreOptions { durable: handle.durable, ..StoreOptions::default() };
        let store = Store::open(&handle.cache, options).map_err(told)?;
        Ok(Self { store, handle: handle.clone() })
    }

    /// The answer to a question, if anybody asked it before and what was said is still here.
    pub fn recall(&self, question: &str) -> Result<Option<Vec<u8>>, StageError> {
        let found = self.store.action(&ActionKey::of_document(question)).map_err(told)?;
        let Some(output) = found.as_ref().and_then(|record| record.outputs.get(OUTPUT)) else { return Ok(None) };
        match self.store.present(&output.artifact) {
            true => self.store.read(&output.artifact).map(Some).map_err(told),
            false => Ok(None),
        }
    }

    /// Keeps an answer, which took so many seconds.
    pub fn keep(&self, question: &str, answer: &[u8], seconds: f64) -> Result<(), StageError> {
        let artifact = self.store.ingest_bytes(answer).map_err(told)?;
        let output = RecordedOutput { artifact, file: "reply.json".into(), diagnostic: false };
        let Handle { pipeline, stage, step, made_by, .. } = &self.handle;
        let record = ActionRecord {
            format: RECORD_FORMAT,
            action: ActionKey::of_document(question),
            recipe: RecipeKey::of_document(question),
            action_document: question.into(),
            recipe_document: question.into(),
            outputs: BTreeMap::from([(OUTPUT.to_string(), output)]),
            ancestry: BTreeMap::new(),
            cost: Cost { wall_seconds: seconds, ..Cost::default() },
            environment: BTreeMap::new(),
            step: step.clone(),
            // What a stage took is looked up by its name: a request is no run of it.
            stage: format!("{stage} requests"),
            pipeline: pipeline.clone(),
            made_at: clock::now(),
            made_by: made_by.clone(),
        };
        self.store.publish(&record).map(drop).map_err(told)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn told(error: CacheError) -> StageError {
    StageError::new(format!("the store of answers: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_again_by_its_question_and_by_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let handle = Handle {
            cache: folder.path().to_owned(),
            durable: false,
            pipeline: "p".into(),
            stage: "judge".into(),
            step: "judge".into(),
            made_by: "somebody".into(),
            asking: Asking::default(),
        };
        let answers = Answers::open(&handle).unwrap();
        assert_eq!(answers.recall("one").unwrap(), None);
        answers.keep("one", b"yes", 0.5).unwrap();
        answers.keep("one", b"another draw", 0.5).unwrap();
        let others = Answers::open(&handle).unwrap();
        assert_eq!(others.recall("one").unwrap().as_deref(), Some(b"yes".as_slice()));
        assert_eq!(others.recall("two").unwrap(), None);
    }
}
