//! The drill-down: every judgment with what was judged and why, packed small. A text that several branches share (a
//! prompt, an answer, a gold) is stored once; all of it is deflated and written in base64, which the page undoes.
//!
//! Rows are read leniently: a column that this file does not know is shown under its own name, and one that is missing
//! is empty. A page that would become too large has its longest texts shortened in their middle, and says so.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use plumb_engine::stage::StageError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::probes::run_name;
use super::{Evidence, Roles, Scored};
use crate::jsonl;
use crate::rows::{Message, Origin};

/// Texts are not cut below this many letters: less is of no help to anybody.
const LEAST: usize = 48;

/// Every judgment of every scored branch.
#[derive(Debug, Default)]
pub struct Drill {
    texts: Texts,
    items: Vec<Item>,
    places: BTreeMap<Item, usize>,
    runs: Vec<Run>,
    verdicts: Vec<Verdict>,
}

/// The texts, each once.
#[derive(Debug, Default)]
struct Texts {
    places: BTreeMap<Arc<str>, usize>,
    all: Vec<Arc<str>>,
}

impl Texts {
    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let text: Arc<str> = text.into();
        self.all.push(text.clone());
        self.places.insert(text, self.all.len() - 1);
        self.all.len() - 1
    }
}

/// What was judged. A tuple in the page: benchmark, id, order, subset, label, prompt, answers A and B, gold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Item(String, String, String, String, String, Vec<(String, usize)>, usize, usize, Option<usize>);

/// One scored branch.
#[derive(Debug, Serialize)]
struct Run {
    name: String,
    benchmark: String,
    step: String,
    digests: BTreeMap<String, String>,
}

/// What became of one judgment. A tuple in the page: run, item, verdict, state, agreement, rationale, the meta-judge's
/// grounds, whether generation ended by itself, other columns.
#[derive(Debug, Serialize)]
struct Verdict(
    usize,
    usize,
    String,
    String,
    Option<f64>,
    Option<usize>,
    Option<usize>,
    Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")] Vec<Column>,
);

/// A column that this file does not know: its name, its text by place, or what else it holds.
type Column = (String, Option<usize>, Value);

/// A judgment's item, its rationale, and whether generation ended by itself.
type Found = (usize, Option<usize>, Option<bool>);

/// A judgment as far as this file knows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Judged {
    pair: JudgedPair,
    order: String,
    model_judgment: Option<String>,
    finished: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JudgedPair {
    id: String,
    conversations: Vec<Message>,
    #[serde(rename = "response_A")]
    response_a: String,
    #[serde(rename = "response_B")]
    response_b: String,
    gt_label: Option<String>,
    gt_judgment: Option<String>,
    source: Origin,
}

/// The drill-down as the page holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Base64 of the deflated document.
    pub data: String,
    /// How many letters of each text were kept; absent where all were.
    pub shortened: Option<usize>,
    /// Judgments.
    pub judgments: usize,
    /// What was judged.
    pub items: usize,
}

impl Drill {
    /// Reads the rows of every scored branch.
    pub fn of(evidence: &Evidence, roles: &Roles) -> Result<Self, StageError> {
        let mut drill = Self::default();
        for scored in &evidence.scored {
            drill.read(scored, roles)?;
        }
        Ok(drill)
    }

    fn read(&mut self, scored: &Scored, roles: &Roles) -> Result<(), StageError> {
        let Some(rows) = &scored.rows else { return Ok(()) };
        let benchmark = roles.benchmark(scored);
        let run = self.runs.len();
        self.runs.push(Run {
            name: run_name(roles, &scored.labels),
            benchmark: benchmark.clone(),
            step: scored.step.clone(),
            digests: scored.digests.clone(),
        });
        // By id and order: a pair may stand several times, and then its rows come in the order of its judgments.
        let mut judged: BTreeMap<(String, String), VecDeque<Found>> = BTreeMap::new();
        if let Some(path) = &scored.judgments {
            jsonl::for_each(path, |line, judgment: Result<Judged, String>| {
                let judgment = judgment.map_err(|problem| jsonl::bad_row(path, line, &problem))?;
                let (key, kept) = self.judgment(&benchmark, judgment);
                judged.entry(key).or_default().push_back(kept);
                Ok(())
            })?;
        }
        jsonl::for_each(rows, |line, row: Result<Map<String, Value>, String>| {
            let row = row.map_err(|problem| jsonl::bad_row(rows, line, &problem))?;
            let key = (text(&row, "id"), text(&row, "order"));
            let known = judged.get_mut(&key).and_then(VecDeque::pop_front);
            self.verdict(run, &benchmark, row, known);
            Ok(())
        })
    }

