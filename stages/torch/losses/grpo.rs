//! GRPO's objective and its relatives with the k3 divergence, under TRL's definitions. The same mathematics on slices is
//! in `plumb_stages::maths::grpo`; a test here compares the two.

use std::cell::RefCell;

use plumb_stages::maths::grpo::{GrpoLoss, ImportanceSamplingLevel, LossType};
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
    /// What a token weighs in the shares of clipped tokens: with ratios of completions, every completion the same.
    told: Tensor,
    /// Which sequence it belongs to.
    of: Tensor,
    /// (sequences): tokens of each.
    lengths: Tensor,
}

/// GRPO's loss over one micro-batch.
pub struct Grpo<'a> {
    tokens: Tokens,
    settings: &'a GrpoLoss,
    /// (2, tokens) of each slice: clipped below, clipped above.
    clipped: RefCell<Vec<Tensor>>,
}

impl<'a> Grpo<'a> {
    /// Of one micro-batch of a step.
    pub fn new(rollouts: &[Rollout], settings: &'a GrpoLoss, share: &Share, device: Device) -> Self {
        Self { tokens: Tokens::new(rollouts, settings, share, device), settings, clipped: RefCell::default() }
    }

    /// After the pass: the least share of tokens clipped below in one completion, and the largest clipped above. `None`
    /// where ratios are 1.
    pub fn extremes(&self) -> Option<(f64, f64)> {
        self.tokens.old.as_ref()?;
        let _guard = tch::no_grad_guard();
        let flags = Tensor::cat(&self.clipped.borrow(), 1);
        let zeros = Tensor::zeros([2, self.tokens.lengths.size()[0]], (Kind::Float, flags.device()));
        let sums = zeros.index_add(1, &self.tokens.of, &(flags * &self.tokens.counted));
        let counted = self.tokens.lengths.zeros_like().index_add(0, &self.tokens.of, &self.tokens.counted);
        let shares: Vec<Vec<f32>> = Vec::try_from((sums / &counted).to_device(Device::Cpu)).ok()?;
        // A completion that does not count has no share, 0 / 0; one ratio a completion has none clipped there, as in TRL.
        let shares =
            shares.into_iter().map(|of| of.into_iter().map(|one| if self.whole() && one.is_nan() { 0.0 } else { one }));
        let shares: Vec<Vec<f32>> = shares.map(Iterator::collect).collect();
        let known = |shares: &[f32]| shares.iter().copied().filter(|share| !share.is_nan()).collect::<Vec<f32>>();
        let low = known(&shares[0]).into_iter().reduce(f32::min)?;
        let high = known(&shares[1]).into_iter().reduce(f32::max)?;
        Some((f64::from(low), f64::from(high)))
    }
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
            (true, LossType::Grpo | LossType::Sapo) => {
                1.0 / (share.sequences * (rollout.sequence.completion.len() as f64).max(1.0))
            }
            (true, LossType::Luspo) => 1.0 / share.sequences,
            (true, LossType::Dapo | LossType::Cispo) => 1.0 / share.tokens,
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
        let told = |rollout: &Rollout| match (rollout.counted, loss.importance_sampling_level) {
            (false, _) => 0.0,
            (true, ImportanceSamplingLevel::Token) => 1.0,
            (true, ImportanceSamplingLevel::Sequence) => {
                share.tokens / (share.sequences * (rollout.sequence.completion.len() as f64).max(1.0))
            }
        };
        let lengths: Vec<f32> = rollouts.iter().map(|rollout| rollout.sequence.completion.len() as f32).collect();
        let of = (0i64..).zip(rollouts);
        let of = of.flat_map(|(row, rollout)| std::iter::repeat_n(row, rollout.sequence.completion.len()));
        Self {
            advantage: spread(&|rollout| rollout.advantage),
            old: joined(&|rollout| &rollout.old_logprobs),
            reference: joined(&|rollout| &rollout.ref_logprobs),
            weight: spread(&weight),
            counted: spread(&|rollout| f64::from(u8::from(rollout.counted))),
            told: spread(&told),
            of: Tensor::from_slice(&of.collect::<Vec<i64>>()).to_device(device),
            lengths: Tensor::from_slice(&lengths).to_device(device),
        }
    }

    // Each token's share of its sequence's mean, at each of its tokens. Only of whole sequences.
    fn mean_over_sequences(&self, values: &Tensor) -> Tensor {
        let sums = self.lengths.zeros_like().index_add(0, &self.of, values);
        (sums / &self.lengths).index_select(0, &self.of)
    }

    fn part(&self, first: i64, length: i64) -> Self {
        let cut = |whole: &Tensor| whole.narrow(0, first, length);
        Self {
            advantage: cut(&self.advantage),
            old: self.old.as_ref().map(cut),
            reference: self.reference.as_ref().map(cut),
            weight: cut(&self.weight),
            counted: cut(&self.counted),
            told: cut(&self.told),
            of: cut(&self.of),
            lengths: self.lengths.shallow_clone(),
        }
    }
}

