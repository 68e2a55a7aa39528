//! One optimiser step: micro-batches forward and backward, gradients summed, clipped, applied. Which weights learn is
//! decided once; the frozen blocks below are run without gradients.

use std::path::Path;

use plumb_engine::stage::StageError;
use plumb_stages::jsonl;
use plumb_stages::maths::grpo::GrpoLoss;
use plumb_stages::model::{Cut, Rollout, Sequence, StepReport, Training};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::adamw::{self, AdamW};
use crate::batch::{Frozen, targets};
use crate::losses::cross_entropy::CrossEntropy;
use crate::losses::grpo::{Grpo, Share, counted_tokens};
use crate::pass::Pass;
use crate::step::{Keep, Step};
use crate::transformer::Transformer;
use crate::weights::{self, Part, Written};

/// The trainable weights of a transformer and their optimiser.
pub struct Learner {
    adamw: AdamW,
    /// Index of each trainable part among the transformer's weights, in the order of the flat buffer.
    places: Vec<usize>,
    shapes: Vec<Vec<i64>>,
    /// Blocks below this one are frozen.
    frozen: usize,
    activations: Frozen,
    keep: Keep,
}

#[derive(Serialize, Deserialize)]
struct Progress {
    steps: u64,
}

impl Learner {
    /// Indices of the parts that learn: the last `trainable_layers` blocks with the final norm and an untied head,
    /// or everything; where there are adapters, only those of the blocks that learn, and a score head. Decayed weights
    /// first, then gains and biases.
    pub fn places(model: &Transformer, trainable_layers: Option<usize>) -> Vec<usize> {
        let parts = weights::parts(&model.config);
        let first = first_trainable(model, trainable_layers);
        let adapted = model.config.lora.is_some();
        let learns = |part: &Part| match part.layer() {
            _ if adapted && !part.adapts() => *part == Part::Score,
            Some(layer) => layer >= first,
            None => trainable_layers.is_none() || !matches!(part, Part::Embedding),
        };
        let chosen: Vec<usize> = (0..parts.len()).filter(|place| learns(&parts[*place])).collect();
        let (decayed, others): (Vec<usize>, Vec<usize>) = chosen.into_iter().partition(|place| parts[*place].decays());
        decayed.into_iter().chain(others).collect()
    }

    /// Makes `masters` (f32, in the order of `places`) the model's own weights.
    pub fn new(model: &mut Transformer, places: Vec<usize>, masters: &[Tensor], training: &Training) -> Self {
        let parts = weights::parts(&model.config);
        let decayed = places.iter().filter(|place| parts[**place].decays()).count();
        let shapes = masters.iter().map(Tensor::size).collect();
        let frozen = training.trainable_layers.map_or(0, |_| first_trainable(model, training.trainable_layers));
        let keep = if training.gradient_checkpointing { Keep::Inputs } else { Keep::Activations };
        let adamw = AdamW::new(masters, decayed, &training.optimizer, training.ema_decay);
        let learner = Self { adamw, places, shapes, frozen, activations: Frozen::default(), keep };
        learner.refresh(model);
        learner
    }

    /// Puts the masters' present values into the model, in its dtype.
    pub fn refresh(&self, model: &mut Transformer) {
        let parts = weights::parts(&model.config);
        for (place, leaf) in self.places.iter().zip(self.adamw.leaves(&self.shapes)) {
            model.weights[*place] = leaf.detach().to_kind(parts[*place].kind(model.kind));
        }
    }

    /// One step on the mean token loss.
    pub fn sft_step(&mut self, model: &mut Transformer, sequences: &[Sequence], cut: Cut) -> StepReport {
        let tokens = sequences.iter().map(|sequence| sequence.completion.len() as f64).sum::<f64>();
        let loss = CrossEntropy { tokens: tokens.max(1.0) };
        let mut step = self.begin(model);
        match cut {
            Cut::Rows(rows) => {
                // Like lengths together: less padding.
                let mut order: Vec<&Sequence> = sequences.iter().collect();
                order.sort_by_key(|sequence| sequence.prompt.len() + sequence.completion.len());
                let sorted: Vec<Sequence> = order.into_iter().cloned().collect();
                for part in sorted.chunks(size(rows, sorted.len())) {
                    let pass = Pass::new(&step.model, part, self.frozen, Some(&mut self.activations));
                    step.add(pass, &targets(part, model.device), &loss);
                }
            }
            Cut::Packed(most) => {
                for part in packs(sequences, most) {
                    step.add(Pass::packed(&step.model, part, self.frozen), &targets(part, model.device), &loss);
                }
            }
        }
        self.finish(model, step, tokens)
    }

