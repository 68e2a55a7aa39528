//! DPO's objective: log-ratios of whole completions, spread back over their tokens. The loss itself and its slopes are
//! plain Rust, in `plumb_stages::maths::preference`; here sums are taken on the device and the few numbers of a
//! micro-batch read.

use std::cell::RefCell;

use plumb_stages::maths::preference::{DpoLoss, LogRatio};
use plumb_stages::model::Preference;
use tch::{Device, Kind, Tensor};

use crate::head::{Objective, Worth};

/// DPO's loss over one micro-batch, whose sequences are each pair's chosen and rejected in turn.
pub struct Dpo<'a> {
    pairs: &'a [Preference],
    loss: &'a DpoLoss,
    /// Pairs of the whole step.
    all: f64,
    /// (tokens): the sequence of each.
    of: Tensor,
    /// Log-probabilities of chosen and rejected, one a pair, after the pass.
    sums: RefCell<Vec<[f64; 2]>>,
}

impl<'a> Dpo<'a> {
    /// Of one micro-batch of a step over `all` pairs.
    pub fn new(pairs: &'a [Preference], loss: &'a DpoLoss, all: usize, device: Device) -> Self {
        let sequences = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
        let of: Vec<i64> = (0i64..)
            .zip(sequences)
            .flat_map(|(number, sequence)| std::iter::repeat_n(number, sequence.completion.len()))
            .collect();
        let of = Tensor::from_slice(&of).to_device(device);
        Self { pairs, loss, all: all.max(1) as f64, of, sums: RefCell::default() }
    }

    /// Log-probabilities of chosen and rejected, one a pair; empty before the pass.
    pub fn sums(&self) -> Vec<[f64; 2]> {
        self.sums.borrow().clone()
    }
}

impl Objective for Dpo<'_> {
    fn whole(&self) -> bool {
        true
    }

    fn worth(&self, logprobs: &Tensor, _first: i64) -> Worth {
        let device = logprobs.device();
        let sums = Tensor::zeros([2 * self.pairs.len() as i64], (Kind::Double, device));
        let sums = sums.index_add(0, &self.of, &logprobs.to_kind(Kind::Double)).to_device(Device::Cpu);
        let mut flat = vec![f64::NAN; 2 * self.pairs.len()];
        let count = flat.len();
        sums.copy_data(&mut flat, count);
        let (mut whole, mut slopes) = (0.0, Vec::with_capacity(flat.len()));
        for (pair, own) in self.pairs.iter().zip(flat.chunks_exact(2)) {
            let tokens = [&pair.chosen, &pair.rejected].map(|sequence| sequence.completion.len() as f64);
            let ratio = |side: usize| LogRatio { sum: own[side] - pair.reference[side], tokens: tokens[side] };
            let (loss, slope) = self.loss.of(ratio(0), ratio(1));
            whole += loss / self.all;
            slopes.extend(slope.map(|slope| (slope / self.all) as f32));
        }
        *self.sums.borrow_mut() = flat.chunks_exact(2).map(|own| [own[0], own[1]]).collect();
        Worth {
            loss: Tensor::from(whole as f32).to_device(device),
            gradient: Tensor::from_slice(&slopes).to_device(device).index_select(0, &self.of),
            counted: None,
            counts: Tensor::zeros([3], (Kind::Float, device)),
        }
    }
}
