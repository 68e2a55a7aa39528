//! Records in the store: publishing them, and finding them by action, by recipe and by stage.
//!
//! The record of an action is written last, when its blobs are there, and the first one stays: a later one with other
//! results is a witness beside it. `recipes/` and `by_stage/` are indexes of lines, added to after the record:
//!
//! ```text
//! recipes:   ACTION                       the record names this recipe itself
//!            ACTION CHECKSUM JSON         another recipe came to the same action: its own document and ancestry
//! by_stage:  ACTION RECIPE STEP           what this stage of this pipeline published, oldest first
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::blobs::Temp;
use crate::disown::Marks;
use crate::files::{self, Placed};
use crate::store::Store;
use crate::{ActionKey, ActionRecord, CacheError, Digest, Realisation, RecipeKey};

/// What became of a record that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// It is the record of its action.
    New,
    /// The action has a record with the same results.
    Same,
    /// The action has a record with other results; this one is kept beside it.
    Witness,
}

/// Which of two different results of one action is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    First,
    Latest,
}

/// What a recipe's line says where the record itself speaks of another recipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct View {
    recipe_document: String,
    ancestry: BTreeMap<RecipeKey, Realisation>,
}

impl Store {
    /// Publishes a record whose blobs are all stored. The first publisher of an action wins, unless a blob of its
    /// record is gone or it was disowned.
    pub fn publish(&self, record: &ActionRecord) -> Result<Publication, CacheError> {
        self.publish_choosing(record, Choice::First)
    }

    /// Publishes a record that shall be chosen from now on: an earlier one with other results becomes the witness.
    pub fn publish_fresh(&self, record: &ActionRecord) -> Result<Publication, CacheError> {
        self.publish_choosing(record, Choice::Latest)
    }

    fn publish_choosing(&self, record: &ActionRecord, choice: Choice) -> Result<Publication, CacheError> {
        self.must_write("publishing a result")?;
        let bytes = record.encode().map_err(|why| CacheError::BadRecord { action: record.action, why })?;
        let _hold = self.hold()?;
        if let Some(digest) = self.first_absent(record)? {
            return Err(CacheError::Missing { digest });
        }
        let publication = match self.is_known(record)? {
            true => Publication::Same,
            false => self.put_new(record, &bytes, choice)?,
        };
        if publication != Publication::Witness {
            self.lift_mark(record)?;
        }
        self.index(record)?;
        self.note_use(record.action)?;
        Ok(publication)
    }

    /// Whether the action has a record with these results that stays: nothing is written and no disk waited for, as for
    /// a step whose inputs turned out the same.
    fn is_known(&self, record: &ActionRecord) -> Result<bool, CacheError> {
        let Some(there) = self.record(&record.action)? else { return Ok(false) };
        let same = there.result_digest() == record.result_digest();
        Ok(same && self.first_absent(&there)?.is_none() && !self.bears_a_mark(&there)?)
    }

    fn put_new(&self, record: &ActionRecord, bytes: &[u8], choice: Choice) -> Result<Publication, CacheError> {
        let temp = Temp::new(self)?;
        let written = files::write_through(&temp.path, bytes, self.durability());
        written.map_err(|source| CacheError::writing("writing", &temp.path, source))?;
        self.put_record(record, &temp.path, choice)
    }

    fn put_record(&self, record: &ActionRecord, temp: &Path, choice: Choice) -> Result<Publication, CacheError> {
        let place = self.inner.layout.action(&record.action);
        let failed = |source| CacheError::writing("publishing", &place, source);
        loop {
            if files::link(temp, &place).map_err(failed)? == Placed::New {
                return Ok(Publication::New);
            }
            // A record that does not read was moved aside by reading it: the place is free again.
            let Some(there) = self.record(&record.action)? else {
                match place.exists() {
                    true => return Err(failed(ErrorKind::InvalidData.into())),
                    false => continue,
                }
            };
            let differs = there.result_digest() != record.result_digest();
            let stays = self.first_absent(&there)?.is_none() && !self.bears_a_mark(&there)?;
            if stays && !differs {
                return Ok(Publication::Same);
            }
            if stays && choice == Choice::First {
                self.keep_witness(record, temp)?;
                return Ok(Publication::Witness);
            }
            if differs {
                self.keep_witness(&there, &place)?;
            }
            fs::rename(temp, &place).map_err(failed)?;
            return Ok(Publication::New);
        }
    }

    fn keep_witness(&self, record: &ActionRecord, file: &Path) -> Result<(), CacheError> {
        let place = self.inner.layout.witnesses(&record.action).join(record.result_digest().to_string());
        files::link(file, &place).map(|_| ()).map_err(|source| CacheError::writing("keeping", &place, source))
    }

