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

/// A loss that is a sum over tokens, each token's part a function of its own log-probability; or, where it is
/// [`Objective::whole`], any function of all of them.
pub trait Objective {
    /// What log-probabilities are divided by before the softmax.
    fn temperature(&self) -> f64 {
        1.0
    }
    /// Whether a token's part depends on other tokens (a sequence's sum or mean): `worth` is then asked once, about all
    /// tokens of the micro-batch. Costs a second pass of the head where the logits do not fit into one slice.
    fn whole(&self) -> bool {
        false
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

/// The head: (vocabulary, hidden), and the soft cap of its logits where the model has one.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// (vocabulary, hidden)
    pub weight: &'a Tensor,
    /// `cap · tanh(logits / cap)`
    pub cap: Option<f64>,
}

impl Head<'_> {
    // (tokens, vocabulary), capped
    fn logits(&self, hidden: &Tensor) -> Tensor {
        let mut logits = hidden.linear(self.weight, None::<&Tensor>);
        if let Some(cap) = self.cap {
            let _ = logits.g_div_scalar_(cap).tanh_().g_mul_scalar_(cap);
        }
        logits
    }
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
    head: Head,
    learns: Option<&mut Tensor>,
    objective: &dyn Objective,
) -> Sums {
    pass_by((AT_ONCE / head.weight.size()[0].max(1)).max(1), (hidden, targets, head), learns, objective)
}

// In slices of so many rows.
fn pass_by(
    rows: i64,
    (hidden, targets, head): (&Tensor, &Tensor, Head),
    mut learns: Option<&mut Tensor>,
    objective: &dyn Objective,
) -> Sums {
    let _guard = no_grad_guard();
    let known = objective.whole() && hidden.size()[0] > rows;
    let known = known.then(|| Known::of(rows, (hidden, targets, head), objective));
    let objective: &dyn Objective = known.as_ref().map_or(objective, |known| known);
    let (mut sums, mut gradients, mut first) = (Tensor::zeros([6], (Kind::Float, hidden.device())), Vec::new(), 0);
    for (hidden, targets) in hidden.detach().split(rows, 0).iter().zip(targets.split(rows, 0)) {
        let slice = Slice { hidden, targets: &targets, head };
        let (own, by_logits) = slice.forward(objective, first);
        sums += own;
        gradients.push(by_logits.mm(head.weight));
        if let Some(gradient) = learns.as_deref_mut() {
            let _ = gradient.addmm_(&by_logits.tr(), hidden);
        }
        first += rows;
    }
    Sums { sums, gradient: Tensor::cat(&gradients, 0) }
}

// What an objective made of a whole micro-batch, to be handed out slice by slice.
struct Known {
    temperature: f64,
    worth: Worth,
}

impl Known {
    fn of(rows: i64, (hidden, targets, head): (&Tensor, &Tensor, Head), objective: &dyn Objective) -> Self {
        let temperature = objective.temperature();
        let slices = hidden.detach().split(rows, 0).into_iter().zip(targets.split(rows, 0));
        let chosen: Vec<Tensor> = slices
            .map(|(hidden, targets)| of_targets(&logprobs(head.logits(&hidden), temperature), &targets))
            .collect();
        Self { temperature, worth: objective.worth(&Tensor::cat(&chosen, 0), 0) }
    }
}

impl Objective for Known {
    fn temperature(&self) -> f64 {
        self.temperature
    }

    // Loss and counts come with the first slice.
    fn worth(&self, logprobs: &Tensor, first: i64) -> Worth {
        let (length, all) = (logprobs.size()[0], &self.worth);
        let once = |sum: &Tensor| if first == 0 { sum.shallow_clone() } else { sum.zeros_like() };
        Worth {
            loss: once(&all.loss),
            gradient: all.gradient.narrow(0, first, length),
            counted: all.counted.as_ref().map(|counted| counted.narrow(0, first, length)),
            counts: once(&all.counts),
        }
    }
}

fn logprobs(mut logits: Tensor, temperature: f64) -> Tensor {
    if temperature != 1.0 {
        let _ = logits.g_div_scalar_(temperature);
    }
    logits.log_softmax(-1, Kind::Float)
}

struct Slice<'a> {
    hidden: &'a Tensor,
    targets: &'a Tensor,
    head: Head<'a>,
}

impl Slice<'_> {
    // The sums, and the loss's gradient by the logits: (tokens, vocabulary)
    fn forward(&self, objective: &dyn Objective, first: i64) -> (Tensor, Tensor) {
        let heat = objective.temperature();
        let logits = self.head.logits(self.hidden);
        // A capped logit moves less than what was capped: d capped = 1 - (capped / cap)².
        let slope = self.head.cap.map(|cap| (&logits / cap).square_().neg_().g_add_scalar_(1.0));
        let logprobs = logprobs(logits, heat);
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
        if let Some(slope) = slope {
            let _ = probabilities.g_mul_(&slope);
        }
        (sums, probabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The square of the mean log-probability: no token's part is known without the others.
    struct Squared;

    impl Objective for Squared {
        fn temperature(&self) -> f64 {
            0.7
        }
        fn whole(&self) -> bool {
            true
        }
        fn worth(&self, logprobs: &Tensor, _first: i64) -> Worth {
            let mean = logprobs.mean(Kind::Float);
            let slope = 2.0 / logprobs.numel() as f64;
            Worth {
                loss: mean.square(),
                gradient: logprobs.ones_like() * &mean * slope,
                counted: None,
                counts: Tensor::ones([3], (Kind::Float, logprobs.device())),
            }
        }
    }

    fn waves(rows: i64, columns: i64) -> Tensor {
        (Tensor::arange(rows * columns, (Kind::Float, tch::Device::Cpu)) * 0.61).sin().view([rows, columns])
    }

    #[test]
    fn an_objective_of_all_tokens_does_not_see_how_the_head_is_cut() {
        [None, Some(0.8)].into_iter().for_each(check_cuts);
    }

    fn check_cuts(cap: Option<f64>) {
        let (hidden, head) = (waves(7, 4), waves(5, 4) * 2.0);
        let targets = Tensor::from_slice(&[0i64, 3, 1, 4, 2, 2, 0]);
        let run = |rows: i64| {
            let mut learns = head.zeros_like();
            let sums = pass_by(rows, (&hidden, &targets, Head { weight: &head, cap }), Some(&mut learns), &Squared);
            [sums.sums, sums.gradient, learns]
        };
        let whole = run(7);
        for rows in [1, 3, 6] {
            for (one, other) in run(rows).iter().zip(&whole) {
                assert!((one - other).abs().max().double_value(&[]) < 1e-6, "{rows} rows: {one} {other}");
            }
        }
        // And the gradient is autograd's.
        let (hidden, head) = (hidden.set_requires_grad(true), head.detach().set_requires_grad(true));
        let logits = hidden.linear(&head, None::<&Tensor>);
        let logits = cap.map_or_else(|| logits.shallow_clone(), |cap| (&logits / cap).tanh() * cap);
        let logprobs = (logits / 0.7).log_softmax(-1, Kind::Float);
        let loss = of_targets(&logprobs, &targets).mean(Kind::Float).square();
        let gradients = Tensor::run_backward(&[&loss], &[&hidden, &head], false, false);
        assert!((&gradients[0] - &whole[1]).abs().max().double_value(&[]) < 1e-6);
        assert!((&gradients[1] - &whole[2]).abs().max().double_value(&[]) < 1e-6);
    }
}
