//! One pass over sequences, from token ids to the hidden states that predict each completion token: what flows from block
//! to block, and what its tokens may look at. Prompts shared by several completions are computed once and their keys and
//! values repeated, differentiably; packed sequences lie one after the other with no padding, and each sees only itself.
//! Knows no loss.

use std::collections::BTreeMap;

use plumb_stages::model::Sequence;
use tch::{Device, Kind, Tensor, no_grad_guard};

use crate::batch::{Frozen, Padded};
use crate::rotary::Angles;
use crate::transformer::{Attend, HIDDEN, KeyValue, Transformer};

/// Sequences on their way through the blocks.
pub struct Pass {
    /// What the first block that learns is given: each (rows, time, hidden).
    pub streams: Vec<Tensor>,
    /// The block after the frozen ones.
    pub first: usize,
    form: Form,
    /// Where the predicting tokens lie in the streams, flattened and in a row.
    places: Vec<i64>,
}

// What tokens may look at.
enum Form {
    /// Rows padded on the right.
    Rows { angles: Angles },
    /// One row, sequences of these lengths one after the other.
    Packed { angles: Angles, lengths: Vec<i64> },
    /// Prompts, and completions over the prompts' keys and values.
    Shared { angles: Angles, completions: Option<Completions> },
}

struct Completions {
    angles: Angles,
    /// (rows): the prompt of each.
    prefix_of: Tensor,
    mask: Tensor,
}

impl Pass {
    /// Of padded rows; prompts that several sequences share are computed once where that pays.
    pub fn new(model: &Transformer, sequences: &[Sequence], frozen: usize, kept: Option<&mut Frozen>) -> Self {
        let (prompts, of) = distinct_prompts(sequences);
        // Two passes cost about as much as one over a third more tokens.
        if prompts.len() * 3 <= sequences.len() * 2 {
            return Self::shared(model, sequences, &prompts, &of, frozen);
        }
        let rows: Vec<Vec<u32>> = sequences.iter().map(inputs).collect();
        let width = rows.iter().map(Vec::len).max().unwrap_or(0) as i64;
        let angles = model.angles_from_zero(width);
        let stream = match kept {
            Some(kept) if frozen > 0 => kept.stream(model, &rows, frozen),
            _ => {
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                let tokens = Padded::new(&rows, model.device).tokens;
                below(model, &tokens, &angles, frozen, &mut Attend::Causal(None))
            }
        };
        let places = (0i64..).zip(sequences).flat_map(|(row, sequence)| predicting_places(row * width, sequence));
        let places = places.collect();
        Self { streams: vec![stream], first: frozen, form: Form::Rows { angles }, places }
    }

    /// Of sequences in one row, none of them padded and none seeing another.
    pub fn packed(model: &Transformer, sequences: &[Sequence], frozen: usize) -> Self {
        let rows: Vec<Vec<u32>> = sequences.iter().map(inputs).collect();
        let lengths: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        let positions: Vec<i64> = lengths.iter().flat_map(|length| 0..*length).collect();
        let angles = model.angles(&Tensor::from_slice(&positions).to_device(model.device).unsqueeze(0));
        let tokens = Padded::new(&[&rows.concat()], model.device).tokens;
        let stream = below(model, &tokens, &angles, frozen, &mut Attend::Packed(&lengths));
        let (mut start, mut places) = (0, Vec::new());
        for (sequence, length) in sequences.iter().zip(&lengths) {
            places.extend(predicting_places(start, sequence));
            start += length;
        }
        Self { streams: vec![stream], first: frozen, form: Form::Packed { angles, lengths }, places }
    }

    // Prompts in one pass, completions in another over their keys and values, block by block.
    fn shared(model: &Transformer, sequences: &[Sequence], prompts: &[&[u32]], of: &[i64], frozen: usize) -> Self {
        let padded = Padded::new(prompts, model.device);
        let angles = model.angles_from_zero(padded.width);
        let fed: Vec<&[u32]> = sequences
            .iter()
            .map(|sequence| &sequence.completion[..sequence.completion.len().saturating_sub(1)])
            .collect();
        let ends: Vec<i64> =
            (0i64..).zip(prompts).map(|(row, prompt)| row * padded.width + prompt.len() as i64 - 1).collect();
        let mut streams = vec![embedded(model, &padded.tokens, frozen)];
        let (mut completions, mut width) = (None, 0);
        if fed.iter().any(|row| !row.is_empty()) {
            let rows = Padded::new(&fed, model.device);
            let lengths: Vec<i64> = of.iter().map(|prompt| prompts[*prompt as usize].len() as i64).collect();
            completions = Some(Completions {
                angles: model.angles(&positions_after(&lengths, rows.width, model.device)),
                prefix_of: Tensor::from_slice(of).to_device(model.device),
                mask: over_prefix(&lengths, padded.width, rows.width, model),
            });
            streams.push(embedded(model, &rows.tokens, frozen));
            width = rows.width;
        }
        let offset = prompts.len() as i64 * padded.width;
        let places = (0i64..).zip(sequences).zip(of).flat_map(|((row, sequence), prompt)| {
            let first = offset + row * width;
            let rest = first..first + sequence.completion.len().saturating_sub(1) as i64;
            let start = (!sequence.completion.is_empty()).then(|| ends[*prompt as usize]);
            start.into_iter().chain(rest)
        });
        let places = places.collect();
        let mut pass = Self { streams, first: frozen, form: Form::Shared { angles, completions }, places };
        let _guard = (frozen > 0).then(no_grad_guard);
        pass.streams =
            (0..frozen).fold(std::mem::take(&mut pass.streams), |streams, layer| pass.block(model, layer, &streams));
        pass
    }

