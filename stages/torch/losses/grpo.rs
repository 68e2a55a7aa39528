//! GRPO's clipped objective with the k3 divergence, under TRL's definitions. The same mathematics on slices is in
//! `plumb_stages::maths::grpo`; a test here compares the two.

use plumb_stages::maths::grpo::{GrpoLoss, LossType};
use plumb_stages::model::Rollout;
use tch::{Device, Kind, Tensor, with_grad};

use crate::head::{Objective, Worth};

/// What the rollouts of one micro-batch say of each token, flat.
pub struct Tokens {
    advantage: Tensor,
    old: Option<Tensor>,
    reference: Option<Tensor>,
    weight: Tensor,
    counted: Tensor,
}

/// GRPO's loss over one micro-batch.
pub struct Grpo<'a> {
    /// What its rollouts say.
    pub tokens: Tokens,
    /// The clipped loss.
    pub settings: &'a GrpoLoss,
}

/// Denominators of the whole step, which micro-batches share.
pub struct Share {
    /// Sequences.
    pub sequences: f64,
    /// Completion tokens of counted sequences.
    pub tokens: f64,
    /// Micro-batches.
    pub parts: f64,
}

impl Share {
    /// Of a step that is cut into `parts`.
    pub fn new(rollouts: &[Rollout], parts: usize) -> Self {
        Self { sequences: rollouts.len() as f64, tokens: counted_tokens(rollouts).max(1.0), parts: parts as f64 }
    }
}

/// Completion tokens of the sequences that count.
pub fn counted_tokens(rollouts: &[Rollout]) -> f64 {
    rollouts.iter().filter(|rollout| rollout.counted).map(|rollout| rollout.sequence.completion.len() as f64).sum()
}

impl Tokens {
    /// Spreads each rollout's numbers over its tokens.
    pub fn new(rollouts: &[Rollout], loss: &GrpoLoss, share: &Share, device: Device) -> Self {
        let own = counted_tokens(rollouts).max(1.0);
        let weight = |rollout: &Rollout| match (rollout.counted, loss.loss_type) {
            (false, _) => 0.0,
            (true, LossType::Grpo) => 1.0 / (share.sequences * (rollout.sequence.completion.len() as f64).max(1.0)),
            (true, LossType::Dapo) => 1.0 / share.tokens,
            (true, LossType::Bnpo) => 1.0 / (own * share.parts),
            (true, LossType::DrGrpo) => 1.0 / (share.sequences * loss.max_completion_length as f64),
        };
        let spread = |number: &dyn Fn(&Rollout) -> f64| {
            let flat: Vec<f32> = rollouts
                .iter()
                .flat_map(|rollout| std::iter::repeat_n(number(rollout) as f32, rollout.sequence.completion.len()))
                .collect();
            Tensor::from_slice(&flat).to_device(device)
        };
        let joined = |part: &dyn Fn(&Rollout) -> &[f32]| {
            let flat: Vec<f32> = rollouts.iter().flat_map(part).copied().collect();
            (!flat.is_empty()).then(|| Tensor::from_slice(&flat).to_device(device))
        };
        Self {
            advantage: spread(&|rollout| rollout.advantage),
            old: joined(&|rollout| &rollout.old_logprobs),
            reference: joined(&|rollout| &rollout.ref_logprobs),
            weight: spread(&weight),
            counted: spread(&|rollout| f64::from(u8::from(rollout.counted))),
        }
    }

    fn part(&self, first: i64, length: i64) -> Self {
        let cut = |whole: &Tensor| whole.narrow(0, first, length);
        Self {
            advantage: cut(&self.advantage),
            old: self.old.as_ref().map(cut),
            reference: self.reference.as_ref().map(cut),
            weight: cut(&self.weight),
            counted: cut(&self.counted),
        }
    }
}

impl Objective for Grpo<'_> {
    fn temperature(&self) -> f64 {
        self.settings.temperature
    }

    fn worth(&self, logprobs: &Tensor, first: i64) -> Worth {
        let tokens = self.tokens.part(first, logprobs.size()[0]);
        let leaf = logprobs.detach().set_requires_grad(true);
        let (loss, counts) = with_grad(|| grpo(&leaf, &tokens, self.settings));
        let gradient = Tensor::run_backward(&[&loss], &[&leaf], false, false).swap_remove(0);
        Worth { loss: loss.detach(), gradient, counted: Some(tokens.counted), counts: counts.detach() }
    }
}

