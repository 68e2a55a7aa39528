//! The decoder-only transformer, read top to bottom: RMSNorm, rotary positions, grouped-query attention, a gated
//! feed-forward layer, tied or untied head. What Llama, Mistral, Qwen and Gemma do differently are switches of
//! [`Config`]: biases, norms of heads and after layers, sliding windows, soft caps. Knows tensors and shapes; knows no
//! file, no token text, no loss.
//!
//! Sequences are padded on the right, so that causal attention needs no mask; positions are given per row wherever
//! rows differ. The residual stream runs in the dtype of the blocks' weights; embedding and head stay f32, because
//! bf16 logits tie (A and B exactly equal in one judge of four).

use std::collections::BTreeMap;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::cache::Cache;
use crate::config::{Activation, Config};
use crate::lora::{self, Adapted};
use crate::rotary::Angles;
use crate::weights::{Block, Matrix, Places};

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
    /// Without its adapters while this is set.
    pub bare: bool,
    places: Places,
    adapted: BTreeMap<usize, Adapted>,
}

/// Keys and values of one block: (batch, key heads, time, head).
pub type KeyValue = (Tensor, Tensor);

/// What the tokens of a pass may look at besides themselves.
pub enum Attend<'a> {
    /// Earlier tokens of the same pass; `Some` collects each block's keys and values.
    Causal(Option<&'a mut Vec<KeyValue>>),
    /// A prefix that was computed before (differentiably) and earlier tokens of the same pass.
    Prefixed {
        /// Of the one block that is run; its slots are positions.
        prefix: &'a KeyValue,
        /// (batch, 1, time, prefix + time), added to the scores.
        mask: &'a Tensor,
        /// Collects each block's keys and values of this pass, without the prefix.
        kept: Option<&'a mut Vec<KeyValue>>,
    },
    /// Earlier tokens of the same sequence: one row holds sequences of these lengths one after the other.
    Packed(&'a [i64]),
    /// One new token a row, after everything in the cache.
    Cached(&'a Cache),
}

impl Transformer {
    /// Of weights in the order of [`crate::weights::parts`].
    pub fn new(config: Config, weights: Vec<Tensor>, kind: Kind, device: Device) -> Self {
        let (places, adapted) = (Places::of(&config), lora::adapted(&config));
        Self { config, weights, kind, device, bare: false, places, adapted }
    }

    /// (batch, time) ids -> (batch, time, hidden)
    pub fn embed(&self, tokens: &Tensor) -> Tensor {
        let rows = Tensor::embedding(&self.weights[0], tokens, -1, false, false);
        let rows = self.config.embedding_scale.map_or_else(|| rows.shallow_clone(), |scale| &rows * scale);
        rows.to_kind(self.kind)
    }

    /// Rotations of the given positions: (batch, time)
    pub fn angles(&self, positions: &Tensor) -> Angles {
        Angles::new(&self.config, positions)
    }

    /// Rotations of positions 0.. for every row.
    pub fn angles_from_zero(&self, time: i64) -> Angles {
        self.angles(&Tensor::arange(time, (Kind::Int64, self.device)).unsqueeze(0))
    }

    /// Runs blocks `range` on (batch, time, hidden).
    pub fn blocks(&self, range: Range<usize>, mut stream: Tensor, angles: &Angles, attend: &mut Attend) -> Tensor {
        let window = self.config.layers[range.clone()].iter().find_map(|layer| layer.window);
        let near = window.and_then(|window| self.near(window, angles, attend));
        for layer in range {
            stream = self.block(layer, stream, angles, near.as_ref(), attend);
        }
        stream
    }

    /// Final norm and head: (…, hidden) -> (…, vocabulary) in f32
    pub fn logits(&self, stream: &Tensor) -> Tensor {
        let logits = self.last_norm(stream).linear(&self.weights[self.head()], None::<&Tensor>);
        self.config.logits_cap.map_or_else(|| logits.shallow_clone(), |cap| capped(&logits, cap))
    }

    /// Final norm: (…, hidden) -> (…, hidden) in f32, what the head is given.
    pub fn last_norm(&self, stream: &Tensor) -> Tensor {
        self.norm(&stream.to_kind(Kind::Float), self.places.final_norm)
    }

    /// Which of the weights is the head, (vocabulary, hidden): the embedding where the two are tied.
    #[must_use]
    pub fn head(&self) -> usize {
        self.places.head
    }

    /// Where the weights of a block are.
    #[must_use]
    pub fn place(&self, layer: usize) -> Block {
        self.places.blocks[layer]
    }

    /// Applies a weight matrix and its bias: (…, in) -> (…, out). The only place where blocks do.
    pub fn project(&self, place: Matrix, input: &Tensor) -> Tensor {
        let output = input.linear(&self.weights[place.weight], place.bias.map(|bias| &self.weights[bias]));
        match self.adapted.get(&place.weight).filter(|_| !self.bare) {
            Some(adapted) => output + adapted.of(&self.weights, input),
            None => output,
        }
    }

    fn block(
        &self,
        layer: usize,
        stream: Tensor,
        angles: &Angles,
        near: Option<&Tensor>,
        attend: &mut Attend,
    ) -> Tensor {
        let place = self.place(layer);
        let qkv = self.project(place.qkv, &self.norm(&stream, place.norm));
        let attended = self.project(place.out, &self.attention(layer, &qkv, angles, near, attend));
        let stream = stream + self.after(attended, place.after_attention);
        let halves = self.project(place.gate_up, &self.norm(&stream, place.feed_norm)).chunk(2, -1);
        let gate = match self.config.activation {
            Activation::Silu => halves[0].silu(),
            Activation::GeluTanh => halves[0].gelu("tanh"),
        };
        let fed = self.project(place.down, &(gate * &halves[1]));
        stream + self.after(fed, place.after_feed)
    }

    fn after(&self, joining: Tensor, norm: Option<usize>) -> Tensor {
        norm.map_or_else(|| joining.shallow_clone(), |norm| self.norm(&joining, norm))
    }

    fn norm(&self, stream: &Tensor, place: usize) -> Tensor {
        let (gain, size, floor) = (&self.weights[place], [self.config.hidden_size], self.config.rms_norm_eps);
        if self.config.norm_offset == 0.0 {
            return stream.rms_norm(size, Some(gain), floor);
        }
        // A small gain beside 1 would be rounded away in bf16.
        let gain = gain.to_kind(Kind::Float) + self.config.norm_offset;
        stream.to_kind(Kind::Float).rms_norm(size, Some(gain), floor).to_kind(stream.kind())
    }

    // (batch, time, query + key + value) -> (batch, time, query heads × head)
    fn attention(
        &self,
        layer: usize,
        qkv: &Tensor,
        angles: &Angles,
        near: Option<&Tensor>,
        attend: &mut Attend,
    ) -> Tensor {
        let (batch, time, _) = qkv.size3().expect("the stream has three dimensions");
        let (queries, keys, head) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        // Split, not narrowed: the gradient of a split is one concatenation, that of each narrowing a zeroed whole.
        let [turned, value] = two(qkv.split_with_sizes([(queries + keys) * head, keys * head], 2));
        let turned = self.place(layer).head_norms.map_or(turned.shallow_clone(), |place| self.heads(&turned, place));
        let turned = angles.turn(self.config.layers[layer].rope, &turned, queries + keys, self.kind);
        let [query, key] = two(turned.split_with_sizes([queries, keys], 2));
        let (query, key) = (query.transpose(1, 2), key.transpose(1, 2));
        let value = value.view([batch, time, keys, head]).transpose(1, 2);
        let near = near.filter(|_| self.config.layers[layer].window.is_some());
        let attended = match attend {
            Attend::Causal(kept) => {
                let attended = self.scores(&query, &key, &value, near, near.is_none() && time > 1);
                if let Some(kept) = kept {
                    kept.push((key, value));
                }
                attended
            }
            Attend::Prefixed { prefix, mask, kept } => {
                let (past_key, past_value) = prefix;
                let all = (Tensor::cat(&[past_key, &key], 2), Tensor::cat(&[past_value, &value], 2));
                if let Some(kept) = kept {
                    kept.push((key, value));
                }
                self.scores(&query, &all.0, &all.1, Some(near.unwrap_or(mask)), false)
            }
            Attend::Packed(lengths) => {
                let cut = |whole: &Tensor| whole.split_with_sizes(*lengths, 2);
                let parts = cut(&query).into_iter().zip(cut(&key)).zip(cut(&value)).zip(lengths.iter());
                let one = |(((query, key), value), time): (((Tensor, Tensor), Tensor), &i64)| {
                    let near = near.map(|near| near.narrow(2, 0, *time).narrow(3, 0, *time));
                    self.scores(&query, &key, &value, near.as_ref(), near.is_none() && *time > 1)
                };
                Tensor::cat(&parts.map(one).collect::<Vec<Tensor>>(), 2)
            }
            Attend::Cached(cache) => self.one_more(layer, &query, &key, &value, cache),
        };
        attended.transpose(1, 2).reshape([batch, time, queries * head])
    }

    // Every head of queries and keys by itself, in f32: the rotation that follows is.
    fn heads(&self, turned: &Tensor, place: usize) -> Tensor {
        let (queries, keys, head) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        let gains = self.weights[place].to_kind(Kind::Float).view([2, 1, head]) + self.config.norm_offset;
        let gains =
            Tensor::cat(&[gains.get(0).expand([queries, head], false), gains.get(1).expand([keys, head], false)], 0);
        let (batch, time, _) = turned.size3().expect("projections have three dimensions");
        let heads = turned.to_kind(Kind::Float).view([batch, time, queries + keys, head]);
        heads.rms_norm([head], None::<&Tensor>, self.config.rms_norm_eps) * gains
    }

    // What the scores of blocks with a sliding window are masked by, besides what all are; `None` where it hides nothing.
    fn near(&self, window: i64, angles: &Angles, attend: &mut Attend) -> Option<Tensor> {
        let own = &angles.positions;
        // (batch, 1, queries, keys)
        let beyond = |keys: &Tensor| (own.unsqueeze(2) - keys.unsqueeze(1)).ge(window).unsqueeze(1);
        match attend {
            Attend::Causal(_) => self.band(window, own.size()[1]),
            Attend::Packed(lengths) => self.band(window, lengths.iter().copied().max().unwrap_or_default()),
            Attend::Prefixed { prefix, mask, .. } => {
                let slots = prefix.0.size()[2];
                let slots = Tensor::arange(slots, (Kind::Int64, self.device)).unsqueeze(0);
                let slots = slots.expand([own.size()[0], -1], false);
                Some(self.hiding(&beyond(&Tensor::cat(&[&slots, own], 1))) + &**mask)
            }
            // The cache sees to it.
            Attend::Cached(_) => None,
        }
    }

    // (1, 1, time, time): neither later tokens nor those beyond the window; `None` where the window is not filled.
    fn band(&self, window: i64, time: i64) -> Option<Tensor> {
        let seen = Tensor::ones([time, time], (Kind::Bool, self.device)).tril(0).triu(1 - window);
        (time > window).then(|| self.hiding(&seen.logical_not()).view([1, 1, time, time]))
    }

    fn hiding(&self, hidden: &Tensor) -> Tensor {
        (hidden.to_kind(Kind::Float) * f64::from(HIDDEN)).to_kind(self.kind)
    }

    // Query heads that share a key head become rows of one query: no key is repeated.
    fn one_more(&self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor, cache: &Cache) -> Tensor {
        let (batch, queries, _, head) = query.size4().expect("queries have four dimensions");
        let keys = self.config.num_key_value_heads;
        let seen = cache.extended(layer, key, value, self.config.layers[layer].window);
        let query = query.reshape([batch, keys, queries / keys, head]);
        self.look(&query, &seen.key, &seen.value, seen.mask.as_ref(), false).reshape([batch, queries, 1, head])
    }

    fn scores(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
        self.look(query, &self.for_each_query(key), &self.for_each_query(value), mask, causal)
    }

    // Attention itself. No kernel has soft caps: with them the scores are written out.
    fn look(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
        let Some(cap) = self.config.attention_cap else {
            let scale = self.config.attention_scale;
            return Tensor::scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale, false);
        };
        let scale = self.config.attention_scale.unwrap_or((self.config.head_dim as f64).sqrt().recip());
        let mut scores = capped(&(query.matmul(&key.transpose(2, 3)) * scale), cap);
        if causal {
            let time = query.size()[2];
            scores += self.hiding(&Tensor::ones([time, time], (Kind::Bool, self.device)).triu(1));
        }
        if let Some(mask) = mask {
            scores += mask;
        }
        scores.softmax(-1, Kind::Float).to_kind(query.kind()).matmul(value)
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

fn capped(scores: &Tensor, cap: f64) -> Tensor {
    (scores / cap).tanh() * cap
}

/// Added to a score, hides a position. Finite, so that a row that sees nothing yields no NaN.
pub const HIDDEN: f32 = -1e30;
