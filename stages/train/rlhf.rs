//! `actor.rlhf`: reinforcement learning of a policy against a generative reward model (GRPO; the loss is in `group.rs`).
//!
//! ```text
//! R = +1 where the judge prefers the rollout to the task's fixed reference answer, -1 where it prefers the reference,
//!      0 where its verdict cannot be read or, with `both_orders`, changes with the order
//! ```
//!
//! R-Align's actor stage as far as it is known. Differences: 1. GRPO, not PPO; 2. no length penalty
//! (the paper's has no published formula); 3. the judge decodes greedily; 4. one order decided by a hash, or both.

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, StageError, Worker};

use super::group::{self, Graded, deviation, mean};
use super::log::Values;
use super::parameters::{problems_of_reinforcement, reinforced};
use super::{CHAIN, COMPLETIONS, METRICS, STEPS, TENSORBOARD, TRAINER_STATE, tokens};
use crate::data::hash;
use crate::eval::checked::check_text;
use crate::jsonl;
use crate::judging::template::{Template, against_reference, judge_prompt, task_prompt};
use crate::judging::verdict::{Parse, verdict};
use crate::model::{Backend, Model};
use crate::rows::{Side, Task};
use crate::worker::TORCH;

reinforced! {
    /// Parameters of `actor.rlhf`, under TRL's names.
    struct Params {
        /// How tasks and judgments are asked for: `boxed` or `miniature`.
        template: Template = Template::default(),
        /// How the verdict is read: `strict-last` or `ralign-official`.
        parse: Parse = Parse::default(),
        /// Ask the judge in both orders; where they disagree the reward is 0.
        both_orders: bool = false,
        /// Tokens of a judgment at most.
        judge_max_completion_length: usize = 512,
    }
}

/// `actor.rlhf`.
pub struct ActorRlhf;

impl Declare for ActorRlhf {
    const KIND: &'static str = "actor.rlhf";
    // 2: the head's pass by slices and clipping by chunks: the last bits of losses and weights moved.
    // 3: `accuracy` among the metrics of a step.
    // 4: digests moved from `steps` to `chain`, which has one a step.
    // 5: `num_tokens` counts prompts too, as TRL does; more of TRL's metrics of a step.
    // 6: PyTorch's fused AdamW kernel: the last bits of weights moved.
    // 7: plain prompts begin as the tokenizer begins a text; `strftime_now` of chat templates is defined.
    const VERSION: u32 = 7;
    const ABOUT: &'static str = "train a policy by GRPO against a generative reward model";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::required("policy", "the model folder to train"),
        InputSpec::required("genrm", "the model folder that judges"),
        InputSpec::required("tasks", "tasks with a fixed reference answer each"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("model", "model", "the trained policy"),
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
        problems_of_reinforcement(params)
    }
}

/// Runs `actor.rlhf` over a backend.
pub fn run(backend: &dyn Backend, params: &Params, io: &Io) -> Result<(), StageError> {
    let folder = io.input("policy")?;
    let policy = backend.load(folder, params.dtype, io.manner())?;
    let judge = backend.load(io.input("genrm")?, params.dtype, io.manner())?;
    let mut contest = Contest::read(policy.as_ref(), judge, io.input("tasks")?, params, io)?;
    group::run(backend, (folder, policy), &mut contest, params, io)
}

struct Contest<'a> {
    tasks: Vec<Task>,
    texts: Vec<String>,
    prompts: Vec<Vec<u32>>,
    judge: Box<dyn Model>,
    params: &'a Params,
}

impl<'a> Contest<'a> {
    fn read(
        policy: &dyn Model,
        judge: Box<dyn Model>,
        path: &Path,
        params: &'a Params,
        io: &Io,
    ) -> Result<Self, StageError> {
        let mut contest = Self { tasks: Vec::new(), texts: Vec::new(), prompts: Vec::new(), judge, params };
        let mut dropped = 0;
        for task in jsonl::read_some::<Task>(path)? {
            let text = task_prompt(params.template, &task, policy.chat_template())?;
            let prompt = tokens::encode(policy, &text)?;
            if params.max_prompt_length.is_some_and(|most| prompt.len() > most) {
                dropped += 1;
                continue;
            }
            contest.tasks.push(task);
            contest.texts.push(text);
            contest.prompts.push(prompt);
        }
        super::report_dropped(dropped, contest.tasks.len(), path, io)?;
        Ok(contest)
    }

    // The side on which the rollouts of a prompt stand: one for the whole group, or the group would be compared
    // across orders.
    fn side(&self, step: u64, task: &Task) -> Side {
        let parts = ["side", &self.params.seed.to_string(), &step.to_string(), &task.id];
        if hash::number(&parts).is_multiple_of(2) { Side::A } else { Side::B }
    }

