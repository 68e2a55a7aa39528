//! The trainable weights in one flat f32 buffer, and AdamW with decoupled weight decay over it. Each weight is a
//! view of the buffer, so that clipping, updating, saving and digesting are a few operations however many weights
//! there are. Gains of normalisations are not decayed (HF Trainer's rule).

use plumb_stages::model::Optimizer;
use tch::{Device, Kind, Tensor, no_grad_guard};

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

/// Elements updated at once on a CPU: the five passes over them stay in the second-level cache, which makes this as
/// fast as the fused kernel.
const CHUNK: i64 = 1 << 15;

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
        let (chunk, mut start) = (self.chunk(), 0);
        for gradient in gradients {
            for part in gradient.reshape([-1]).split(chunk, 0) {
                self.update(&part, start, clip, rate);
                start += part.numel() as i64;
            }
        }
        rate
    }

    fn chunk(&self) -> i64 {
        if self.data.device() == Device::Cpu { CHUNK } else { i64::MAX }
    }

    // The elements from `start` on, whose gradients these are.
    fn update(&self, gradient: &Tensor, start: i64, clip: f64, rate: f64) {
        let Optimizer { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, weight_decay, .. } = self.settings;
        let steps = self.steps as f64;
        let (first, second) = (1.0 - beta1.powf(steps), 1.0 - beta2.powf(steps));
        let part = |whole: &Tensor| whole.narrow(0, start, gradient.numel() as i64);
        let (mut data, mut mean, mut square) = (part(&self.data), part(&self.mean), part(&self.square));
        if clip < 1.0 {
            let _ = gradient.shallow_clone().g_mul_scalar_(clip);
        }
        let _ = mean.lerp_(gradient, 1.0 - beta1);
        let scaled = gradient.g_mul_scalar((1.0 - beta2).sqrt());
        let _ = square.g_mul_scalar_(beta2).addcmul_(&scaled, &scaled);
        let floor = square.sqrt().g_div_scalar(second.sqrt()).g_add_scalar(epsilon);
        if start < self.decayed && weight_decay > 0.0 {
            let _ = data.g_mul_scalar_(1.0 - rate * weight_decay);
        }
        let _ = data.addcdiv_(&mean.g_mul_scalar(-rate / first), &floor);
        if let Some(average) = &self.average {
            let _ = part(average).lerp_(&data, 1.0 - self.decay);
        }
    }
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
