//! A model that is one distribution over words, learnt by plain gradient steps, and a folder to run a step in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_engine::stage::StageError;
use serde_json::json;
use tokenizers::Tokenizer;

use crate::jsonl;
use crate::maths::grpo::GrpoLoss;
use crate::maths::ppo::PpoLoss;
use crate::maths::preference::{DpoLoss, LogRatio, centred_bradley_terry};
use crate::model::{
    Backend, Completion, Contrast, Cut, Dtype, Estimated, Model, Preference, Request, Rollout, Sampling, Sequence,
    StepReport, Training, Watch,
};
use crate::train::chain::Link;
use crate::train::log::StepRow;

const WORDS: [&str; 6] = ["<eos>", "[A]", "[B]", "red", "blue", "<unk>"];

// Draws one word, then the end token.
struct Words {
    tokenizer: Tokenizer,
    logits: Vec<f64>,
    rate: f64,
    faults: Rc<Faults>,
}

/// What goes wrong in this many updates.
pub struct Faults {
    /// The power fails.
    pub power: Cell<u64>,
    /// A weight is jolted, once.
    pub jolt: Cell<u64>,
    /// Prompts that are answered before the power fails.
    pub answers: Cell<u64>,
    /// Prompts that were answered, whatever went wrong then.
    pub asked: Cell<u64>,
}

/// Opens distributions over words.
pub struct Table {
    pub faults: Rc<Faults>,
}

impl Backend for Table {
    fn load(&self, folder: &Path, _dtype: Dtype, _manner: &Manner) -> Result<Box<dyn Model>, StageError> {
        let ids: BTreeMap<&str, usize> = WORDS.into_iter().zip(0..).collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "added_tokens": [{"id": 0, "content": "<eos>", "single_word": false, "lstrip": false, "rstrip": false,
                              "normalized": false, "special": true}],
            "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
        });
        let tokenizer = tokenizer.to_string().parse().expect("a tokenizer");
        let logits = jsonl::read_json(&folder.join("logits.json"))?;
        Ok(Box::new(Words { tokenizer, logits, rate: 0.0, faults: Rc::clone(&self.faults) }))
    }

    // The distribution's logits serve as rewards.
    fn load_reward_model(
        &self,
        folder: &Path,
        dtype: Dtype,
        manner: &Manner,
        _seed: Option<u64>,
    ) -> Result<Box<dyn Model>, StageError> {
        self.load(folder, dtype, manner)
    }
}

impl Words {
    fn logprob(&self, word: usize) -> f64 {
        self.logits[word] - self.logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
    }

    // Adds the gradient of `weight * log p(word)`.
    fn learn(&mut self, word: usize, weight: f64) {
        let shares: Vec<f64> = (0..WORDS.len()).map(|other| self.logprob(other).exp()).collect();
        for (other, share) in shares.iter().enumerate() {
            self.logits[other] += self.rate * weight * (f64::from(u8::from(other == word)) - share);
        }
    }

    fn update(&mut self) -> Result<(), StageError> {
        let Faults { power, jolt, .. } = &*self.faults;
        if power.get() == 0 {
            return Err(StageError::new("killed"));
        }
        if jolt.get() == 1 {
            self.logits[1] += 1e-3;
        }
        power.set(power.get() - 1);
        jolt.set(jolt.get().saturating_sub(1));
        Ok(())
    }
}

