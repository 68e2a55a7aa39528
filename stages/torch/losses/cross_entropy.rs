//! Token-mean cross-entropy: the loss of supervised fine-tuning.

use tch::{Kind, Tensor};

use crate::head::{Objective, Worth};

/// Cross-entropy summed over tokens and divided by `tokens`, the whole step's number.
pub struct CrossEntropy {
    /// Completion tokens of the whole step.
    pub tokens: f64,
}

impl Objective for CrossEntropy {
    fn worth(&self, logprobs: &Tensor, _first: i64) -> Worth {
        let kind = (Kind::Float, logprobs.device());
        Worth {
            loss: logprobs.sum(Kind::Float).g_mul_scalar(-1.0 / self.tokens),
            gradient: Tensor::full_like(logprobs, -1.0 / self.tokens),
            counted: None,
            counts: Tensor::zeros([3], kind),
        }
    }
}
