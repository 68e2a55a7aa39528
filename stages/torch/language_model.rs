//! A model folder opened over libtorch: what plumb-stages' loops ask of a `Model`. The border at which libtorch's
//! errors become stage errors.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_engine::stage::StageError;
use plumb_stages::chat;
use plumb_stages::maths::grpo::GrpoLoss;
use plumb_stages::maths::ppo::PpoLoss;
use plumb_stages::maths::preference::DpoLoss;
use plumb_stages::model::{
    Backend, Completion, Contrast, Cut, Dtype, Estimated, Lora, Model, Preference, Request, Rollout, Sampling,
    Sequence, StepReport, Training, Watch,
};
use serde_json::Value;
use tch::{Kind, Tensor, no_grad_guard};
use tokenizers::Tokenizer;

use crate::batch::targets;
use crate::config::{Config, token_ids};
use crate::generate::{self, Ends};
use crate::learner::Learner;
use crate::pass::predicting;
use crate::transformer::Transformer;
use crate::weights::{self, Files, Part};
use crate::{device, head, init, lora, memory, preference, value, vocabulary};

/// Opens model folders on the device that the manner asks for.
#[derive(Debug, Clone, Copy)]
pub struct Torch;

/// Files of a model folder that pass through training unchanged.
const COMPANIONS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Where a model folder keeps the adapter that was merged into it, as PEFT has it.
const ADAPTER: &str = "adapter";

/// Tokens scored in one pass by [`Model::log_probabilities`].
const SCORED_AT_ONCE: usize = 8192;

/// A transformer with its tokenizer, and its optimiser once training is prepared.
pub struct LanguageModel {
    folder: PathBuf,
    transformer: Transformer,
    tokenizer: Tokenizer,
    eos: Vec<u32>,
    template: Option<String>,
    learner: Option<Learner>,
    /// Whether the weights are no longer those of the folder.
    moved: bool,
}

impl Backend for Torch {
    fn load(&self, folder: &Path, dtype: Dtype, manner: &Manner) -> Result<Box<dyn Model>, StageError> {
        let model = LanguageModel::open(folder, dtype, manner)?;
        if model.transformer.config.scores {
            let message = format!("`{}` is a reward model: it writes no text", folder.display());
            return Err(StageError::new(message).hint("`bench.reward` and `rm.train` take reward models"));
        }
        Ok(Box::new(model))
    }

    fn load_reward_model(
        &self,
        folder: &Path,
        dtype: Dtype,
        manner: &Manner,
        seed: Option<u64>,
    ) -> Result<Box<dyn Model>, StageError> {
        Ok(Box::new(LanguageModel::open_to_score(folder, dtype, manner, seed)?))
    }
}

impl LanguageModel {
    /// Opens an HF model folder for inference.
    pub fn open(folder: &Path, dtype: Dtype, manner: &Manner) -> Result<Self, StageError> {
        Self::open_as(folder, Config::read(folder)?, None, dtype, manner)
    }

    /// Opens a reward model; of a language model's folder, with a score head drawn from `seed`, where one is given.
    pub fn open_to_score(folder: &Path, dtype: Dtype, manner: &Manner, seed: Option<u64>) -> Result<Self, StageError> {
        let config = Config::read(folder)?;
        if config.scores {
            return Self::open_as(folder, config, None, dtype, manner);
        }
        let Some(seed) = seed else {
            let message = format!("`{}` is no reward model: it has no score head", folder.display());
            return Err(StageError::new(message).hint("give the model that `rm.train` writes"));
        };
        let end = end_tokens(folder, &config)?.first().copied();
        let config = config.with_scores(end).map_err(StageError::new)?;
        let head = init::score_head(seed, config.hidden_size);
        Self::open_as(folder, config, Some(head), dtype, manner)
    }

