//! `data.benchmark`: a published benchmark as pairs for a pairwise judge and as groups for its own scores. Knows each
//! benchmark's columns, never what a judge says of them.

mod files;
mod group;
mod helpsteer3;
mod judge_bench;
mod llmbar;
pub mod official;
mod ppe;
mod r_align;
mod reward_bench;
mod reward_bench2;
mod rm_bench;
mod rmb;
mod row;
mod score;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Registry, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use group::{Answer, Group, GroupJudgment, Task};

use crate::data::hash;
use crate::data::pairs::Placement;
use crate::data::pairs::format::{Columns, Format};
use crate::jsonl;
use crate::rows::{Pair, Side};
use row::{Adapter, Read};

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<DataBenchmark>().with::<official::Official>()
}

/// The benchmarks whose columns and scores are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Benchmark {
    /// R-Align-BMK: conversations, response_A, response_B, gt_label, gt_judgment, source, id.
    RAlign,
    /// HelpSteer3-Preference: context, response1, response2, overall_preference, individual_preference, domain.
    Helpsteer3,
    /// RewardBench: prompt, chosen, rejected, subset, id.
    RewardBench,
    /// RewardBench 2: id, prompt, chosen (list), rejected (list), subset.
    RewardBench2,
    /// RM-Bench: id, prompt, chosen (3 styles), rejected (3 styles), domain.
    RmBench,
    /// JudgeBench: pair_id, source, question, response_A, response_B, label (`A>B` or `B>A`).
    JudgeBench,
    /// PPE-Human-Preference-V1: question_id, prompt, response_1, response_2, model_a, model_b, winner.
    PpePreference,
    /// PPE best of k: question_id, prompt, response_1 …, scores, sampled_conflict_pairs.
    PpeBestOfK,
    /// LLMBar: id, subset, prompt, response_a, response_b, label; or its own input, output_1, output_2, label (1 or 2).
    Llmbar,
    /// RMB: pair_uid, conversation_input, chosen, reject; or bon_uid, conversation_input, bon_best, loser_list.
    Rmb,
    /// Any pairs: `columns` says which column holds what.
    Pairs,
}

impl Benchmark {
    /// Its name in rows and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::RAlign => "r-align",
            Self::Helpsteer3 => "helpsteer3",
            Self::RewardBench => "reward-bench",
            Self::RewardBench2 => "reward-bench2",
            Self::RmBench => "rm-bench",
            Self::JudgeBench => "judge-bench",
            Self::PpePreference => "ppe-preference",
            Self::PpeBestOfK => "ppe-best-of-k",
            Self::Llmbar => "llmbar",
            Self::Rmb => "rmb",
            Self::Pairs => "pairs",
        }
    }

    fn adapter(self, params: &Params) -> Adapter {
        match self {
            Self::RAlign => r_align::adapter(),
            Self::Helpsteer3 => helpsteer3::adapter(),
            Self::RewardBench => reward_bench::adapter(),
            Self::RewardBench2 => reward_bench2::adapter(),
            Self::RmBench => rm_bench::adapter(),
            Self::JudgeBench => judge_bench::adapter(),
            Self::PpePreference => ppe::preference(),
            Self::PpeBestOfK => ppe::best_of_k(),
            Self::Llmbar => llmbar::adapter(),
            Self::Rmb => rmb::adapter(),
            Self::Pairs => Adapter::of_pairs("pairs", Format::Columns, &params.columns, &params.labels),
        }
    }

    // Sets whose rows name A and B keep them; where a row names the better answer, A must not always be it.
    fn placement(self) -> Placement {
        match self {
            Self::RAlign | Self::Helpsteer3 | Self::JudgeBench | Self::PpePreference | Self::Llmbar => Placement::Keep,
            _ => Placement::Hash,
        }
    }
}

/// Which pairs a prompt with several answers gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// All that the benchmark's own score needs.
    #[default]
    All,
    /// One right answer against one wrong one, drawn by hash.
    One,
}

/// Parameters of `data.benchmark`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Which benchmark: `r-align`, `helpsteer3`, `reward-bench`, `reward-bench2`, `rm-bench`, `judge-bench`,
    /// `ppe-preference`, `ppe-best-of-k`, `llmbar`, `rmb`, or `pairs` with `columns`.
    pub benchmark: Benchmark,
    /// Of a folder only the files of this split, as `test` or `filtered`: `test-00000-of-00001.parquet`, `test.jsonl`, `test/…`.
    #[serde(default)]
    pub split: Option<String>,
    /// For `pairs`: which column holds what.
    #[serde(default)]
    pub columns: Columns,
    /// For `pairs`: what the label's values mean, as `{ model_a = "A" }`.
    #[serde(default)]
    pub labels: BTreeMap<String, Side>,
    /// Only these subsets; empty for all.
    #[serde(default)]
    pub subsets: Vec<String>,
    /// Most prompts, chosen by hash: a smaller number chooses among those of a larger one.
    #[serde(default)]
    pub max_items: Option<usize>,
    /// Which pairs a prompt with several answers gives: `all`, or `one` drawn by hash (as a pair benchmark of RewardBench 2).
    #[serde(default)]
    pub among: Among,
    /// Which answer stands as A: `hash` or `keep`; left out, as in the file where the file names A and B, by hash where it
    /// names the better one.
    #[serde(default)]
    pub placement: Option<Placement>,
    /// Names the choices of placement, `among` and `max_items`.
    #[serde(default)]
    pub seed: u64,
}

