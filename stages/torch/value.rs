//! PPO's updates of a policy and of its value model, and what the value model says of each token: a score head at the
//! states that predict. Knows no optimiser and no files.

use plumb_stages::maths::ppo::PpoLoss;
use plumb_stages::model::{Estimated, Sequence, StepReport};

use crate::batch::targets;
use crate::learner::Learner;
use crate::losses::bradley_terry::rewards;
use crate::losses::ppo::{Policy, Value, tokens};
use crate::pass::{Pass, predicting};
use crate::transformer::Transformer;

/// One update of the policy, so many rows a pass (0 takes all).
pub fn ppo_step(
    learner: &mut Learner,
    model: &mut Transformer,
    rows: &[Estimated],
    loss: &PpoLoss,
    at_once: usize,
) -> StepReport {
    let (mut step, all) = (learner.begin(model), tokens(rows));
    for part in rows.chunks(size(at_once, rows)) {
        let sequences = sequences(part);
        let pass = Pass::new(&step.model, &sequences, learner.frozen(), None);
        step.add(pass, &targets(&sequences, model.device), &Policy::new(part, loss, all, model.device));
    }
    learner.finish(model, step, all)
}

/// One update of the value model. Its loss is weighted.
pub fn value_step(
    learner: &mut Learner,
    model: &mut Transformer,
    rows: &[Estimated],
    loss: &PpoLoss,
    at_once: usize,
) -> StepReport {
    let (mut step, all) = (learner.begin(model), tokens(rows));
    for part in rows.chunks(size(at_once, rows)) {
        let pass = Pass::new(&step.model, &sequences(part), learner.frozen(), None);
        let value = Value { rows: part, loss, all };
        step.add_worth(pass, &|top| value.worth(top));
    }
    learner.finish(model, step, all)
}

/// The value before each completion token.
pub fn values(model: &Transformer, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let hidden = model.last_norm(&predicting(model, sequences, 0, None));
    let mut all = rewards(&hidden, &model.weights[model.head()]).into_iter().map(|value| value as f32);
    sequences.iter().map(|sequence| all.by_ref().take(sequence.completion.len()).collect()).collect()
}

fn sequences(rows: &[Estimated]) -> Vec<Sequence> {
    rows.iter().map(|row| row.sequence.clone()).collect()
}

fn size(at_once: usize, rows: &[Estimated]) -> usize {
    if at_once == 0 { rows.len().max(1) } else { at_once }
}
