//! `data.pairs`: preference pairs from a JSONL file, checked, without duplicates, split by prompt and placed. Every
//! row of the file is in exactly one of `pairs`, `dev` and `rejected`, and the report's counts add up.

pub mod format;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::format::{Columns, Format, Read, Reader};
use super::duplicates::{NearIndex, plain};
use super::{hash, placement};
use crate::jsonl;
use crate::rows::{Pair, Side};

/// What a malformed row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRow {
    /// Fails the stage with the file and line.
    #[default]
    Error,
    /// Goes to `rejected` and is counted.
    Skip,
}

/// Which answer stands as A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Exchanged or not by a hash of the row's id and the seed: labels come out even.
    #[default]
    Hash,
    /// As in the file.
    Keep,
}

/// Parameters of `data.pairs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Layout of the file.
    pub format: Format,
    /// Columns that differ from the format's.
    pub columns: Columns,
    /// What the label's values mean, as `{ model_a = "A", model_b = "B" }`; `A` and `B` need no entry.
    pub labels: BTreeMap<String, Side>,
    /// Name of the data set in the rows; empty for the format's own.
    pub dataset: String,
    /// Only these subsets; empty for all.
    pub subsets: Vec<String>,
    /// What a malformed row does: `error` or `skip`.
    pub on_bad_row: OnBadRow,
    /// Rows whose word triples overlap an earlier row's by at least this Jaccard similarity are dropped; from 0.5,
    /// and 1 for exact duplicates only.
    pub near_duplicates: f64,
    /// Fewest words of dialogue and both answers together.
    pub min_words: usize,
    /// Most words of dialogue and both answers together.
    pub max_words: Option<usize>,
    /// Most characters of dialogue and both answers together.
    pub max_characters: Option<usize>,
    /// Most pairs outside the dev set, chosen by hash: a smaller number chooses among those of a larger one.
    pub max_pairs: Option<usize>,
    /// Share of prompts whose pairs go to the dev set.
    pub dev_share: f64,
    /// Which answer stands as A: `hash` or `keep`.
    pub placement: Placement,
    /// Names the choices of split, placement and `max_pairs`.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            format: Format::Columns,
            columns: Columns::default(),
            labels: BTreeMap::new(),
            dataset: String::new(),
            subsets: Vec::new(),
            on_bad_row: OnBadRow::Error,
            near_duplicates: 0.9,
            min_words: 0,
            max_words: None,
            max_characters: None,
            max_pairs: None,
            dev_share: 0.0,
            placement: Placement::Hash,
            seed: 0,
        }
    }
}

/// `data.pairs`.
pub struct Pairs;

impl Declare for Pairs {
    const KIND: &'static str = "data.pairs";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "import preference pairs: check, drop duplicates, split by prompt, place A and B";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required("raw", "a JSONL file of preference data")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("pairs", "pairs.jsonl", "pairs to train on or to judge"),
        OutputSpec::result("dev", "dev.jsonl", "pairs of other prompts"),
        OutputSpec::result("rejected", "rejected.jsonl", "rows left out, each with its line and the reason"),
        OutputSpec::result("report", "report.json", "every count"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(0.5..=1.0).contains(&params.near_duplicates) {
            let message = format!("`{}` is out of range: expected 0.5 to 1", params.near_duplicates);
            problems.push(Problem::new("near_duplicates", message));
        }
        if !(0.0..=1.0).contains(&params.dev_share) {
            problems.push(Problem::new("dev_share", format!("`{}` is no share: expected 0 to 1", params.dev_share)));
        }
        problems.extend(missing_columns(params.format, &params.columns));
        problems
    }
}

/// What `columns` must name beside what the format knows.
pub fn missing_columns(format: Format, columns: &Columns) -> Vec<Problem> {
    let columns = format.columns(columns);
    let chosen = columns.chosen.is_some() && columns.rejected.is_some();
    let placed = columns.response_a.is_some() && columns.response_b.is_some() && columns.label.is_some();
    let message = "name `chosen` and `rejected`, or `response_a`, `response_b` and `label`, or choose a `format`";
    if chosen || placed { Vec::new() } else { vec![Problem::new("columns", message)] }
}

