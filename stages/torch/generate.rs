//! Batched generation with a key/value cache. The prompt is computed once and repeated over its samples, prompts of
//! like length share a batch, and rows that have ended leave it. Which tokens are drawn is `sampling.rs`'s matter.

use plumb_stages::model::{Completion, Request, Sampling};
use tch::{Kind, Tensor, no_grad_guard};

use crate::batch::{Padded, hidden_beyond};
use crate::sampling;
use crate::transformer::{Attend, Cache, KeyValue, Transformer};

/// Bytes of keys and values that one batch may hold.
const CACHE_BYTES: i64 = 512 << 20;

/// Completions of every request, in order. `progress` is told the tokens drawn so far.
pub fn generate(
    model: &Transformer,
    eos: &[u32],
    requests: &[Request],
    sampling: &Sampling,
    progress: &mut dyn FnMut(u64),
) -> Vec<Vec<Completion>> {
    let _guard = no_grad_guard();
    let mut done: Vec<Vec<Completion>> = requests.iter().map(|_| Vec::new()).collect();
    let mut drawn = 0;
    for batch in batches(model, requests, sampling.max_new_tokens) {
        let asked: Vec<&Request> = batch.iter().map(|index| &requests[*index]).collect();
        let completions = Batch::start(model, &asked, sampling).run(eos, &mut |tokens| progress(drawn + tokens));
        for (index, completion) in completions {
            drawn += completion.tokens.len() as u64;
            done[batch[index]].push(completion);
        }
    }
    done
}

// Requests by prompt length, cut where the cache would grow too large. A request is never cut.
fn batches(model: &Transformer, requests: &[Request], new: usize) -> Vec<Vec<usize>> {
    let config = &model.config;
    let a_token = 2 * 4 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers as i64;
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|index| (requests[*index].prompt.len(), *index));
    let (mut batches, mut rows) = (Vec::<Vec<usize>>::new(), 0);
    for index in order {
        let request = &requests[index];
        let cost = (request.prompt.len() + new) as i64 * a_token;
        rows += request.samples as i64;
        match batches.last_mut() {
            Some(batch) if rows * cost <= CACHE_BYTES => batch.push(index),
            _ => {
                rows = request.samples as i64;
                batches.push(vec![index]);
            }
        }
    }
    batches
}

struct Row {
    request: usize,
    sample: u64,
    stream: u64,
    prompt: i64,
    completion: Completion,
}

struct Batch<'a> {
    model: &'a Transformer,
    sampling: &'a Sampling,
    /// Rows of the cache, in its order; ended ones stay until the next compaction.
    rows: Vec<Row>,
    ended: Vec<Row>,
    cache: Cache,
    /// (rows, vocabulary)
    logits: Tensor,
}

impl<'a> Batch<'a> {
    fn start(model: &'a Transformer, asked: &[&Request], sampling: &'a Sampling) -> Self {
        let prompts: Vec<&[u32]> = asked.iter().map(|request| request.prompt.as_slice()).collect();
        let padded = Padded::new(&prompts, model.device);
        let mut kept = Vec::new();
        let stream = model.blocks(
            0..model.config.num_hidden_layers,
            model.embed(&padded.tokens),
            &model.angles_from_zero(padded.width),
            &mut Attend::Causal(Some(&mut kept)),
        );
        let last: Vec<i64> =
            (0i64..).zip(&prompts).map(|(row, prompt)| row * padded.width + prompt.len() as i64 - 1).collect();
        let last = Tensor::from_slice(&last).to_device(model.device);
        let logits = model.logits(&stream.flatten(0, 1).index_select(0, &last));
        let rows = rows_of(asked);
        let of: Vec<i64> = rows.iter().map(|row| row.request as i64).collect();
        let of = Tensor::from_slice(&of).to_device(model.device);
        let capacity = padded.width + sampling.max_new_tokens as i64;
        let cache = Cache {
            blocks: kept.iter().map(|block| repeated(block, &of, capacity)).collect(),
            length: padded.width,
            mask: hidden_beyond(&prompts, padded.width, capacity, model).map(|mask| mask.index_select(0, &of)),
            positions: Tensor::arange(capacity, (Kind::Int64, model.device)).repeat([rows.len() as i64, 1]),
        };
        Self { model, sampling, rows, ended: Vec::new(), cache, logits: logits.index_select(0, &of) }
    }

    fn run(mut self, eos: &[u32], progress: &mut dyn FnMut(u64)) -> Vec<(usize, Completion)> {
        let mut told = 0;
        for position in 0..self.sampling.max_new_tokens {
            told += self.draw(eos, position);
            progress(told);
            self.let_go(position + 1 == self.sampling.max_new_tokens);
            if self.rows.is_empty() {
                break;
            }
            self.advance(position as i64);
        }
        self.ended.sort_by_key(|row| (row.request, row.sample));
        self.ended.into_iter().map(|row| (row.request, row.completion)).collect()
    }

