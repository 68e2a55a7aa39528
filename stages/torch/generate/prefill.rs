//! Keys and values of prompts: what all of them begin with once, the rest of several prompts in one pass.

use plumb_stages::model::Request;
use tch::{Kind, Tensor};

use crate::batch::Padded;
use crate::transformer::{Attend, HIDDEN, KeyValue, Transformer};

/// A shorter beginning is not worth a pass of its own.
const WORTH_SHARING: usize = 16;

/// What prompts begin with, computed once.
pub struct Common {
    tokens: usize,
    /// Per block: (1, key heads, tokens, head)
    blocks: Vec<KeyValue>,
}

/// Prompts that were computed together.
pub struct Prompts {
    /// Per block: (prompts, key heads, width, head), the common beginning included; padded on the right.
    pub blocks: Vec<KeyValue>,
    /// (prompts, vocabulary) of the token that follows each.
    pub logits: Tensor,
}

impl Common {
    /// Of these prompts, if they begin alike.
    pub fn of<'a>(model: &Transformer, mut prompts: impl Iterator<Item = &'a [u32]>) -> Option<Self> {
        let first = prompts.next()?;
        // A token of every prompt is left: its logits are what is asked for.
        let alike = |one: &[u32], most: usize| one.iter().zip(first).take(most).take_while(|(a, b)| a == b).count();
        let (mut tokens, mut others) = (first.len().saturating_sub(1), 0);
        for prompt in prompts {
            tokens = alike(prompt, tokens.min(prompt.len().saturating_sub(1)));
            others += 1;
        }
        if others == 0 || tokens < WORTH_SHARING {
            return None;
        }
        let padded = Padded::new(&[&first[..tokens]], model.device);
        let mut blocks = Vec::new();
        let stream = model.embed(&padded.tokens);
        let angles = model.angles_from_zero(padded.width);
        let layers = 0..model.config.num_hidden_layers;
        drop(model.blocks(layers, stream, &angles, &mut Attend::Causal(Some(&mut blocks))));
        Some(Self { tokens, blocks })
    }
}

/// Runs prompts, each from where the common beginning ends.
pub fn prompts(model: &Transformer, common: Option<&Common>, requests: &[&Request]) -> Prompts {
    let begun = common.map_or(0, |common| common.tokens);
    let rest: Vec<&[u32]> = requests.iter().map(|request| &request.prompt[begun..]).collect();
    let padded = Padded::new(&rest, model.device);
    let (blocks, stream) = match common {
        None => alone(model, &padded),
        Some(common) => after(model, &padded, common),
    };
    let last = (0i64..).zip(&rest).map(|(row, rest)| row * padded.width + rest.len() as i64 - 1);
    let last = Tensor::from_slice(&last.collect::<Vec<i64>>()).to_device(model.device);
    Prompts { blocks, logits: model.logits(&stream.flatten(0, 1).index_select(0, &last)) }
}

fn alone(model: &Transformer, padded: &Padded) -> (Vec<KeyValue>, Tensor) {
    let mut blocks = Vec::new();
    let (stream, angles) = (model.embed(&padded.tokens), model.angles_from_zero(padded.width));
    let stream =
        model.blocks(0..model.config.num_hidden_layers, stream, &angles, &mut Attend::Causal(Some(&mut blocks)));
    (blocks, stream)
}

fn after(model: &Transformer, padded: &Padded, common: &Common) -> (Vec<KeyValue>, Tensor) {
    let (rows, begun, time) = (padded.tokens.size()[0], common.tokens as i64, padded.width);
    let positions = Tensor::arange(time, (Kind::Int64, model.device)) + begun;
    let angles = model.angles(&positions.unsqueeze(0));
    let seen = Tensor::zeros([time, begun], (Kind::Bool, model.device));
    let later = Tensor::ones([time, time], (Kind::Bool, model.device)).triu(1);
    let hidden = Tensor::cat(&[seen, later], 1).to_kind(Kind::Float) * f64::from(HIDDEN);
    let mask = hidden.to_kind(model.kind).view([1, 1, time, begun + time]);
    let (mut stream, mut blocks) = (model.embed(&padded.tokens), Vec::new());
    for (layer, (key, value)) in common.blocks.iter().enumerate() {
        let repeated = |whole: &Tensor| whole.expand([rows, -1, -1, -1], false);
        let (prefix, mut own) = ((repeated(key), repeated(value)), Vec::new());
        let mut attend = Attend::Prefixed { prefix: &prefix, mask: &mask, kept: Some(&mut own) };
        stream = model.blocks(layer..layer + 1, stream, &angles, &mut attend);
        let joined =
            |(key, value): KeyValue| (Tensor::cat(&[&prefix.0, &key], 2), Tensor::cat(&[&prefix.1, &value], 2));
        blocks.extend(own.into_iter().map(joined));
    }
    (blocks, stream)
}
