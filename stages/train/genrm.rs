//! `genrm.train`: reinforcement learning of a generative reward model (GRPO; the loss is in `group.rs`).
//!
//! ```text
//! label:                R = 1[verdict = label]
//! label-and-rationale:  R = 1[verdict = label] · 1[meta-judge: the rationale matches the gold judgment]
//! ```
//!
//! R-Align (arXiv 2602.06763, its method section). An arm differs from another only in `reward`.
//! Differences from the paper: 1. GRPO, not PPO; 2. the meta-judge is a rule, not a prompted model; 3. hyper-parameters
//! are not published: the defaults are TRL's.

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::{self, Graded, Task, deviation, mean};
use super::log::Values;
use super::parameters::{problems_of_reinforcement, reinforced};
use super::{CHAIN, COMPLETIONS, METRICS, STEPS, TENSORBOARD, TRAINER_STATE, tokens};
use crate::data::placement;
use crate::jsonl;
use crate::judging::meta::{MetaJudge, MetaVerdict};
use crate::judging::template::{Template, judge_prompt};
use crate::judging::verdict::{Parse, verdict};
use crate::maths::reward::{RewardKind, RewardValues, reward};
use crate::model::{Backend, Model};
use crate::rows::Pair;
use crate::worker::TORCH;

/// Whether training exchanges the two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Swap {
    /// As the rows have them.
    #[default]
    None,
    /// By a hash of row and seed; labels and the letters in golds follow.
    Random,
}

reinforced! {
    /// Parameters of `genrm.train`, under TRL's names.
    struct Params {
        /// What a judgment is rewarded for: `label`, `label-and-rationale`, `label-times-ap` or
        /// `{ label-plus-lambda = { lambda = 0.5 } }`.
        reward: RewardKind = RewardKind::default(),
        /// What a full and an empty reward are worth.
        reward_values: RewardValues = RewardValues::default(),
        /// Which rule compares a rationale with the gold: `{ kind = "rubric" }` or
        /// `{ kind = "overlap", threshold = 0.3 }`.
        meta: MetaJudge = MetaJudge::Rubric {},
        /// How judgments are asked for: `boxed` or `miniature`.
        template: Template = Template::default(),
        /// How the verdict is read: `strict-last` or `ralign-official`.
        parse: Parse = Parse::default(),
        /// `none`, or `random` to exchange the answers of half the rows.
        swap: Swap = Swap::default(),
    }
}

/// `genrm.train`.
pub struct GenrmTrain;

impl Declare for GenrmTrain {
    const KIND: &'static str = "genrm.train";
    // 2: the head's pass by slices and clipping by chunks: the last bits of losses and weights moved.
    // 3: digests moved from `steps` to `chain`, which has one a step.
    // 4: `num_tokens` counts prompts too, as TRL does; more of TRL's metrics of a step.
    // 5: PyTorch's fused AdamW kernel: the last bits of weights moved.
    // 6: plain prompts begin as the tokenizer begins a text; `strftime_now` of chat templates is defined.
    const VERSION: u32 = 6;
    const ABOUT: &'static str = "train a generative reward model by GRPO on labels, or on labels and rationales";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("model", "the model folder to start from"),
        InputSpec::required("pairs", "preference pairs; with gold judgments where the reward asks for them"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the trained model folder"),
        METRICS,
        STEPS,
        CHAIN,
        COMPLETIONS,
        TRAINER_STATE,
        TENSORBOARD,
    ];
    const WORKER: Worker = TORCH;
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = problems_of_reinforcement(params);
        problems.extend(params.meta.problem().map(|problem| Problem::new("meta", problem)));
        problems
    }
}

/// Runs `genrm.train` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let folder = io.input("model")?;
    let policy = backend.load(folder, params.dtype, io.manner())?;
    let mut task = Judging::read(policy.as_ref(), io.input("pairs")?, params, io)?;
    group::run(backend, (folder, policy), &mut task, params, io)
}

struct Judging<'a> {
    pairs: Vec<Pair>,
    texts: Vec<String>,
    prompts: Vec<Vec<u32>>,
    params: &'a Params,
}

impl<'a> Judging<'a> {
    fn read(model: &dyn Model, path: &Path, params: &'a Params, io: &Io) -> Result<Self, StageError> {
        let mut task = Self { pairs: Vec::new(), texts: Vec::new(), prompts: Vec::new(), params };
        let mut dropped = 0;
        for pair in jsonl::read_some::<Pair>(path)? {
            if params.reward.asks_meta_judge() && pair.gt_judgment.is_none() {
                return Err(StageError::new(format!("{}: pair `{}` has no `gt_judgment`", path.display(), pair.id))
                    .hint("run the pairs through `gold.augment`, or set `with.reward = \"label\"`"));
            }
            let swaps = params.swap == Swap::Random && placement::exchanges(&pair.id, params.seed);
            let pair = if swaps { placement::swap(&pair) } else { pair };
            let text = judge_prompt(params.template, &pair, model.chat_template())?;
            let prompt = tokens::encode(model, &text)?;
            if params.max_prompt_length.is_some_and(|most| prompt.len() > most) {
                dropped += 1;
                continue;
            }
            task.pairs.push(pair);
            task.texts.push(text);
            task.prompts.push(prompt);
        }
        super::report_dropped(dropped, task.pairs.len(), path, io)?;
        Ok(task)
    }
}

impl Task for Judging<'_> {
    fn prompts(&self) -> usize {
        self.pairs.len()
    }
    fn id(&self, item: usize) -> &str {
        &self.pairs[item].id
    }
    fn tokens(&self, item: usize) -> &[u32] {
        &self.prompts[item]
    }
    fn text(&self, item: usize) -> &str {
        &self.texts[item]
    }

    fn grade(&mut self, _step: u64, items: &[usize], texts: &[Vec<String>]) -> Result<Graded, StageError> {
        let mut tally = Tally::default();
        let rewards = items.iter().zip(texts).map(|(item, group)| {
            let pair = &self.pairs[*item];
            group.iter().map(|text| self.reward(pair, text, &mut tally)).collect()
        });
        let rewards = rewards.collect();
        Ok(Graded { rewards, metrics: tally.metrics() })
    }
}

#[derive(Default)]
struct Tally {
    parsed: Vec<f64>,
    label: Vec<f64>,
    rationale: Vec<f64>,
}

impl Tally {
    fn metrics(&self) -> Values {
        let named = [
            ("rewards/label/mean", mean(&self.label)),
            ("rewards/label/std", deviation(&self.label)),
            ("rewards/rationale/mean", mean(&self.rationale)),
            ("rewards/rationale/std", deviation(&self.rationale)),
            ("verdict_parsed", mean(&self.parsed)),
        ];
        named.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
    }
}

impl Judging<'_> {
    // The meta-judge is asked only where the label is right.
    fn reward(&self, pair: &Pair, text: &str, tally: &mut Tally) -> Option<f64> {
        let said = verdict(self.params.parse, self.params.template, text);
        let right = said == Some(pair.gt_label);
        tally.parsed.push(f64::from(u8::from(said.is_some())));
        tally.label.push(f64::from(u8::from(right)));
        let golden = pair.gt_judgment.as_deref().unwrap_or_default();
        let judged = (right && self.params.reward.asks_meta_judge()).then(|| self.params.meta.judge(golden, text));
        if let Some(judged) = &judged {
            tally.rationale.push(f64::from(u8::from(judged.verdict == MetaVerdict::Correct)));
        }
        self.params.reward_values.place(reward(self.params.reward, right, judged.as_ref()))
    }
}
