//! One optimiser step under way: the model with weights that take part in the graph, and what its micro-batches have
//! summed. Any objective over completion tokens goes through [`Step::add`]; knows no optimiser.

use tch::{Kind, Tensor};

use crate::head::{self, Objective};
use crate::transformer::Transformer;
use crate::weights;

/// What the micro-batches of a step add up to.
pub struct Step {
    /// The model, its trainable weights leaves of the graph.
    pub model: Transformer,
    leaves: Vec<Tensor>,
    /// Which of the leaves is the head, if it learns.
    head: Option<usize>,
    /// Which of the leaves the graph below the head reaches: all but a head of its own.
    below: Vec<usize>,
    /// One a leaf, in its shape, once a micro-batch has been added.
    pub gradients: Vec<Option<Tensor>>,
    /// (6): see [`head::Sums`]; `None` before the first micro-batch.
    pub sums: Option<Tensor>,
}

impl Step {
    /// Of a model whose weights at `places` learn and are `leaves`.
    pub fn new(model: &Transformer, places: &[usize], leaves: Vec<Tensor>) -> Self {
        let weights = model.weights.iter().map(Tensor::shallow_clone).collect();
        let mut own = Transformer { config: model.config.clone(), weights, kind: model.kind, device: model.device };
        let parts = weights::parts(&model.config);
        for (place, leaf) in places.iter().zip(&leaves) {
            let kind = if parts[*place].layer().is_some() { model.kind } else { Kind::Float };
            own.weights[*place] = leaf.to_kind(kind);
        }
        let head = places.iter().position(|place| *place == model.head());
        let alone = head.filter(|_| !model.config.tie_word_embeddings);
        let below = (0..leaves.len()).filter(|leaf| Some(*leaf) != alone).collect();
        let gradients = leaves.iter().map(|_| None).collect();
        Self { model: own, leaves, head, below, gradients, sums: None }
    }

    /// Adds a micro-batch's loss and gradients: the head by hand, then the graph below it, which is told the gradient at
    /// its top.
    pub fn add(&mut self, stream: &Tensor, targets: &Tensor, objective: &dyn Objective) {
        let hidden = self.model.last_norm(stream);
        let head = self.model.weights[self.model.head()].detach();
        if let Some(leaf) = self.head {
            self.gradients[leaf].get_or_insert_with(|| head.zeros_like());
        }
        let of_head = self.head.and_then(|leaf| self.gradients[leaf].as_mut());
        let passed = head::pass(&hidden, targets, &head, of_head, objective);
        let top = (hidden * passed.gradient).sum(Kind::Float);
        let below: Vec<&Tensor> = self.below.iter().map(|leaf| &self.leaves[*leaf]).collect();
        for (leaf, part) in self.below.iter().zip(Tensor::run_backward(&[&top], &below, false, false)) {
            add(&mut self.gradients[*leaf], part);
        }
        add(&mut self.sums, passed.sums);
    }
}

fn add(whole: &mut Option<Tensor>, part: Tensor) {
    match whole {
        Some(whole) => drop(whole.g_add_(&part)),
        None => *whole = Some(part),
    }
}