    /// One step on GRPO's loss.
    pub fn grpo_step(
        &mut self,
        model: &mut Transformer,
        rollouts: &[Rollout],
        loss: &GrpoLoss,
        micro_batch: usize,
    ) -> StepReport {
        let size = size(micro_batch, rollouts.len());
        let share = Share::new(rollouts, rollouts.len().div_ceil(size));
        let (mut step, mut low, mut high) = (self.begin(model), f64::INFINITY, 0.0_f64);
        for part in rollouts.chunks(size) {
            let sequences: Vec<Sequence> = part.iter().map(|rollout| rollout.sequence.clone()).collect();
            let pass = Pass::new(&step.model, &sequences, self.frozen, None);
            let grpo = Grpo::new(part, loss, &share, model.device);
            step.add(pass, &targets(&sequences, model.device), &grpo);
            if let Some((least, most)) = grpo.extremes() {
                (low, high) = (low.min(least), high.max(most));
            }
        }
        let mut report = self.finish(model, step, counted_tokens(rollouts));
        let low = if low.is_finite() { low } else { 0.0 };
        report.more.extend([("clip_ratio/low_min".to_string(), low), ("clip_ratio/high_max".to_string(), high)]);
        report
    }

    /// Starts a step: whoever has an objective adds its micro-batches to it.
    pub fn begin(&self, model: &Transformer) -> Step {
        Step::new(model, &self.places, self.adamw.leaves(&self.shapes), self.keep)
    }

    /// Blocks below this one are frozen.
    pub fn frozen(&self) -> usize {
        self.frozen
    }

    /// Clips and applies what a step has summed; `tokens` is what its counts are shares of. A loss or gradient that is
    /// not finite is reported and not applied.
    pub fn finish(&mut self, model: &mut Transformer, step: Step, tokens: f64) -> StepReport {
        let (Some(sums), Some(gradients)) = (step.sums, step.gradients.into_iter().collect::<Option<Vec<_>>>()) else {
            return StepReport::default();
        };
        let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
        let norm = Tensor::stack(&norms, 0).norm().view([1]);
        let read = Tensor::cat(&[sums, norm], 0).to_kind(Kind::Double);
        let read: Vec<f64> = Vec::try_from(&read).unwrap_or_else(|_| vec![f64::NAN; 7]);
        let [loss, entropy, right, kl, low, high, grad_norm] = read[..] else { return StepReport::default() };
        let mut report = StepReport {
            loss,
            grad_norm,
            learning_rate: 0.0,
            entropy: entropy / tokens.max(1.0),
            kl: kl / tokens.max(1.0),
            mean_token_accuracy: right / tokens.max(1.0),
            clip_low: low / tokens.max(1.0),
            clip_high: high / tokens.max(1.0),
            num_tokens: tokens as u64,
            ..StepReport::default()
        };
        if !loss.is_finite() || !grad_norm.is_finite() {
            report.fault = self.fault(model, &gradients);
        } else {
            report.learning_rate = self.adamw.step(&gradients, grad_norm);
            if model.kind != Kind::Float {
                self.refresh(model);
            }
        }
        report
    }

