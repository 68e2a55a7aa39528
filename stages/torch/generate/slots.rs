//! Sequences under way, one a slot: draws a token for each, lets go of those that have ended, takes in others.

use std::collections::VecDeque;

use plumb_engine::stage::StageError;
use plumb_stages::model::{Completion, Sampling, Watch};
use tch::{Kind, Tensor};

use super::Ends;
use super::prefill::{self, Common, Prompts};
use super::queue::Queue;
use crate::cache::Cache;
use crate::sampling::{self, uniform};
use crate::transformer::{Attend, Transformer};

/// Tokens of prompts in one pass.
const PROMPTS_AT_ONCE: usize = 8192;
/// A completion's last tokens are read for a text that ends it: as many as the text has bytes, and some that the
/// tokenizer may have begun before it.
const TOKENS_BEFORE: usize = 8;

/// Columns of a cache: a fifth is spare, so that sequences are moved to its front only now and then.
pub fn capacity(longest_prompt: usize, sampling: &Sampling) -> i64 {
    let longest = longest_prompt + sampling.max_new_tokens;
    (longest + longest / 4 + 1) as i64
}

struct Row {
    request: usize,
    sample: u64,
    completion: Completion,
}

/// Prompts that were computed, with the samples that have no slot yet.
struct Begun {
    prompts: Prompts,
    samples: VecDeque<(usize, i64, u64)>,
}

/// The slots of one batch.
pub struct Slots<'a> {
    model: &'a Transformer,
    ends: &'a Ends<'a>,
    sampling: &'a Sampling,
    most: i64,
    rows: Vec<Option<Row>>,
    /// Once there is a sequence.
    batch: Option<Batch>,
    begun: Option<Begun>,
}

/// What the slots hold.
struct Batch {
    cache: Cache,
    /// (slots, vocabulary)
    logits: Tensor,
    /// (slots, vocabulary) of Bool: the tokens that each sequence holds, where there is a penalty for them.
    held: Option<Tensor>,
}

impl<'a> Slots<'a> {
    /// So many, all empty.
    pub fn new(model: &'a Transformer, ends: &'a Ends<'a>, sampling: &'a Sampling, most: i64) -> Self {
        Self { model, ends, sampling, most, rows: Vec::new(), batch: None, begun: None }
    }

    /// Generates all that the queue holds.
    pub fn run(mut self, queue: &mut Queue, watch: &mut dyn Watch) -> Result<(), StageError> {
        let common = Common::of(self.model, queue.waiting().map(|index| queue.request(index).prompt.as_slice()));
        loop {
            self.fill(queue, common.as_ref());
            if self.rows.iter().all(Option::is_none) {
                return Ok(());
            }
            let drawn = self.draw(queue);
            queue.drew(drawn, watch);
            self.let_go(queue, watch)?;
            self.shrink(queue);
            if self.rows.iter().any(Option::is_some) {
                self.advance(queue);
            }
        }
    }

    // A pass over few prompts costs more a token: some slots wait for others.
    fn fill(&mut self, queue: &mut Queue, common: Option<&Common>) {
        let free = self.rows.iter().filter(|row| row.is_none()).count();
        let waits = queue.waiting().len() > 0 || self.begun.is_some();
        if !waits || (!self.rows.is_empty() && free * 8 < self.rows.len()) {
            return;
        }
        self.open(queue);
        for slot in 0..self.rows.len() {
            if self.rows[slot].is_some() {
                continue;
            }
            let free = self.rows[slot..].iter().filter(|row| row.is_none()).count();
            let Some((request, prompt, sample)) = self.next(queue, common, free) else { return };
            self.begin(slot, request, prompt, sample, queue);
        }
    }

    // The first time, when it is known how many samples there are.
    fn open(&mut self, queue: &Queue) {
        if self.batch.is_some() {
            return;
        }
        let samples: usize = queue.waiting().map(|index| queue.missing(index).count()).sum();
        let slots = self.most.min(samples as i64).max(1);
        let longest = queue.waiting().map(|index| queue.request(index).prompt.len()).max().unwrap_or(0);
        let vocabulary = self.model.config.vocab_size;
        let of = |kind| Tensor::zeros([slots, vocabulary], (kind, self.model.device));
        self.batch = Some(Batch {
            cache: Cache::new(self.model, slots, capacity(longest, self.sampling)),
            logits: of(Kind::Float),
            held: (self.sampling.repetition_penalty != 1.0).then(|| of(Kind::Bool)),
        });
        self.rows = (0..slots).map(|_| None).collect();
    }

    fn next(&mut self, queue: &mut Queue, common: Option<&Common>, free: usize) -> Option<(usize, i64, u64)> {
        if self.begun.as_ref().is_none_or(|begun| begun.samples.is_empty()) {
            let taken = queue.take(free, PROMPTS_AT_ONCE);
            if taken.is_empty() {
                self.begun = None;
                return None;
            }
            let requests: Vec<_> = taken.iter().map(|index| queue.request(*index)).collect();
            let prompts = prefill::prompts(self.model, common, &requests);
            let samples = (0i64..).zip(&taken).flat_map(|(prompt, index)| {
                queue.missing(*index).map(move |sample| (*index, prompt, sample)).collect::<Vec<_>>()
            });
            self.begun = Some(Begun { prompts, samples: samples.collect() });
        }
        self.begun.as_mut()?.samples.pop_front()
    }

