//! `data.miniature`: the built-in world. Four tiny domains whose pairs carry a spurious cue,
//! fluff, at a chosen rate. Exact: the same bytes on any machine.
//!
//! An exact pair (task, right answer, wrong answer) belongs to one partition by a hash of its content, so training
//! and benchmark never share one. Task prompts do recur between partitions, for the world has few of them; the report
//! counts them.

pub mod answer;
pub mod judgment;
pub mod pair;
pub mod task;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::answer::draw_mediocre;
use self::pair::Contrast;
use self::task::{DOMAINS, Task as Question};
use super::hash;
use crate::jsonl;
use crate::judging::template::{Template, task_prompt};
use crate::rows::{Checker, Demonstration, Message, Pair, Side, Task};

/// Which share of the world is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    /// Three quarters of all pairs.
    #[default]
    Train,
    /// The other quarter: for benchmarks.
    HeldOut,
}

impl Partition {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::HeldOut => "held-out",
        }
    }

    fn holds(self, fingerprint: u64) -> bool {
        fingerprint.is_multiple_of(4) == (self == Self::HeldOut)
    }
}

/// How demonstrations for the policy are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Right and without fluff: for the warm start.
    #[default]
    Plain,
    /// By the mediocre writer of `demonstration_correct` and `demonstration_fluff`: for the policy before RLHF.
    Mediocre,
}

/// Parameters of `data.miniature`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Names every random draw.
    pub seed: u64,
    /// Which share of the world the pairs come from: `train` or `held-out`.
    pub partition: Partition,
    /// Preference pairs to draw.
    pub pairs: usize,
    /// How often the right answer of a pair is the fluffier one.
    pub cue_rate: f64,
    /// Tasks to draw, in equal parts from the four domains.
    pub tasks: usize,
    /// How often a task's fixed reference answer is right.
    pub reference_correct: f64,
    /// Demonstrations of a policy to draw, in equal parts from the four domains.
    pub demonstrations: usize,
    /// `plain` right answers, or `mediocre` ones.
    pub style: Style,
    /// How often a mediocre demonstration is right.
    pub demonstration_correct: f64,
    /// Chances of 0, 1, 2 and 3 decorations in mediocre demonstrations and in references.
    pub demonstration_fluff: [f64; 4],
}

impl Default for Params {
    fn default() -> Self {
        Self {
            seed: 0,
            partition: Partition::Train,
            pairs: 0,
            cue_rate: 0.9,
            tasks: 0,
            reference_correct: 0.5,
            demonstrations: 0,
            style: Style::Plain,
            demonstration_correct: 0.5,
            demonstration_fluff: [0.5, 0.3, 0.1, 0.1],
        }
    }
}

/// What was drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Report {
    pairs: usize,
    /// Pairs by domain.
    pairs_by_domain: BTreeMap<String, usize>,
    /// Share of pairs whose right answer is the fluffier one.
    cue_on_right_answer: Option<f64>,
    /// Wrong through their fluff alone.
    broken_by_fluff: usize,
    /// Pairs drawn and put back because they belong to the other partition.
    of_other_partition: usize,
    /// Pairs that an earlier row of this file equals.
    repeated_pairs: usize,
    tasks: usize,
    demonstrations: usize,
    /// Task prompts that the world has: all of them may occur in both partitions.
    prompts_of_the_world: usize,
    distinct_prompts_of_pairs: usize,
    distinct_prompts_of_tasks: usize,
    references_right: usize,
}

/// `data.miniature`.
pub struct Miniature;

impl Declare for Miniature {
    const KIND: &'static str = "data.miniature";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "draw pairs, tasks and demonstrations from the built-in miniature world";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("pairs", "pairs.jsonl", "preference pairs with their labels, without gold judgments"),
        OutputSpec::result("tasks", "tasks.jsonl", "tasks with a fixed reference answer and a checkable target"),
        OutputSpec::result("demonstrations", "demonstrations.jsonl", "answers for a policy to learn from"),
        OutputSpec::result("report", "report.json", "what was drawn, counted"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (field, chance) in [
            ("cue_rate", params.cue_rate),
            ("reference_correct", params.reference_correct),
            ("demonstration_correct", params.demonstration_correct),
        ] {
            if !(0.0..=1.0).contains(&chance) {
                problems.push(Problem::new(field, format!("`{chance}` is no chance: expected 0 to 1")));
            }
        }
        let levels = params.demonstration_fluff;
        if levels.iter().any(|level| !(0.0..=1.0).contains(level)) || (levels.iter().sum::<f64>() - 1.0).abs() > 1e-9 {
            problems.push(Problem::new("demonstration_fluff", "expected four chances that sum to 1"));
        }
        problems
    }
}

impl Stage for Miniature {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let drawn = draw_pairs(&params);
        let tasks = draw_tasks(&params);
        let demonstrations = draw_demonstrations(&params)?;
        let mut report = report(&drawn, &tasks);
        report.demonstrations = demonstrations.len();
        jsonl::write(io.output("pairs")?, &drawn.rows)?;
        jsonl::write(io.output("tasks")?, &tasks)?;
        jsonl::write(io.output("demonstrations")?, &demonstrations)?;
        jsonl::write_json(io.output("report")?, &report)
    }
}

