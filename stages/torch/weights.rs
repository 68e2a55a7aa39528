//! Weights between HF's safetensors and the transformer's own order: reads single and sharded files by mmap, fuses
//! query/key/value and gate/up into one matrix each, and splits them again on writing. Never computes with them.
//!
//! Query and key rows are kept with each rotary pair side by side (Meta's order) instead of HF's two halves: rotary
//! positions are then one complex multiplication.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use plumb_engine::stage::StageError;
use safetensors::{Dtype, SafeTensors, View};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::config::Config;

/// Tensors of one block, in the order they are stored.
pub const PER_BLOCK: usize = 6;

/// Every weight in the transformer's order: embedding, blocks, final norm, and the head where it is not tied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// (vocabulary, hidden)
    Embedding,
    /// (hidden) before attention
    AttentionNorm(usize),
    /// (query + key + value, hidden)
    Qkv(usize),
    /// (hidden, heads × head)
    AttentionOut(usize),
    /// (hidden) before the feed-forward layer
    FeedNorm(usize),
    /// (gate + up, hidden)
    GateUp(usize),
    /// (hidden, intermediate)
    Down(usize),
    /// (hidden)
    FinalNorm,
    /// (vocabulary, hidden)
    Head,
}

/// The parts of a model, in order.
pub fn parts(config: &Config) -> Vec<Part> {
    let mut parts = vec![Part::Embedding];
    for layer in 0..config.num_hidden_layers {
        parts.extend([
            Part::AttentionNorm(layer),
            Part::Qkv(layer),
            Part::AttentionOut(layer),
            Part::FeedNorm(layer),
            Part::GateUp(layer),
            Part::Down(layer),
        ]);
    }
    parts.push(Part::FinalNorm);
    if !config.tie_word_embeddings {
        parts.push(Part::Head);
    }
    parts
}

impl Part {
    /// Whether this is a gain of a normalisation: kept out of weight decay.
    pub fn is_norm(self) -> bool {
        matches!(self, Self::AttentionNorm(_) | Self::FeedNorm(_) | Self::FinalNorm)
    }

    /// The block it belongs to.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::AttentionNorm(layer)
            | Self::Qkv(layer)
            | Self::AttentionOut(layer)
            | Self::FeedNorm(layer)
            | Self::GateUp(layer)
            | Self::Down(layer) => Some(layer),
            Self::Embedding | Self::FinalNorm | Self::Head => None,
        }
    }

    /// The HF tensors that make it up, with their shapes.
    pub fn sources(self, config: &Config) -> Vec<(String, Vec<i64>)> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let named =
            |layer: usize, name: &str, shape: &[i64]| (format!("model.layers.{layer}.{name}.weight"), shape.to_vec());
        match self {
            Self::Embedding => vec![("model.embed_tokens.weight".into(), vec![config.vocab_size, hidden])],
            Self::AttentionNorm(layer) => vec![named(layer, "input_layernorm", &[hidden])],
            Self::Qkv(layer) => vec![
                named(layer, "self_attn.q_proj", &[queries, hidden]),
                named(layer, "self_attn.k_proj", &[keys, hidden]),
                named(layer, "self_attn.v_proj", &[keys, hidden]),
            ],
            Self::AttentionOut(layer) => vec![named(layer, "self_attn.o_proj", &[hidden, queries])],
            Self::FeedNorm(layer) => vec![named(layer, "post_attention_layernorm", &[hidden])],
            Self::GateUp(layer) => {
                vec![named(layer, "mlp.gate_proj", &[wide, hidden]), named(layer, "mlp.up_proj", &[wide, hidden])]
            }
            Self::Down(layer) => vec![named(layer, "mlp.down_proj", &[hidden, wide])],
            Self::FinalNorm => vec![("model.norm.weight".into(), vec![hidden])],
            Self::Head => vec![("lm_head.weight".into(), vec![config.vocab_size, hidden])],
        }
    }

    /// Fuses its HF tensors.
    pub fn fuse(self, config: &Config, sources: &[Tensor]) -> Tensor {
        match self {
            Self::Qkv(_) => Tensor::cat(
                &[
                    pairs_together(&sources[0], config.head_dim),
                    pairs_together(&sources[1], config.head_dim),
                    sources[2].shallow_clone(),
                ],
                0,
            ),
            Self::GateUp(_) => Tensor::cat(sources, 0),
            _ => sources[0].shallow_clone(),
        }
    }

    /// The inverse of [`Part::fuse`].
    pub fn split(self, config: &Config, whole: &Tensor) -> Vec<Tensor> {
        let rows: Vec<i64> = self.sources(config).iter().map(|(_, shape)| shape[0]).collect();
        let pieces = whole.split_with_sizes(&rows, 0);
        match self {
            Self::Qkv(_) => vec![
                pairs_apart(&pieces[0], config.head_dim),
                pairs_apart(&pieces[1], config.head_dim),
                pieces[2].shallow_clone(),
            ],
            _ => pieces,
        }
    }
}

// HF keeps the two members of rotary pair i in rows i and i + head / 2 of a head.
fn pairs_together(matrix: &Tensor, head: i64) -> Tensor {
    let (rows, columns) = matrix.size2().expect("a projection has two dimensions");
    matrix.reshape([rows / head, 2, head / 2, columns]).transpose(1, 2).reshape([rows, columns])
}

fn pairs_apart(matrix: &Tensor, head: i64) -> Tensor {
    let (rows, columns) = matrix.size2().expect("a projection has two dimensions");
    matrix.reshape([rows / head, head / 2, 2, columns]).transpose(1, 2).reshape([rows, columns])
}

