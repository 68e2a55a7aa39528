//! The trainable weights in one flat f32 buffer, and AdamW with decoupled weight decay over it. Each weight is a
//! view of the buffer, so that clipping, updating, saving and digesting are a few operations however many weights
//! there are. Gains of normalisations are not decayed (HF Trainer's rule).

use plumb_stages::model::Optimizer;
use tch::{Kind, Tensor, no_grad_guard};

use crate::fused;

/// Masters, first and second moments.
pub struct AdamW {
    /// (parameters): masters of every trainable weight.
    pub data: Tensor,
    /// (parameters): first moments.
    pub mean: Tensor,
    /// (parameters): second moments.
    pub square: Tensor,
    /// (parameters): the running mean of the masters, where one is asked for.
    pub average: Option<Tensor>,
    /// Updates made so far.
    pub steps: u64,
    decay: f64,
    /// Elements at the front that weight decay touches.
    decayed: i64,
    settings: Optimizer,
}

impl AdamW {
    /// Takes over `weights` (the first `decayed` of them are decayed).
    pub fn new(weights: &[Tensor], decayed: usize, settings: &Optimizer, ema_decay: Option<f64>) -> Self {
        let _guard = no_grad_guard();
        let flat: Vec<Tensor> = weights.iter().map(|weight| weight.to_kind(Kind::Float).reshape([-1])).collect();
        let data = Tensor::cat(&flat, 0);
        let decayed = flat[..decayed].iter().map(|weight| weight.numel() as i64).sum();
        Self {
            mean: data.zeros_like(),
            square: data.zeros_like(),
            average: ema_decay.map(|_| data.copy()),
            data,
            steps: 0,
            decay: ema_decay.unwrap_or_default(),
            decayed,
            settings: settings.clone(),
        }
    }

    /// Everything that a checkpoint holds, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let always = [("data", &self.data), ("mean", &self.mean), ("square", &self.square)];
        always.into_iter().chain(self.average.iter().map(|average| ("average", average)))
    }

    /// The weights as leaves of the graph, in the shapes they came in.
    pub fn leaves(&self, shapes: &[Vec<i64>]) -> Vec<Tensor> {
        views(&self.data, shapes).into_iter().map(|view| view.set_requires_grad(true)).collect()
    }

    /// Clips `gradients` (in the order of the weights) to the global norm `norm` that they have and makes one update;
    /// returns the learning rate used.
    pub fn step(&mut self, gradients: &[Tensor], norm: f64) -> f64 {
        let _guard = no_grad_guard();
        let most = self.settings.max_grad_norm;
        let clip = if most > 0.0 && norm > most { most / (norm + 1e-6) } else { 1.0 };
        let rate = self.settings.learning_rate_at(self.steps);
        self.steps += 1;
        let (decayed, others) = self.parts(gradients);
        self.update(&decayed, clip, rate, self.settings.weight_decay);
        self.update(&others, clip, rate, 0.0);
        if let Some(average) = &mut self.average {
            let _ = average.lerp_(&self.data, 1.0 - self.decay);
        }
        rate
    }

    // Each gradient with its place in the buffers: those that decay, and the others.
    fn parts<'a>(&self, gradients: &'a [Tensor]) -> (Vec<Part<'a>>, Vec<Part<'a>>) {
        let mut start = 0;
        let part = |gradient: &'a Tensor| {
            start += gradient.numel() as i64;
            Part { start: start - gradient.numel() as i64, gradient }
        };
        gradients.iter().map(part).partition(|part| part.start < self.decayed)
    }

    // PyTorch's fused kernel: one pass over each weight, its moments and its gradient.
    fn update(&self, parts: &[Part], clip: f64, rate: f64, decay: f64) {
        if parts.is_empty() {
            return;
        }
        let Optimizer { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, .. } = self.settings;
        let cut = |whole: &Tensor| -> Vec<Tensor> {
            parts.iter().map(|part| whole.narrow(0, part.start, part.gradient.numel() as i64)).collect()
        };
        let gradients: Vec<Tensor> = parts.iter().map(|part| part.gradient.reshape([-1])).collect();
        let device = self.data.device();
        fused::adamw(fused::Update {
            weights: &cut(&self.data),
            gradients: &gradients,
            means: &cut(&self.mean),
            squares: &cut(&self.square),
            steps: &Tensor::from(self.steps as f32).to_device(device),
            // The kernel divides by it.
            gradient_scale: &Tensor::from((1.0 / clip) as f32).to_device(device),
            rate,
            beta1,
            beta2,
            decay,
            epsilon,
        });
    }
}

struct Part<'a> {
    start: i64,
    gradient: &'a Tensor,
}

/// Parts of a flat buffer, one after the other in these shapes, outside any graph.
pub fn views(flat: &Tensor, shapes: &[Vec<i64>]) -> Vec<Tensor> {
    let mut start = 0;
    let view = |shape: &Vec<i64>| {
        let size: i64 = shape.iter().product();
        start += size;
        flat.narrow(0, start - size, size).view(shape.as_slice()).detach()
    };
    shapes.iter().map(view).collect()
}
