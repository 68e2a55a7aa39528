//! The decoder-only transformer of the Llama family, read top to bottom: RMSNorm, rotary positions, grouped-query
//! attention, SwiGLU, tied or untied head. Knows tensors and shapes; knows no file, no token text, no loss.
//!
//! Sequences are padded on the right, so that causal attention needs no mask; positions are given per row wherever
//! rows differ. The residual stream runs in the dtype of the blocks' weights; embedding and head stay f32, because
//! bf16 logits tie (A and B exactly equal in one judge of four).

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::weights::PER_BLOCK;

/// Weights in the order of [`crate::weights::parts`], and what is computed with them.
pub struct Transformer {
    /// Shape and switches.
    pub config: Config,
    /// In the order of the parts.
    pub weights: Vec<Tensor>,
    /// Dtype of the blocks.
    pub kind: Kind,
    /// Where the weights are.
    pub device: Device,
}

/// Keys and values of one block: (batch, key heads, time, head).
pub type KeyValue = (Tensor, Tensor);

/// What the tokens of a pass may look at besides themselves.
pub enum Attend<'a> {
    /// Earlier tokens of the same pass; `Some` collects each block's keys and values.
    Causal(Option<&'a mut Vec<KeyValue>>),
    /// A prefix that was computed before (differentiably) and earlier tokens of the same pass.
    Prefixed {
        /// Of the one block that is run.
        prefix: &'a KeyValue,
        /// (batch, 1, time, prefix + time), added to the scores.
        mask: &'a Tensor,
    },
    /// Earlier tokens of the same sequence: one row holds sequences of these lengths one after the other.
    Packed(&'a [i64]),
    /// One new token a row, after everything in the cache.
    Cached(&'a mut Cache),
}

/// Keys and values of a batch that grows by one token a step, allocated once.
pub struct Cache {
    /// Per block; time is the capacity.
    pub blocks: Vec<KeyValue>,
    /// Slots in use.
    pub length: i64,
    /// (batch, 1, 1, capacity), added to the scores: hides the padding between a short prompt and the new tokens.
    pub mask: Option<Tensor>,
}

impl Transformer {
    /// (batch, time) ids -> (batch, time, hidden)
    pub fn embed(&self, tokens: &Tensor) -> Tensor {
        Tensor::embedding(&self.weights[0], tokens, -1, false, false).to_kind(self.kind)
    }

    /// Rotations of the given positions: (batch, time) -> complex (batch, time, 1, head / 2)
    pub fn angles(&self, positions: &Tensor) -> Tensor {
        let half = self.config.head_dim / 2;
        let exponents = Tensor::arange(half, (Kind::Float, self.device)) * (2.0 / self.config.head_dim as f64);
        let frequencies = (exponents * -self.config.rope_theta.ln()).exp();
        let angles = positions.to_kind(Kind::Float).unsqueeze(-1) * frequencies;
        Tensor::polar(&angles.ones_like(), &angles).unsqueeze(2)
    }

    /// Rotations of positions 0.. for every row: complex (1, time, 1, head / 2)
    pub fn angles_from_zero(&self, time: i64) -> Tensor {
        self.angles(&Tensor::arange(time, (Kind::Int64, self.device)).unsqueeze(0))
    }

    /// Runs blocks `range` on (batch, time, hidden).
    pub fn blocks(&self, range: Range<usize>, mut stream: Tensor, angles: &Tensor, attend: &mut Attend) -> Tensor {
        for layer in range {
            stream = self.block(layer, stream, angles, attend);
        }
        stream
    }

    /// Final norm and head: (…, hidden) -> (…, vocabulary) in f32
    pub fn logits(&self, stream: &Tensor) -> Tensor {
        self.last_norm(stream).linear(&self.weights[self.head()], None::<&Tensor>)
    }

    /// Final norm: (…, hidden) -> (…, hidden) in f32, what the head is given.
    pub fn last_norm(&self, stream: &Tensor) -> Tensor {
        self.norm(&stream.to_kind(Kind::Float), &self.weights[1 + self.config.num_hidden_layers * PER_BLOCK])
    }

    /// Which of the weights is the head, (vocabulary, hidden): the embedding where the two are tied.
    #[must_use]
    pub fn head(&self) -> usize {
        if self.config.tie_word_embeddings { 0 } else { 2 + self.config.num_hidden_layers * PER_BLOCK }
    }

    fn block(&self, layer: usize, stream: Tensor, angles: &Tensor, attend: &mut Attend) -> Tensor {
        let first = 1 + layer * PER_BLOCK;
        let [norm, qkv, out, feed_norm, gate_up, down] = &self.weights[first..first + PER_BLOCK] else {
            unreachable!("a slice of PER_BLOCK weights has that many elements")
        };
        let attended = self.attention(layer, &self.norm(&stream, norm).linear(qkv, None::<&Tensor>), angles, attend);
        let stream = stream + attended.linear(out, None::<&Tensor>);
        let halves = self.norm(&stream, feed_norm).linear(gate_up, None::<&Tensor>).chunk(2, -1);
        let fed = (halves[0].silu() * &halves[1]).linear(down, None::<&Tensor>);
        stream + fed
    }

    fn norm(&self, stream: &Tensor, gain: &Tensor) -> Tensor {
        stream.rms_norm([self.config.hidden_size], Some(gain), self.config.rms_norm_eps)
    }

    // (batch, time, query + key + value) -> (batch, time, query heads × head)
    fn attention(&self, layer: usize, qkv: &Tensor, angles: &Tensor, attend: &mut Attend) -> Tensor {
        let (batch, time, _) = qkv.size3().expect("the stream has three dimensions");
        let (queries, keys, head) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        // Split, not narrowed: the gradient of a split is one concatenation, that of each narrowing a zeroed whole.
        let [turned, value] = two(qkv.split_with_sizes([(queries + keys) * head, keys * head], 2));
        let [query, key] = two(rotate(&turned, angles, queries + keys, head).split_with_sizes([queries, keys], 2));
        let (query, key) = (query.transpose(1, 2), key.transpose(1, 2));
        let value = value.view([batch, time, keys, head]).transpose(1, 2);
        let attended = match attend {
            Attend::Causal(kept) => {
                let attended = self.scores(&query, &key, &value, None, time > 1);
                if let Some(kept) = kept {
                    kept.push((key, value));
                }
                attended
            }
            Attend::Prefixed { prefix, mask } => {
                let (past_key, past_value) = prefix;
                let key = Tensor::cat(&[past_key, &key], 2);
                let value = Tensor::cat(&[past_value, &value], 2);
                self.scores(&query, &key, &value, Some(mask), false)
            }
            Attend::Packed(lengths) => {
                let cut = |whole: &Tensor| whole.split_with_sizes(*lengths, 2);
                let parts = cut(&query).into_iter().zip(cut(&key)).zip(cut(&value)).zip(lengths.iter());
                let one = |(((query, key), value), time): (((Tensor, Tensor), Tensor), &i64)| {
                    self.scores(&query, &key, &value, None, *time > 1)
                };
                Tensor::cat(&parts.map(one).collect::<Vec<Tensor>>(), 2)
            }
            Attend::Cached(cache) => self.one_more(layer, &query, &key, &value, cache),
        };
        attended.transpose(1, 2).reshape([batch, time, queries * head])
    }

    // Query heads that share a key head become rows of one query: no key is repeated.
    fn one_more(&self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor, cache: &mut Cache) -> Tensor {
        let (batch, queries, _, head) = query.size4().expect("queries have four dimensions");
        let keys = self.config.num_key_value_heads;
        let length = cache.length;
        let (past_key, past_value) = &cache.blocks[layer];
        past_key.narrow(2, length, 1).copy_(key);
        past_value.narrow(2, length, 1).copy_(value);
        let mask = cache.mask.as_ref().map(|mask| mask.narrow(3, 0, length + 1));
        let attended = Tensor::scaled_dot_product_attention(
            &query.reshape([batch, keys, queries / keys, head]),
            &past_key.narrow(2, 0, length + 1),
            &past_value.narrow(2, 0, length + 1),
            mask.as_ref(),
            0.0,
            false,
            None,
            false,
        );
        attended.reshape([batch, queries, 1, head])
    }

    fn scores(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
        let (key, value) = (self.for_each_query(key), self.for_each_query(value));
        Tensor::scaled_dot_product_attention(query, &key, &value, mask, 0.0, causal, None, false)
    }

    // (batch, key heads, time, head) -> (batch, query heads, time, head)
    fn for_each_query(&self, keys: &Tensor) -> Tensor {
        let group = self.config.num_attention_heads / self.config.num_key_value_heads;
        if group == 1 {
            return keys.shallow_clone();
        }
        let (batch, heads, time, head) = keys.size4().expect("keys have four dimensions");
        keys.unsqueeze(2).expand([batch, heads, group, time, head], false).reshape([batch, heads * group, time, head])
    }
}

fn two(parts: Vec<Tensor>) -> [Tensor; 2] {
    parts.try_into().expect("a split into two sizes has two parts")
}

// Each pair of neighbours is a complex number, turned by its angle.
fn rotate(heads: &Tensor, angles: &Tensor, count: i64, head: i64) -> Tensor {
    let (batch, time, _) = heads.size3().expect("projections have three dimensions");
    let kind = heads.kind();
    let pairs = heads.to_kind(Kind::Float).view([batch, time, count, head / 2, 2]).view_as_complex();
    (pairs * angles).view_as_real().view([batch, time, count, head]).to_kind(kind)
}

/// Added to a score, hides a position. Finite, so that a row that sees nothing yields no NaN.
pub const HIDDEN: f32 = -1e30;
