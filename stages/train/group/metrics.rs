//! What a step of reinforcement learning reports, under TRL's names.

use super::Settings;
use super::batch::Batch;
use crate::maths::grpo::{LossType, share_without_spread};
use crate::model::{Completion, StepReport};
use crate::train::log::{Values, of_report};

impl Batch {
    /// Of everything that was drawn, whether or not it is learnt from.
    pub(super) fn metrics(&self, settings: &Settings) -> Values {
        let mut metrics = self.told();
        let mut set = |name: &str, value: f64| _ = metrics.insert(name.to_string(), value);
        let rewards = self.rewards();
        let known: Vec<f64> = rewards.iter().flatten().copied().collect();
        set("reward", mean(&known));
        set("reward_std", deviation(&known));
        set("frac_reward_zero_std", share_without_spread(&rewards, settings.num_generations));
        set("frac_reward_masked", 1.0 - known.len() as f64 / rewards.len().max(1) as f64);
        if settings.filtering.is_some() {
            set("dynamic_filtering/batches", self.told.len() as f64);
        }
        let all: Vec<&Completion> = self.sampled.iter().flatten().collect();
        let lengths: Vec<f64> = all.iter().map(|one| one.tokens.len() as f64).collect();
        let ended: Vec<f64> = all.iter().filter(|one| one.finished).map(|one| one.tokens.len() as f64).collect();
        for (name, lengths) in [("length", &lengths), ("terminated_length", &ended)] {
            set(&format!("completions/mean_{name}"), mean(lengths));
            set(&format!("completions/min_{name}"), lengths.iter().copied().reduce(f64::min).unwrap_or_default());
            set(&format!("completions/max_{name}"), lengths.iter().copied().reduce(f64::max).unwrap_or_default());
        }
        set("completions/clipped_ratio", 1.0 - ended.len() as f64 / all.len().max(1) as f64);
        metrics
    }
}

/// Of the last update.
pub(super) fn of_update(report: &StepReport, settings: &Settings) -> Values {
    let mut metrics = of_report(report);
    let mut set = |name: &str, value: f64| _ = metrics.insert(name.to_string(), value);
    match settings.loss.loss_type {
        LossType::Cispo => set("cispo_clip_ratio", report.clip_high),
        LossType::Sapo => {}
        _ => {
            set("clip_ratio/low_mean", report.clip_low);
            set("clip_ratio/high_mean", report.clip_high);
            set("clip_ratio/region_mean", report.clip_low + report.clip_high);
        }
    }
    if settings.loss.beta != 0.0 {
        set("kl", report.kl);
    }
    metrics
}

/// The mean; 0 of nothing, for a metric must be a number.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation with Bessel's correction; 0 of fewer than two.
pub fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}
