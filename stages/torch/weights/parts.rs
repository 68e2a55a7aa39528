//! The transformer's weights in its own order: which parts a model has, HF's names and shapes of their members, and how
//! query/key/value and gate/up are fused into one matrix each and split again.
//!
//! Query and key rows are kept with each rotary pair side by side (Meta's order) instead of HF's two halves: rotary
//! positions are then one complex multiplication.

use tch::{Kind, Tensor};

use crate::config::Config;
use crate::lora::{self, Module};

/// Every weight in the transformer's order: embedding, blocks, final norm, and the head where it is not tied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// (vocabulary, hidden)
    Embedding,
    /// (hidden) before attention
    AttentionNorm(usize),
    /// (query + key + value, hidden)
    Qkv(usize),
    /// (query + key + value)
    QkvBias(usize),
    /// (2 × head): gains of the queries' heads, then of the keys'
    HeadNorms(usize),
    /// (hidden, heads × head)
    AttentionOut(usize),
    /// (hidden)
    AttentionOutBias(usize),
    /// (hidden) after attention, before it joins the stream
    AfterAttention(usize),
    /// (hidden) before the feed-forward layer
    FeedNorm(usize),
    /// (gate + up, hidden)
    GateUp(usize),
    /// (gate + up)
    GateUpBias(usize),
    /// (hidden, intermediate)
    Down(usize),
    /// (hidden)
    DownBias(usize),
    /// (hidden) after the feed-forward layer, before it joins the stream
    AfterFeed(usize),
    /// (hidden)
    FinalNorm,
    /// (vocabulary, hidden)
    Head,
    /// (1, hidden): the head of a reward model
    Score,
    /// (rank, in): the first half of an adapter
    LoraA(usize, Module),
    /// (out, rank): the second
    LoraB(usize, Module),
}

/// The parts of a model, in order.
pub fn parts(config: &Config) -> Vec<Part> {
    let mut parts = vec![Part::Embedding];
    parts.extend((0..config.num_hidden_layers).flat_map(|layer| of_block(config, layer)));
    parts.push(Part::FinalNorm);
    if !config.tie_word_embeddings {
        parts.push(if config.scores { Part::Score } else { Part::Head });
    }
    parts.extend(lora::parts(config));
    parts
}

fn of_block(config: &Config, layer: usize) -> impl Iterator<Item = Part> {
    let all = [
        (true, Part::AttentionNorm(layer)),
        (true, Part::Qkv(layer)),
        (config.qkv_bias, Part::QkvBias(layer)),
        (config.head_norms, Part::HeadNorms(layer)),
        (true, Part::AttentionOut(layer)),
        (config.out_bias, Part::AttentionOutBias(layer)),
        (config.post_norms, Part::AfterAttention(layer)),
        (true, Part::FeedNorm(layer)),
        (true, Part::GateUp(layer)),
        (config.mlp_bias, Part::GateUpBias(layer)),
        (true, Part::Down(layer)),
        (config.mlp_bias, Part::DownBias(layer)),
        (config.post_norms, Part::AfterFeed(layer)),
    ];
    all.into_iter().filter(|(present, _)| *present).map(|(_, part)| part)
}

/// Where a weight matrix and its bias are among the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Of the matrix.
    pub weight: usize,
    /// Of the bias, where the model has one.
    pub bias: Option<usize>,
}

/// Where the weights of one block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Norm before attention.
    pub norm: usize,
    /// Query, key and value.
    pub qkv: Matrix,
    /// Norms of the heads.
    pub head_norms: Option<usize>,
    /// Attention's output.
    pub out: Matrix,
    /// Norm of that output.
    pub after_attention: Option<usize>,
    /// Norm before the feed-forward layer.
    pub feed_norm: usize,
    /// Gate and up.
    pub gate_up: Matrix,
    /// Down.
    pub down: Matrix,
    /// Norm of what it gives.
    pub after_feed: Option<usize>,
}

/// Where the weights of a model are, by what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Of each block.
    pub blocks: Vec<Block>,
    /// The last norm.
    pub final_norm: usize,
    /// The head; the embedding where the two are tied.
    pub head: usize,
}

impl Places {
    /// Of the model that a configuration describes.
    pub fn of(config: &Config) -> Self {
        let mut next = 1;
        let mut take = || {
            next += 1;
            next - 1
        };
        let blocks = (0..config.num_hidden_layers).map(|_| Block::take(config, &mut take)).collect();
        let final_norm = take();
        Self { blocks, final_norm, head: if config.tie_word_embeddings { 0 } else { final_norm + 1 } }
    }
}