    /// Runs one block.
    pub fn block(&self, model: &Transformer, layer: usize, streams: &[Tensor]) -> Vec<Tensor> {
        let run = |stream: &Tensor, angles: &Angles, attend: &mut Attend| {
            model.blocks(layer..layer + 1, stream.shallow_clone(), angles, attend)
        };
        match &self.form {
            Form::Rows { angles } => vec![run(&streams[0], angles, &mut Attend::Causal(None))],
            Form::Packed { angles, lengths } => vec![run(&streams[0], angles, &mut Attend::Packed(lengths))],
            Form::Shared { angles, completions: None } => vec![run(&streams[0], angles, &mut Attend::Causal(None))],
            Form::Shared { angles, completions: Some(over) } => {
                let mut kept: Vec<KeyValue> = Vec::new();
                let prompts = run(&streams[0], angles, &mut Attend::Causal(Some(&mut kept)));
                let (key, value) = &kept[0];
                let repeated = |whole: &Tensor| whole.index_select(0, &over.prefix_of);
                let prefix = (repeated(key), repeated(value));
                let mut attend = Attend::Prefixed { prefix: &prefix, mask: &over.mask, kept: None };
                vec![prompts, run(&streams[1], &over.angles, &mut attend)]
            }
        }
    }

    /// Runs the blocks that learn: (tokens, hidden)
    pub fn run(&self, model: &Transformer) -> Tensor {
        let streams = self.streams.iter().map(Tensor::shallow_clone).collect();
        let top = (self.first..model.config.num_hidden_layers)
            .fold(streams, |streams: Vec<Tensor>, layer| self.block(model, layer, &streams));
        self.predicting(&top)
    }

    /// Hidden states at the top that predict each completion token, all completions in a row: (tokens, hidden)
    pub fn predicting(&self, streams: &[Tensor]) -> Tensor {
        let places = Tensor::from_slice(&self.places).to_device(streams[0].device());
        let flat: Vec<Tensor> = streams.iter().map(|stream| stream.flatten(0, 1)).collect();
        let all = if let [one] = flat.as_slice() { one.shallow_clone() } else { Tensor::cat(&flat, 0) };
        all.index_select(0, &places)
    }
}

/// Hidden states that predict each completion token, all completions in a row: (tokens, hidden). Blocks below
/// `frozen` are run without gradients.
pub fn predicting(model: &Transformer, sequences: &[Sequence], frozen: usize, kept: Option<&mut Frozen>) -> Tensor {
    Pass::new(model, sequences, frozen, kept).run(model)
}

/// Runs the frozen blocks, without gradients; only embeds where there are none.
pub fn below(model: &Transformer, tokens: &Tensor, angles: &Angles, frozen: usize, attend: &mut Attend) -> Tensor {
    let _guard = (frozen > 0).then(no_grad_guard);
    model.blocks(0..frozen, model.embed(tokens), angles, attend)
}

fn embedded(model: &Transformer, tokens: &Tensor, frozen: usize) -> Tensor {
    let _guard = (frozen > 0).then(no_grad_guard);
    model.embed(tokens)
}

// The last completion token predicts nothing.
fn inputs(sequence: &Sequence) -> Vec<u32> {
    let fed = sequence.completion.len().saturating_sub(1);
    sequence.prompt.iter().chain(&sequence.completion[..fed]).copied().collect()
}

// Of a row that starts at `start`.
fn predicting_places(start: i64, sequence: &Sequence) -> std::ops::Range<i64> {
    let first = start + sequence.prompt.len() as i64 - 1;
    first..first + sequence.completion.len() as i64
}

fn distinct_prompts(sequences: &[Sequence]) -> (Vec<&[u32]>, Vec<i64>) {
    let (mut prompts, mut known) = (Vec::new(), BTreeMap::new());
    let of = sequences.iter().map(|sequence| {
        let prompt = sequence.prompt.as_slice();
        *known.entry(prompt).or_insert_with(|| {
            prompts.push(prompt);
            prompts.len() as i64 - 1
        })
    });
    let of = of.collect();
    (prompts, of)
}

// (rows, 1, time, width + time): a row sees its own prompt and its earlier tokens.
fn over_prefix(lengths: &[i64], width: i64, time: i64, model: &Transformer) -> Tensor {
    let to = |tensor: Tensor| tensor.to_device(model.device);
    let slots = Tensor::arange(width, (Kind::Int64, model.device)).unsqueeze(0);
    let beyond = slots.ge_tensor(&to(Tensor::from_slice(lengths)).unsqueeze(1)).view([-1, 1, 1, width]);
    let later = Tensor::ones([time, time], (Kind::Bool, model.device)).triu(1).view([1, 1, time, time]);
    let rows = lengths.len() as i64;
    let hidden =
        Tensor::cat(&[beyond.expand([rows, 1, time, width], false), later.expand([rows, 1, time, time], false)], 3);
    (hidden.to_kind(Kind::Float) * f64::from(HIDDEN)).to_kind(model.kind)
}

fn positions_after(lengths: &[i64], time: i64, device: Device) -> Tensor {
    let start = Tensor::from_slice(lengths).to_device(device).unsqueeze(1);
    start + Tensor::arange(time, (Kind::Int64, device)).unsqueeze(0)
}
