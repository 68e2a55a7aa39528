//! From token losses to one number. Sequences are slices of the tokens that count (masked ones left out); an empty
//! sequence counts as a sequence, with loss 0.

use super::grpo::LossType;

/// veRL's `loss_agg_mode`, and what TRL's `loss_type` comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// `token-mean` (`dapo`, `bnpo`): every token of the batch weighs the same.
    TokenMean,
    /// `seq-mean-token-mean` (`grpo`): every sequence weighs the same.
    SequenceMean,
    /// `seq-mean-token-sum`: long sequences weigh more.
    SequenceSum,
    /// `seq-mean-token-sum-norm` (`dr_grpo`): the sum over a constant length.
    ConstantLength(usize),
}

impl Aggregation {
    /// What a TRL `loss_type` comes to within one batch: `dapo` and `bnpo` differ only in what the batch is.
    pub fn of(loss_type: LossType, max_completion_length: usize) -> Self {
        match loss_type {
            LossType::Grpo | LossType::Sapo => Self::SequenceMean,
            LossType::Dapo | LossType::Bnpo | LossType::Cispo => Self::TokenMean,
            LossType::Luspo => Self::SequenceSum,
            LossType::DrGrpo => Self::ConstantLength(max_completion_length),
        }
    }

    /// The loss of a batch of sequences of token losses.
    pub fn loss(self, sequences: &[Vec<f64>]) -> f64 {
        let tokens = sequences.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        let count = sequences.len().max(1) as f64;
        let total: f64 = sequences.iter().flatten().sum();
        match self {
            Self::TokenMean => total / tokens,
            Self::SequenceMean => sequences.iter().map(|losses| mean(losses)).sum::<f64>() / count,
            Self::SequenceSum => total / count,
            Self::ConstantLength(length) => total / (count * length.max(1) as f64),
        }
    }
}

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tokens_weigh_differently() {
        let losses = [vec![1.0, 3.0], vec![1.0; 4]];
        let of = |loss_type| Aggregation::of(loss_type, 8).loss(&losses);
        assert_eq!([of(LossType::Grpo), of(LossType::DrGrpo)], [1.5, 0.5]);
        assert!((of(LossType::Dapo) - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(of(LossType::Dapo), of(LossType::Bnpo));
        assert_eq!(Aggregation::SequenceSum.loss(&losses), 4.0);
    }

    #[test]
    fn nothing_to_learn_from_is_a_loss_of_zero() {
        assert_eq!(Aggregation::TokenMean.loss(&[]), 0.0);
        assert_eq!(Aggregation::SequenceMean.loss(&[vec![], vec![2.0]]), 1.0);
    }
}