impl Objective for Grpo<'_> {
    fn temperature(&self) -> f64 {
        self.settings.temperature
    }

    fn whole(&self) -> bool {
        self.settings.importance_sampling_level == ImportanceSamplingLevel::Sequence
    }

    fn worth(&self, logprobs: &Tensor, first: i64) -> Worth {
        let tokens = self.tokens.part(first, logprobs.size()[0]);
        let leaf = logprobs.detach().set_requires_grad(true);
        let (loss, counts, clipped) = with_grad(|| grpo(&leaf, &tokens, self.settings));
        let gradient = Tensor::run_backward(&[&loss], &[&leaf], false, false).swap_remove(0);
        self.clipped.borrow_mut().push(clipped.detach());
        Worth { loss: loss.detach(), gradient, counted: Some(tokens.counted), counts: counts.detach() }
    }
}

// The loss; (3) the divergence and clippings of the tokens that count; (2, tokens) where a token is clipped.
fn grpo(logprobs: &Tensor, tokens: &Tokens, settings: &GrpoLoss) -> (Tensor, Tensor, Tensor) {
    let old = tokens.old.as_ref().map_or_else(|| logprobs.detach(), Tensor::shallow_clone);
    let apart = logprobs - old;
    let ratio = match settings.importance_sampling_level {
        ImportanceSamplingLevel::Token => apart.exp(),
        ImportanceSamplingLevel::Sequence => tokens.mean_over_sequences(&apart).exp(),
    };
    let mut each = policy(&ratio, logprobs, &tokens.advantage, settings);
    let mut divergence = Tensor::zeros_like(&tokens.weight);
    if let Some(reference) = tokens.reference.as_ref().filter(|_| settings.beta != 0.0) {
        let apart = reference - logprobs;
        let mut k3 = apart.exp() - apart - 1.0;
        if settings.use_bias_correction_kl {
            k3 *= &ratio;
        }
        divergence = k3.detach();
        each += k3 * settings.beta;
    }
    let (least, most) = match settings.loss_type {
        LossType::Cispo => (f64::NEG_INFINITY, settings.epsilon_high),
        LossType::Sapo => (f64::NEG_INFINITY, f64::INFINITY),
        _ => (1.0 - settings.epsilon, 1.0 + settings.epsilon_high),
    };
    let low = ratio.lt(least).logical_and(&tokens.advantage.lt(0.0)).to_kind(Kind::Float);
    let high = ratio.gt(most).logical_and(&tokens.advantage.gt(0.0)).to_kind(Kind::Float);
    let counts = [divergence.dot(&tokens.counted), low.dot(&tokens.told), high.dot(&tokens.told)];
    (each.dot(&tokens.weight), Tensor::stack(&counts, 0), Tensor::stack(&[low, high], 0))
}

// Each token's part of the loss, without divergence.
fn policy(ratio: &Tensor, logprobs: &Tensor, advantage: &Tensor, settings: &GrpoLoss) -> Tensor {
    match settings.loss_type {
        LossType::Cispo => -(ratio.clamp_max(settings.epsilon_high).detach() * advantage * logprobs),
        LossType::Sapo => {
            let heat = advantage.gt(0.0).to_kind(Kind::Float);
            let heat = heat * (settings.sapo_temperature_pos - settings.sapo_temperature_neg);
            let heat = heat + settings.sapo_temperature_neg;
            let gate: Tensor = ((ratio - 1.0) * &heat).sigmoid() * 4.0 / &heat;
            -(gate * advantage)
        }
        _ => {
            let clipped = ratio.clamp(1.0 - settings.epsilon, 1.0 + settings.epsilon_high);
            let bounded = settings.delta.map_or_else(|| ratio.shallow_clone(), |delta| ratio.clamp_max(delta));
            -((bounded * advantage).minimum(&(clipped * advantage)))
        }
    }
}