// Names the shard of every tensor.
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The safetensors files of a model folder, mapped.
pub struct Files {
    maps: Vec<(PathBuf, Mmap)>,
    place: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(folder: &Path) -> Result<Self, StageError> {
        let index = folder.join(INDEX);
        let names = if index.exists() { shard_names(&index)? } else { vec![WHOLE.to_string()] };
        let mut files = Self { maps: Vec::new(), place: BTreeMap::new() };
        for name in names {
            files.add(folder.join(name))?;
        }
        Ok(files)
    }

    /// Maps one file.
    pub fn of(path: &Path) -> Result<Self, StageError> {
        let mut files = Self { maps: Vec::new(), place: BTreeMap::new() };
        files.add(path.to_path_buf())?;
        Ok(files)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), StageError> {
        let file = File::open(&path).map_err(|error| StageError::file("read", &path, &error))?;
        // SAFETY: the cache's blobs are read-only and never rewritten in place, and a step's inputs are sealed.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| StageError::file("map", &path, &error))?;
        let number = self.maps.len();
        let tensors = SafeTensors::deserialize(&map).map_err(|error| StageError::file("parse", &path, &error))?;
        self.place.extend(tensors.names().into_iter().map(|name| (name.to_string(), number)));
        self.maps.push((path, map));
        Ok(())
    }

    /// One tensor as f32, its shape checked.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, StageError> {
        let (kind, bytes) = self.find(name, shape)?;
        let tensor = Tensor::f_from_data_size(bytes, shape, kind);
        let tensor = tensor.map_err(|error| StageError::new(format!("tensor `{name}`: {error}")))?;
        Ok(tensor.to_kind(Kind::Float))
    }

    /// Whether a tensor is there with that shape and a supported dtype.
    pub fn check(&self, name: &str, shape: &[i64]) -> Result<(), StageError> {
        self.find(name, shape).map(|_| ())
    }

    /// The files' names, and the index's where there is one.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_string);
        let names: Vec<String> = self.maps.iter().filter_map(|(path, _)| name(path)).collect();
        // One shard may still go by a shard's name.
        let index = (names != [WHOLE]).then(|| INDEX.to_string());
        names.into_iter().chain(index)
    }

    fn find(&self, name: &str, shape: &[i64]) -> Result<(Kind, &[u8]), StageError> {
        let missing = || StageError::new(format!("the model folder has no tensor `{name}`"));
        let (path, map) = self.place.get(name).map(|number| &self.maps[*number]).ok_or_else(missing)?;
        let told = |problem: &dyn std::fmt::Display| {
            StageError::new(format!("{}: tensor `{name}`: {problem}", path.display()))
        };
        let tensors = SafeTensors::deserialize(map).map_err(|error| told(&error))?;
        let view = tensors.tensor(name).map_err(|error| told(&error))?;
        let found: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
        if found != shape {
            return Err(told(&format!("has shape {found:?}, expected {shape:?}")));
        }
        let kind = kind(view.dtype());
        let kind = kind.ok_or_else(|| told(&format!("is {:?}, expected F32, F16 or BF16", view.dtype())))?;
        Ok((kind, view.data()))
    }

    /// One part of the transformer as f32, fused.
    pub fn part(&self, config: &Config, part: Part) -> Result<Tensor, StageError> {
        let sources =
            part.sources(config).iter().map(|(name, shape)| self.tensor(name, shape)).collect::<Result<Vec<_>, _>>()?;
        Ok(part.fuse(config, &sources))
    }
}

fn shard_names(index: &Path) -> Result<Vec<String>, StageError> {
    let text = std::fs::read_to_string(index).map_err(|error| StageError::file("read", index, &error))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| StageError::file("parse", index, &error))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// A named f32 matrix on its way to a file.
pub struct Written {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Written {
    /// Copies a tensor to host memory as f32.
    pub fn of(tensor: &Tensor) -> Self {
        let tensor = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
        let mut bytes = vec![0; tensor.numel() * 4];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        Self { shape: tensor.size().iter().map(|size| *size as usize).collect(), bytes }
    }

    /// A matrix made elsewhere.
    pub fn from_values(shape: &[i64], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { shape: shape.iter().map(|size| *size as usize).collect(), bytes }
    }
}

impl View for &Written {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a safetensors file with the metadata that transformers asks for.
pub fn write(path: &Path, tensors: &BTreeMap<String, Written>) -> Result<(), StageError> {
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize_to_file(tensors.iter(), Some(metadata), path)
        .map_err(|error| StageError::file("write", path, &error))
}

/// The transformer's parts under HF's names.
pub fn to_hf(config: &Config, weights: &[Tensor]) -> BTreeMap<String, Written> {
    let mut named = BTreeMap::new();
    for (part, whole) in parts(config).into_iter().zip(weights) {
        let names = part.sources(config).into_iter().map(|(name, _)| name);
        named.extend(names.zip(part.split(config, whole).iter().map(Written::of)));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_undoes_fusing() {
        let config = Config::from_json(serde_json::json!({"model_type": "llama", "vocab_size": 8, "hidden_size": 16,
            "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}))
        .expect("valid");
        for part in parts(&config) {
            let sources: Vec<Tensor> = part
                .sources(&config)
                .iter()
                .map(|(_, shape)| {
                    Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, tch::Device::Cpu)).reshape(shape)
                })
                .collect();
            let back = part.split(&config, &part.fuse(&config, &sources));
            assert!(sources.iter().zip(&back).all(|(one, other)| one == other), "{part:?}");
        }
    }
}