impl Model for Words {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
    fn eos_token_ids(&self) -> &[u32] {
        &[0]
    }
    fn chat_template(&self) -> Option<&str> {
        None
    }
    fn context(&self) -> usize {
        1024
    }
    fn generate_watched(
        &mut self,
        requests: &[Request],
        sampling: &Sampling,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<Completion>>, StageError> {
        let draw = |request: &Request, sample: usize| {
            let best = (1..WORDS.len()).max_by(|one, other| self.logits[*one].total_cmp(&self.logits[*other]));
            // Samples go round the words, so that every group has spread.
            let word = if sampling.temperature > 0.0 { 1 + (request.stream as usize + sample) % 4 } else { best? };
            let logprobs = vec![self.logprob(word) as f32, 0.0];
            Some(Completion { tokens: vec![word as u32, 0], logprobs, finished: true })
        };
        let mut answer = |(index, request): (usize, &Request)| {
            let Faults { answers, asked, .. } = &*self.faults;
            if answers.get() == 0 {
                return Err(StageError::new("killed"));
            }
            answers.set(answers.get() - 1);
            asked.set(asked.get() + 1);
            let completions: Vec<Completion> = (0..request.samples).filter_map(|one| draw(request, one)).collect();
            watch.ended(index, &completions)?;
            Ok(completions)
        };
        requests.iter().enumerate().map(&mut answer).collect()
    }
    fn log_probabilities(&mut self, sequences: &[Sequence], _: f64) -> Result<Vec<Vec<f32>>, StageError> {
        let score = |one: &Sequence| one.completion.iter().map(|word| self.logprob(*word as usize) as f32).collect();
        Ok(sequences.iter().map(score).collect())
    }
    fn log_probabilities_of_base(&mut self, rows: &[Sequence], heat: f64) -> Result<Vec<Vec<f32>>, StageError> {
        self.log_probabilities(rows, heat)
    }
    fn prepare_training(&mut self, training: &Training) -> Result<(), StageError> {
        self.rate = training.optimizer.learning_rate;
        Ok(())
    }
    fn move_towards(&mut self, folder: &Path, share: f64) -> Result<(), StageError> {
        let there: Vec<f64> = jsonl::read_json(&folder.join("logits.json"))?;
        self.logits.iter_mut().zip(there).for_each(|(own, there)| *own = *own * (1.0 - share) + there * share);
        Ok(())
    }
    fn sft_step(&mut self, sequences: &[Sequence], _: Cut) -> Result<StepReport, StageError> {
        let loss = -sequences.iter().map(|one| self.logprob(one.completion[0] as usize)).sum::<f64>();
        sequences.iter().for_each(|one| self.learn(one.completion[0] as usize, 1.0));
        self.update()?;
        Ok(StepReport { loss, num_tokens: sequences.len() as u64, ..StepReport::default() })
    }
    fn grpo_step(&mut self, rollouts: &[Rollout], _: &GrpoLoss, _: usize) -> Result<StepReport, StageError> {
        let counted = || rollouts.iter().filter(|rollout| rollout.counted);
        let word = |rollout: &Rollout| rollout.sequence.completion[0] as usize;
        let loss = -counted().map(|rollout| rollout.advantage * self.logprob(word(rollout))).sum::<f64>();
        // No gradient of it: what the reference says only shows in the loss.
        let loss =
            loss - rollouts.iter().flat_map(|rollout| &rollout.ref_logprobs).copied().map(f64::from).sum::<f64>();
        counted().for_each(|rollout| self.learn(word(rollout), rollout.advantage));
        self.update()?;
        Ok(StepReport { loss, ..StepReport::default() })
    }
    fn dpo_step(&mut self, pairs: &[Preference], loss: &DpoLoss, _: usize) -> Result<StepReport, StageError> {
        let word = |sequence: &Sequence| sequence.completion[0] as usize;
        let whole = |sequence: &Sequence| sequence.completion.iter().map(|word| self.logprob(*word as usize)).sum();
        let ratio = |sum: f64, reference: f64| LogRatio { sum: sum - reference, tokens: 2.0 };
        let judged: Vec<(f64, [f64; 2])> = pairs
            .iter()
            .map(|pair| {
                let [one, other] = pair.reference;
                loss.of(ratio(whole(&pair.chosen), one), ratio(whole(&pair.rejected), other))
            })
            .collect();
        for (pair, (_, slopes)) in pairs.iter().zip(&judged) {
            self.learn(word(&pair.chosen), -slopes[0]);
            self.learn(word(&pair.rejected), -slopes[1]);
        }
        self.update()?;
        let loss = judged.iter().map(|(loss, _)| loss).sum::<f64>() / pairs.len() as f64;
        Ok(StepReport { loss, ..StepReport::default() })
    }
    fn rewards(&mut self, texts: &[Vec<u32>]) -> Result<Vec<f64>, StageError> {
        Ok(texts.iter().map(|text| self.logits[word_before_the_end(text)]).collect())
    }
    fn reward_step(&mut self, contrasts: &[Contrast], centre: f64, _: usize) -> Result<StepReport, StageError> {
        let mut loss = 0.0;
        for one in contrasts {
            let words = [&one.chosen, &one.rejected].map(|text| word_before_the_end(text));
            let [chosen, rejected] = words.map(|word| self.logits[word]);
            let (own, slopes) = centred_bradley_terry(chosen, rejected, one.margin, centre);
            loss += own / contrasts.len() as f64;
            words.into_iter().zip(slopes).for_each(|(word, slope)| self.logits[word] -= self.rate * slope);
        }
        self.update()?;
        Ok(StepReport { loss, ..StepReport::default() })
    }
    fn ppo_step(&mut self, rows: &[Estimated], _: &PpoLoss, _: usize) -> Result<StepReport, StageError> {
        let word = |row: &Estimated| row.sequence.completion[0] as usize;
        let loss = -rows.iter().map(|row| f64::from(row.advantages[0]) * self.logprob(word(row))).sum::<f64>();
        rows.iter().for_each(|row| self.learn(word(row), f64::from(row.advantages[0])));
        self.update()?;
        Ok(StepReport { loss, ..StepReport::default() })
    }
    // One number for every state, the unknown word's logit.
    fn values(&mut self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>, StageError> {
        Ok(sequences.iter().map(|one| vec![self.logits[5] as f32; one.completion.len()]).collect())
    }
    fn value_step(&mut self, rows: &[Estimated], _: &PpoLoss, _: usize) -> Result<StepReport, StageError> {
        let apart = |row: &Estimated| f64::from(row.returns[0]) - self.logits[5];
        let mean = rows.iter().map(apart).sum::<f64>() / rows.len() as f64;
        self.logits[5] += self.rate * mean;
        Ok(StepReport { loss: mean * mean, ..StepReport::default() })
    }
    fn save(&self, folder: &Path) -> Result<(), StageError> {
        std::fs::create_dir_all(folder).expect("a folder");
        jsonl::write_json(&folder.join("logits.json"), &self.logits)
    }
    fn save_checkpoint(&self, folder: &Path) -> Result<(), StageError> {
        self.save(folder)
    }
    fn resume(&mut self, folder: &Path) -> Result<(), StageError> {
        self.logits = jsonl::read_json(&folder.join("logits.json"))?;
        Ok(())
    }
    fn weights_digest(&self) -> String {
        format!("{:?}", self.logits)
    }
}

fn word_before_the_end(text: &[u32]) -> usize {
    text[text.len() - 2] as usize
}

/// A step's folder, its inputs written as files.
pub struct Bench {
    folder: tempfile::TempDir,
    pub backend: Table,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().expect("a folder"),
            backend: Table {
                faults: Rc::new(Faults {
                    power: Cell::new(u64::MAX),
                    jolt: Cell::new(0),
                    answers: Cell::new(u64::MAX),
                    asked: Cell::new(0),
                }),
            },
        };
        bench.model("model", &[0.0; 6]);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn model(&self, name: &str, logits: &[f64; 6]) {
        std::fs::create_dir_all(self.path(name)).expect("a folder");
        jsonl::write_json(&self.path(name).join("logits.json"), &logits.to_vec()).expect("writes");
    }

    pub fn io(&self, inputs: &[&str]) -> Io {
        let inputs = inputs.iter().map(|name| ((*name).to_string(), InputPlace::One(self.path(name)))).collect();
        let trained = ["model", "metrics", "steps", "chain", "completions", "trainer_state", "tensorboard"];
        let names = trained.into_iter().chain(["judgments", "choices", "responses", "items", "scores"]);
        let outputs = names.map(|name| (name.to_string(), self.path(&format!("out-{name}")))).collect();
        Io::new(inputs, outputs, self.path("state"), Manner::default(), None).expect("an io")
    }

    pub fn steps(&self) -> Vec<StepRow> {
        jsonl::read(&self.path("out-steps")).expect("steps")
    }

    pub fn chain(&self) -> Vec<Link> {
        jsonl::read(&self.path("out-chain")).expect("a chain")
    }

    pub fn logits(&self) -> Vec<f64> {
        jsonl::read_json(&self.path("out-model").join("logits.json")).expect("logits")
    }
}