    fn judgment(&mut self, benchmark: &str, judged: Judged) -> ((String, String), Found) {
        let pair = judged.pair;
        let prompt = pair.conversations.into_iter().map(|turn| (turn.role, self.texts.place(&turn.content))).collect();
        let item = Item(
            benchmark.into(),
            pair.id.clone(),
            judged.order.clone(),
            pair.source.subset,
            pair.gt_label.unwrap_or_default(),
            prompt,
            self.texts.place(&pair.response_a),
            self.texts.place(&pair.response_b),
            pair.gt_judgment.map(|gold| self.texts.place(&gold)),
        );
        let rationale = judged.model_judgment.map(|text| self.texts.place(&text));
        ((pair.id, judged.order), (self.item(item), rationale, judged.finished))
    }

    fn item(&mut self, item: Item) -> usize {
        let next = self.items.len();
        let place = *self.places.entry(item.clone()).or_insert(next);
        if place == next {
            self.items.push(item);
        }
        place
    }

    fn verdict(&mut self, run: usize, benchmark: &str, mut row: Map<String, Value>, known: Option<Found>) {
        let (item, rationale, finished) = known.unwrap_or_else(|| {
            let empty = self.texts.place("");
            let item = Item(
                benchmark.into(),
                text(&row, "id"),
                text(&row, "order"),
                text(&row, "subset"),
                text(&row, "gt_label"),
                Vec::new(),
                empty,
                empty,
                None,
            );
            (self.item(item), None, None)
        });
        let (prediction, state) = (text(&row, "model_pred"), text(&row, "metarm_verdict"));
        let agreement = row.get("agreement").or(row.get("metarm_score")).and_then(Value::as_f64);
        let analysis = text(&row, "metarm_analysis");
        let analysis = (!analysis.is_empty()).then(|| self.texts.place(&analysis));
        for known in SHOWN {
            row.remove(known);
        }
        let column = |(name, value): (String, Value)| match value {
            Value::String(text) => (name, Some(self.texts.place(&text)), Value::Null),
            other => (name, None, other),
        };
        let others = row.into_iter().filter(|(_, value)| !value.is_null() && value != "").map(column).collect();
        self.verdicts.push(Verdict(run, item, prediction, state, agreement, rationale, analysis, finished, others));
    }

    /// Packs it into at most so many bytes, if shortening texts can do that.
    pub fn pack(&self, most: usize) -> Result<Packed, StageError> {
        let packed =
            |data, shortened| Packed { data, shortened, judgments: self.verdicts.len(), items: self.items.len() };
        let whole = self.encoded(None)?;
        if whole.len() <= most {
            return Ok(packed(whole, None));
        }
        let longest = self.texts.all.iter().map(|text| text.chars().count()).max().unwrap_or_default();
        let mut limit = (longest / 2).clamp(LEAST, 8192);
        loop {
            let data = self.encoded(Some(limit))?;
            if data.len() <= most || limit == LEAST {
                return Ok(packed(data, Some(limit)));
            }
            // Nearly in proportion: each try is a whole compression.
            let over = most as f64 / data.len() as f64;
            limit = ((limit as f64 * over.clamp(0.3, 0.9)) as usize).max(LEAST);
        }
    }

    fn encoded(&self, limit: Option<usize>) -> Result<String, StageError> {
        let texts: Vec<std::borrow::Cow<'_, str>> = self.texts.all.iter().map(|text| cut(text, limit)).collect();
        let document = serde_json::json!({ "runs": self.runs, "shortened": limit });
        let failed = |error: std::io::Error| StageError::new(format!("pack the drill-down: {error}"));
        let mut deflated = ZlibEncoder::new(Vec::new(), Compression::new(7));
        // Part by part: the whole as one value would be held twice.
        part(&mut deflated, "{\"head\":", &document).map_err(failed)?;
        part(&mut deflated, ",\"items\":", &self.items).map_err(failed)?;
        part(&mut deflated, ",\"verdicts\":", &self.verdicts).map_err(failed)?;
        part(&mut deflated, ",\"texts\":", &texts).map_err(failed)?;
        deflated.write_all(b"}").map_err(failed)?;
        Ok(base64::engine::general_purpose::STANDARD.encode(deflated.finish().map_err(failed)?))
    }
}

fn part<T: Serialize>(to: &mut impl std::io::Write, before: &str, value: &T) -> std::io::Result<()> {
    to.write_all(before.as_bytes())?;
    serde_json::to_writer(to, value).map_err(std::io::Error::from)
}

/// Columns of a row that have their own place in the page.
const SHOWN: [&str; 9] = [
    "id",
    "order",
    "subset",
    "gt_label",
    "model_pred",
    "metarm_verdict",
    "metarm_score",
    "agreement",
    "metarm_analysis",
];

fn text(row: &Map<String, Value>, name: &str) -> String {
    match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The beginning and the end: a judgment's verdict stands last.
fn cut(text: &str, limit: Option<usize>) -> std::borrow::Cow<'_, str> {
    let Some(limit) = limit.filter(|limit| text.len() > *limit) else { return text.into() };
    let letters = text.chars().count();
    if letters <= limit {
        return text.into();
    }
    let head: String = text.chars().take(limit * 2 / 3).collect();
    let tail: String = text.chars().skip(letters - limit / 3).collect();
    format!("{head} […] {tail}").into()
}

#[cfg(test)]
mod tests;
