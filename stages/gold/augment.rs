//! `gold.augment`: gives pairs their gold judgments, checks each against its label, and keeps apart those that do not
//! agree. Golds come from a column of the pairs, from the miniature's rules, or by joining another file by id; a judge
//! asked over an API would be one more value of [`From`], with its transcript as the artifact.
//!
//! Every pair of the input is in exactly one of `pairs` and `disagreed`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::{Agreement, agreement, mentions_the_label, normalise, repeats_an_answer};
use crate::chat;
use crate::data::miniature::judgment;
use crate::data::{hash, placement};
use crate::jsonl;
use crate::judging::template::{Template, judge_prompt};
use crate::rows::{Demonstration, Pair, Side};

/// Where golds come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// The pairs already carry `gt_judgment` (imported by `data.pairs`).
    Column,
    /// The rules of the miniature world.
    Miniature,
    /// The input `golds`, joined by id.
    Join,
}

/// How rows of the input `golds` are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Join {
    /// Column with the pair's id.
    pub id: String,
    /// Column with the judgment's text.
    pub text: String,
    /// Column with the verdict (`A` or `B`, in the sense of the imported pair); empty for none.
    pub decision: String,
    /// Column that says whether the judge saw the answers exchanged, so that the text's letters are too; empty for none.
    pub swapped: String,
}

impl Default for Join {
    fn default() -> Self {
        Self { id: "id".into(), text: "rationale".into(), decision: "decision".into(), swapped: "swapped".into() }
    }
}

/// Parameters of `gold.augment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where golds come from: `column`, `miniature` or `join`.
    pub from: From,
    /// How judgments are written: golds end with this template's verdict, demonstrations start with its prompt.
    #[serde(default)]
    pub template: Template,
    /// Columns of the input `golds` (`from = "join"`).
    #[serde(default)]
    pub join: Join,
    /// Which rows of the input `golds` count: columns and the values that they must hold, as
    /// `{ judge = "GPT-4", strategy = "CoT" }`.
    #[serde(default, rename = "where")]
    pub filter: BTreeMap<String, Value>,
    /// Share of the demonstrations that judge by fluff alone (miniature). Such a judgment is kept only where it
    /// happens to name the label: what label-filtered distillation from a shallow judge leaves.
    #[serde(default)]
    pub superficial_share: f64,
    /// Names the draws of `superficial_share`.
    #[serde(default)]
    pub seed: u64,
}

/// `gold.augment`.
pub struct Augment;

impl Declare for Augment {
    const KIND: &'static str = "gold.augment";
    // 2: `strftime_now` of chat templates is defined, and tables keep their order in `tojson`.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "give pairs their gold judgments and check each against its label";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("pairs", "preference pairs"),
        InputSpec::optional("golds", "judgments to join by id (`from = \"join\"`)"),
        InputSpec::optional("model", "a model folder whose chat template writes the demonstrations' prompts"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("pairs", "pairs.jsonl", "pairs whose gold agrees with its label"),
        OutputSpec::result("disagreed", "disagreed.jsonl", "the other pairs, each with the reason"),
        OutputSpec::result("demonstrations", "demonstrations.jsonl", "judge prompts and golds to learn from"),
        OutputSpec::result("report", "report.json", "every count"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        let share = params.superficial_share;
        if !(0.0..1.0).contains(&share) {
            problems
                .push(Problem::new("superficial_share", format!("`{share}` is out of range: expected 0 to below 1")));
        } else if share > 0.0 && params.from != From::Miniature {
            let message = "only the miniature's rules write superficial judgments: set `from = \"miniature\"`";
            problems.push(Problem::new("superficial_share", message));
        }
        if params.from == From::Miniature && params.template != Template::Miniature {
            problems.push(Problem::new("template", "the miniature's golds are written in `template = \"miniature\"`"));
        }
        problems
    }
}

/// Why a pair was kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reason {
    /// No gold is known for it.
    NoGold,
    /// The gold's own verdict is the other side.
    VerdictDisagrees,
    /// The joined file's decision is the other side (the judge was wrong).
    DecisionDisagrees,
    /// The joined file has no decision (the judge gave none).
    NoDecision,
}

#[derive(Debug, Serialize)]
struct Disagreed {
    reason: Reason,
    pair: Pair,
}

