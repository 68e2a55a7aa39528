//! From sequences of token ids to the hidden states that predict each completion token. Prompts shared by several
//! completions are computed once and their keys and values repeated, differentiably. Knows no loss.

use std::collections::BTreeMap;

use plumb_stages::model::Sequence;
use tch::{Device, Kind, Tensor, no_grad_guard};

use crate::transformer::{Attend, HIDDEN, KeyValue, Transformer};

/// Token ids padded on the right.
pub struct Padded {
    /// (batch, width)
    pub tokens: Tensor,
    /// The longest row.
    pub width: i64,
}

impl Padded {
    /// Pads to the longest row, at least one token wide.
    pub fn new(rows: &[&[u32]], device: Device) -> Self {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0).max(1);
        let mut flat = vec![0i64; rows.len() * width];
        for (row, room) in rows.iter().zip(flat.chunks_exact_mut(width)) {
            room.iter_mut().zip(*row).for_each(|(slot, token)| *slot = i64::from(*token));
        }
        let tokens = Tensor::from_slice(&flat).view([rows.len() as i64, width as i64]).to_device(device);
        Self { tokens, width: width as i64 }
    }
}

/// (rows, 1, 1, capacity) that hides slots from each prompt's end to `width`; `None` where nothing is padded.
pub fn hidden_beyond(prompts: &[&[u32]], width: i64, capacity: i64, model: &Transformer) -> Option<Tensor> {
    if prompts.iter().all(|prompt| prompt.len() as i64 == width) {
        return None;
    }
    let (width, capacity) = (width as usize, capacity as usize);
    let mut flat = vec![0f32; prompts.len() * capacity];
    for (prompt, slots) in prompts.iter().zip(flat.chunks_exact_mut(capacity)) {
        slots[prompt.len()..width].fill(HIDDEN);
    }
    let mask = Tensor::from_slice(&flat).view([prompts.len() as i64, 1, 1, capacity as i64]);
    Some(mask.to_device(model.device).to_kind(model.kind))
}

/// What is to be predicted, all completions in a row: (tokens)
pub fn targets(sequences: &[Sequence], device: Device) -> Tensor {
    let tokens = sequences.iter().flat_map(|sequence| &sequence.completion);
    let flat: Vec<i64> = tokens.map(|token| i64::from(*token)).collect();
    Tensor::from_slice(&flat).to_device(device)
}

/// Activations at the top of the frozen blocks, by token ids: computed once a sequence and kept.
#[derive(Default)]
pub struct Frozen {
    kept: BTreeMap<Vec<u32>, Tensor>,
    bytes: usize,
}

/// Activations kept at most; later sequences are then computed anew each time.
const KEPT_BYTES: usize = 4 << 30;

