//! The header of a GGUF file (versions 2 and 3, little-endian): its metadata as JSON values, and where each tensor
//! lies. Reads bytes only, and believes none of them: a damaged file is an error, never a panic or a wild allocation.
//!
//! Our own, because the crate that reads GGUF turns on serde_json's `arbitrary_precision` for the whole build, with
//! which numbers inside tagged and flattened types no longer read (the step protocol, `meta` parameters).

use std::collections::BTreeMap;

use serde_json::Value;

/// GGML's alignment of the tensor data where the file names none.
const ALIGNMENT: u64 = 32;

/// Most dimensions of a tensor in GGML.
const MOST_DIMENSIONS: u32 = 4;

/// Arrays do not nest in the files there are; a crafted one must not exhaust the stack.
const MOST_NESTING: usize = 4;

/// A tensor's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Sizes, the fastest dimension first, as GGUF keeps them.
    pub sizes: Vec<u64>,
    /// GGML's number of the format.
    pub kind: u32,
    /// First byte, from the start of the file.
    pub start: u64,
}

/// Metadata and tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// By key, as `llama.block_count`.
    pub metadata: BTreeMap<String, Value>,
    /// By name, as `blk.0.attn_q.weight`.
    pub tensors: BTreeMap<String, Place>,
}

/// Reads the header of a file's bytes.
pub fn read(bytes: &[u8]) -> Result<Contents, String> {
    let mut cursor = Cursor { bytes, at: 0 };
    if cursor.take(4)? != b"GGUF" {
        return Err("is no GGUF file: it does not start with `GGUF`".into());
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("is GGUF version {version}: 2 and 3 are supported"));
    }
    let (tensor_count, metadata_count) = (cursor.u64()?, cursor.u64()?);
    let mut metadata = BTreeMap::new();
    for _ in 0..metadata_count {
        let key = cursor.text()?;
        let kind = cursor.u32()?;
        metadata.insert(key, cursor.value(kind, 0)?);
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let (name, place) = cursor.tensor()?;
        tensors.insert(name, place);
    }
    let alignment = metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(ALIGNMENT);
    let data = (cursor.at as u64).checked_next_multiple_of(alignment).ok_or("has an alignment of 0")?;
    for place in tensors.values_mut() {
        place.start = place.start.checked_add(data).ok_or("has a tensor beyond its end")?;
    }
    Ok(Contents { metadata, tensors })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("ends inside its header")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N).map(|bytes| bytes.try_into().expect("`take` gives what it is asked for"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<String, String> {
        let length = usize::try_from(self.u64()?).map_err(|error| error.to_string())?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| "holds a text that is not UTF-8".into())
    }

    // The numbers of the types are GGUF's own.
    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::from(u8::from_le_bytes(self.array()?)),
            1 => Value::from(i8::from_le_bytes(self.array()?)),
            2 => Value::from(u16::from_le_bytes(self.array()?)),
            3 => Value::from(i16::from_le_bytes(self.array()?)),
            4 => Value::from(self.u32()?),
            5 => Value::from(i32::from_le_bytes(self.array()?)),
            6 => Value::from(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::from(self.take(1)? != [0]),
            8 => Value::from(self.text()?),
            9 if depth < MOST_NESTING => self.list(depth)?,
            10 => Value::from(self.u64()?),
            11 => Value::from(i64::from_le_bytes(self.array()?)),
            12 => Value::from(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("holds a value of the unknown type {other}")),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let (kind, count) = (self.u32()?, self.u64()?);
        // Grows with what is really there: the count is only a claim.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(kind, depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn tensor(&mut self) -> Result<(String, Place), String> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(format!("says that tensor `{name}` has {dimensions} dimensions"));
        }
        let sizes = (0..dimensions).map(|_| self.u64()).collect::<Result<_, _>>()?;
        Ok((name, Place { sizes, kind: self.u32()?, start: self.u64()? }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(words: &str) -> Vec<u8> {
        [&(words.len() as u64).to_le_bytes()[..], words.as_bytes()].concat()
    }

    fn file() -> Vec<u8> {
        [
            b"GGUF".to_vec(),
            3u32.to_le_bytes().to_vec(),
            1u64.to_le_bytes().to_vec(),
            2u64.to_le_bytes().to_vec(),
            text("llama.block_count"),
            [4u32.to_le_bytes(), 7u32.to_le_bytes()].concat(),
            text("tokens"),
            [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat(),
            2u64.to_le_bytes().to_vec(),
            text("a"),
            text("b"),
            text("output.weight"),
            2u32.to_le_bytes().to_vec(),
            [3u64.to_le_bytes(), 2u64.to_le_bytes()].concat(),
            1u32.to_le_bytes().to_vec(),
            64u64.to_le_bytes().to_vec(),
        ]
        .concat()
    }

    #[test]
    fn metadata_and_tensors_are_read() {
        let contents = read(&file()).expect("reads");
        assert_eq!(json!(contents.metadata), json!({"llama.block_count": 7, "tokens": ["a", "b"]}));
        let start = file().len().next_multiple_of(32) as u64 + 64;
        assert_eq!(contents.tensors["output.weight"], Place { sizes: vec![3, 2], kind: 1, start });
    }

    #[test]
    fn a_file_that_ends_anywhere_is_an_error() {
        let whole = file();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let lie = [&b"GGUF"[..], &3u32.to_le_bytes(), &u64::MAX.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
        assert!(read(&lie).is_err_and(|problem| problem.contains("ends inside")));
    }
}