    fn open_as(
        folder: &Path,
        config: Config,
        score: Option<Tensor>,
        dtype: Dtype,
        manner: &Manner,
    ) -> Result<Self, StageError> {
        let device = device::choose(manner)?;
        let kind = match dtype {
            Dtype::Float32 => Kind::Float,
            Dtype::Bfloat16 => Kind::BFloat16,
        };
        let (files, tokenizer) = (Files::open(folder)?, vocabulary::tokenizer(folder, &config)?);
        let weights = weights::parts(&config).into_iter().map(|part| {
            let weight = match &score {
                Some(score) if part == Part::Score => score.shallow_clone(),
                _ => files.part(&config, part)?,
            };
            let kind = part.kind(kind);
            weight.f_to_device(device).and_then(|weight| weight.f_to_kind(kind)).map_err(|error| torch(&error))
        });
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let eos = end_tokens(folder, &config)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            transformer: Transformer::new(config, weights, kind, device),
            tokenizer,
            eos,
            template: chat::of_model(folder)?,
            learner: None,
            moved: false,
        })
    }

    /// The transformer itself, for tests and measurements.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    fn check<'a>(&self, texts: impl Iterator<Item = &'a [u32]>) -> Result<(), StageError> {
        vocabulary::check(&self.transformer.config, &self.tokenizer, texts)
    }

    fn learning(&mut self) -> Result<(&mut Learner, &mut Transformer), StageError> {
        let learner = self.learner.as_mut().ok_or_else(|| StageError::new("training was not prepared"))?;
        Ok((learner, &mut self.transformer))
    }

    // Trained parts from their masters, the others from the file: inference may have rounded what it holds.
    fn weights_in_full(&self) -> Result<Vec<Tensor>, StageError> {
        if self.moved && self.learner.is_none() {
            let wide = |weight: &Tensor| weight.to_kind(Kind::Float);
            return Ok(self.transformer.weights.iter().map(wide).collect());
        }
        let files = Files::open(&self.folder)?;
        let base = self.transformer.config.without_lora();
        let trained: BTreeMap<usize, Tensor> = self.learner.iter().flat_map(Learner::masters).collect();
        let adapted = lora::adapted(&self.transformer.config);
        let parts = weights::parts(&base).into_iter().enumerate().map(|(place, part)| {
            if let Some(master) = trained.get(&place) {
                return Ok(master.shallow_clone());
            }
            let weight = self.read(&files, place, part)?;
            let held = |place: usize| self.learnt(&trained, place).to_device(weight.device());
            Ok(adapted
                .get(&place)
                .map_or_else(|| weight.shallow_clone(), |adapted| adapted.merged(&weight, &held, lora::fast)))
        });
        parts.collect()
    }

    // What is saved of an adapter or a score head: its running mean where one is kept.
    fn learnt(&self, trained: &BTreeMap<usize, Tensor>, place: usize) -> Tensor {
        trained.get(&place).unwrap_or(&self.transformer.weights[place]).detach()
    }

    fn adapt(&mut self, asked: &Lora) -> Result<(), StageError> {
        let transformer = &mut self.transformer;
        caught(|| {
            let config = transformer.config.with_lora(lora::Lora::of(asked));
            let mut weights = std::mem::take(&mut transformer.weights);
            weights.extend(lora::drawn(&config, asked.seed).iter().map(|one| one.to_device(transformer.device)));
            *transformer = Transformer::new(config, weights, transformer.kind, transformer.device);
        })
    }

    // In full precision. A score head that was drawn and adapters are in no file, and are held in full.
    fn read(&self, files: &Files, place: usize, part: Part) -> Result<Tensor, StageError> {
        if part == Part::Score || part.adapts() {
            return Ok(self.transformer.weights[place].shallow_clone());
        }
        files.part(&self.transformer.config, part)
    }
}

impl Model for LanguageModel {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn eos_token_ids(&self) -> &[u32] {
        &self.eos
    }

    fn context(&self) -> usize {
        usize::try_from(self.transformer.config.max_position_embeddings).unwrap_or(usize::MAX)
    }

