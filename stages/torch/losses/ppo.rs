//! PPO's two objectives over one micro-batch: the clipped policy loss with an advantage a token, and the clipped value
//! loss of a score head at every token that predicts. Means over all completion tokens of the update.

use plumb_stages::maths::ppo::{PpoLoss, value_loss};
use plumb_stages::model::Estimated;
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::bradley_terry::rewards;
use crate::head::{Objective, Sums, Worth};
use crate::step::Topmost;

/// Completion tokens.
pub fn tokens(rows: &[Estimated]) -> f64 {
    rows.iter().map(|row| row.sequence.completion.len()).sum::<usize>() as f64
}

/// The policy's part.
pub struct Policy<'a> {
    loss: &'a PpoLoss,
    /// (tokens)
    advantages: Tensor,
    /// (tokens)
    old: Tensor,
    all: f64,
}

impl<'a> Policy<'a> {
    /// Of one micro-batch of an update over `all` tokens.
    pub fn new(rows: &[Estimated], loss: &'a PpoLoss, all: f64, device: Device) -> Self {
        let flat = |of: &dyn Fn(&Estimated) -> &[f32]| {
            let flat: Vec<f32> = rows.iter().flat_map(of).copied().collect();
            Tensor::from_slice(&flat).to_device(device)
        };
        Self { loss, advantages: flat(&|row| &row.advantages), old: flat(&|row| &row.old_logprobs), all: all.max(1.0) }
    }
}

impl Objective for Policy<'_> {
    fn temperature(&self) -> f64 {
        self.loss.temperature
    }

    // Counts: half the squared log-ratio (TRL's `approxkl`), clipped below, clipped above.
    fn worth(&self, logprobs: &Tensor, first: i64) -> Worth {
        let part = |whole: &Tensor| whole.narrow(0, first, logprobs.size()[0]);
        let (advantages, apart) = (part(&self.advantages), logprobs - part(&self.old));
        let (ratio, range) = (apart.exp(), self.loss.cliprange);
        let free = -(&advantages * &ratio);
        let held = -(&advantages * ratio.clamp(1.0 - range, 1.0 + range));
        let clipped = held.gt_tensor(&free);
        // Where the clipped loss is the worse one, nothing pulls.
        let gradient = free.masked_fill(&clipped, 0.0) / self.all;
        let sum = |flags: &Tensor| flags.to_kind(Kind::Float).sum(Kind::Float);
        let low = clipped.logical_and(&advantages.lt(0.0));
        let high = clipped.logical_and(&advantages.gt(0.0));
        Worth {
            loss: held.maximum(&free).sum(Kind::Float) / self.all,
            gradient,
            counted: None,
            counts: Tensor::stack(&[apart.square().sum(Kind::Float) * 0.5, sum(&low), sum(&high)], 0),
        }
    }
}

/// The value head's part.
pub struct Value<'a> {
    /// Those of this micro-batch.
    pub rows: &'a [Estimated],
    /// Ranges and weight.
    pub loss: &'a PpoLoss,
    /// Tokens of the whole update.
    pub all: f64,
}

impl Value<'_> {
    /// Loss and gradients; values are counted as clipped above.
    pub fn worth(&self, top: Topmost) -> Sums {
        let _guard = no_grad_guard();
        let before = self.rows.iter().flat_map(|row| row.old_values.iter().zip(&row.returns));
        let (mut whole, mut clipped, mut slopes) = (0.0, 0.0, Vec::new());
        for (value, (old, target)) in rewards(top.hidden, top.head).into_iter().zip(before) {
            let (loss, slope, held) = value_loss(value, f64::from(*old), f64::from(*target), self.loss.cliprange_value);
            whole += loss;
            clipped += f64::from(u8::from(held));
            slopes.push((slope * self.loss.vf_coef / self.all.max(1.0)) as f32);
        }
        // (tokens, 1)
        let slopes = Tensor::from_slice(&slopes).to_device(top.hidden.device()).unsqueeze(1);
        if let Some(gradient) = top.learns {
            let _ = gradient.g_add_(&slopes.tr().mm(top.hidden));
        }
        let loss = whole * self.loss.vf_coef / self.all.max(1.0);
        let sums = Tensor::from_slice(&[loss as f32, 0.0, 0.0, 0.0, 0.0, clipped as f32]);
        Sums { sums: sums.to_device(top.hidden.device()), gradient: slopes.mm(top.head) }
    }
}
