//! The Bradley-Terry loss of a reward model over one micro-batch: the score head forward and backward by hand. The loss and
//! its slopes are plain Rust, in `plumb_stages::maths::preference`.

use plumb_stages::maths::preference::centred_bradley_terry;
use plumb_stages::model::Contrast;
use tch::{Device, Kind, Tensor, no_grad_guard};

use crate::head::Sums;
use crate::step::Topmost;

/// The loss over some contrasts of a step; hidden states are each one's chosen and rejected in turn.
pub struct BradleyTerry<'a> {
    /// Those of this micro-batch.
    pub contrasts: &'a [Contrast],
    /// Weight of the squared sum of two rewards.
    pub centre: f64,
    /// Contrasts of the whole step.
    pub all: usize,
}

impl BradleyTerry<'_> {
    /// Rewards, loss and gradients; the rewards are told too.
    pub fn worth(&self, top: Topmost, told: &mut Vec<f64>) -> Sums {
        let _guard = no_grad_guard();
        let rewards = rewards(top.hidden, top.head);
        let (mut whole, mut slopes) = (0.0, Vec::with_capacity(rewards.len()));
        for (one, own) in self.contrasts.iter().zip(rewards.chunks_exact(2)) {
            let (loss, slope) = centred_bradley_terry(own[0], own[1], one.margin, self.centre);
            whole += loss / self.all.max(1) as f64;
            slopes.extend(slope.map(|slope| (slope / self.all.max(1) as f64) as f32));
        }
        told.extend(rewards);
        // (texts, 1)
        let slopes = Tensor::from_slice(&slopes).to_device(top.hidden.device()).unsqueeze(1);
        if let Some(gradient) = top.learns {
            let _ = gradient.g_add_(&slopes.tr().mm(top.hidden));
        }
        let sums = Tensor::zeros([6], (Kind::Float, top.hidden.device()));
        let _ = sums.get(0).fill_(whole);
        Sums { sums, gradient: slopes.mm(top.head) }
    }
}

/// What a score head gives hidden states: (texts, hidden), (1, hidden) -> one number each.
pub fn rewards(hidden: &Tensor, head: &Tensor) -> Vec<f64> {
    let rewards = hidden.linear(head, None::<&Tensor>).view([-1]).to_kind(Kind::Double).to_device(Device::Cpu);
    let mut flat = vec![f64::NAN; rewards.numel()];
    let count = flat.len();
    rewards.copy_data(&mut flat, count);
    flat
}
