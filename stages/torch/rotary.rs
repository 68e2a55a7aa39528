//! Rotary positions: how far each pair of a head is turned at each position, and the turning itself.

use tch::{Device, Kind, Tensor};

use crate::config::{Config, Rope, Scaling};

/// Positions of a pass, and the rotations that belong to them.
#[derive(Debug)]
pub struct Angles {
    /// (batch or 1, time)
    pub positions: Tensor,
    /// For each of the model's rotations: complex (batch or 1, time, 1, head / 2)
    rotations: Vec<Tensor>,
}

impl Angles {
    /// Of the given positions: (batch, time)
    pub fn new(config: &Config, positions: &Tensor) -> Self {
        let rotations = config.ropes.iter().map(|rope| rotations(rope, config.head_dim, positions)).collect();
        Self { positions: positions.shallow_clone(), rotations }
    }

    /// Turns heads by a rotation of the model, each pair of neighbours a complex number:
    /// (batch, time, count × head) -> (batch, time, count, head) of the dtype that is asked for
    pub fn turn(&self, rope: usize, heads: &Tensor, count: i64, kind: Kind) -> Tensor {
        let (batch, time) = (heads.size()[0], heads.size()[1]);
        let pairs = heads.to_kind(Kind::Float).view([batch, time, count, -1, 2]).view_as_complex();
        (pairs * &self.rotations[rope]).view_as_real().view([batch, time, count, -1]).to_kind(kind)
    }
}

fn rotations(rope: &Rope, head: i64, positions: &Tensor) -> Tensor {
    let angles = positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies(rope, head, positions.device());
    Tensor::polar(&angles.ones_like(), &angles).unsqueeze(2)
}

// (head / 2)
fn frequencies(rope: &Rope, head: i64, device: Device) -> Tensor {
    let exponents = Tensor::arange(head / 2, (Kind::Float, device)) * (2.0 / head as f64);
    let plain = (exponents * -rope.theta.ln()).exp();
    match rope.scaling {
        Scaling::Default => plain,
        Scaling::Linear { factor } => plain / factor,
        Scaling::Llama3 { factor, low, high, original } => {
            let turns = &plain * (original / std::f64::consts::TAU);
            // 0 for slow pairs, 1 for fast ones.
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            &plain * &kept + &plain * (1.0 - &kept) / factor
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_fast_pairs_and_divides_slow_ones() {
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 64.0 };
        let of = |scaling| frequencies(&Rope { theta: 100.0, scaling }, 8, Device::Cpu);
        let (plain, scaled) = (of(Scaling::Default), of(scaling));
        let ratio: Vec<f32> = Vec::try_from(&scaled / &plain).expect("one dimension");
        // Turns over 64 tokens: 10.2, 3.22, 1.02, 0.32.
        assert!((ratio[0] - 1.0).abs() < 1e-6 && (ratio[3] - 0.125).abs() < 1e-6, "{ratio:?}");
        assert!((ratio[1] - 0.773).abs() < 1e-3 && (ratio[2] - 0.130).abs() < 1e-3, "{ratio:?}");
    }
}