    // One token for every row that has not ended; returns how many.
    fn draw(&mut self, eos: &[u32], position: usize) -> u64 {
        let heat = if self.sampling.temperature > 0.0 { self.sampling.temperature } else { 1.0 };
        let scaled = if heat == 1.0 { self.logits.shallow_clone() } else { &self.logits / heat };
        let logprobs = scaled.log_softmax(-1, Kind::Float).to_device(tch::Device::Cpu).contiguous();
        let width = self.model.config.vocab_size as usize;
        let mut host = vec![0f32; self.rows.len() * width];
        logprobs.copy_data(&mut host, self.rows.len() * width);
        let mut drawn = 0;
        for (row, logprobs) in self.rows.iter_mut().zip(host.chunks_exact(width)) {
            if row.completion.finished {
                continue;
            }
            let (token, logprob) = if self.sampling.temperature > 0.0 {
                let number = sampling::uniform(self.sampling.seed, row.stream, row.sample, position as u64);
                sampling::draw(logprobs, self.sampling, number)
            } else {
                sampling::greedy(logprobs)
            };
            row.completion.tokens.push(token as u32);
            row.completion.logprobs.push(logprob);
            row.completion.finished = eos.contains(&(token as u32));
            drawn += 1;
        }
        drawn
    }

    // Moving the cache costs a copy of it: done when a quarter of the rows have ended, or nothing is left to do.
    fn let_go(&mut self, last: bool) {
        let alive = self.rows.iter().filter(|row| !row.completion.finished).count();
        if !last && alive > 0 && alive * 4 > self.rows.len() * 3 {
            return;
        }
        let stays = |row: &Row| !last && !row.completion.finished;
        let kept: Vec<i64> = (0i64..).zip(&self.rows).filter(|(_, row)| stays(row)).map(|(index, _)| index).collect();
        let (alive, ended): (Vec<Row>, Vec<Row>) = std::mem::take(&mut self.rows).into_iter().partition(stays);
        self.rows = alive;
        self.ended.extend(ended);
        if !self.rows.is_empty() {
            self.cache.keep(&Tensor::from_slice(&kept).to_device(self.model.device));
        }
    }

    fn advance(&mut self, position: i64) {
        let last = |row: &Row| row.completion.tokens.last().map_or(0, |token| i64::from(*token));
        let tokens: Vec<i64> = self.rows.iter().map(last).collect();
        let positions: Vec<i64> = self.rows.iter().map(|row| row.prompt + position).collect();
        let (device, model) = (self.model.device, self.model);
        let tokens = Tensor::from_slice(&tokens).to_device(device).unsqueeze(1);
        let positions = Tensor::from_slice(&positions).to_device(device).unsqueeze(1);
        let angles = model.angles(&positions);
        let layers = 0..model.config.num_hidden_layers;
        let stream = model.blocks(layers, model.embed(&tokens), &angles, &mut Attend::Cached(&mut self.cache));
        self.cache.length += 1;
        self.logits = model.logits(&stream.squeeze_dim(1));
    }
}

impl Cache {
    fn keep(&mut self, rows: &Tensor) {
        for (key, value) in &mut self.blocks {
            *key = key.index_select(0, rows);
            *value = value.index_select(0, rows);
        }
        self.mask = self.mask.as_ref().map(|mask| mask.index_select(0, rows));
        self.positions = self.positions.index_select(0, rows);
    }
}

fn rows_of(asked: &[&Request]) -> Vec<Row> {
    let of = |(index, request): (usize, &&Request)| {
        let (stream, prompt) = (request.stream, request.prompt.len() as i64);
        let row = move |sample| Row {
            request: index,
            sample: sample as u64,
            stream,
            prompt,
            completion: Completion { tokens: Vec::new(), logprobs: Vec::new(), finished: false },
        };
        (0..request.samples).map(row)
    };
    asked.iter().enumerate().flat_map(of).collect()
}

// (prompts, heads, time, head) -> (rows, heads, capacity, head)
fn repeated((key, value): &KeyValue, of: &Tensor, capacity: i64) -> KeyValue {
    let spread = |prompt: &Tensor| {
        let (_, heads, time, head) = prompt.size4().expect("keys have four dimensions");
        let room = Tensor::empty([of.size()[0], heads, capacity, head], (prompt.kind(), prompt.device()));
        room.narrow(2, 0, time).copy_(&prompt.index_select(0, of));
        room
    };
    (spread(key), spread(value))
}
