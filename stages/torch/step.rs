//! One optimiser step under way: the model with weights that take part in the graph, and what its micro-batches have
//! summed. Any objective over completion tokens goes through [`Step::add`]; knows no optimiser.
//!
//! With gradient checkpointing the graph is never whole: the blocks run without one, and in the backward pass each runs
//! again from its kept input, is differentiated, and is dropped. The gradients are the same bits.

use tch::{Kind, Tensor, no_grad_guard};

use crate::head::{self, Head, Objective, Sums};
use crate::pass::Pass;
use crate::transformer::Transformer;
use crate::weights::{self, Part};

/// What is kept for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Every block's activations.
    Activations,
    /// Every block's input.
    Inputs,
}

/// What lies above the graph of a pass.
pub struct Topmost<'a> {
    /// (tokens, hidden), after the last norm.
    pub hidden: &'a Tensor,
    /// The head's weight.
    pub head: &'a Tensor,
    /// Where its gradient is summed, if it learns.
    pub learns: Option<&'a mut Tensor>,
}

/// What the micro-batches of a step add up to.
pub struct Step {
    /// The model, its trainable weights leaves of the graph.
    pub model: Transformer,
    leaves: Vec<Tensor>,
    /// What each leaf is.
    parts: Vec<Part>,
    /// Which of the leaves is the head, if it learns.
    head: Option<usize>,
    keep: Keep,
    /// One a leaf, in its shape, once a micro-batch has been added.
    pub gradients: Vec<Option<Tensor>>,
    /// (6): see [`head::Sums`]; `None` before the first micro-batch.
    pub sums: Option<Tensor>,
}

impl Step {
    /// Of a model whose weights at `places` learn and are `leaves`.
    pub fn new(model: &Transformer, places: &[usize], leaves: Vec<Tensor>, keep: Keep) -> Self {
        let weights = model.weights.iter().map(Tensor::shallow_clone).collect();
        let mut own = Transformer::new(model.config.clone(), weights, model.kind, model.device);
        let all = weights::parts(&model.config);
        let parts: Vec<Part> = places.iter().map(|place| all[*place]).collect();
        for ((place, leaf), part) in places.iter().zip(&leaves).zip(&parts) {
            own.weights[*place] = leaf.to_kind(part.kind(model.kind));
        }
        let head = places.iter().position(|place| *place == model.head());
        let gradients = leaves.iter().map(|_| None).collect();
        Self { model: own, leaves, parts, head, keep, gradients, sums: None }
    }

    /// Adds a micro-batch's loss and gradients.
    pub fn add(&mut self, pass: Pass, targets: &Tensor, objective: &dyn Objective) {
        let cap = self.model.config.logits_cap;
        self.add_worth(pass, &|Topmost { hidden, head, learns }| {
            head::pass(hidden, targets, Head { weight: head, cap }, learns, objective)
        });
    }

    /// The same where something else than log-probabilities is made of the top: the head is applied by `worth`, and so is
    /// what it learns.
    pub fn add_worth(&mut self, pass: Pass, worth: &dyn Fn(Topmost) -> Sums) {
        match self.keep {
            Keep::Activations => {
                let top = self.top(&pass.run(&self.model), worth);
                // A head of its own lies above the graph.
                self.back(&top, &[], |part| !matches!(part, Part::Head | Part::Score));
            }
            Keep::Inputs => self.add_block_by_block(pass, worth),
        }
    }

    fn add_block_by_block(&mut self, mut pass: Pass, worth: &dyn Fn(Topmost) -> Sums) {
        let embedded = std::mem::take(&mut pass.streams);
        let mut inputs = vec![apart(&embedded)];
        let blocks = pass.first..self.model.config.num_hidden_layers;
        for layer in blocks.clone() {
            let _guard = no_grad_guard();
            let streams = pass.block(&self.model, layer, &inputs[inputs.len() - 1]);
            inputs.push(apart(&streams));
        }
        let last = inputs.pop().unwrap_or_default();
        let top = self.top(&pass.predicting(&last), worth);
        let mut gradients = self.back(&top, &last, |part| matches!(part, Part::FinalNorm));
        drop(last);
        for (layer, streams) in blocks.zip(inputs).rev() {
            let top = pulled(&pass.block(&self.model, layer, &streams), &gradients);
            gradients = self.back(&top, &streams, |part| part.layer() == Some(layer));
        }
        if pass.first == 0 {
            self.back(&pulled(&embedded, &gradients), &[], |part| matches!(part, Part::Embedding));
        }
    }

    // The head by hand: returns what pulls the loss's gradient at the head's input through the graph below.
    fn top(&mut self, stream: &Tensor, worth: &dyn Fn(Topmost) -> Sums) -> Tensor {
        let hidden = self.model.last_norm(stream);
        let head = self.model.weights[self.model.head()].detach();
        if let Some(leaf) = self.head {
            self.gradients[leaf].get_or_insert_with(|| head.zeros_like());
        }
        let learns = self.head.and_then(|leaf| self.gradients[leaf].as_mut());
        let passed = worth(Topmost { hidden: &hidden, head: &head, learns });
        add(&mut self.sums, passed.sums);
        (hidden * passed.gradient).sum(Kind::Float)
    }

    // Adds the gradients of the leaves that are `reached`; returns those of `streams`.
    fn back(&mut self, top: &Tensor, streams: &[Tensor], reached: impl Fn(&Part) -> bool) -> Vec<Tensor> {
        let leaves: Vec<usize> = (0..self.leaves.len()).filter(|leaf| reached(&self.parts[*leaf])).collect();
        let inputs: Vec<&Tensor> = leaves.iter().map(|leaf| &self.leaves[*leaf]).chain(streams).collect();
        if inputs.is_empty() {
            return Vec::new();
        }
        let mut gradients = Tensor::run_backward(&[top], &inputs, false, false);
        let rest = gradients.split_off(leaves.len());
        for (leaf, part) in leaves.into_iter().zip(gradients) {
            add(&mut self.gradients[leaf], part);
        }
        rest
    }
}

// Leaves of their own: the graph is cut here.
fn apart(streams: &[Tensor]) -> Vec<Tensor> {
    streams.iter().map(|stream| stream.detach().set_requires_grad(true)).collect()
}

// A number whose gradient by each stream is the gradient given.
fn pulled(streams: &[Tensor], gradients: &[Tensor]) -> Tensor {
    let each: Vec<Tensor> =
        streams.iter().zip(gradients).map(|(stream, gradient)| (stream * gradient).sum(Kind::Float)).collect();
    Tensor::stack(&each, 0).sum(Kind::Float)
}

fn add(whole: &mut Option<Tensor>, part: Tensor) {
    match whole {
        Some(whole) => drop(whole.g_add_(&part)),
        None => *whole = Some(part),
    }
}