    // The first weight that is not finite, or else the first gradient: of a fused weight, the HF tensor in it.
    fn fault(&self, model: &Transformer, gradients: &[Tensor]) -> Option<String> {
        let frozen = (0..model.weights.len()).filter(|place| !self.places.contains(place));
        let frozen = frozen.map(|place| (place, model.weights[place].shallow_clone()));
        let leaves = self.places.iter().copied().zip(self.adamw.leaves(&self.shapes));
        let mut weights: Vec<(usize, Tensor)> = leaves.chain(frozen).collect();
        weights.sort_by_key(|(place, _)| *place);
        let mut gradients: Vec<(usize, Tensor)> =
            self.places.iter().copied().zip(gradients.iter().map(Tensor::shallow_clone)).collect();
        gradients.sort_by_key(|(place, _)| *place);
        let named = |of: &str, tensors: &[(usize, Tensor)]| {
            let mut names = tensors.iter().flat_map(|(place, tensor)| not_finite(model, *place, tensor));
            let first = names.next()?;
            let others = names.count();
            let more = if others > 0 { format!(" and of {others} more") } else { String::new() };
            Some(format!("{of} `{first}`{more} not finite"))
        };
        named("weight", &weights).or_else(|| named("the gradient of", &gradients))
    }

    /// What is saved of each trained part, by its place among the transformer's weights: its running mean where one is
    /// kept.
    pub fn masters(&self) -> impl Iterator<Item = (usize, Tensor)> {
        let flat = self.adamw.average.as_ref().unwrap_or(&self.adamw.data);
        self.places.iter().copied().zip(adamw::views(flat, &self.shapes))
    }

    /// Digest of the masters' bytes.
    pub fn digest(&self) -> String {
        let data = self.adamw.data.to_device(tch::Device::Cpu);
        let mut bytes = vec![0; data.numel() * 4];
        data.copy_data_u8(&mut bytes, data.numel());
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// Writes masters, moments and the number of updates; refuses weights that are not finite, so that the last
    /// checkpoint is a good one.
    pub fn save(&self, model: &Transformer, folder: &Path) -> Result<(), StageError> {
        if let Some(fault) = self.fault(model, &[]) {
            return Err(StageError::new(format!("{fault} after the update")).hint("lower `learning_rate`"));
        }
        let named = self.adamw.tensors().map(|(name, tensor)| (name.to_string(), Written::of(tensor)));
        weights::write(&folder.join("optimizer.safetensors"), &named.collect())?;
        jsonl::write_json(&folder.join("optimizer.json"), &Progress { steps: self.adamw.steps })
    }

    /// Continues from [`Learner::save`].
    pub fn resume(&mut self, model: &mut Transformer, folder: &Path) -> Result<(), StageError> {
        let progress = jsonl::read_json::<Progress>(&folder.join("optimizer.json"))?;
        let files = weights::Files::of(&folder.join("optimizer.safetensors"))?;
        let size = [self.adamw.data.numel() as i64];
        let _guard = tch::no_grad_guard();
        for (name, tensor) in self.adamw.tensors() {
            tensor.shallow_clone().copy_(&files.tensor(name, &size)?);
        }
        self.adamw.steps = progress.steps;
        self.refresh(model);
        Ok(())
    }
}

fn not_finite(model: &Transformer, place: usize, tensor: &Tensor) -> Vec<String> {
    let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
    if finite(tensor) {
        return Vec::new();
    }
    let part = weights::parts(&model.config)[place];
    let names = part.sources(&model.config).into_iter().map(|(name, _)| name);
    names.zip(part.split(&model.config, tensor)).filter(|(_, tensor)| !finite(tensor)).map(|(name, _)| name).collect()
}

fn first_trainable(model: &Transformer, trainable_layers: Option<usize>) -> usize {
    let layers = model.config.num_hidden_layers;
    layers.saturating_sub(trainable_layers.unwrap_or(layers))
}

// Consecutive sequences of at most so many tokens together; a longer one alone.
fn packs(sequences: &[Sequence], most: usize) -> Vec<&[Sequence]> {
    let (mut packs, mut start, mut held) = (Vec::new(), 0, 0);
    for (index, sequence) in sequences.iter().enumerate() {
        let own = sequence.prompt.len() + sequence.completion.len();
        if index > start && held + own > most {
            packs.push(&sequences[start..index]);
            (start, held) = (index, 0);
        }
        held += own;
    }
    packs.push(&sequences[start..]);
    packs.into_iter().filter(|pack| !pack.is_empty()).collect()
}

fn size(micro_batch: usize, all: usize) -> usize {
    if micro_batch == 0 { all.max(1) } else { micro_batch }
}
