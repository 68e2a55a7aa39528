//! Weights in HF's safetensors: reads single and sharded files by mmap and writes them; which tensors a model has, and
//! how they are fused, is `weights/parts.rs`'s matter. Never computes with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use plumb_engine::stage::StageError;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::config::Config;

mod parts;

pub use parts::{Block, Matrix, Part, Places, parts};

// Names the shard of every tensor.
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The safetensors files of a model folder, mapped, their headers read once.
pub struct Files {
    maps: Vec<(PathBuf, Mmap)>,
    place: BTreeMap<String, Place>,
}

// Where a tensor is.
struct Place {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub fn open(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(INDEX);
        if !path.exists() {
            return Self::of(&folder.join(WHOLE));
        }
        let index = Index::read(&path)?;
        let mut files = Self { maps: Vec::new(), place: BTreeMap::new() };
        for shard in index.shards(&path)? {
            let file = folder.join(shard);
            if !file.exists() {
                let missing = StageError::new(format!("`{}` is missing: `{INDEX}` names it", file.display()));
                return Err(missing.hint("copy or download this shard beside the others"));
            }
            files.add(file)?;
        }
        for (name, shard) in &index.weight_map {
            let found = files.place.get(name).and_then(|place| files.maps[place.file].0.file_name());
            if found.is_none_or(|found| *found != **shard) {
                let problem = format!("tensor `{name}` is not in `{shard}`");
                return Err(StageError::file("read", &path, &problem).hint("index and shards are of different models"));
            }
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
        let tensors = places(&map, self.maps.len()).map_err(|problem| {
            StageError::file("parse", &path, &problem)
                .hint("the file is damaged or was not copied to its end: copy it again")
        })?;
        for (name, place) in tensors {
            if let Some(other) = self.place.insert(name.clone(), place) {
                let problem = format!("tensor `{name}` is in `{}` too", self.maps[other.file].0.display());
                return Err(StageError::file("read", &path, &problem));
            }
        }
        self.maps.push((path, map));
        Ok(())
    }

    /// One tensor as f32, its shape checked.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, StageError> {
        let (kind, bytes) = self.find(name, shape)?;
        let tensor = Tensor::f_from_data_size(bytes, shape, kind);
        let tensor = tensor.map_err(|error| StageError::new(format!("tensor `{name}`: {error}")))?;
        let tensor = tensor.to_kind(Kind::Float);
        self.let_go(name);
        Ok(tensor)
    }

    // The pages of a tensor that was copied: kept, they would make the process look twice as large as its weights.
    fn let_go(&self, name: &str) {
        let Some(place) = self.place.get(name) else { return };
        let (_, map) = &self.maps[place.file];
        // SAFETY: the map is of a file and read-only: pages that are read again come from the file. It is advice, so
        // that a refusal changes nothing.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, place.bytes.start, place.bytes.len()) };
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
        let hint = "`config.json` and weights have to be of the same model";
        let place = self.place.get(name).ok_or_else(|| {
            let beside = self.maps.first().map(|(path, _)| path.display().to_string()).unwrap_or_default();
            StageError::new(format!("{beside}: tensor `{name}` is missing, expected of shape {shape:?}")).hint(hint)
        })?;
        let (path, map) = &self.maps[place.file];
        let told = |problem: String| StageError::new(format!("{}: tensor `{name}`: {problem}", path.display()));
        if !place.shape.iter().map(|size| i64::try_from(*size).unwrap_or(-1)).eq(shape.iter().copied()) {
            return Err(told(format!("has shape {:?}, expected {shape:?}", place.shape)).hint(hint));
        }
        let kind = kind(place.dtype).ok_or_else(|| {
            told(format!("is {:?}, expected F32, F16 or BF16", place.dtype)).hint("quantised weights are not read")
        })?;
        Ok((kind, &map[place.bytes.clone()]))
    }

    /// One part of the transformer as f32, fused.
    pub fn part(&self, config: &Config, part: Part) -> Result<Tensor, StageError> {
        let sources =
            part.sources(config).iter().map(|(name, shape)| self.tensor(name, shape)).collect::<Result<Vec<_>, _>>()?;
        Ok(part.fuse(config, &sources))
    }
}

// Checked by the crate: header and data fill the file exactly, and no tensor overlaps another.
fn places(bytes: &[u8], file: usize) -> Result<Vec<(String, Place)>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let place = |(name, view): (String, TensorView)| {
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let bytes = start..start + view.data().len();
        (name, Place { file, dtype: view.dtype(), shape: view.shape().to_vec(), bytes })
    };
    Ok(tensors.tensors().into_iter().map(place).collect())
}

impl Index {
    fn read(path: &Path) -> Result<Self, StageError> {
        let text = std::fs::read_to_string(path).map_err(|error| StageError::file("read", path, &error))?;
        serde_json::from_str(&text).map_err(|error| StageError::file("parse", path, &error))
    }

    // Names of files beside the index: one that leads elsewhere would be read there, and copied.
    fn shards(&self, path: &Path) -> Result<BTreeSet<&str>, StageError> {
        let plain = |name: &str| name.ends_with(".safetensors") && !name.contains(['/', '\\', '\0']);
        match self.weight_map.values().find(|name| !plain(name)) {
            None if self.weight_map.is_empty() => Err(StageError::file("read", path, &"`weight_map` names no tensor")),
            None => Ok(self.weight_map.values().map(String::as_str).collect()),
            Some(name) => {
                let problem = format!("`{name}` is no name of a safetensors file beside it");
                Err(StageError::file("read", path, &problem))
            }
        }
    }
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
mod tests;