/// Hidden states that predict each completion token, all completions in a row: (tokens, hidden). Blocks below
/// `frozen` are run without gradients.
pub fn predicting(model: &Transformer, sequences: &[Sequence], frozen: usize, kept: Option<&mut Frozen>) -> Tensor {
    let (prompts, of) = distinct_prompts(sequences);
    // Two passes cost about as much as one over a third more tokens.
    if prompts.len() * 3 <= sequences.len() * 2 {
        return shared(model, sequences, &prompts, &of, frozen);
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
    let stream = model.blocks(frozen..model.config.num_hidden_layers, stream, &angles, &mut Attend::Causal(None));
    let places = (0i64..).zip(sequences).flat_map(|(row, sequence)| {
        let first = row * width + sequence.prompt.len() as i64 - 1;
        first..first + sequence.completion.len() as i64
    });
    select(&stream, &places.collect::<Vec<i64>>(), model.device)
}

// The last completion token predicts nothing.
fn inputs(sequence: &Sequence) -> Vec<u32> {
    let fed = sequence.completion.len().saturating_sub(1);
    sequence.prompt.iter().chain(&sequence.completion[..fed]).copied().collect()
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

fn select(stream: &Tensor, places: &[i64], device: Device) -> Tensor {
    stream.flatten(0, 1).index_select(0, &Tensor::from_slice(places).to_device(device))
}

fn below(model: &Transformer, tokens: &Tensor, angles: &Tensor, frozen: usize, attend: &mut Attend) -> Tensor {
    let _guard = (frozen > 0).then(no_grad_guard);
    model.blocks(0..frozen, model.embed(tokens), angles, attend)
}

// Prompts in one pass, then completions over the prompts' keys and values.
fn shared(model: &Transformer, sequences: &[Sequence], prompts: &[&[u32]], of: &[i64], frozen: usize) -> Tensor {
    let layers = model.config.num_hidden_layers;
    let padded = Padded::new(prompts, model.device);
    let mut kept: Vec<KeyValue> = Vec::new();
    let angles = model.angles_from_zero(padded.width);
    let mut attend = Attend::Causal(Some(&mut kept));
    let stream = below(model, &padded.tokens, &angles, frozen, &mut attend);
    let prompt_stream = model.blocks(frozen..layers, stream, &angles, &mut attend);
    let fed: Vec<&[u32]> =
        sequences.iter().map(|sequence| &sequence.completion[..sequence.completion.len().saturating_sub(1)]).collect();
    let ends: Vec<i64> =
        (0i64..).zip(prompts).map(|(row, prompt)| row * padded.width + prompt.len() as i64 - 1).collect();
    if fed.iter().all(|row| row.is_empty()) {
        let places: Vec<i64> = of.iter().map(|prompt| ends[*prompt as usize]).collect();
        return select(&prompt_stream, &places, model.device);
    }
    let rows = Padded::new(&fed, model.device);
    let lengths: Vec<i64> = of.iter().map(|prompt| prompts[*prompt as usize].len() as i64).collect();
    let prefix_of = Tensor::from_slice(of).to_device(model.device);
    let prefix: Vec<KeyValue> =
        kept.iter().map(|(key, value)| (key.index_select(0, &prefix_of), value.index_select(0, &prefix_of))).collect();
    let mask = over_prefix(&lengths, padded.width, rows.width, model);
    let angles = model.angles(&positions_after(&lengths, rows.width, model.device));
    let mut attend = Attend::Prefixed { prefix: &prefix, mask: &mask };
    let stream = below(model, &rows.tokens, &angles, frozen, &mut attend);
    let stream = model.blocks(frozen..layers, stream, &angles, &mut attend);
    let offset = prompts.len() as i64 * padded.width;
    let places = (0i64..).zip(sequences).zip(of).flat_map(|((row, sequence), prompt)| {
        let first = offset + row * rows.width;
        let rest = first..first + sequence.completion.len().saturating_sub(1) as i64;
        let start = (!sequence.completion.is_empty()).then(|| ends[*prompt as usize]);
        start.into_iter().chain(rest)
    });
    let places = Tensor::from_slice(&places.collect::<Vec<i64>>()).to_device(model.device);
    Tensor::cat(&[prompt_stream.flatten(0, 1), stream.flatten(0, 1)], 0).index_select(0, &places)
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

impl Frozen {
    // (batch, width, hidden), padded with zeros: what lies in the padding is never looked at.
    fn stream(&mut self, model: &Transformer, rows: &[Vec<u32>], frozen: usize) -> Tensor {
        let _guard = no_grad_guard();
        let missing: Vec<&[u32]> = rows.iter().filter(|row| !self.kept.contains_key(*row)).map(Vec::as_slice).collect();
        let fresh = self.compute(model, &missing, frozen);
        let width = rows.iter().map(Vec::len).max().unwrap_or(0) as i64;
        let size = [rows.len() as i64, width, model.config.hidden_size];
        let stream = Tensor::zeros(size, (model.kind, model.device));
        for (number, row) in (0i64..).zip(rows) {
            let found = self.kept.get(row).or_else(|| fresh.get(row.as_slice()));
            let found = found.expect("every row was kept or computed just now");
            stream.get(number).narrow(0, 0, row.len() as i64).copy_(found);
        }
        for (row, activations) in fresh {
            self.keep(row, activations);
        }
        stream
    }

    fn compute<'a>(&self, model: &Transformer, rows: &[&'a [u32]], frozen: usize) -> BTreeMap<&'a [u32], Tensor> {
        if rows.is_empty() {
            return BTreeMap::new();
        }
        let padded = Padded::new(rows, model.device);
        let angles = model.angles_from_zero(padded.width);
        let stream = below(model, &padded.tokens, &angles, frozen, &mut Attend::Causal(None));
        let cut = |(number, row): (i64, &&'a [u32])| (*row, stream.get(number).narrow(0, 0, row.len() as i64).copy());
        (0i64..).zip(rows).map(cut).collect()
    }

    fn keep(&mut self, row: &[u32], activations: Tensor) {
        let bytes = activations.numel() * activations.kind().elt_size_in_bytes();
        if self.bytes + bytes <= KEPT_BYTES {
            self.bytes += bytes;
            self.kept.insert(row.to_vec(), activations);
        }
    }
}