impl Block {
    // In the order of the parts: a test compares the two.
    fn take(config: &Config, take: &mut impl FnMut() -> usize) -> Self {
        let mut matrix = |biased: bool| {
            let weight = take();
            Matrix { weight, bias: biased.then(&mut *take) }
        };
        let norm = matrix(false).weight;
        let qkv = matrix(config.qkv_bias);
        let head_norms = config.head_norms.then(|| matrix(false).weight);
        let out = matrix(config.out_bias);
        let after_attention = config.post_norms.then(|| matrix(false).weight);
        let feed_norm = matrix(false).weight;
        let (gate_up, down) = (matrix(config.mlp_bias), matrix(config.mlp_bias));
        let after_feed = config.post_norms.then(|| matrix(false).weight);
        Self { norm, qkv, head_norms, out, after_attention, feed_norm, gate_up, down, after_feed }
    }
}

impl Part {
    /// Whether this is a gain of a normalisation.
    pub fn is_norm(self) -> bool {
        matches!(
            self,
            Self::AttentionNorm(_)
                | Self::HeadNorms(_)
                | Self::AfterAttention(_)
                | Self::FeedNorm(_)
                | Self::AfterFeed(_)
                | Self::FinalNorm
        )
    }

    /// Whether weight decay applies: not to gains and biases, as in HF's Trainer.
    pub fn decays(self) -> bool {
        let bias =
            matches!(self, Self::QkvBias(_) | Self::AttentionOutBias(_) | Self::GateUpBias(_) | Self::DownBias(_));
        !self.is_norm() && !bias
    }

    /// Whether it belongs to an adapter.
    pub fn adapts(self) -> bool {
        matches!(self, Self::LoraA(..) | Self::LoraB(..))
    }

    /// The dtype it is computed in: that of the blocks, or f32 outside them and in adapters.
    pub fn kind(self, blocks: Kind) -> Kind {
        if self.layer().is_some() && !self.adapts() { blocks } else { Kind::Float }
    }

    /// The block it belongs to.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::AttentionNorm(layer)
            | Self::Qkv(layer)
            | Self::QkvBias(layer)
            | Self::HeadNorms(layer)
            | Self::AttentionOut(layer)
            | Self::AttentionOutBias(layer)
            | Self::AfterAttention(layer)
            | Self::FeedNorm(layer)
            | Self::GateUp(layer)
            | Self::GateUpBias(layer)
            | Self::Down(layer)
            | Self::DownBias(layer)
            | Self::AfterFeed(layer)
            | Self::LoraA(layer, _)
            | Self::LoraB(layer, _) => Some(layer),
            Self::Embedding | Self::FinalNorm | Self::Head | Self::Score => None,
        }
    }

    /// The HF tensors that make it up, with their shapes.
    pub fn sources(self, config: &Config) -> Vec<(String, Vec<i64>)> {
        let (hidden, wide, head) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (queries, keys) = (config.num_attention_heads * head, config.num_key_value_heads * head);
        let qkv = [("self_attn.q_proj", queries), ("self_attn.k_proj", keys), ("self_attn.v_proj", keys)];
        let gate_up = ["mlp.gate_proj", "mlp.up_proj"];
        // Where there are norms after attention, HF's `post_attention_layernorm` is one of those.
        let feed_norm = if config.post_norms { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let of = |layer: usize, name: &str, shape: &[i64]| (format!("model.layers.{layer}.{name}"), shape.to_vec());
        let weight = |layer: usize, name: &str, shape: &[i64]| of(layer, &format!("{name}.weight"), shape);
        let bias = |layer: usize, name: &str, size: i64| of(layer, &format!("{name}.bias"), &[size]);
        match self {
            Self::Embedding => vec![("model.embed_tokens.weight".into(), vec![config.vocab_size, hidden])],
            Self::AttentionNorm(layer) => vec![weight(layer, "input_layernorm", &[hidden])],
            Self::Qkv(layer) => qkv.map(|(name, size)| weight(layer, name, &[size, hidden])).to_vec(),
            Self::QkvBias(layer) => qkv.map(|(name, size)| bias(layer, name, size)).to_vec(),
            Self::HeadNorms(layer) => {
                ["self_attn.q_norm", "self_attn.k_norm"].map(|name| weight(layer, name, &[head])).to_vec()
            }
            Self::AttentionOut(layer) => vec![weight(layer, "self_attn.o_proj", &[hidden, queries])],
            Self::AttentionOutBias(layer) => vec![bias(layer, "self_attn.o_proj", hidden)],
            Self::AfterAttention(layer) => vec![weight(layer, "post_attention_layernorm", &[hidden])],
            Self::FeedNorm(layer) => vec![weight(layer, feed_norm, &[hidden])],
            Self::GateUp(layer) => gate_up.map(|name| weight(layer, name, &[wide, hidden])).to_vec(),
            Self::GateUpBias(layer) => gate_up.map(|name| bias(layer, name, wide)).to_vec(),
            Self::Down(layer) => vec![weight(layer, "mlp.down_proj", &[hidden, wide])],
            Self::DownBias(layer) => vec![bias(layer, "mlp.down_proj", hidden)],
            Self::AfterFeed(layer) => vec![weight(layer, "post_feedforward_layernorm", &[hidden])],
            Self::FinalNorm => vec![("model.norm.weight".into(), vec![hidden])],
            Self::Head => vec![("lm_head.weight".into(), vec![config.vocab_size, hidden])],
            Self::Score => vec![("score.weight".into(), vec![1, hidden])],
            Self::LoraA(layer, module) => vec![lora::source(config, layer, module, "A")],
            Self::LoraB(layer, module) => vec![lora::source(config, layer, module, "B")],
        }
    }

    /// Fuses its HF tensors.
    pub fn fuse(self, config: &Config, sources: &[Tensor]) -> Tensor {
        let turned = self.turned();
        let member = |(index, source): (usize, &Tensor)| match index < turned {
            true => pairs_together(source, config.head_dim),
            false => source.shallow_clone(),
        };
        let members: Vec<Tensor> = sources.iter().enumerate().map(member).collect();
        if let [only] = members.as_slice() { only.shallow_clone() } else { Tensor::cat(&members, 0) }
    }

    /// The inverse of [`Part::fuse`].
    pub fn split(self, config: &Config, whole: &Tensor) -> Vec<Tensor> {
        let rows: Vec<i64> = self.sources(config).iter().map(|(_, shape)| shape[0]).collect();
        let turned = self.turned();
        let member = |(index, piece): (usize, Tensor)| match index < turned {
            true => pairs_apart(&piece, config.head_dim),
            false => piece,
        };
        whole.split_with_sizes(&rows, 0).into_iter().enumerate().map(member).collect()
    }

    // How many of its members, from the first, are turned by rotary positions.
    fn turned(self) -> usize {
        match self {
            Self::Qkv(_) | Self::QkvBias(_) | Self::HeadNorms(_) => 2,
            Self::LoraB(_, Module::Query | Module::Key) => 1,
            _ => 0,
        }
    }
}

