//! Disowned results: marks that keep a result, and what was made from it, from being found. Nothing is deleted: history
//! and `why` still see it. A mark names the result of an action and not the action alone, so that another result of it
//! is free, and the mark is lifted once the action has been run again and made the same bytes.
//!
//! `disowned/ACTION` is the line `plumb-disowned 1`, then a line `RESULT REASON` for each disowned result; who did it
//! and when follow the reason after tabs, where that is known. A line `own RESULT` says that a result is used although
//! others have disowned it.
//!
//! Beside the marks of this cache those count that people who are trusted have shared (`marks`), and every result that
//! is here by the word of a distrusted key alone is marked as well. Nobody else's word makes a result unusable.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::files::{self, Durability};
use crate::records::read_if_there;
use crate::store::{Store, lock};
use crate::{
    ActionKey, ActionRecord, CacheError, Digest, FileStamp, LastWords, PublicKey, Realisation, RecipeKey, Statement,
};

const HEADER: &str = "plumb-disowned 1\n";
const OWN: &str = "own ";

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
    /// The stamps of both folders; `None` where one was too young to be told from a later state.
    stamp: Option<Stamps>,
    all: BTreeMap<(ActionKey, Digest), Mark>,
    /// Those of `all` that are there for their signer alone: the same by the word of another is free.
    by_signer: BTreeSet<(ActionKey, Digest)>,
    /// Everybody's last word, obeyed or not.
    words: LastWords,
    /// The disowned result that a record stands on, or that it stands on none.
    known: Mutex<BTreeMap<Place, Option<Disowned>>>,
}

/// Of the folders of marks and of shared marks; `None` where there is none.
type Stamps = [Option<FileStamp>; 2];

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    marks: BTreeMap<Digest, Mark>,
    /// Results that are used whatever others say.
    owned: BTreeSet<Digest>,
}

/// A result as one recipe sees it: its ancestry depends on the recipe.
type Place = (RecipeKey, ActionKey, Digest);

impl Store {
    /// Disowns the present result of an action; `None` where it has none.
    pub fn disown(&self, key: &ActionKey, mark: impl Into<Mark>) -> Result<Option<Disowned>, CacheError> {
        self.must_write("disowning a result")?;
        let Some(record) = self.record(key)? else { return Ok(None) };
        let mut page = self.page_of(key)?;
        let result = record.result_digest();
        let mark = mark.into().on_one_line();
        page.owned.remove(&result);
        page.marks.insert(result, mark.clone());
        self.write_page(key, &page)?;
        Ok(Some(Disowned { action: *key, result, mark }))
    }

    /// Takes back every mark on the results of an action, and what others say of them counts no more here; says whether
    /// there was one.
    pub fn own(&self, key: &ActionKey) -> Result<bool, CacheError> {
        self.must_write("owning a result")?;
        let (mut page, marks) = (self.page_of(key)?, self.marks()?);
        let of_it = marks.all.keys().filter(|(action, _)| action == key).map(|(_, result)| *result);
        let others: Vec<Digest> = of_it.filter(|result| !page.marks.contains_key(result)).collect();
        let any = !page.marks.is_empty() || !others.is_empty();
        page.marks.clear();
        page.owned.extend(others);
        self.write_page(key, &page)?;
        // What others say of a result that had a mark of its own shows only now.
        let hidden: Vec<Digest> =
            self.imposed_on(key)?.into_iter().filter(|result| !page.owned.contains(result)).collect();
        if !hidden.is_empty() {
            page.owned.extend(hidden);
            self.write_page(key, &page)?;
        }
        Ok(any)
    }

    /// Whether any result is disowned: if none is, no ancestry has to be looked at.
    pub fn any_disowned(&self) -> Result<bool, CacheError> {
        Ok(!self.marks()?.all.is_empty())
    }

    /// The mark on the present result of an action, if it has one; where none is here, on one that others have.
    pub fn mark_on(&self, key: &ActionKey) -> Result<Option<Disowned>, CacheError> {
        let marks = self.marks()?;
        if marks.all.is_empty() {
            return Ok(None);
        }
        Ok(match self.record(key)? {
            Some(record) => marks.of(*key, record.result_digest()),
            // It never came here, and somebody says of it what keeps it away.
            None => marks.all.keys().find(|(action, _)| action == key).and_then(|(_, result)| marks.of(*key, *result)),
        })
    }

    /// The mark on this result, present or past, if it has one.
    pub fn mark_of(&self, made: &Realisation) -> Result<Option<Disowned>, CacheError> {
        Ok(self.marks()?.of(made.action, made.result))
    }

