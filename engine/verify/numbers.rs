//! Files as numbers: JSON and JSONL value by value, safetensors element by element. What is not a number must be equal.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Tolerance;
use super::compare::Likeness;

/// The largest relative difference so far.
#[derive(Debug, Default)]
pub(super) struct Worst {
    found: Option<(f64, String)>,
}

impl Worst {
    fn note(&mut self, relative: f64, at: impl FnOnce() -> String) {
        if self.found.as_ref().is_none_or(|(worst, _)| relative > *worst) {
            self.found = Some((relative, at()));
        }
    }

    /// What the whole comparison says.
    pub(super) fn likeness(self) -> Likeness {
        match self.found {
            None => Likeness::BitEqual,
            Some((worst_relative, at)) => Likeness::WithinTolerance { worst_relative, at },
        }
    }
}

/// Compares two files that differ; `Err` says where they part by more than the tolerance.
pub(super) fn compare(left: &[u8], right: &[u8], tolerance: Tolerance, worst: &mut Worst) -> Result<(), String> {
    match (rows(left), rows(right)) {
        (Some(left), Some(right)) => json_rows(&left, &right, tolerance, worst),
        _ => match (tensors(left), tensors(right)) {
            (Some(left), Some(right)) => all_tensors(&left, &right, tolerance, worst),
            _ => Err("its bytes (it holds no numbers that plumb can read)".into()),
        },
    }
}

fn agree(before: f64, now: f64, tolerance: Tolerance) -> Result<f64, ()> {
    // Equal infinities and two NaN agree; a NaN and a number do not.
    if before == now || (before.is_nan() && now.is_nan()) {
        return Ok(0.0);
    }
    let distance = (before - now).abs();
    let near = distance <= tolerance.absolute + tolerance.relative * before.abs();
    if near { Ok(if before == 0.0 { distance } else { distance / before.abs() }) } else { Err(()) }
}

/// One JSON value, or one a line.
fn rows(bytes: &[u8]) -> Option<Vec<Value>> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Ok(value) = serde_json::from_str(text) {
        return Some(vec![value]);
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| serde_json::from_str(line).ok()).collect()
}

fn json_rows(left: &[Value], right: &[Value], tolerance: Tolerance, worst: &mut Worst) -> Result<(), String> {
    if left.len() != right.len() {
        return Err(format!("the number of rows: {}, were {}", right.len(), left.len()));
    }
    // Depth first without recursion; serde_json itself refuses documents deeper than 128.
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        let mut waiting = vec![(format!("row {}", index + 1), left, right)];
        while let Some((at, left, right)) = waiting.pop() {
            match (left, right) {
                (Value::Object(left), Value::Object(right)) if left.keys().eq(right.keys()) => {
                    waiting
                        .extend(left.iter().zip(right.values()).map(|((name, l), r)| (format!("{at} `{name}`"), l, r)));
                }
                (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                    let pairs = left.iter().zip(right).enumerate();
                    waiting.extend(pairs.map(|(index, (left, right))| (format!("{at}[{index}]"), left, right)));
                }
                (Value::Number(left), Value::Number(right)) => {
                    let (left, right) = (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
                    match agree(left, right, tolerance) {
                        Ok(relative) => worst.note(relative, || at),
                        Err(()) => return Err(format!("{at}: {right}, was {left}")),
                    }
                }
                _ if left == right => {}
                _ => return Err(at),
            }
        }
    }
    Ok(())
}

/// One tensor: its type, its shape and its bytes.
type Tensor<'a> = (String, Vec<u64>, &'a [u8]);

/// A safetensors file: the length of its header, the header as JSON, the data.
fn tensors(bytes: &[u8]) -> Option<BTreeMap<String, Tensor<'_>>> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let data = bytes.get(8_usize.checked_add(length)?..)?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).ok()?;
    let tensor = |(name, entry): (String, Value)| {
        let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
        let shape = entry.get("shape")?.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()?;
        let offsets = entry.get("data_offsets")?.as_array()?;
        let range = number(offsets.first()?)?..number(offsets.get(1)?)?;
        Some((name, (entry.get("dtype")?.as_str()?.to_string(), shape, data.get(range)?)))
    };
    header.into_iter().filter(|(name, _)| name != "__metadata__").map(tensor).collect()
}

