//! Disowned results: marks that keep a result, and what was made from it, from being found. Nothing is deleted: history
//! and `why` still see it. A mark names the result of an action and not the action alone, so that another result of it
//! is free, and the mark is lifted once the action has been run again and made the same bytes.
//!
//! `disowned/ACTION` is the line `plumb-disowned 1`, then a line `RESULT REASON` for each disowned result; who did it
//! and when follow the reason after tabs, where that is known.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::files::{self, Durability};
use crate::records::read_if_there;
use crate::store::{Store, lock};
use crate::{ActionKey, ActionRecord, CacheError, Digest, FileStamp, Realisation, RecipeKey};

const HEADER: &str = "plumb-disowned 1\n";

/// A result that somebody has disowned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disowned {
    /// The action that made it.
    pub action: ActionKey,
    /// `ActionRecord::result_digest` of its record.
    pub result: Digest,
    /// Why, by whom and when.
    pub mark: Mark,
}

/// What is said of a disowned result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// In the words of who did it.
    pub reason: String,
    /// `user@host`; empty where it is not known.
    pub by: String,
    /// RFC 3339; empty where it is not known.
    pub at: String,
}

impl From<&str> for Mark {
    fn from(reason: &str) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }
}

/// The marks as they were when the folder was last read, and what they mean for records that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The folder's stamp; `None` where there was no folder, or it was too young to be told from a later state.
    stamp: Option<FileStamp>,
    all: BTreeMap<(ActionKey, Digest), Mark>,
    /// The disowned result that a record stands on, or that it stands on none.
    known: Mutex<BTreeMap<Place, Option<Disowned>>>,
}

/// A result as one recipe sees it: its ancestry depends on the recipe.
type Place = (RecipeKey, ActionKey, Digest);

impl Store {
    /// Disowns the present result of an action; `None` where it has none.
    pub fn disown(&self, key: &ActionKey, mark: impl Into<Mark>) -> Result<Option<Disowned>, CacheError> {
        self.must_write("disowning a result")?;
        let Some(record) = self.record(key)? else { return Ok(None) };
        let mut marks = self.marks_of(key)?;
        let result = record.result_digest();
        let mark = mark.into().on_one_line();
        marks.insert(result, mark.clone());
        self.write_marks(key, &marks)?;
        Ok(Some(Disowned { action: *key, result, mark }))
    }

    /// Takes back every mark on the results of an action; says whether there was one.
    pub fn own(&self, key: &ActionKey) -> Result<bool, CacheError> {
        self.must_write("owning a result")?;
        files::remove_file(&self.inner.layout.disowned(key))
    }

    /// Whether any result is disowned: if none is, no ancestry has to be looked at.
    pub fn any_disowned(&self) -> Result<bool, CacheError> {
        Ok(!self.marks()?.all.is_empty())
    }

    /// The mark on the present result of an action, if it has one.
    pub fn mark_on(&self, key: &ActionKey) -> Result<Option<Disowned>, CacheError> {
        let marks = self.marks()?;
        if marks.all.is_empty() {
            return Ok(None);
        }
        Ok(self.record(key)?.and_then(|record| marks.of(*key, record.result_digest())))
    }

    /// The mark on this result, present or past, if it has one.
    pub fn mark_of(&self, made: &Realisation) -> Result<Option<Disowned>, CacheError> {
        Ok(self.marks()?.of(made.action, made.result))
    }

    /// The disowned result that this one is or was made from, directly or not.
    pub fn disowned(&self, record: &ActionRecord) -> Result<Option<Disowned>, CacheError> {
        let marks = self.marks()?;
        if marks.all.is_empty() {
            return Ok(None);
        }
        self.follow(&marks, record)
    }

    /// Every mark.
    pub fn all_disowned(&self) -> Result<Vec<Disowned>, CacheError> {
        let marks = self.marks()?;
        let mark = |((action, result), mark): (&(ActionKey, Digest), &Mark)| Disowned {
            action: *action,
            result: *result,
            mark: mark.clone(),
        };
        Ok(marks.all.iter().map(mark).collect())
    }

    /// Whether the mark is on this very result: what an action key finds was made from these very inputs, so where they
    /// came from does not matter.
    pub(crate) fn bears_a_mark(&self, record: &ActionRecord) -> Result<bool, CacheError> {
        Ok(self.marks()?.bear(record))
    }

    /// The action has made this result once more: it may be used.
    pub(crate) fn lift_mark(&self, record: &ActionRecord) -> Result<(), CacheError> {
        let mut marks = self.marks_of(&record.action)?;
        match marks.remove(&record.result_digest()) {
            Some(_) if marks.is_empty() => self.own(&record.action).map(|_| ()),
            Some(_) => self.write_marks(&record.action, &marks),
            None => Ok(()),
        }
    }