// HF keeps the two members of rotary pair i in rows i and i + head / 2 of a head.
fn pairs_together(whole: &Tensor, head: i64) -> Tensor {
    whole.reshape([-1, 2, head / 2, columns(whole)]).transpose(1, 2).reshape(whole.size())
}

fn pairs_apart(whole: &Tensor, head: i64) -> Tensor {
    whole.reshape([-1, head / 2, 2, columns(whole)]).transpose(1, 2).reshape(whole.size())
}

// A bias or gain is a matrix of one column.
fn columns(whole: &Tensor) -> i64 {
    whole.size().get(1).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configs() -> [Config; 4] {
        let config = |more: serde_json::Value| {
            let mut document = json!({"vocab_size": 8, "hidden_size": 16, "intermediate_size": 24, "head_dim": 4,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2});
            more.as_object().into_iter().flatten().for_each(|(name, value)| document[name] = value.clone());
            Config::from_json(document).expect("valid")
        };
        [
            config(json!({"model_type": "llama"})),
            config(json!({"model_type": "llama", "attention_bias": true, "mlp_bias": true})),
            config(json!({"model_type": "qwen3", "tie_word_embeddings": true})),
            config(json!({"model_type": "gemma3_text", "attention_bias": true})),
        ]
    }

    #[test]
    fn splitting_undoes_fusing() {
        for (config, part) in configs().iter().flat_map(|config| parts(config).into_iter().map(move |p| (config, p))) {
            let numbered = |(_, shape): &(String, Vec<i64>)| {
                Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, tch::Device::Cpu)).reshape(shape)
            };
            let sources: Vec<Tensor> = part.sources(config).iter().map(numbered).collect();
            let back = part.split(config, &part.fuse(config, &sources));
            assert!(sources.iter().zip(&back).all(|(one, other)| one == other), "{part:?}");
        }
    }

    #[test]
    fn places_are_those_of_the_parts() {
        for config in configs() {
            let (parts, places) = (parts(&config), Places::of(&config));
            for (layer, block) in places.blocks.iter().enumerate() {
                let named = [
                    (Some(block.norm), Part::AttentionNorm(layer)),
                    (Some(block.qkv.weight), Part::Qkv(layer)),
                    (block.qkv.bias, Part::QkvBias(layer)),
                    (block.head_norms, Part::HeadNorms(layer)),
                    (Some(block.out.weight), Part::AttentionOut(layer)),
                    (block.out.bias, Part::AttentionOutBias(layer)),
                    (block.after_attention, Part::AfterAttention(layer)),
                    (Some(block.feed_norm), Part::FeedNorm(layer)),
                    (Some(block.gate_up.weight), Part::GateUp(layer)),
                    (block.gate_up.bias, Part::GateUpBias(layer)),
                    (Some(block.down.weight), Part::Down(layer)),
                    (block.down.bias, Part::DownBias(layer)),
                    (block.after_feed, Part::AfterFeed(layer)),
                ];
                for (place, part) in named {
                    assert_eq!(place, parts.iter().position(|found| *found == part), "{part:?}");
                }
            }
            assert_eq!(parts[places.final_norm], Part::FinalNorm);
            let head = if config.tie_word_embeddings { Part::Embedding } else { Part::Head };
            assert_eq!(parts[places.head], head);
        }
    }
}
