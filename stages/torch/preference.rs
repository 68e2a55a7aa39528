//! One optimiser step on preference pairs, of a policy or of a reward model, and what it says of them under TRL's names.
//! Knows no optimiser and no files.

use std::cell::RefCell;

use plumb_stages::maths::preference::DpoLoss;
use plumb_stages::model::{Contrast, Preference, Sequence, StepReport};

use crate::batch::targets;
use crate::learner::Learner;
use crate::losses::bradley_terry::{self, BradleyTerry};
use crate::losses::dpo::Dpo;
use crate::pass::{Pass, predicting};
use crate::transformer::Transformer;

/// One step on DPO's loss, so many pairs a pass (0 takes all). A pair's prompt is computed once.
pub fn dpo_step(
    learner: &mut Learner,
    model: &mut Transformer,
    pairs: &[Preference],
    loss: &DpoLoss,
    at_once: usize,
) -> StepReport {
    let size = if at_once == 0 { pairs.len().max(1) } else { at_once };
    let (mut step, mut sums) = (learner.begin(model), Vec::with_capacity(pairs.len()));
    for part in pairs.chunks(size) {
        let sequences = of_pairs(part);
        let dpo = Dpo::new(part, loss, pairs.len(), model.device);
        let pass = Pass::new(&step.model, &sequences, learner.frozen(), None);
        step.add(pass, &targets(&sequences, model.device), &dpo);
        sums.extend(dpo.sums());
    }
    let tokens = pairs.iter().map(|pair| pair.chosen.completion.len() + pair.rejected.completion.len()).sum::<usize>();
    let mut report = learner.finish(model, step, tokens as f64);
    report.more.extend(told(pairs, &sums, loss.beta));
    report
}

fn of_pairs(pairs: &[Preference]) -> Vec<Sequence> {
    pairs.iter().flat_map(|pair| [pair.chosen.clone(), pair.rejected.clone()]).collect()
}

fn told(pairs: &[Preference], sums: &[[f64; 2]], beta: f64) -> [(String, f64); 6] {
    let mean = |of: &dyn Fn(&[f64; 2], &[f64; 2]) -> f64| {
        let all = sums.iter().zip(pairs).map(|(own, pair)| of(own, &pair.reference)).sum::<f64>();
        all / pairs.len().max(1) as f64
    };
    let reward = |own: &[f64; 2], reference: &[f64; 2], side: usize| beta * (own[side] - reference[side]);
    let margin = |own: &[f64; 2], reference: &[f64; 2]| reward(own, reference, 0) - reward(own, reference, 1);
    [
        ("rewards/chosen", mean(&|own, reference| reward(own, reference, 0))),
        ("rewards/rejected", mean(&|own, reference| reward(own, reference, 1))),
        ("rewards/accuracies", mean(&|own, reference| f64::from(u8::from(margin(own, reference) > 0.0)))),
        ("rewards/margins", mean(&margin)),
        ("logps/chosen", mean(&|own, _| own[0])),
        ("logps/rejected", mean(&|own, _| own[1])),
    ]
    .map(|(name, value)| (name.to_string(), value))
}

/// One step of a reward model on the Bradley-Terry loss, so many contrasts a pass (0 takes all).
pub fn reward_step(
    learner: &mut Learner,
    model: &mut Transformer,
    contrasts: &[Contrast],
    centre: f64,
    at_once: usize,
) -> StepReport {
    let size = if at_once == 0 { contrasts.len().max(1) } else { at_once };
    let (mut step, rewards) = (learner.begin(model), RefCell::new(Vec::new()));
    for part in contrasts.chunks(size) {
        let texts: Vec<Sequence> = part.iter().flat_map(|one| [ended(&one.chosen), ended(&one.rejected)]).collect();
        let loss = BradleyTerry { contrasts: part, centre, all: contrasts.len() };
        let pass = Pass::new(&step.model, &texts, learner.frozen(), None);
        step.add_worth(pass, &|top| loss.worth(top, &mut rewards.borrow_mut()));
    }
    let mut report = learner.finish(model, step, contrasts.len() as f64);
    report.more.extend(told_of_rewards(&rewards.into_inner()));
    report
}

/// What a reward model gives each text.
pub fn rewards(model: &Transformer, texts: &[Vec<u32>]) -> Vec<f64> {
    let _guard = tch::no_grad_guard();
    let texts: Vec<Sequence> = texts.iter().map(|text| ended(text)).collect();
    let hidden = model.last_norm(&predicting(model, &texts, 0, None));
    bradley_terry::rewards(&hidden, &model.weights[model.head()])
}

// A pass gives the states that predict a completion's tokens: the last token of a text predicts the one after it, which
// is never looked at.
fn ended(text: &[u32]) -> Sequence {
    Sequence { prompt: text.to_vec(), completion: vec![0] }
}

fn told_of_rewards(rewards: &[f64]) -> [(String, f64); 5] {
    let pairs = || rewards.chunks_exact(2).map(|pair| pair[0] - pair[1]);
    let count = (rewards.len() / 2).max(1) as f64;
    let all = rewards.iter().copied();
    [
        ("accuracy", pairs().filter(|margin| *margin > 0.0).count() as f64 / count),
        ("margin", pairs().sum::<f64>() / count),
        ("min_reward", all.clone().reduce(f64::min).unwrap_or_default()),
        ("mean_reward", all.clone().sum::<f64>() / (2.0 * count)),
        ("max_reward", all.reduce(f64::max).unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_string(), value))
}