/// Pairs with what only the generator knows about them.
struct Drawn {
    rows: Vec<Pair>,
    of_other_partition: usize,
    repeated: usize,
    broken_by_fluff: usize,
}

fn draw_pairs(params: &Params) -> Drawn {
    let mut random = generator(params, "pairs");
    let mut seen = BTreeSet::new();
    let mut drawn =
        Drawn { rows: Vec::with_capacity(params.pairs), of_other_partition: 0, repeated: 0, broken_by_fluff: 0 };
    while drawn.rows.len() < params.pairs {
        let contrast = Contrast::draw(params.cue_rate, &mut random);
        let label = if random.random() { Side::A } else { Side::B };
        let fingerprint = contrast.fingerprint();
        if !params.partition.holds(fingerprint) {
            drawn.of_other_partition += 1;
            continue;
        }
        drawn.repeated += usize::from(!seen.insert(fingerprint));
        drawn.broken_by_fluff += usize::from(contrast.broken_by_fluff);
        let id = row_id(params, "pair", drawn.rows.len());
        drawn.rows.push(contrast.into_row(id, label));
    }
    drawn
}

fn draw_tasks(params: &Params) -> Vec<Task> {
    let mut random = generator(params, "tasks");
    let draw = |index: usize| {
        let question = Question::draw(DOMAINS[index % DOMAINS.len()], &mut random);
        let level = draw_level(&params.demonstration_fluff, &mut random);
        let reference = draw_mediocre(&question, params.reference_correct, level, &mut random);
        let id = row_id(params, "task", index);
        Task { reference: Some(reference), ..task_row(&question, id) }
    };
    (0..params.tasks).map(draw).collect()
}

fn draw_demonstrations(params: &Params) -> Result<Vec<Demonstration>, StageError> {
    let mut random = generator(params, "demonstrations");
    let draw = |index: usize| {
        let question = Question::draw(DOMAINS[index % DOMAINS.len()], &mut random);
        let (right, level) = match params.style {
            Style::Plain => (1.0, 0),
            Style::Mediocre => (params.demonstration_correct, draw_level(&params.demonstration_fluff, &mut random)),
        };
        let completion = draw_mediocre(&question, right, level, &mut random);
        let id = row_id(params, "demonstration", index);
        let prompt = task_prompt(Template::Miniature, &task_row(&question, id.clone()), None)?;
        Ok(Demonstration { id, prompt, completion })
    };
    (0..params.demonstrations).map(draw).collect()
}

fn task_row(question: &Question, id: String) -> Task {
    let prompt = question.prompt();
    Task {
        id,
        domain: question.domain().into(),
        target: serde_json::json!({ "domain": question.domain(), "task": prompt, "truth": question.truth() }),
        conversations: vec![Message { role: "user".into(), content: prompt }],
        reference: None,
        checker: Some(Checker::Miniature),
    }
}

fn draw_level(chances: &[f64; 4], random: &mut ChaCha8Rng) -> usize {
    let mut left: f64 = random.random();
    for (level, chance) in chances.iter().enumerate() {
        left -= chance;
        if left < 0.0 {
            return level;
        }
    }
    0
}

fn generator(params: &Params, purpose: &str) -> ChaCha8Rng {
    let seed = params.seed.to_string();
    ChaCha8Rng::from_seed(hash::digest(&["data.miniature", &seed, params.partition.name(), purpose]))
}

fn row_id(params: &Params, what: &str, index: usize) -> String {
    format!("{}-{}-{what}-{index:05}", params.partition.name(), params.seed)
}

fn report(drawn: &Drawn, tasks: &[Task]) -> Report {
    let rows = &drawn.rows;
    let mut pairs_by_domain = BTreeMap::new();
    for row in rows {
        *pairs_by_domain.entry(row.source.subset.clone()).or_insert(0) += 1;
    }
    let on_right = rows.iter().filter(|row| row.cue == Some(row.gt_label)).count();
    let is_right = |task: &&Task| {
        let question = pair::task_of(&task.conversations);
        question.zip(task.reference.as_ref()).is_some_and(|(question, text)| answer::is_right(&question, text))
    };
    Report {
        pairs: rows.len(),
        pairs_by_domain,
        cue_on_right_answer: (!rows.is_empty()).then(|| on_right as f64 / rows.len() as f64),
        broken_by_fluff: drawn.broken_by_fluff,
        of_other_partition: drawn.of_other_partition,
        repeated_pairs: drawn.repeated,
        tasks: tasks.len(),
        demonstrations: 0,
        prompts_of_the_world: Question::count_all(),
        distinct_prompts_of_pairs: rows.iter().map(|row| &row.prompt_id).collect::<BTreeSet<_>>().len(),
        distinct_prompts_of_tasks: tasks
            .iter()
            .map(|task| &task.conversations)
            .map(|turns| turns.last().map(|turn| &turn.content))
            .collect::<BTreeSet<_>>()
            .len(),
        references_right: tasks.iter().filter(is_right).count(),
    }
}

#[cfg(test)]
mod tests;