    /// The mark on a result that realises this recipe, here or in a list that was read, if one has any.
    pub fn mark_on_recipe(&self, recipe: &RecipeKey) -> Result<Option<Disowned>, CacheError> {
        let marks = self.marks()?;
        if marks.all.is_empty() {
            return Ok(None);
        }
        let here = self.realisations(recipe)?;
        let here = here.iter().map(ActionRecord::realisation).find_map(|made| marks.of(made.action, made.result));
        let there = || self.upstream()?.made(recipe).find_map(|made| marks.of(made.action, made.result));
        Ok(here.or_else(there))
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

    /// The same, of marks that somebody has put on the result itself: not for who signed it.
    pub(crate) fn is_disowned_by_people(&self, record: &ActionRecord) -> Result<bool, CacheError> {
        let marks = self.marks()?;
        Ok(marks.bear(record) && !marks.by_signer.contains(&(record.action, record.result_digest())))
    }

    /// The action has made this result once more: it may be used.
    pub(crate) fn lift_mark(&self, record: &ActionRecord) -> Result<(), CacheError> {
        if !self.bears_a_mark(record)? {
            return Ok(());
        }
        let (mut page, result) = (self.page_of(&record.action)?, record.result_digest());
        page.marks.remove(&result);
        if self.imposed_on(&record.action)?.contains(&result) {
            page.owned.insert(result);
        }
        self.write_page(&record.action, &page)
    }

    /// The results of an action that others have disowned, whatever is said here.
    fn imposed_on(&self, key: &ActionKey) -> Result<BTreeSet<Digest>, CacheError> {
        let imposed = self.imposed_marks()?;
        let all = imposed.by_people.into_keys().chain(imposed.by_signer.into_keys());
        Ok(all.filter(|(action, _)| action == key).map(|(_, result)| result).collect())
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

    /// Two `stat` while the folders do not change.
    pub(crate) fn marks(&self) -> Result<Arc<Marks>, CacheError> {
        let folders = ["disowned", "marks"].map(|name| self.inner.layout.folder(name));
        let stamps = folders.each_ref().map(|path| fs::metadata(path).ok().map(|metadata| FileStamp::of(&metadata)));
        let mut held = lock(&self.inner.disowned);
        if held.stamp != Some(stamps) {
            // Stamped before they are read: a mark that comes meanwhile makes the folder another one.
            let young = stamps.iter().flatten().any(FileStamp::is_young);
            let read = self.read_marks(&folders[0])?;
            if !young || held.all != read.all || held.by_signer != read.by_signer || held.words != read.words {
                *held = Arc::new(Marks { stamp: (!young).then_some(stamps), ..read });
            }
        }
        Ok(Arc::clone(&held))
    }

    fn read_marks(&self, folder: &Path) -> Result<Marks, CacheError> {
        let pages = read_folder(folder)?;
        let owned = |place: &(ActionKey, Digest)| pages.get(&place.0).is_some_and(|page| page.owned.contains(&place.1));
        let own = pages
            .iter()
            .flat_map(|(action, page)| page.marks.iter().map(|(result, mark)| ((*action, *result), mark.clone())));
        let imposed = self.imposed_marks()?;
        let mut all: BTreeMap<_, _> = imposed.by_people.into_iter().filter(|(place, _)| !owned(place)).collect();
        all.extend(own);
        let mut by_signer = BTreeSet::new();
        for (place, mark) in imposed.by_signer.into_iter().filter(|(place, _)| !owned(place)) {
            if let Entry::Vacant(free) = all.entry(place) {
                free.insert(mark);
                by_signer.insert(place);
            }
        }
        Ok(Marks { all, by_signer, words: imposed.words, ..Marks::default() })
    }

    fn page_of(&self, key: &ActionKey) -> Result<Page, CacheError> {
        Ok(read_if_there(&self.inner.layout.disowned(key))?.map(|bytes| parse(&bytes)).unwrap_or_default())
    }

    fn write_page(&self, key: &ActionKey, page: &Page) -> Result<(), CacheError> {
        let place = self.inner.layout.disowned(key);
        if *page == Page::default() {
            return files::remove_file(&place).map(|_| ());
        }
        let marks: String = page.marks.iter().map(|(result, mark)| format!("{result} {}\n", mark.line())).collect();
        let owned: String = page.owned.iter().map(|result| format!("{OWN}{result}\n")).collect();
        self.replace(&place, format!("{HEADER}{marks}{owned}").as_bytes(), Durability::Disk, "disowning a result in")
    }
}

impl Marks {
    /// Whether one of them is on this very result.
    pub(crate) fn bear(&self, record: &ActionRecord) -> bool {
        !self.all.is_empty() && self.of(record.action, record.result_digest()).is_some()
    }

    /// What anybody has shared of this very result.
    pub(crate) fn said_of(&self, made: &Realisation) -> impl Iterator<Item = (&PublicKey, &Statement)> {
        let words = self.words.iter().filter(move |((_, of), _)| of == made);
        words.map(|((signer, _), statement)| (signer, statement))
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

fn read_folder(folder: &Path) -> Result<BTreeMap<ActionKey, Page>, CacheError> {
    let mut all = BTreeMap::new();
    for path in files::listed(folder)? {
        let Some(action) = path.file_name().and_then(|name| name.to_str()?.parse::<ActionKey>().ok()) else { continue };
        all.insert(action, read_if_there(&path)?.map(|bytes| parse(&bytes)).unwrap_or_default());
    }
    Ok(all)
}

/// A line that does not read says nothing.
fn parse(bytes: &[u8]) -> Page {
    let text = String::from_utf8_lossy(bytes);
    let mut page = Page::default();
    for line in text.strip_prefix(HEADER).unwrap_or_default().lines() {
        if let Some(result) = line.strip_prefix(OWN) {
            page.owned.extend(result.parse::<Digest>().ok());
        } else if let Some((result, mark)) = line.split_once(' ')
            && let Ok(result) = result.parse()
        {
            page.marks.insert(result, Mark::parse(mark));
        }
    }
    page
}
