//! One optimiser step on preference pairs, and what it says of them under TRL's names. Knows no optimiser and no files.

use plumb_stages::maths::preference::DpoLoss;
use plumb_stages::model::{Preference, Sequence, StepReport};

use crate::batch::targets;
use crate::learner::Learner;
use crate::losses::dpo::Dpo;
use crate::pass::Pass;
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