/// Why a row was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    BadRow,
    Tie,
    EmptyAnswer,
    IdenticalAnswers,
    OtherSubset,
    TooShort,
    TooLong,
    ExactDuplicate,
    /// The same pair with the other label.
    ContradictingDuplicate,
    NearDuplicate,
    BeyondMaxPairs,
}

#[derive(Debug, Serialize)]
struct Rejected {
    line: usize,
    id: Option<String>,
    reason: Reason,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// `rows = pairs + dev + the sum of rejected`.
#[derive(Debug, Serialize)]
struct Report {
    rows: usize,
    pairs: usize,
    dev: usize,
    rejected: BTreeMap<Reason, usize>,
    /// Labels of `pairs` and `dev` after placement.
    labels: BTreeMap<String, usize>,
    /// Rows whose answers were exchanged.
    swapped: usize,
    /// Rows with a gold judgment.
    with_gold: usize,
    prompts: usize,
    subsets: BTreeMap<String, usize>,
}

impl Stage for Pairs {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let mut import = Import::new(&params);
        let kept = import.read(io.input("raw")?, io)?;
        let (dev, pairs): (Vec<_>, Vec<_>) = kept.into_iter().partition(|row| is_dev(&params, &row.pair));
        let pairs = import.limited(pairs);
        let place = |rows: Vec<Row>| rows.into_iter().map(|row| placed(&params, row.pair)).collect::<Vec<_>>();
        let (pairs, dev) = (place(pairs), place(dev));
        import.rejected.sort_by_key(|row| row.line);
        let report = report(import.rows, &pairs, &dev, &import.rejected);
        jsonl::write(io.output("pairs")?, &pairs)?;
        jsonl::write(io.output("dev")?, &dev)?;
        jsonl::write(io.output("rejected")?, &import.rejected)?;
        jsonl::write_json(io.output("report")?, &report)
    }
}

struct Row {
    line: usize,
    pair: Pair,
}

/// What is known while the rows go by.
struct Import<'a> {
    params: &'a Params,
    reader: Reader,
    rows: usize,
    ids: BTreeSet<String>,
    exact: BTreeMap<u64, bool>,
    near: NearIndex,
    rejected: Vec<Rejected>,
}

impl<'a> Import<'a> {
    fn new(params: &'a Params) -> Self {
        let dataset = if params.dataset.is_empty() { params.format.dataset().into() } else { params.dataset.clone() };
        let columns = params.format.columns(&params.columns);
        let reader = Reader { columns, labels: params.labels.clone(), dataset };
        let near = NearIndex::new(params.near_duplicates);
        Self { params, reader, rows: 0, ids: BTreeSet::new(), exact: BTreeMap::new(), near, rejected: Vec::new() }
    }

    fn read(&mut self, path: &Path, io: &Io) -> Result<Vec<Row>, StageError> {
        let mut kept = Vec::new();
        jsonl::for_each::<Map<String, Value>>(path, |line, row| {
            self.rows += 1;
            if self.rows.is_multiple_of(1000) {
                io.progress(self.rows as u64, None, "rows");
            }
            let read = row.and_then(|row| self.reader.read(&row)).and_then(|read| self.unique(read));
            match read {
                Ok(Read::Tie) => self.reject(line, None, Reason::Tie, ""),
                Ok(Read::Pair(pair)) => match self.objection(&pair) {
                    Some(reason) => self.reject(line, Some(pair.id), reason, ""),
                    None => kept.push(Row { line, pair: *pair }),
                },
                Err(problem) if self.params.on_bad_row == OnBadRow::Error => {
                    let hint =
                        "mend the row, or set `with.on_bad_row = \"skip\"` to leave such rows out and count them";
                    return Err(jsonl::bad_row(path, line, &problem).hint(hint));
                }
                Err(problem) => self.reject(line, None, Reason::BadRow, &problem),
            }
            Ok(())
        })?;
        if self.rows == 0 { Err(jsonl::no_row(path)) } else { Ok(kept) }
    }

    fn unique(&mut self, read: Read) -> Result<Read, String> {
        match &read {
            // Rows named by their content repeat their name where they repeat their content: a duplicate, no error.
            Read::Pair(pair) if !self.ids.insert(pair.id.clone()) && self.reader.columns.id.is_some() => {
                Err(format!("the id `{}` occurs twice", pair.id))
            }
            _ => Ok(read),
        }
    }

