//! Weights in HF's safetensors: reads single and sharded files by mmap and writes them; which tensors a model has, and
//! how they are fused, is `weights/parts.rs`'s matter. Never computes with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use plumb_engine::stage::StageError;
use safetensors::{Dtype, SafeTensors, View};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::config::Config;

mod parts;

pub use parts::{Block, Matrix, Part, Places, parts};

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

    /// Whether a tensor of that name is there.
    pub fn has(&self, name: &str) -> bool {
        self.place.contains_key(name)
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