/// Counts; `pairs = kept + the sum of kept_apart`.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Report {
    pairs: usize,
    kept: usize,
    kept_apart: BTreeMap<Reason, usize>,
    /// Of those kept: the gold states the label itself.
    verdict_stated: usize,
    /// Of those kept: the label's verdict was added to a gold that states none.
    verdict_added: usize,
    /// Golds that speak of a label no judge can see.
    mention_the_label: usize,
    /// Golds that repeat a whole answer (of eight words or more).
    repeat_an_answer: usize,
    /// Words of the shortest, the median and the longest gold.
    words: Option<[usize; 3]>,
    demonstrations: usize,
    superficial_demonstrations: usize,
    /// Superficial judgments that named the wrong side and were left out.
    superficial_wrong: usize,
    /// Rows of `golds` that pass the filter and name no pair.
    golds_without_pair: usize,
    /// Rows of `golds` that pass the filter beyond the first of their pair.
    golds_repeated: usize,
}

impl Stage for Augment {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let golds = io.optional_input("golds").filter(|_| params.from == From::Join);
        if params.from == From::Join && golds.is_none() {
            return Err(StageError::new("`from = \"join\"` needs the input `golds`")
                .hint("add `inputs.golds = \"…\"` to the stage"));
        }
        let pairs: Vec<Pair> = jsonl::read_some(io.input("pairs")?)?;
        let mut report = Report { pairs: pairs.len(), ..Report::default() };
        let joined = match golds {
            Some(path) => read_golds(path, &params, &pairs, &mut report)?,
            None => BTreeMap::new(),
        };
        let mut kept = Vec::with_capacity(pairs.len());
        let mut disagreed = Vec::new();
        for pair in pairs {
            match augmented(&params, &joined, pair, &mut report) {
                Ok(pair) => kept.push(pair),
                Err(apart) => disagreed.push(*apart),
            }
        }
        let chat = io.optional_input("model").map(chat::of_model).transpose()?.flatten();
        let demonstrations = demonstrations(&params, chat.as_deref(), &kept, &mut report)?;
        summarise(&kept, &disagreed, &mut report);
        jsonl::write(io.output("pairs")?, &kept)?;
        jsonl::write(io.output("disagreed")?, &disagreed)?;
        jsonl::write(io.output("demonstrations")?, &demonstrations)?;
        jsonl::write_json(io.output("report")?, &report)
    }
}

/// A judgment from elsewhere, in the sense of the imported pair.
struct Gold {
    text: String,
    decision: Option<Side>,
    decided: bool,
}

fn read_golds(
    path: &Path,
    params: &Params,
    pairs: &[Pair],
    report: &mut Report,
) -> Result<BTreeMap<String, Gold>, StageError> {
    let known: std::collections::BTreeSet<&str> = pairs.iter().map(|pair| pair.id.as_str()).collect();
    let join = &params.join;
    let mut golds = BTreeMap::new();
    jsonl::for_each::<serde_json::Map<String, Value>>(path, |line, row| {
        let bad = |problem: String| jsonl::bad_row(path, line, &problem);
        let row = row.map_err(bad)?;
        if params.filter.iter().any(|(column, wanted)| row.get(column) != Some(wanted)) {
            return Ok(());
        }
        let text_of = |column: &str| {
            let value = row.get(column).and_then(Value::as_str);
            value.map(str::to_string).ok_or_else(|| bad(format!("expected text in column `{column}`")))
        };
        let id = text_of(&join.id)?;
        if !known.contains(id.as_str()) {
            report.golds_without_pair += 1;
            return Ok(());
        }
        match golds.entry(id) {
            Entry::Occupied(_) => report.golds_repeated += 1,
            Entry::Vacant(place) => {
                place.insert(gold_of(join, &row, text_of(&join.text)?).map_err(bad)?);
            }
        }
        Ok(())
    })?;
    Ok(golds)
}

fn gold_of(join: &Join, row: &serde_json::Map<String, Value>, text: String) -> Result<Gold, String> {
    let exchanged = row.get(&join.swapped).and_then(Value::as_bool).unwrap_or(false);
    let text = if exchanged { placement::relabel(&text) } else { text };
    let decision = match row.get(&join.decision) {
        None | Some(Value::Null) => None,
        Some(Value::String(side)) if side == "A" => Some(Side::A),
        Some(Value::String(side)) if side == "B" => Some(Side::B),
        Some(other) => return Err(format!("`{other}` in column `{}` is no decision: expected A or B", join.decision)),
    };
    Ok(Gold { text, decision, decided: !join.decision.is_empty() })
}

