//! Group-relative policy optimisation (DeepSeekMath; names and defaults as in TRL's GRPOConfig).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How token losses become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over sequences of the mean over tokens.
    Grpo,
    /// Sum over the tokens of the whole accumulated batch, by their number (TRL's default).
    #[default]
    Dapo,
    /// The same within each micro-batch.
    Bnpo,
    /// Sum over tokens by (sequences × `max_completion_length`).
    DrGrpo,
}

/// What rewards are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The group's standard deviation.
    #[default]
    Group,
    /// The whole batch's standard deviation.
    Batch,
    /// Nothing (Dr. GRPO).
    None,
}

/// The settings of the clipped loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrpoLoss {
    /// Lower clip range.
    pub epsilon: f64,
    /// Upper clip range.
    pub epsilon_high: f64,
    /// Upper bound on the unclipped ratio.
    pub delta: Option<f64>,
    /// Weight of the k3 divergence from the reference.
    pub beta: f64,
    /// Aggregation.
    pub loss_type: LossType,
    /// Temperature the completions were drawn at: logits are divided by it.
    pub temperature: f64,
    /// `dr_grpo`'s constant length.
    pub max_completion_length: usize,
}