    // What the judge is never told: how many answers are right, where their tasks say how to check them.
    fn accuracy(&self, items: &[usize], texts: &[Vec<String>]) -> Result<Option<f64>, StageError> {
        let groups = items.iter().map(|item| &self.tasks[*item]).zip(texts).filter(|(task, _)| task.checker.is_some());
        let answers = groups.flat_map(|(task, group)| group.iter().map(move |text| (task, text)));
        let scores = answers.map(|(task, text)| Ok(check_text(task, text)?.headline)).collect::<Result<Vec<_>, _>>()?;
        Ok((!scores.is_empty()).then(|| mean(&scores)))
    }

    // Whether the judge preferred each answer; `None` where it cannot be read.
    fn wins(&mut self, shown: &[(usize, &str, Side)]) -> Result<Vec<Option<bool>>, StageError> {
        let prompt = |(item, answer, side): &(usize, &str, Side)| {
            let pair = against_reference(&self.tasks[*item], answer, *side)?;
            let text = judge_prompt(self.params.template, &pair, self.judge.chat_template())?;
            tokens::encode(self.judge.as_ref(), &text)
        };
        let prompts = shown.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
        let texts = group::greedy_texts(self.judge.as_mut(), &prompts, self.params.judge_max_completion_length)?;
        let won = |((text, _), (_, _, side)): (&(String, bool), &(usize, &str, Side))| {
            verdict(self.params.parse, self.params.template, text).map(|said| said == *side)
        };
        Ok(texts.iter().zip(shown).map(won).collect())
    }
}

fn shown_with(item: usize, side: Side, group: &[String]) -> impl Iterator<Item = (usize, &str, Side)> {
    group.iter().map(move |text| (item, text.as_str(), side))
}

fn worth(one: Option<bool>, other: Option<bool>) -> f64 {
    match (one, other) {
        (Some(true), Some(true)) => 1.0,
        (Some(false), Some(false)) => -1.0,
        _ => 0.0,
    }
}

impl group::Task for Contest<'_> {
    fn prompts(&self) -> usize {
        self.tasks.len()
    }
    fn id(&self, item: usize) -> &str {
        &self.tasks[item].id
    }
    fn tokens(&self, item: usize) -> &[u32] {
        &self.prompts[item]
    }
    fn text(&self, item: usize) -> &str {
        &self.texts[item]
    }

    fn grade(&mut self, step: u64, items: &[usize], texts: &[Vec<String>]) -> Result<Graded, StageError> {
        let sides: Vec<Side> = items.iter().map(|item| self.side(step, &self.tasks[*item])).collect();
        let answers = |exchange: bool| -> Vec<(usize, &str, Side)> {
            let side = |side: &Side| if exchange { side.other() } else { *side };
            let groups = items.iter().zip(&sides).zip(texts);
            groups.flat_map(|((item, own), group)| shown_with(*item, side(own), group)).collect()
        };
        let first = self.wins(&answers(false))?;
        let second = if self.params.both_orders { self.wins(&answers(true))? } else { first.clone() };
        let flat: Vec<f64> = first.iter().zip(&second).map(|(one, other)| worth(*one, *other)).collect();
        let mut metrics = metrics(&first, &second, &flat);
        metrics.extend(self.accuracy(items, texts)?.map(|accuracy| ("accuracy".to_string(), accuracy)));
        let size = texts.first().map_or(1, Vec::len).max(1);
        let rewards = flat.chunks(size).map(|group| group.iter().copied().map(Some).collect()).collect();
        Ok(Graded { rewards, metrics })
    }
}

fn metrics(first: &[Option<bool>], second: &[Option<bool>], rewards: &[f64]) -> Values {
    let share = |holds: &dyn Fn(usize) -> bool| {
        let flags: Vec<f64> = (0..rewards.len()).map(|index| f64::from(u8::from(holds(index)))).collect();
        mean(&flags)
    };
    let named = [
        ("rewards/genrm/mean", mean(rewards)),
        ("rewards/genrm/std", deviation(rewards)),
        ("win_rate", share(&|index| rewards[index] > 0.0)),
        ("verdict_parsed", share(&|index| first[index].is_some() && second[index].is_some())),
        (
            "order_disagreement",
            share(&|index| first[index].zip(second[index]).is_some_and(|(one, other)| one != other)),
        ),
    ];
    named.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_win_counts_only_where_both_orders_agree() {
        assert_eq!(worth(Some(true), Some(true)), 1.0);
        assert_eq!(worth(Some(false), Some(false)), -1.0);
        assert_eq!(worth(Some(true), Some(false)), 0.0);
        assert_eq!(worth(None, Some(true)), 0.0);
    }
}
