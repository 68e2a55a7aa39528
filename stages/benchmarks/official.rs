//! `bench.official`: a benchmark's own scores, by its own rules, from a pairwise judge's verdicts (`bench.s-corr`), a
//! scalar model's rewards (`bench.reward`) or judgments of whole groups. What was not judged is counted, never wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Stage, StageError};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::{Group, GroupJudgment, Task};
use super::score::{Outcome, Scored, of_subsets};
use super::{Benchmark, judge_bench, llmbar, ppe, reward_bench, reward_bench2, rm_bench, rmb};
use crate::jsonl;
use crate::judging::s_corr::RowVerdict;
use crate::judging::verdict::after_thinking;
use crate::rows::Order;
use crate::stats::items::{ItemRow, Metrics};

/// Parameters of `bench.official`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Whose rules: the name that `data.benchmark` was given.
    pub benchmark: Benchmark,
}

/// `bench.official`.
pub struct Official;

impl Declare for Official {
    const KIND: &'static str = "bench.official";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "a benchmark's own scores by its own rules";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("groups", "the groups of data.benchmark"),
        InputSpec::optional("rows", "the rows of bench.s-corr: verdicts of a pairwise judge"),
        InputSpec::optional("scores", "the scores of bench.reward: a scalar model's rewards"),
        InputSpec::optional("choices", "judgments of whole groups: choices among all answers, or ratings of each"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("metrics", "metrics.json", "the benchmark's scores, by subset and over all"),
        OutputSpec::result("items", "items.jsonl", "one row an item with its `official` score, for stats.compare"),
    ];
    type Params = Params;
}

impl Stage for Official {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let groups: Vec<Group> = jsonl::read_some(io.input("groups")?)?;
        let said = Said::read(io)?;
        let items: Vec<Scored<'_>> = groups.iter().map(|group| said.of(group)).collect::<Result<_, _>>()?;
        let value = value_of(params.benchmark);
        if items.iter().all(|item| value(item).is_none()) && items.iter().all(|item| item.ratings.is_none()) {
            return Err(StageError::new("no item is wholly judged").hint(
                "the judgments must be of the pairs of the same data.benchmark step; JudgeBench needs both orders",
            ));
        }
        jsonl::write(io.output("items")?, items.iter().map(|item| row(item, value(item))))?;
        jsonl::write_json(io.output("metrics")?, &scores(params.benchmark, &items))
    }
}

type Value = fn(&Scored<'_>) -> Option<f64>;

fn value_of(benchmark: Benchmark) -> Value {
    match benchmark {
        Benchmark::JudgeBench => judge_bench::decided,
        Benchmark::RewardBench2 => reward_bench2::value,
        Benchmark::RewardBench => |item| item.mean_value_or(0.5),
        Benchmark::Rmb => |item| item.all_right(),
        _ => |item| item.mean_value(),
    }
}

fn scores(benchmark: Benchmark, items: &[Scored<'_>]) -> Metrics {
    match benchmark {
        Benchmark::JudgeBench => judge_bench::official(items),
        Benchmark::RewardBench => reward_bench::official(items),
        Benchmark::RewardBench2 => reward_bench2::official(items),
        Benchmark::RmBench => rm_bench::official(items),
        Benchmark::PpePreference => ppe::official_preference(items),
        Benchmark::PpeBestOfK => ppe::official_best_of_k(items),
        Benchmark::Llmbar => llmbar::official(items),
        Benchmark::Rmb => rmb::official(items),
        Benchmark::RAlign | Benchmark::Helpsteer3 | Benchmark::Pairs => of_subsets(items, Scored::mean_value),
    }
}

fn row(item: &Scored<'_>, value: Option<f64>) -> ItemRow {
    ItemRow {
        id: item.group.id.clone(),
        cluster: item.group.prompt_id.clone(),
        domain: item.group.source.subset.clone(),
        values: BTreeMap::from([("official".to_string(), value)]),
    }
}

/// A row of `bench.reward`'s scores.
#[derive(Debug, Deserialize)]
struct Rewards {
    id: String,
    chosen: f64,
    rejected: f64,
}

/// Everything that was said, by pair and by group.
#[derive(Default)]
struct Said {
    outcomes: BTreeMap<String, [Option<Outcome>; 2]>,
    choices: BTreeMap<String, Vec<GroupJudgment>>,
}

impl Said {
    fn read(io: &Io) -> Result<Self, StageError> {
        let mut said = Self::default();
        if let Some(path) = io.optional_input("rows") {
            for row in jsonl::read_some::<RowVerdict>(path)? {
                let place = usize::from(row.order == Order::Swapped);
                said.put(path, &row.id, place, Outcome::of(row.model_pred, row.gt_label))?;
            }
        }
        if let Some(path) = io.optional_input("scores") {
            for row in jsonl::read_some::<Rewards>(path)? {
                said.put(path, &row.id, 0, of_rewards(&row))?;
            }
        }
        if let Some(path) = io.optional_input("choices") {
            for judgment in jsonl::read_some::<GroupJudgment>(path)? {
                said.choices.entry(judgment.id.clone()).or_default().push(judgment);
            }
        }
        match said.outcomes.is_empty() && said.choices.is_empty() {
            true => Err(StageError::new("nothing was judged").hint("give the input `rows`, `scores` or `choices`")),
            false => Ok(said),
        }
    }

    fn put(&mut self, path: &Path, id: &str, place: usize, outcome: Outcome) -> Result<(), StageError> {
        match self.outcomes.entry(id.to_string()).or_default()[place].replace(outcome) {
            None => Ok(()),
            Some(_) => Err(StageError::new(format!("{}: `{id}` is judged twice in one order", path.display()))),
        }
    }

    fn of<'g>(&self, group: &'g Group) -> Result<Scored<'g>, StageError> {
        let of = |comparison: &(usize, usize)| -> Vec<Outcome> {
            let found = self.outcomes.get(&group.pair_id(*comparison)).copied().unwrap_or_default();
            found.into_iter().flatten().collect()
        };
        let outcomes = group.comparisons.iter().map(of).collect();
        let judgments = self.choices.get(&group.id).map(Vec::as_slice).unwrap_or_default();
        if let Some(odd) = judgments.iter().find(|judgment| !fits(group, judgment)) {
            let message =
                format!("a judgment of `{}` shows answers {:?} of {}", group.id, odd.shown, group.answers.len());
            return Err(StageError::new(message).hint("`shown` lists places of the group's answers, counted from 0"));
        }
        let choice = judgments.iter().find(|judgment| judgment.task == Task::Choose);
        Ok(Scored { group, outcomes, chosen: choice.map(chosen), ratings: ratings(group, judgments) })
    }
}