    // The first reason against a pair, in this order; duplicates are told last, among rows that would be kept.
    fn objection(&mut self, pair: &Pair) -> Option<Reason> {
        let params = self.params;
        if !params.subsets.is_empty() && !params.subsets.contains(&pair.source.subset) {
            return Some(Reason::OtherSubset);
        }
        if pair.response_a.trim().is_empty() || pair.response_b.trim().is_empty() {
            return Some(Reason::EmptyAnswer);
        }
        if pair.response_a == pair.response_b {
            return Some(Reason::IdenticalAnswers);
        }
        let texts = || pair.conversations.iter().map(|turn| &turn.content).chain([&pair.response_a, &pair.response_b]);
        let words: usize = texts().map(|text| text.split_whitespace().count()).sum();
        let characters: usize = texts().map(|text| text.chars().count()).sum();
        if words < params.min_words {
            return Some(Reason::TooShort);
        }
        if params.max_words.is_some_and(|most| words > most)
            || params.max_characters.is_some_and(|most| characters > most)
        {
            return Some(Reason::TooLong);
        }
        self.duplicate(pair)
    }

    fn duplicate(&mut self, pair: &Pair) -> Option<Reason> {
        let prompt: Vec<String> = pair.conversations.iter().map(|turn| plain(&turn.content)).collect();
        let prompt = prompt.join("\n");
        let mut answers = [(&pair.response_a, pair.gt_label == Side::A), (&pair.response_b, pair.gt_label == Side::B)];
        answers.sort();
        let first_wins = answers[0].1;
        let key = hash::number(&[&prompt, answers[0].0, answers[1].0]);
        match self.exact.get(&key) {
            Some(earlier) if *earlier == first_wins => return Some(Reason::ExactDuplicate),
            Some(_) => return Some(Reason::ContradictingDuplicate),
            None => self.exact.insert(key, first_wins),
        };
        if self.params.near_duplicates >= 1.0 {
            return None;
        }
        let text = format!("{prompt}\n{}\n{}", answers[0].0, answers[1].0);
        self.near.find_or_add(&text).map(|_| Reason::NearDuplicate)
    }

    fn limited(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let Some(most) = self.params.max_pairs.filter(|most| *most < rows.len()) else { return rows };
        let seed = self.params.seed.to_string();
        let rank = |row: &Row| hash::number(&["max_pairs", &seed, &row.pair.id]);
        let mut ranks: Vec<u64> = rows.iter().map(rank).collect();
        ranks.sort_unstable();
        let bound = ranks.get(most).copied().unwrap_or(u64::MAX);
        let (kept, beyond): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| rank(row) < bound);
        for row in beyond {
            self.reject(row.line, Some(row.pair.id), Reason::BeyondMaxPairs, "");
        }
        kept
    }

    fn reject(&mut self, line: usize, id: Option<String>, reason: Reason, detail: &str) {
        self.rejected.push(Rejected { line, id, reason, detail: detail.to_string() });
    }
}

fn is_dev(params: &Params, pair: &Pair) -> bool {
    hash::share(&["dev", &params.seed.to_string(), &pair.prompt_id]) < params.dev_share
}

fn placed(params: &Params, pair: Pair) -> Pair {
    match params.placement {
        Placement::Hash if placement::exchanges(&pair.id, params.seed) => placement::swap(&pair),
        _ => pair,
    }
}

fn report(rows: usize, pairs: &[Pair], dev: &[Pair], rejected: &[Rejected]) -> Report {
    let mut report = Report {
        rows,
        pairs: pairs.len(),
        dev: dev.len(),
        rejected: BTreeMap::new(),
        labels: BTreeMap::new(),
        swapped: 0,
        with_gold: 0,
        prompts: 0,
        subsets: BTreeMap::new(),
    };
    let mut prompts = BTreeSet::new();
    for pair in pairs.iter().chain(dev) {
        *report.labels.entry(pair.gt_label.to_string()).or_insert(0) += 1;
        *report.subsets.entry(pair.source.subset.clone()).or_insert(0) += 1;
        report.swapped += usize::from(pair.swapped);
        report.with_gold += usize::from(pair.gt_judgment.is_some());
        prompts.insert(&pair.prompt_id);
    }
    for row in rejected {
        *report.rejected.entry(row.reason).or_insert(0) += 1;
    }
    report.prompts = prompts.len();
    report
}

#[cfg(test)]
mod tests;
