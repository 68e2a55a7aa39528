//! Token ids of sequences as tensors, and the activations of frozen blocks that are kept by them. Knows no loss.

use std::collections::BTreeMap;

use plumb_stages::model::Sequence;
use tch::{Device, Tensor, no_grad_guard};

use crate::pass::below;
use crate::transformer::{Attend, Transformer};

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

impl Frozen {
    /// (batch, width, hidden), padded with zeros: what lies in the padding is never looked at.
    pub fn stream(&mut self, model: &Transformer, rows: &[Vec<u32>], frozen: usize) -> Tensor {
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