fn of_rewards(row: &Rewards) -> Outcome {
    match row.chosen.partial_cmp(&row.rejected) {
        Some(std::cmp::Ordering::Greater) => Outcome::Right,
        Some(std::cmp::Ordering::Less) => Outcome::Wrong,
        _ => Outcome::None,
    }
}

fn fits(group: &Group, judgment: &GroupJudgment) -> bool {
    let inside = judgment.shown.iter().all(|place| *place < group.answers.len());
    inside && (judgment.task == Task::Choose || judgment.shown.len() == 1)
}

// RewardBench 2's rule: the first letter of the alphabet whose `[[X]]` stands anywhere in the text.
fn chosen(judgment: &GroupJudgment) -> Option<usize> {
    let text = after_thinking(judgment.model_judgment.as_deref()?);
    let stands = |letter: char| text.contains(&format!("[[{letter}]]"));
    ('A'..='Z').zip(&judgment.shown).find(|(letter, _)| stands(*letter)).map(|(_, place)| *place)
}

static TRAILING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\d+)\D*$").expect("a pattern of this file, compiled by its tests"));

// Its rule for ratings: the last whole number; one that is not there, or not from 1 to 10, is -1.
fn rating(text: Option<&str>) -> f64 {
    let found = text.and_then(|text| TRAILING.captures(text)?[1].parse::<u32>().ok());
    found.filter(|rating| (1..=10).contains(rating)).map_or(-1.0, f64::from)
}

// `None` where an answer was not rated at all.
fn ratings(group: &Group, judgments: &[GroupJudgment]) -> Option<Vec<f64>> {
    let mut ratings = vec![None; group.answers.len()];
    for judgment in judgments.iter().filter(|judgment| judgment.task == Task::Rate) {
        for place in &judgment.shown {
            ratings[*place] = Some(rating(judgment.model_judgment.as_deref().map(after_thinking)));
        }
    }
    ratings.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_from_one_to_ten_is_the_rating() {
        let found =
            [Some("Fine: 7"), Some("1. clear 2. short\n\n9/10."), Some("Rating: 12"), Some("none"), None].map(rating);
        assert_eq!(found, [7.0, 10.0, -1.0, -1.0, -1.0]);
    }

    #[test]
    fn the_first_letter_that_stands_anywhere_is_the_choice() {
        let choice = |text: &str| {
            let (id, model_judgment) = ("g".into(), Some(text.to_string()));
            chosen(&GroupJudgment { id, task: Task::Choose, shown: vec![2, 0, 1], model_judgment })
        };
        assert_eq!(
            [choice("not [[C]] but [[B]]"), choice("[[A]]"), choice("A"), choice("[[D]]")],
            [Some(0), Some(2), None, None]
        );
    }
}