// The loss, and (3) the divergence and clippings of the tokens that count.
fn grpo(logprobs: &Tensor, tokens: &Tokens, settings: &GrpoLoss) -> (Tensor, Tensor) {
    let old = tokens.old.as_ref().map_or_else(|| logprobs.detach(), Tensor::shallow_clone);
    let ratio = (logprobs - old).exp();
    let clipped = ratio.clamp(1.0 - settings.epsilon, 1.0 + settings.epsilon_high);
    let bounded = settings.delta.map_or_else(|| ratio.shallow_clone(), |delta| ratio.clamp_max(delta));
    let gain = (bounded * &tokens.advantage).minimum(&(clipped * &tokens.advantage));
    let mut each = -gain;
    let mut divergence = Tensor::zeros_like(&tokens.weight);
    if let Some(reference) = tokens.reference.as_ref().filter(|_| settings.beta != 0.0) {
        let apart = reference - logprobs;
        let k3 = apart.exp() - apart - 1.0;
        divergence = k3.detach();
        each += k3 * settings.beta;
    }
    let low = ratio.lt(1.0 - settings.epsilon).logical_and(&tokens.advantage.lt(0.0));
    let high = ratio.gt(1.0 + settings.epsilon_high).logical_and(&tokens.advantage.gt(0.0));
    let over = |values: &Tensor| values.to_kind(Kind::Float).dot(&tokens.counted);
    (each.dot(&tokens.weight), Tensor::stack(&[&over(&divergence), &over(&low), &over(&high)], 0))
}

#[cfg(test)]
mod tests {
    use plumb_stages::maths::aggregate::Aggregation;
    use plumb_stages::maths::clipping::Clip;
    use plumb_stages::model::Sequence;

    use super::*;
    use crate::head;

    fn rollouts() -> Vec<Rollout> {
        let rollout = |(completion, advantage, counted): (&[u32], f64, bool)| Rollout {
            sequence: Sequence { prompt: vec![0], completion: completion.to_vec() },
            advantage,
            old_logprobs: completion.iter().map(|token| -1.0 - *token as f32 * 0.4).collect(),
            ref_logprobs: completion.iter().map(|token| -1.5 + *token as f32 * 0.1).collect(),
            counted,
        };
        [(&[1u32, 2, 3][..], 0.8, true), (&[0], -1.3, true), (&[2, 2], 0.5, false), (&[3, 1], -0.4, true)]
            .map(rollout)
            .into()
    }

    // (tokens, vocabulary)
    fn logits() -> Tensor {
        (Tensor::arange(8 * 5, (Kind::Float, Device::Cpu)) * 0.37).sin().view([8, 5]) * 2.0
    }

    fn by_hand(settings: &GrpoLoss) -> f64 {
        let logprobs = (logits() / settings.temperature).log_softmax(-1, Kind::Double);
        let clip = Clip { low: settings.epsilon, high: settings.epsilon_high, delta: settings.delta, dual: None };
        let (mut losses, mut row) = (Vec::new(), 0);
        for rollout in rollouts() {
            let mut of_sequence = Vec::new();
            for (place, token) in rollout.sequence.completion.iter().enumerate() {
                let logprob = logprobs.double_value(&[row, i64::from(*token)]);
                let ratio = (logprob - f64::from(rollout.old_logprobs[place])).exp();
                let apart = f64::from(rollout.ref_logprobs[place]) - logprob;
                of_sequence.push(clip.loss(ratio, rollout.advantage) + settings.beta * (apart.exp() - apart - 1.0));
                row += 1;
            }
            losses.push(if rollout.counted { of_sequence } else { Vec::new() });
        }
        Aggregation::of(settings.loss_type, settings.max_completion_length).loss(&losses)
    }

    #[test]
    fn tensors_give_the_loss_of_the_plain_mathematics() {
        let targets: Vec<i64> =
            rollouts().iter().flat_map(|one| one.sequence.completion.clone()).map(i64::from).collect();
        for loss_type in [LossType::Grpo, LossType::Dapo, LossType::Bnpo, LossType::DrGrpo] {
            for delta in [None, Some(1.1)] {
                let settings = GrpoLoss {
                    epsilon: 0.2,
                    epsilon_high: 0.28,
                    delta,
                    beta: 0.3,
                    loss_type,
                    temperature: 0.8,
                    max_completion_length: 6,
                };
                let tokens = Tokens::new(&rollouts(), &settings, &Share::new(&rollouts(), 1), Device::Cpu);
                let logprobs = (logits() / settings.temperature).log_softmax(-1, Kind::Float);
                let chosen = head::of_targets(&logprobs, &Tensor::from_slice(&targets));
                let found = Grpo { tokens, settings: &settings }.worth(&chosen, 0).loss.double_value(&[]);
                let expected = by_hand(&settings);
                assert!((found - expected).abs() < 1e-5, "{loss_type:?} {delta:?}: {found} is not {expected}");
            }
        }
    }
}