    fn begin(&mut self, slot: usize, request: usize, prompt: i64, sample: u64, queue: &Queue) {
        let (Some(batch), Some(begun)) = (&mut self.batch, &self.begun) else { return };
        let tokens = &queue.request(request).prompt;
        batch.cache.put(slot, &begun.prompts.blocks, prompt, tokens.len() as i64);
        batch.logits.get(slot as i64).copy_(&begun.prompts.logits.get(prompt));
        if let Some(held) = &batch.held {
            let row = held.get(slot as i64);
            let _ = row.shallow_clone().fill_(0.0);
            let tokens: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
            let _ = row.shallow_clone().index_fill_(0, &Tensor::from_slice(&tokens).to_device(self.model.device), 1.0);
        }
        let completion = Completion { tokens: Vec::new(), logprobs: Vec::new(), finished: false };
        self.rows[slot] = Some(Row { request, sample, completion });
        if begun.samples.is_empty() {
            self.begun = None;
        }
    }

    // One token for every sequence; returns how many.
    fn draw(&mut self, queue: &Queue) -> u64 {
        let Some(batch) = &mut self.batch else { return 0 };
        let number = |row: &Option<Row>| match row {
            Some(row) => {
                let (stream, position) = (queue.request(row.request).stream, row.completion.tokens.len() as u64);
                uniform(self.sampling.seed, stream, row.sample, position)
            }
            None => 0.0,
        };
        let numbers: Vec<f64> = self.rows.iter().map(number).collect();
        let penalised =
            batch.held.as_ref().map(|held| sampling::penalised(&batch.logits, held, self.sampling.repetition_penalty));
        let drawn = sampling::draw(penalised.as_ref().unwrap_or(&batch.logits), self.sampling, &numbers);
        let mut count = 0;
        for (slot, (row, (token, logprob))) in self.rows.iter_mut().zip(drawn).enumerate() {
            let Some(row) = row else { continue };
            row.completion.tokens.push(token);
            row.completion.logprobs.push(logprob);
            if let Some(held) = &batch.held {
                let _ = held.get(slot as i64).get(i64::from(token)).fill_(1.0);
            }
            count += 1;
        }
        count
    }

    fn let_go(&mut self, queue: &mut Queue, watch: &mut dyn Watch) -> Result<(), StageError> {
        for slot in 0..self.rows.len() {
            let Some(row) = &mut self.rows[slot] else { continue };
            row.completion.finished = self.ends.after(&row.completion.tokens, &self.sampling.stop)?;
            if !row.completion.finished && row.completion.tokens.len() < self.sampling.max_new_tokens {
                continue;
            }
            if let Some(row) = self.rows[slot].take() {
                queue.end(row.request, row.sample, row.completion, watch)?;
            }
            if let Some(batch) = &mut self.batch {
                batch.cache.clear(slot);
            }
        }
        Ok(())
    }

    // Once nobody waits: moving the cache costs a copy of it, so it is done when a quarter of the slots are empty.
    fn shrink(&mut self, queue: &Queue) {
        let taken: Vec<usize> = (0..self.rows.len()).filter(|slot| self.rows[*slot].is_some()).collect();
        let waits = queue.waiting().len() > 0 || self.begun.is_some();
        if waits || taken.is_empty() || taken.len() * 4 > self.rows.len() * 3 {
            return;
        }
        if let Some(batch) = &mut self.batch {
            batch.cache.keep(&taken);
            let rows: Vec<i64> = taken.iter().map(|slot| *slot as i64).collect();
            let rows = Tensor::from_slice(&rows).to_device(self.model.device);
            batch.logits = batch.logits.index_select(0, &rows);
            batch.held = batch.held.as_ref().map(|held| held.index_select(0, &rows));
        }
        self.rows.retain(Option::is_some);
    }

    // An empty slot goes along with a token of its own that nobody sees.
    fn advance(&mut self, queue: &Queue) {
        let Some(batch) = &mut self.batch else { return };
        if batch.cache.is_full() {
            batch.cache.make_room();
        }
        let last = |row: &Option<Row>| row.as_ref().and_then(|row| row.completion.tokens.last()).copied().unwrap_or(0);
        let tokens: Vec<i64> = self.rows.iter().map(|row| i64::from(last(row))).collect();
        let position = |row: &Option<Row>| {
            let of = |row: &Row| queue.request(row.request).prompt.len() + row.completion.tokens.len() - 1;
            row.as_ref().map_or(0, of) as i64
        };
        let positions: Vec<i64> = self.rows.iter().map(position).collect();
        let column = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(self.model.device).unsqueeze(1);
        let angles = self.model.angles(&column(&positions));
        let stream = self.model.embed(&column(&tokens));
        let layers = 0..self.model.config.num_hidden_layers;
        let stream = self.model.blocks(layers, stream, &angles, &mut Attend::Cached(&batch.cache));
        batch.cache.advance();
        batch.logits = self.model.logits(&stream.squeeze_dim(1));
    }
}

impl Ends<'_> {
    // Whether the last token ends the completion.
    fn after(&self, tokens: &[u32], stop: &[String]) -> Result<bool, StageError> {
        if tokens.last().is_some_and(|token| self.eos.contains(token)) {
            return Ok(true);
        }
        let Some(longest) = stop.iter().map(String::len).max() else { return Ok(false) };
        let last = &tokens[tokens.len().saturating_sub(longest + TOKENS_BEFORE)..];
        let text = self.tokenizer.decode(last, true);
        let text =
            text.map_err(|error| StageError::new(format!("the tokenizer cannot write a completion: {error}")))?;
        Ok(stop.iter().any(|stop| text.contains(stop.as_str())))
    }
}