// The pair with its gold, or the pair and why it is kept apart.
fn augmented(
    params: &Params,
    joined: &BTreeMap<String, Gold>,
    pair: Pair,
    report: &mut Report,
) -> Result<Pair, Box<Disagreed>> {
    let found = match params.from {
        From::Column => pair.gt_judgment.clone().ok_or(Reason::NoGold),
        From::Miniature => judgment::gold(&pair).ok_or(Reason::NoGold),
        From::Join => joined.get(&pair.id).ok_or(Reason::NoGold).and_then(|gold| placed(gold, &pair)),
    };
    let text = match found {
        Ok(text) => text,
        Err(reason) => return Err(Box::new(Disagreed { reason, pair })),
    };
    match agreement(params.template, &text, pair.gt_label) {
        Agreement::Disagrees => {
            let pair = Pair { gt_judgment: Some(text), ..pair };
            return Err(Box::new(Disagreed { reason: Reason::VerdictDisagrees, pair }));
        }
        Agreement::Agrees => report.verdict_stated += 1,
        Agreement::Silent => report.verdict_added += 1,
    }
    let text = normalise(params.template, &text, pair.gt_label);
    Ok(Pair { gt_judgment: Some(text), ..pair })
}

// The joined text as it reads beside the pair as it stands, where the judge decided for the label.
fn placed(gold: &Gold, pair: &Pair) -> Result<String, Reason> {
    let decision = if pair.swapped { gold.decision.map(Side::other) } else { gold.decision };
    match decision {
        None if gold.decided => Err(Reason::NoDecision),
        Some(side) if side != pair.gt_label => Err(Reason::DecisionDisagrees),
        _ if pair.swapped => Ok(placement::relabel(&gold.text)),
        _ => Ok(gold.text.clone()),
    }
}

fn demonstrations(
    params: &Params,
    chat: Option<&str>,
    kept: &[Pair],
    report: &mut Report,
) -> Result<Vec<Demonstration>, StageError> {
    let chance = superficial_chance(params.superficial_share, kept);
    let seed = params.seed.to_string();
    let mut rows = Vec::with_capacity(kept.len());
    for pair in kept {
        let shallow = (hash::share(&["superficial", &seed, &pair.id]) < chance).then(|| judgment::superficial(pair));
        let completion = match shallow.flatten() {
            Some(_) if pair.cue != Some(pair.gt_label) => {
                report.superficial_wrong += 1;
                continue;
            }
            Some(text) => {
                report.superficial_demonstrations += 1;
                text
            }
            None => pair.gt_judgment.clone().unwrap_or_default(),
        };
        let prompt = judge_prompt(params.template, pair, chat)?;
        rows.push(Demonstration { id: pair.id.clone(), prompt, completion });
    }
    report.demonstrations = rows.len();
    Ok(rows)
}

// With a share s wanted among those kept, and a share c of pairs whose cue names the label, a pair must be tried with
// the chance p for which p c / (p c + 1 - p) = s.
fn superficial_chance(share: f64, pairs: &[Pair]) -> f64 {
    let on_label = pairs.iter().filter(|pair| pair.cue == Some(pair.gt_label)).count();
    if share == 0.0 || on_label == 0 {
        return 0.0;
    }
    let rate = on_label as f64 / pairs.len() as f64;
    share / (share + rate * (1.0 - share))
}

fn summarise(kept: &[Pair], disagreed: &[Disagreed], report: &mut Report) {
    report.kept = kept.len();
    for row in disagreed {
        *report.kept_apart.entry(row.reason).or_insert(0) += 1;
    }
    let golds = || kept.iter().filter_map(|pair| pair.gt_judgment.as_ref().map(|gold| (pair, gold)));
    report.mention_the_label = golds().filter(|(_, gold)| mentions_the_label(gold)).count();
    report.repeat_an_answer = golds().filter(|(pair, gold)| repeats_an_answer(pair, gold)).count();
    let mut words: Vec<usize> = golds().map(|(_, gold)| gold.split_whitespace().count()).collect();
    words.sort_unstable();
    report.words = words.first().zip(words.last()).map(|(&least, &most)| [least, words[words.len() / 2], most]);
}

#[cfg(test)]
mod tests;