#[cfg(test)]
mod tests {
    use plumb_stages::maths::grpo::batch_loss;
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

    // The plain mathematics knows no sequence that does not count: its tokens are masked.
    fn by_hand(settings: &GrpoLoss) -> f64 {
        let logprobs = (logits() / settings.temperature).log_softmax(-1, Kind::Double);
        let mut row = -1;
        let mut chosen = |token: &u32| {
            row += 1;
            logprobs.double_value(&[row, i64::from(*token)])
        };
        let rollouts = rollouts();
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
        let new: Vec<Vec<f64>> =
            rollouts.iter().map(|one| one.sequence.completion.iter().map(&mut chosen).collect()).collect();
        let old: Vec<Vec<f64>> = rollouts.iter().map(|one| wide(&one.old_logprobs)).collect();
        let reference: Vec<Vec<f64>> = rollouts.iter().map(|one| wide(&one.ref_logprobs)).collect();
        let advantages: Vec<f64> = rollouts.iter().map(|one| one.advantage).collect();
        let mask: Vec<Vec<bool>> =
            rollouts.iter().map(|one| vec![one.counted; one.sequence.completion.len()]).collect();
        batch_loss(&new, &old, Some(&reference), &advantages, &mask, settings)
    }

    #[test]
    fn tensors_give_the_loss_of_the_plain_mathematics() {
        let targets: Vec<i64> =
            rollouts().iter().flat_map(|one| one.sequence.completion.clone()).map(i64::from).collect();
        let types = [
            LossType::Grpo,
            LossType::Dapo,
            LossType::Bnpo,
            LossType::DrGrpo,
            LossType::Cispo,
            LossType::Sapo,
            LossType::Luspo,
        ];
        let levels = [ImportanceSamplingLevel::Token, ImportanceSamplingLevel::Sequence];
        let cases = types
            .iter()
            .flat_map(|one| levels.iter().flat_map(move |two| [None, Some(1.1)].map(|delta| (*one, *two, delta))));
        for (loss_type, importance_sampling_level, delta) in cases {
            let settings = GrpoLoss {
                epsilon_high: 0.28,
                delta,
                beta: 0.3,
                use_bias_correction_kl: delta.is_none(),
                loss_type,
                importance_sampling_level,
                temperature: 0.8,
                max_completion_length: 6,
                ..GrpoLoss::default()
            };
            let logprobs = (logits() / settings.temperature).log_softmax(-1, Kind::Float);
            let chosen = head::of_targets(&logprobs, &Tensor::from_slice(&targets));
            let grpo = Grpo::new(&rollouts(), &settings, &Share::new(&rollouts(), 1), Device::Cpu);
            let found = grpo.worth(&chosen, 0).loss.double_value(&[]);
            let expected = by_hand(&settings);
            assert!((found - expected).abs() < 1e-5, "{settings:?}: {found} is not {expected}");
        }
    }

    #[test]
    fn the_furthest_completions_are_told_and_only_those_that_count() {
        // Ratios of e^(log-probability - old): tokens 1 and 2 of the first completion are clipped above, and the second
        // completion's below.
        let settings = GrpoLoss { epsilon_high: 0.28, ..GrpoLoss::default() };
        let mut rollouts = rollouts();
        rollouts.iter_mut().for_each(|one| one.old_logprobs.fill(-1.0));
        let grpo = Grpo::new(&rollouts, &settings, &Share::new(&rollouts, 1), Device::Cpu);
        assert_eq!(grpo.extremes_of(&[-0.1, -0.1, -1.0, -2.0, -0.1, -0.1, -1.0, -1.0]), Some((0.0, 2.0 / 3.0)));
        let on_policy: Vec<Rollout> =
            rollouts.iter().map(|one| Rollout { old_logprobs: Vec::new(), ..one.clone() }).collect();
        let grpo = Grpo::new(&on_policy, &settings, &Share::new(&on_policy, 1), Device::Cpu);
        assert_eq!(grpo.extremes_of(&[-1.0; 8]), None);
    }

    impl Grpo<'_> {
        // In two slices, as the head may cut them.
        fn extremes_of(&self, logprobs: &[f32]) -> Option<(f64, f64)> {
            self.worth(&Tensor::from_slice(&logprobs[..2]), 0);
            self.worth(&Tensor::from_slice(&logprobs[2..]), 2);
            self.extremes().map(|(low, high)| (low, (high * 3.0).round() / 3.0))
        }
    }
}
