//! What a GGUF file holds: its metadata as JSON values, and its tensors as f32. The format is read and dequantised by
//! the crate `pmetal-gguf`; here is what we ask of it, and that a damaged file is an error.
//!
//! Why this crate: it checks each count, length, alignment and tensor range against the bytes that are there before it
//! allocates, and decodes every GGML type that is not laid out for one kernel. The tests run it on truncated files,
//! changed bytes and headers that lie, and hold fourteen formats to the numbers of GGML's own reader in Python; formats
//! beyond those (IQ1 to IQ3, the ternary ones) are taken on trust. Others were only read, not run: in candle-core 0.11
//! an alignment of 0 divides by zero; gguf-rs turns on serde_json's `arbitrary_precision` for the whole build;
//! rlx-gguf is under the GPL. A metadata list of small numbers takes some tens of times its bytes in memory, for which
//! the file is the bound.

use std::collections::BTreeMap;
use std::io::Cursor;

use pmetal_gguf::dequant::{dequantize, is_supported};
use pmetal_gguf::{GgufContent, MetadataValue};
use serde_json::Value;

/// A file's header, over its bytes.
#[derive(Debug)]
pub struct Contents<'a> {
    bytes: &'a [u8],
    file: GgufContent,
    /// By key, as `llama.block_count`.
    pub metadata: BTreeMap<String, Value>,
}

impl<'a> Contents<'a> {
    /// Reads the header of a file's bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"GGUF") {
            return Err("is no GGUF file: it does not start with `GGUF`".into());
        }
        let mut file = GgufContent::read(&mut Cursor::new(bytes)).map_err(|error| error.to_string())?;
        let metadata = std::mem::take(&mut file.metadata).into_iter().map(|(key, value)| (key, json(value))).collect();
        Ok(Self { bytes, file, metadata })
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.file.tensor_infos.contains_key(name)
    }

    /// Of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.tensor_infos.keys().map(String::as_str)
    }

    /// The numbers of the tensor `name`, row by row, if it has the shape that is expected.
    pub fn tensor(&self, name: &str, shape: &[i64]) -> Result<Vec<f32>, String> {
        let tensor = self.file.get_tensor_info(name).ok_or(format!("`{name}` is missing"))?;
        if !tensor.dimensions.iter().copied().eq(shape.iter().map(|size| size.unsigned_abs())) {
            return Err(format!("has shape {:?}, expected {shape:?}", tensor.dimensions));
        }
        if !is_supported(tensor.dtype) {
            return Err(format!(
                "is of type {:?}, which is laid out for one kernel: no tensor for others",
                tensor.dtype
            ));
        }
        let sizes = shape.iter().map(|size| i32::try_from(*size)).collect::<Result<Vec<_>, _>>();
        let sizes = sizes.map_err(|_| format!("has shape {shape:?}: too large"))?;
        let range = self.file.tensor_data_range(name).map_err(|error| error.to_string())?;
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let data = self.bytes.get(place(range.start)..place(range.end)).ok_or("lies beyond the end of the file")?;
        dequantize(data, tensor.dtype, &sizes).map_err(|error| error.to_string())
    }
}

fn json(value: MetadataValue) -> Value {
    match value {
        MetadataValue::Bool(flag) => Value::from(flag),
        MetadataValue::String(text) => Value::from(text),
        MetadataValue::Array(values) => values.into_iter().map(json).collect(),
        MetadataValue::Float32(number) => Value::from(f64::from(number)),
        MetadataValue::Float64(number) => Value::from(number),
        whole => whole.as_i64().map(Value::from).or(whole.as_u64().map(Value::from)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