    fn first_absent(&self, record: &ActionRecord) -> Result<Option<Digest>, CacheError> {
        for output in record.outputs.values() {
            if let Some(digest) = self.absent(&output.artifact)? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// The indexes come after the record: lost, they cost a look-up by action key.
    fn index(&self, record: &ActionRecord) -> Result<(), CacheError> {
        let path = self.inner.layout.recipe(&record.recipe);
        let action = record.action.to_string();
        let known = fs::read_to_string(&path).unwrap_or_default();
        if !known.lines().any(|line| line.starts_with(&action)) {
            files::append(&path, &self.recipe_line(record, known.is_empty() || known.ends_with('\n'))?)?;
        }
        let path = self.inner.layout.stage(&record.pipeline, &record.stage);
        files::append(&path, &format!("{action} {} {}\n", record.recipe, record.step.replace('\n', " ")))
    }

    fn recipe_line(&self, record: &ActionRecord, after_whole_line: bool) -> Result<String, CacheError> {
        let start = if after_whole_line { "" } else { "\n" };
        let own = self.record(&record.action)?.is_some_and(|there| there.recipe == record.recipe);
        if own {
            return Ok(format!("{start}{}\n", record.action));
        }
        let view = View { recipe_document: record.recipe_document.clone(), ancestry: record.ancestry.clone() };
        let json = serde_json::to_string(&view)
            .map_err(|error| CacheError::BadRecord { action: record.action, why: error.to_string() })?;
        Ok(format!("{start}{} {} {json}\n", record.action, Digest::of(json.as_bytes()).short()))
    }

    /// The record of an action to be used: none that was disowned.
    pub fn action(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        let Some(record) = self.record(key)? else { return Ok(None) };
        Ok((!self.bears_a_mark(&record)?).then_some(record))
    }

    /// The record of an action, disowned or not, if there is one that proves itself; a bad one is moved aside.
    pub fn record(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        self.record_at(key, self.inner.layout.action(key))
    }

    /// `record`, and that of a result whose bytes were collected: what it was, and what it was made from.
    pub fn remembered(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        match self.record(key)? {
            Some(record) => Ok(Some(record)),
            None => self.record_at(key, self.inner.layout.past(key)),
        }
    }

    /// Keeps a record whose bytes never were here, for `why` and for the ancestry of others. It is sealed, unlike that of
    /// a result that was collected.
    pub(crate) fn remember_record(&self, record: &ActionRecord) -> Result<(), CacheError> {
        let bytes = record.encode().map_err(|why| CacheError::BadRecord { action: record.action, why })?;
        let place = self.inner.layout.past(&record.action);
        if self.remembered(&record.action)?.is_none() {
            self.replace(&place, &bytes, self.durability(), "keeping a record in")?;
            let sealed = fs::File::open(&place).and_then(|file| files::seal(&file, self.durability()));
            sealed.map_err(|source| CacheError::writing("keeping a record in", &place, source))?;
        }
        self.index(record)
    }

    fn record_at(&self, key: &ActionKey, path: PathBuf) -> Result<Option<ActionRecord>, CacheError> {
        let record = match read_if_there(&path)? {
            Some(bytes) => ActionRecord::decode(&bytes),
            None => return Ok(None),
        };
        match record {
            Ok(record) if record.action == *key => Ok(Some(record)),
            bad => {
                let why = bad.err().unwrap_or_else(|| "it is the record of another action".into());
                tracing::warn!("the record of action `{key}` is not used: {why}");
                self.move_aside(&path, &format!("action-{key}"));
                Ok(None)
            }
        }
    }

    /// The records that realise a recipe, first published first, each with this recipe's own document and ancestry.
    /// None that was disowned; whether one was made from what was is for the caller to look at (`disowned`).
    pub fn recipe(&self, key: &RecipeKey) -> Result<Vec<ActionRecord>, CacheError> {
        self.unmarked(key, &*self.marks()?)
    }

    fn unmarked(&self, key: &RecipeKey, marks: &Marks) -> Result<Vec<ActionRecord>, CacheError> {
        let mut records = self.realisations(key)?;
        records.retain(|record| !marks.bear(record));
        Ok(records)
    }

    /// What an action was made from as this recipe sees it, whether or not its result may be used or is still there.
    pub fn lineage(&self, recipe: &RecipeKey, action: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        let here = self.lineage_here(recipe, action)?;
        Ok(here.or_else(|| self.upstream()?.lineage(recipe, action)))
    }

    /// `lineage`, without the word of layers.
    pub(crate) fn lineage_here(
        &self,
        recipe: &RecipeKey,
        action: &ActionKey,
    ) -> Result<Option<ActionRecord>, CacheError> {
        let remembered = self.views(recipe, |action| self.remembered(action))?;
        Ok(remembered.into_iter().find(|record| record.action == *action))
    }

    /// `recipe`, with those that were disowned.
    pub(crate) fn realisations(&self, key: &RecipeKey) -> Result<Vec<ActionRecord>, CacheError> {
        self.views(key, |action| self.record(action))
    }

    pub(crate) fn views(
        &self,
        key: &RecipeKey,
        find: impl Fn(&ActionKey) -> Result<Option<ActionRecord>, CacheError>,
    ) -> Result<Vec<ActionRecord>, CacheError> {
        let text = read_if_there(&self.inner.layout.recipe(key))?.unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut records = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some((action, view)) = parse_recipe_line(line)
                && seen.insert(action)
                && let Some(record) = find(&action)?
            {
                records.extend(as_seen(record, view, key));
            }
        }
        Ok(records)
    }

    /// `recipe`, for many at once and in their order. Marks are looked for once.
    pub fn recipes(&self, keys: &[RecipeKey]) -> Result<Vec<Vec<ActionRecord>>, CacheError> {
        let marks = self.marks()?;
        match keys {
            // No other thread is woken for one: a chain asks so ten thousand times.
            [key] => Ok(vec![self.unmarked(key, &marks)?]),
            keys => keys.par_iter().with_min_len(32).map(|key| self.unmarked(key, &marks)).collect(),
        }
    }

    /// What a stage of a pipeline published, newest first, disowned or not: a hint, from an index that may have lost
    /// lines.
    pub fn records_of_stage(&self, pipeline: &str, stage: &str) -> Result<Vec<ActionRecord>, CacheError> {
        let text = read_if_there(&self.inner.layout.stage(pipeline, stage))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut seen = BTreeSet::new();
        let lines: Vec<&str> = text.lines().rev().filter(|line| seen.insert(*line)).collect();
        let records = lines.par_iter().with_min_len(32).map(|line| self.record_of_line(line, pipeline, stage));
        let records: Vec<Option<ActionRecord>> = records.collect::<Result<_, CacheError>>()?;
        Ok(records.into_iter().flatten().collect())
    }

    fn record_of_line(&self, line: &str, pipeline: &str, stage: &str) -> Result<Option<ActionRecord>, CacheError> {
        let mut fields = line.splitn(3, ' ');
        let mut next = || fields.next();
        let (Some(action), Some(recipe), Some(step)) = (next(), next(), next()) else { return Ok(None) };
        let (Ok(action), Ok(recipe)) = (action.parse::<ActionKey>(), recipe.parse::<RecipeKey>()) else {
            return Ok(None);
        };
        let found = match self.remembered(&action)? {
            Some(record) if record.recipe == recipe => Some(record),
            Some(_) => self.lineage(&recipe, &action)?,
            None => None,
        };
        let (step, pipeline, stage) = (step.to_owned(), pipeline.to_owned(), stage.to_owned());
        Ok(found.map(|record| ActionRecord { step, pipeline, stage, ..record }))
    }

    /// The later results of an action that differ from its record.
    pub fn witnesses(&self, key: &ActionKey) -> Result<Vec<ActionRecord>, CacheError> {
        let paths = files::listed(&self.inner.layout.witnesses(key))?;
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let chosen = self.record(key)?.map(|record| record.result_digest());
        let mut records = Vec::new();
        for path in paths {
            let record = read_if_there(&path)?.and_then(|bytes| ActionRecord::decode(&bytes).ok());
            records.extend(record.filter(|record| record.action == *key && Some(record.result_digest()) != chosen));
        }
        Ok(records)
    }
}

fn parse_recipe_line(line: &str) -> Option<(ActionKey, Option<View>)> {
    let Some((action, rest)) = line.split_once(' ') else { return Some((line.parse().ok()?, None)) };
    let (sum, json) = rest.split_once(' ')?;
    let whole = Digest::of(json.as_bytes()).short() == sum;
    let view = serde_json::from_str(json).ok().filter(|_| whole)?;
    Some((action.parse().ok()?, Some(view)))
}

/// The record as this recipe sees it; `None` where the index was wrong.
fn as_seen(record: ActionRecord, view: Option<View>, key: &RecipeKey) -> Option<ActionRecord> {
    let Some(View { recipe_document, ancestry }) = view else {
        // Its own document was found to hash to its own key when it was read.
        return Some(record).filter(|record| record.recipe == *key);
    };
    let proven = RecipeKey::of_document(&recipe_document) == *key;
    proven.then_some(ActionRecord { recipe: *key, recipe_document, ancestry, ..record })
}

/// Small files, many of them: their length is not asked for first.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    let mut bytes = Vec::with_capacity(4 << 10);
    let read = fs::File::open(path).and_then(|file| file.take(u64::MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CacheError::system("reading", path, source)),
    }
}
