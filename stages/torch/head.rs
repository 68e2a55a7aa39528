//! The head of a training step, forward and backward at once and some tokens at a time: a vocabulary of 50,000 times a
//! thousand tokens is never held, and what a step reports besides the loss (entropy, right tokens) is read from the
//! probabilities that the gradient needs anyway. Knows no loss: an [`Objective`] says what log-probabilities are worth.
//!
//! ```text
//! logits = hidden Wᵀ / T,  g = d loss / d log p(target)
//! d logits = g (onehot(target) - p) / T,  d hidden = d logits W,  d W = d logitsᵀ hidden
//! ```

use tch::{Kind, Tensor, no_grad_guard};

/// What an objective makes of some tokens' log-probabilities.
pub struct Worth {
    /// These tokens' part of the step's loss.
    pub loss: Tensor,
    /// (tokens): the loss's gradient by each log-probability.
    pub gradient: Tensor,
    /// (tokens): 1 where a token enters the counts; `None` where all do.
    pub counted: Option<Tensor>,
    /// (3): k3 divergence, clipped below, clipped above
    pub counts: Tensor,
}

/// A loss that is a sum over tokens, each token's part a function of its own log-probability.
pub trait Objective {
    /// What log-probabilities are divided by before the softmax.
    fn temperature(&self) -> f64 {
        1.0
    }
    /// Judges the tokens from `first` on: (tokens) log-probabilities, no part of any graph.
    fn worth(&self, logprobs: &Tensor, first: i64) -> Worth;
}

/// Sums over the tokens of one micro-batch, still on the device: read once a step.
pub struct Sums {
    /// (6): loss, tokens' entropy, right argmax, k3 divergence, clipped below, clipped above
    pub sums: Tensor,
    /// (tokens, hidden): the loss's gradient by the head's input.
    pub gradient: Tensor,
}

/// Log-probability of each target: (tokens, vocabulary), (tokens) -> (tokens)
pub fn of_targets(logprobs: &Tensor, targets: &Tensor) -> Tensor {
    logprobs.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1)
}

// Logits held together. Larger slices are no faster, and the head's own gradient is gone over once a slice.
const AT_ONCE: i64 = 1 << 24;

/// Runs the head on `hidden` (tokens, hidden). The head's own gradient is added to `learns`, where it learns.
pub fn pass(
    hidden: &Tensor,
    targets: &Tensor,
    head: &Tensor,
    mut learns: Option<&mut Tensor>,
    objective: &dyn Objective,
) -> Sums {
    let _guard = no_grad_guard();
    let rows = (AT_ONCE / head.size()[0].max(1)).max(1);
    let (mut sums, mut gradients, mut first) = (Tensor::zeros([6], (Kind::Float, hidden.device())), Vec::new(), 0);
    for (hidden, targets) in hidden.detach().split(rows, 0).iter().zip(targets.split(rows, 0)) {
        let slice = Slice { hidden, targets: &targets, head };
        let (own, by_logits) = slice.forward(objective, first);
        sums += own;
        gradients.push(by_logits.mm(head));
        if let Some(gradient) = learns.as_deref_mut() {
            let _ = gradient.addmm_(&by_logits.tr(), hidden);
        }
        first += rows;
    }
    Sums { sums, gradient: Tensor::cat(&gradients, 0) }
}

struct Slice<'a> {
    hidden: &'a Tensor,
    targets: &'a Tensor,
    head: &'a Tensor,
}

impl Slice<'_> {
    // The sums, and the loss's gradient by the logits: (tokens, vocabulary)
    fn forward(&self, objective: &dyn Objective, first: i64) -> (Tensor, Tensor) {
        let heat = objective.temperature();
        let mut logits = self.hidden.linear(self.head, None::<&Tensor>);
        if heat != 1.0 {
            let _ = logits.g_div_scalar_(heat);
        }
        let logprobs = logits.log_softmax(-1, Kind::Float);
        drop(logits);
        let chosen = of_targets(&logprobs, self.targets);
        let worth = objective.worth(&chosen, first);
        let right = chosen.ge_tensor(&logprobs.amax([-1], false)).to_kind(Kind::Float);
        let mut probabilities = logprobs.exp();
        // Row by row a product of a row and a column: nothing of the vocabulary's size is written.
        let entropy = -probabilities.unsqueeze(1).bmm(&logprobs.unsqueeze(2)).view([-1]);
        let over = |each: &Tensor| match &worth.counted {
            Some(counted) => each.dot(counted),
            None => each.sum(Kind::Float),
        };
        let sums = Tensor::cat(&[Tensor::stack(&[&worth.loss, &over(&entropy), &over(&right)], 0), worth.counts], 0);
        let pull = (worth.gradient / heat).unsqueeze(1);
        let _ = probabilities.g_mul_(&-&pull);
        let _ = probabilities.scatter_add_(1, &self.targets.unsqueeze(1), &pull);
        (sums, probabilities)
    }
}