    /// Walks up the ancestry once for every record; a walk that meets no mark clears all it has seen.
    fn follow(&self, marks: &Marks, record: &ActionRecord) -> Result<Option<Disowned>, CacheError> {
        let start: Place = (record.recipe, record.action, record.result_digest());
        let mut seen: BTreeMap<Place, Option<Place>> = BTreeMap::from([(start, None)]);
        let mut waiting = vec![start];
        while let Some(here) = waiting.pop() {
            let (recipe, action, result) = here;
            let known = lock(&marks.known).get(&here).cloned();
            match marks.of(action, result).map(Some).or(known) {
                Some(Some(mark)) => {
                    let path = std::iter::successors(Some(here), |place| seen.get(place).copied().flatten());
                    lock(&marks.known).extend(path.map(|place| (place, Some(mark.clone()))));
                    return Ok(Some(mark));
                }
                Some(None) => continue,
                None => {}
            }
            let above = match here == start {
                true => record.ancestry.clone(),
                false => self.realised(&recipe, &action, &result)?.map(|above| above.ancestry).unwrap_or_default(),
            };
            for (recipe, made) in above {
                let next = (recipe, made.action, made.result);
                seen.entry(next).or_insert_with(|| {
                    waiting.push(next);
                    Some(here)
                });
            }
        }
        lock(&marks.known).extend(seen.into_keys().map(|place| (place, None)));
        Ok(None)
    }

    fn realised(
        &self,
        recipe: &RecipeKey,
        action: &ActionKey,
        result: &Digest,
    ) -> Result<Option<ActionRecord>, CacheError> {
        let record = self.lineage(recipe, action)?;
        Ok(record.filter(|record| record.result_digest() == *result))
    }

    /// What was found out about marks is not believed any more.
    pub(crate) fn look_at_marks_again(&self) {
        *lock(&self.inner.disowned) = Arc::default();
    }

    /// One `stat` while the folder does not change.
    pub(crate) fn marks(&self) -> Result<Arc<Marks>, CacheError> {
        let folder = self.inner.layout.folder("disowned");
        let stamp = fs::metadata(&folder).ok().map(|metadata| FileStamp::of(&metadata));
        let mut held = lock(&self.inner.disowned);
        let Some(stamp) = stamp else { return Ok(Arc::default()) };
        if held.stamp != Some(stamp) {
            // Stamped before it is read: a mark that comes meanwhile makes the folder another one.
            let stamp = (!stamp.is_young()).then_some(stamp);
            let all = read_folder(&folder)?;
            if stamp.is_some() || held.all != all {
                *held = Arc::new(Marks { stamp, all, known: Mutex::default() });
            }
        }
        Ok(Arc::clone(&held))
    }

    fn marks_of(&self, key: &ActionKey) -> Result<BTreeMap<Digest, Mark>, CacheError> {
        Ok(read_if_there(&self.inner.layout.disowned(key))?.map(|bytes| parse(&bytes)).unwrap_or_default())
    }

    fn write_marks(&self, key: &ActionKey, marks: &BTreeMap<Digest, Mark>) -> Result<(), CacheError> {
        let lines: String = marks.iter().map(|(result, mark)| format!("{result} {}\n", mark.line())).collect();
        let text = format!("{HEADER}{lines}");
        self.replace(&self.inner.layout.disowned(key), text.as_bytes(), Durability::Disk, "disowning a result in")
    }
}

impl Marks {
    /// Whether one of them is on this very result.
    pub(crate) fn bear(&self, record: &ActionRecord) -> bool {
        !self.all.is_empty() && self.of(record.action, record.result_digest()).is_some()
    }

    fn of(&self, action: ActionKey, result: Digest) -> Option<Disowned> {
        let mark = self.all.get(&(action, result))?.clone();
        Some(Disowned { action, result, mark })
    }
}

impl Mark {
    fn on_one_line(self) -> Self {
        let plain = |text: String| text.replace(['\n', '\r', '\t'], " ");
        Self { reason: plain(self.reason), by: plain(self.by), at: plain(self.at) }
    }

    fn line(&self) -> String {
        let Self { reason, by, at } = self;
        if by.is_empty() && at.is_empty() { reason.clone() } else { format!("{reason}\t{by}\t{at}") }
    }

    fn parse(line: &str) -> Self {
        let mut parts = line.split('\t').map(String::from);
        let mut next = || parts.next().unwrap_or_default();
        Self { reason: next(), by: next(), at: next() }
    }
}

fn read_folder(folder: &Path) -> Result<BTreeMap<(ActionKey, Digest), Mark>, CacheError> {
    let mut all = BTreeMap::new();
    for path in files::listed(folder)? {
        let Ok(action) = files::name_of(&path).parse::<ActionKey>() else { continue };
        let marks = read_if_there(&path)?.map(|bytes| parse(&bytes)).unwrap_or_default();
        all.extend(marks.into_iter().map(|(result, mark)| ((action, result), mark)));
    }
    Ok(all)
}

/// A line that does not read marks nothing.
fn parse(bytes: &[u8]) -> BTreeMap<Digest, Mark> {
    let text = String::from_utf8_lossy(bytes);
    let body = text.strip_prefix(HEADER).unwrap_or_default();
    let mark = |line: &str| {
        let (result, mark) = line.split_once(' ')?;
        Some((result.parse().ok()?, Mark::parse(mark)))
    };
    body.lines().filter_map(mark).collect()
}