fn all_tensors(
    left: &BTreeMap<String, Tensor<'_>>,
    right: &BTreeMap<String, Tensor<'_>>,
    tolerance: Tolerance,
    worst: &mut Worst,
) -> Result<(), String> {
    let alike = |(left, right): ((&String, &Tensor<'_>), (&String, &Tensor<'_>))| {
        (left.0, &left.1.0, &left.1.1) == (right.0, &right.1.0, &right.1.1)
    };
    if left.len() != right.len() || !left.iter().zip(right).all(alike) {
        return Err("the names, types or shapes of its tensors".into());
    }
    for ((name, (dtype, _, before)), (_, _, now)) in left.iter().zip(right.values()) {
        if before == now {
            continue;
        }
        let size = width(dtype).ok_or_else(|| format!("tensor `{name}` ({dtype})"))?;
        for (index, (one, other)) in before.chunks_exact(size).zip(now.chunks_exact(size)).enumerate() {
            let (one, other) = (number(dtype, one), number(dtype, other));
            match agree(one, other, tolerance) {
                Ok(relative) => worst.note(relative, || format!("tensor `{name}`[{index}]")),
                Err(()) => return Err(format!("tensor `{name}`[{index}]: {other}, was {one}")),
            }
        }
    }
    Ok(())
}

fn width(dtype: &str) -> Option<usize> {
    match dtype {
        "F64" => Some(8),
        "F32" => Some(4),
        "F16" | "BF16" => Some(2),
        _ => None,
    }
}

fn number(dtype: &str, bytes: &[u8]) -> f64 {
    let word = bytes.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    match dtype {
        "F64" => f64::from_bits(word),
        "F32" => f64::from(f32::from_bits(word as u32)),
        "BF16" => f64::from(f32::from_bits((word as u32) << 16)),
        _ => half(word),
    }
}

/// IEEE 754 half precision.
fn half(word: u64) -> f64 {
    let (sign, exponent, fraction) = (word >> 15 & 1, (word >> 10 & 0x1f) as i32, (word & 0x3ff) as f64);
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    };
    if sign == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &[u8], right: &[u8], expected: Result<Option<f64>, &str>) {
        let mut worst = Worst::default();
        let found = compare(left, right, Tolerance { relative: 1e-3, absolute: 0.0 }, &mut worst);
        let found = found.map(|()| worst.found.map(|(relative, _)| relative));
        assert_eq!(found, expected.map_err(str::to_string));
    }

    fn safetensors(dtype: &str, data: &[u8]) -> Vec<u8> {
        let count = data.len() / width(dtype).unwrap_or(1);
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[0,{}]}}}}"#, data.len());
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn json_is_compared_number_by_number_and_text_exactly() {
        check(br#"{"a": 2.0, "b": "x"}"#, br#"{"a":2.001,"b":"x"}"#, Ok(Some(0.0004999999999999449)));
        check(br#"{"a": 2.0}"#, br#"{"a": 2.1}"#, Err("row 1 `a`: 2.1, was 2"));
        check(b"{\"a\": [1, 2]}\n{\"a\": []}\n", b"{\"a\": [1, 3]}\n{\"a\": []}\n", Err("row 1 `a`[1]: 3, was 2"));
        check(br#"{"a": "x"}"#, br#"{"a": "y"}"#, Err("row 1 `a`"));
        check(b"1\n2\n", b"1\n", Err("the number of rows: 1, were 2"));
    }

    #[test]
    fn tensors_are_compared_element_by_element() {
        let floats = |values: [f32; 2]| safetensors("F32", &values.map(f32::to_le_bytes).concat());
        check(&floats([1.0, 4.0]), &floats([1.0, 4.001953]), Ok(Some(0.00048828125)));
        check(&floats([1.0, 4.0]), &floats([1.0, 5.0]), Err("tensor `w`[1]: 5, was 4"));
        check(&floats([1.0, 4.0]), &floats([1.0, f32::NAN]), Err("tensor `w`[1]: NaN, was 4"));
        check(&safetensors("I8", &[1]), &safetensors("I8", &[2]), Err("tensor `w` (I8)"));
        check(&floats([1.0, 4.0]), &safetensors("F32", &[0; 4]), Err("the names, types or shapes of its tensors"));
        assert_eq!([0x3c00, 0xc000, 0x0001, 0x7c00].map(half), [1.0, -2.0, 2_f64.powi(-24), f64::INFINITY]);
    }

    #[test]
    fn other_bytes_are_only_bytes() {
        check(b"plain", b"other", Err("its bytes (it holds no numbers that plumb can read)"));
    }
}