/// `data.benchmark`.
pub struct DataBenchmark;

impl Declare for DataBenchmark {
    const KIND: &'static str = "data.benchmark";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "a published benchmark as pairs to judge and as groups for its own scores";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required(
        "raw",
        "JSONL, JSON (.gz too), Parquet or Arrow: a file, or a folder as the hub or `datasets` has it",
    )];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("pairs", "pairs.jsonl", "pairs for bench.judge and bench.reward"),
        OutputSpec::result("groups", "groups.jsonl", "prompts with all their answers, for bench.official"),
        OutputSpec::result("report", "report.json", "every count"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let given = params.columns != Columns::default() || !params.labels.is_empty();
        match (params.benchmark, given) {
            (Benchmark::Pairs, _) => crate::data::pairs::missing_columns(Format::Columns, &params.columns),
            (_, true) => vec![Problem::new("columns", "a published benchmark has its own columns: use `pairs`")],
            _ => Vec::new(),
        }
    }
}

/// `rows = items + ties + other_subset + beyond_max_items`.
#[derive(Debug, Default, Serialize)]
struct Report {
    rows: usize,
    items: usize,
    pairs: usize,
    ties: usize,
    other_subset: usize,
    beyond_max_items: usize,
    /// Labels of the pairs after placement.
    labels: BTreeMap<String, usize>,
    /// Items of each subset.
    subsets: BTreeMap<String, usize>,
    /// Pairs with a gold judgment.
    with_gold: usize,
}

impl Stage for DataBenchmark {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let mut report = Report::default();
        let groups = read(&params, io, &mut report)?;
        let groups = limited(&params, groups, &mut report);
        let placement = params.placement.unwrap_or_else(|| params.benchmark.placement());
        let pairs: Vec<Pair> = groups.iter().flat_map(|group| group.pairs(placement, params.seed)).collect();
        count(&groups, &pairs, &mut report);
        jsonl::write(io.output("pairs")?, &pairs)?;
        jsonl::write(io.output("groups")?, &groups)?;
        jsonl::write_json(io.output("report")?, &report)
    }
}

fn read(params: &Params, io: &Io, report: &mut Report) -> Result<Vec<Group>, StageError> {
    let path = io.input("raw")?;
    let adapter = params.benchmark.adapter(params);
    let (mut groups, mut ids) = (Vec::new(), BTreeSet::new());
    table::for_each(path, params.split.as_deref(), &mut |file, line, row| {
        report.rows += 1;
        if report.rows.is_multiple_of(1000) {
            io.progress(report.rows as u64, None, "rows");
        }
        let bad = |problem: String| jsonl::bad_row(file, line, &problem);
        let mut group = match adapter.read(&row).map_err(|problem| bad(problem).hint(adapter.hint()))? {
            Read::Tie => {
                report.ties += 1;
                return Ok(());
            }
            Read::Group(group) => *group,
        };
        if !params.subsets.is_empty() && !params.subsets.contains(&group.source.subset) {
            report.other_subset += 1;
            return Ok(());
        }
        if !ids.insert(group.id.clone()) {
            let hint = "give one file or, of a folder, one split: `with.split = \"test\"`";
            return Err(bad(format!("the id `{}` occurs twice", group.id)).hint(hint));
        }
        if params.among == Among::One {
            group.keep_one(params.seed);
        }
        groups.push(group);
        Ok(())
    })?;
    if report.rows == 0 { Err(jsonl::no_row(path)) } else { Ok(groups) }
}

fn limited(params: &Params, mut groups: Vec<Group>, report: &mut Report) -> Vec<Group> {
    let Some(most) = params.max_items.filter(|most| *most < groups.len()) else { return groups };
    let seed = params.seed.to_string();
    let rank = |group: &Group| hash::number(&["max_items", &seed, &group.id]);
    let mut ranks: Vec<u64> = groups.iter().map(rank).collect();
    ranks.sort_unstable();
    let bound = ranks[most];
    report.beyond_max_items = groups.len() - most;
    groups.retain(|group| rank(group) < bound);
    groups
}

fn count(groups: &[Group], pairs: &[Pair], report: &mut Report) {
    report.items = groups.len();
    report.pairs = pairs.len();
    report.with_gold = pairs.iter().filter(|pair| pair.gt_judgment.is_some()).count();
    for group in groups {
        *report.subsets.entry(group.source.subset.clone()).or_insert(0) += 1;
    }
    for pair in pairs {
        *report.labels.entry(pair.gt_label.to_string()).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests;