    fn chat_template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    fn generate_watched(
        &mut self,
        requests: &[Request],
        sampling: &Sampling,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<Completion>>, StageError> {
        if let Some(empty) = requests.iter().position(|request| request.prompt.is_empty()) {
            return Err(StageError::new(format!("prompt {empty} of a batch has no tokens")));
        }
        self.check(requests.iter().map(|request| request.prompt.as_slice()))?;
        let ends = Ends { eos: &self.eos, tokenizer: &self.tokenizer };
        let drawn = caught(|| generate::generate(&self.transformer, &ends, requests, sampling, watch));
        let advice = "`with.max_completion_length` and the length of the prompts say how much a sequence takes";
        drawn.map_err(|error| memory::told(error, self.transformer.device, advice))?
    }

    fn log_probabilities(&mut self, sequences: &[Sequence], temperature: f64) -> Result<Vec<Vec<f32>>, StageError> {
        self.check(sequences.iter().flat_map(|sequence| [sequence.prompt.as_slice(), &sequence.completion]))?;
        caught(|| {
            let _guard = no_grad_guard();
            let mut scored = Vec::with_capacity(sequences.len());
            for part in parts_of(sequences) {
                scored.extend(score(&self.transformer, part, temperature));
            }
            scored
        })
    }

    fn log_probabilities_of_base(
        &mut self,
        sequences: &[Sequence],
        temperature: f64,
    ) -> Result<Vec<Vec<f32>>, StageError> {
        self.transformer.bare = true;
        let scored = self.log_probabilities(sequences, temperature);
        self.transformer.bare = false;
        scored
    }

    fn prepare_training(&mut self, training: &Training) -> Result<(), StageError> {
        if let Some(lora) = &training.lora {
            self.adapt(lora)?;
        }
        let files = Files::open(&self.folder)?;
        let parts = weights::parts(&self.transformer.config);
        let places = Learner::places(&self.transformer, training.trainable_layers);
        // What inference holds in float32 is what the file holds: it need not be read twice.
        let exact = self.transformer.kind == Kind::Float;
        let master = |place: &usize| {
            if exact || self.moved {
                return Ok(self.transformer.weights[*place].to_kind(Kind::Float));
            }
            let weight = self.read(&files, *place, parts[*place])?;
            weight.f_to_device(self.transformer.device).map_err(|error| torch(&error))
        };
        let masters = places.iter().map(master).collect::<Result<Vec<_>, _>>()?;
        let transformer = &mut self.transformer;
        self.learner = Some(caught(|| Learner::new(transformer, places, &masters, training))?);
        Ok(())
    }

    fn move_towards(&mut self, folder: &Path, share: f64) -> Result<(), StageError> {
        let files = Files::open(folder)?;
        let _guard = no_grad_guard();
        for (place, part) in weights::parts(&self.transformer.config).into_iter().enumerate() {
            let there = files.part(&self.transformer.config, part)?;
            let own = &mut self.transformer.weights[place];
            caught(|| {
                let there = there.to_device(own.device()).to_kind(own.kind());
                *own = own.g_mul_scalar(1.0 - share) + there.g_mul_scalar(share);
            })?;
        }
        self.moved = true;
        Ok(())
    }

    fn sft_step(&mut self, sequences: &[Sequence], cut: Cut) -> Result<StepReport, StageError> {
        self.check(sequences.iter().flat_map(|sequence| [sequence.prompt.as_slice(), &sequence.completion]))?;
        let (learner, transformer) = self.learning()?;
        caught(|| learner.sft_step(transformer, sequences, cut))
    }

    fn grpo_step(
        &mut self,
        rollouts: &[Rollout],
        loss: &GrpoLoss,
        micro_batch: usize,
    ) -> Result<StepReport, StageError> {
        let (learner, transformer) = self.learning()?;
        caught(|| learner.grpo_step(transformer, rollouts, loss, micro_batch))
    }

    fn dpo_step(&mut self, pairs: &[Preference], loss: &DpoLoss, at_once: usize) -> Result<StepReport, StageError> {
        let (learner, transformer) = self.learning()?;
        caught(|| preference::dpo_step(learner, transformer, pairs, loss, at_once))
    }

    fn rewards(&mut self, texts: &[Vec<u32>]) -> Result<Vec<f64>, StageError> {
        caught(|| {
            let sized = texts.iter().map(|text| Sequence { prompt: text.clone(), completion: Vec::new() });
            let sized: Vec<Sequence> = sized.collect();
            let parts = parts_of(&sized).into_iter().map(|part| {
                let texts: Vec<Vec<u32>> = part.iter().map(Sequence::whole).collect();
                preference::rewards(&self.transformer, &texts)
            });
            parts.flatten().collect()
        })
    }

    fn reward_step(&mut self, contrasts: &[Contrast], centre: f64, at_once: usize) -> Result<StepReport, StageError> {
        let (learner, transformer) = self.learning()?;
        caught(|| preference::reward_step(learner, transformer, contrasts, centre, at_once))
    }

    fn ppo_step(&mut self, rows: &[Estimated], loss: &PpoLoss, at_once: usize) -> Result<StepReport, StageError> {
        let (learner, transformer) = self.learning()?;
        caught(|| value::ppo_step(learner, transformer, rows, loss, at_once))
    }

    fn values(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>, StageError> {
        let parts = parts_of(sequences);
        caught(|| parts.into_iter().flat_map(|part| value::values(&self.transformer, part)).collect())
    }

    fn value_step(&mut self, rows: &[Estimated], loss: &PpoLoss, at_once: usize) -> Result<StepReport, StageError> {
        let (learner, transformer) = self.learning()?;
        caught(|| value::value_step(learner, transformer, rows, loss, at_once))
    }

    fn save(&self, folder: &Path) -> Result<(), StageError> {
        std::fs::create_dir_all(folder).map_err(|error| StageError::file("create", folder, &error))?;
        let config = &self.transformer.config;
        let weights = self.weights_in_full()?;
        weights::write(&folder.join("model.safetensors"), &weights::to_hf(&config.without_lora(), &weights))?;
        config.write(folder)?;
        let trained: BTreeMap<usize, Tensor> = self.learner.iter().flat_map(Learner::masters).collect();
        lora::write(&folder.join(ADAPTER), config, &|place| self.learnt(&trained, place))?;
        for name in COMPANIONS {
            let (from, to) = (self.folder.join(name), folder.join(name));
            if from.exists() {
                // Not `fs::copy`: that would carry the input's read-only permission along.
                let bytes = std::fs::read(&from).map_err(|error| StageError::file("read", &from, &error))?;
                std::fs::write(&to, bytes).map_err(|error| StageError::file("write", &to, &error))?;
            }
        }
        Ok(())
    }

    fn save_checkpoint(&self, folder: &Path) -> Result<(), StageError> {
        let learner = self.learner.as_ref().ok_or_else(|| StageError::new("training was not prepared"))?;
        learner.save(&self.transformer, folder)
    }

    fn resume(&mut self, folder: &Path) -> Result<(), StageError> {
        let (learner, transformer) = self.learning()?;
        learner.resume(transformer, folder)
    }

    fn weights_digest(&self) -> String {
        self.learner.as_ref().map(Learner::digest).unwrap_or_default()
    }
}

fn score(model: &Transformer, sequences: &[Sequence], temperature: f64) -> Vec<Vec<f32>> {
    let logits = model.logits(&predicting(model, sequences, 0, None));
    let logits = if temperature == 1.0 { logits } else { logits.g_div_scalar(temperature) };
    let targets = targets(sequences, model.device);
    let logprobs = head::of_targets(&logits.log_softmax(-1, Kind::Float), &targets).to_device(tch::Device::Cpu);
    let mut flat = vec![0f32; logprobs.numel()];
    let count = flat.len();
    logprobs.copy_data(&mut flat, count);
    let mut rest = flat.as_slice();
    let mut cut = |sequence: &Sequence| {
        let (own, others) = rest.split_at(sequence.completion.len());
        rest = others;
        own.to_vec()
    };
    sequences.iter().map(&mut cut).collect()
}

// Consecutive sequences, cut where the padded pass would hold too many tokens.
fn parts_of(sequences: &[Sequence]) -> Vec<&[Sequence]> {
    let (mut parts, mut start, mut longest) = (Vec::new(), 0, 0);
    for (index, sequence) in sequences.iter().enumerate() {
        longest = longest.max(sequence.prompt.len() + sequence.completion.len());
        if index > start && (index + 1 - start) * longest > SCORED_AT_ONCE {
            parts.push(&sequences[start..index]);
            (start, longest) = (index, sequence.prompt.len() + sequence.completion.len());
        }
    }
    parts.push(&sequences[start..]);
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

// generation_config.json wins over config.json, as in transformers.
fn end_tokens(folder: &Path, config: &Config) -> Result<Vec<u32>, StageError> {
    let generation = json(&folder.join("generation_config.json"))?;
    let ids = token_ids(generation.as_ref().and_then(|document| document.get("eos_token_id")));
    let ids = if ids.is_empty() { config.eos_token_ids() } else { ids };
    if ids.is_empty() {
        return Err(StageError::new(format!("`{}` names no `eos_token_id`", folder.display())));
    }
    Ok(ids)
}

fn json(path: &Path) -> Result<Option<Value>, StageError> {
    if !path.exists() {
        return Ok(None);
    }
    plumb_stages::jsonl::read_json(path).map(Some)
}

fn torch(error: &tch::TchError) -> StageError {
    StageError::new(format!("libtorch: {}", first_line(&error.to_string())))
}

// libtorch's errors carry its own stack trace after the first line.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// Runs tensor code, whose plain methods panic with libtorch's message, and turns that into an error.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let message = text.unwrap_or("unknown error");
        let message = message.split_once("Torch(\"").map_or(message, |(_, rest)| rest);
        let error = StageError::new(format!("libtorch: {}", first_line(&message.replace("\\n", "\n"))));
        if message.contains("out of memory") || message.contains("can't allocate memory") {
            return error.hint("set `with.micro_batch` to a smaller number");
        }
        error
    })
}
