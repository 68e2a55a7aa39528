//! Where a safetensors file can be cut: at the ends of its header and of its tensors. Reads only the header. Cuts are
//! only cuts: wherever they fall the pieces together are the file, so what the header says is used and not believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use serde_json::Value;

/// Longer headers are none, as in the format's own reader.
const LONGEST_HEADER: u64 = 100_000_000;

/// Shorter stretches between two cuts are joined to their neighbours: a file of its own costs more than it saves.
const SHORT: u64 = 16 << 10;

/// The lengths of the pieces of a file of this size, in order; `None` where it is no safetensors file.
pub(super) fn pieces(file: &File, size: u64) -> io::Result<Option<Vec<u64>>> {
    let mut length = [0; 8];
    let header = match read(file, &mut length, 0)? {
        true => u64::from_le_bytes(length),
        false => return Ok(None),
    };
    let Some(start) = header.checked_add(8).filter(|start| header <= LONGEST_HEADER && *start <= size) else {
        return Ok(None);
    };
    let mut first = [0];
    if header == 0 || !read(file, &mut first, 8)? || first != *b"{" {
        return Ok(None);
    }
    let mut text = vec![0; header as usize];
    if !read(file, &mut text, 8)? {
        return Ok(None);
    }
    Ok(cuts(&text, start, size).map(|cuts| joined(start, &cuts)))
}

/// Fills the buffer; `false` where the file ends before.
fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every place where a tensor begins or ends, the end of the file last.
fn cuts(header: &[u8], start: u64, size: u64) -> Option<BTreeSet<u64>> {
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).ok()?;
    let mut cuts = BTreeSet::from([size]);
    let mut tensors = 0;
    for (_, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let offsets = tensor.get("data_offsets")?.as_array()?;
        let [begin, end] = offsets.as_slice() else { return None };
        let (begin, end) = (start.checked_add(begin.as_u64()?)?, start.checked_add(end.as_u64()?)?);
        if begin > end || end > size {
            return None;
        }
        cuts.extend([begin, end]);
        tensors += 1;
    }
    (tensors > 0).then_some(cuts)
}

/// The header alone, then stretches: a long one alone, short neighbours together until they are long.
fn joined(start: u64, cuts: &BTreeSet<u64>) -> Vec<u64> {
    let mut lengths = vec![start];
    let mut pending = 0;
    let mut from = start;
    for cut in cuts.iter().filter(|cut| **cut > start) {
        let length = cut - from;
        from = *cut;
        if length >= SHORT && pending > 0 {
            lengths.push(std::mem::take(&mut pending));
        }
        pending += length;
        if pending >= SHORT {
            lengths.push(std::mem::take(&mut pending));
        }
    }
    lengths.extend((pending > 0).then_some(pending));
    lengths
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn made(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(std::iter::repeat_n(7, data));
        bytes
    }

    fn check(header: &str, data: usize, expected: Option<&[u64]>) {
        let bytes = made(header, data);
        let found = pieces(&file(&bytes), bytes.len() as u64).unwrap();
        let body = found.as_ref().map(|lengths| &lengths[1..]);
        assert_eq!(body, expected, "{header}");
        if let Some(found) = found {
            assert_eq!(found[0], 8 + header.len() as u64);
            assert_eq!(found.iter().sum::<u64>(), bytes.len() as u64);
        }
    }

    fn tensor(begin: u64, end: u64) -> String {
        format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end.saturating_sub(begin))
    }

    #[test]
    fn long_tensors_stand_alone_and_short_ones_together() {
        let header = format!(
            r#"{{"__metadata__":{{"a":"b"}},"a":{},"b":{},"c":{},"d":{},"e":{}}}   "#,
            tensor(0, 20_000),
            tensor(20_000, 20_100),
            tensor(20_100, 20_100),
            tensor(20_100, 20_300),
            tensor(20_300, 60_000)
        );
        check(&header, 60_000, Some(&[20_000, 300, 39_700]));
        check(&header, 60_005, Some(&[20_000, 300, 39_700, 5]));
    }

    #[test]
    fn gaps_and_overlaps_are_only_cuts() {
        let header = format!(r#"{{"a":{},"b":{}}}"#, tensor(30_000, 60_000), tensor(40_000, 90_000));
        check(&header, 120_000, Some(&[30_000, 10_000, 20_000, 30_000, 30_000]));
    }

    #[test]
    fn what_only_claims_to_be_safetensors_is_not_cut() {
        check("{}", 10, None);
        check(r#"{"__metadata__":{}}"#, 10, None);
        check(&format!(r#"{{"a":{}}}"#, tensor(0, 11)), 10, None);
        check(&format!(r#"{{"a":{}}}"#, tensor(8, 4)), 10, None);
        check(r#"{"a":{"data_offsets":[0,18446744073709551615]}}"#, 10, None);
        check(r#"{"a":{"data_offsets":[0]}}"#, 10, None);
        check(r#"{"a":[1]}"#, 10, None);
        check("[1, 2]", 10, None);
        check("not json", 10, None);
        for bytes in [&b""[..], b"\x01", &u64::MAX.to_le_bytes(), &99_999_999u64.to_le_bytes()] {
            assert_eq!(pieces(&file(bytes), bytes.len() as u64).unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn pieces_always_add_up_to_the_file(
            tensors in prop::collection::vec((0..200_000u64, 0..200_000u64), 0..8), data in 0..200_000usize,
        ) {
            let named = tensors.iter().enumerate().map(|(index, (begin, end))| format!(r#""{index}":{}"#, tensor(*begin, *end)));
            let bytes = made(&format!("{{{}}}", named.collect::<Vec<_>>().join(",")), data);
            if let Some(lengths) = pieces(&file(&bytes), bytes.len() as u64).unwrap() {
                prop_assert_eq!(lengths.iter().sum::<u64>(), bytes.len() as u64);
                prop_assert!(lengths.iter().all(|length| *length > 0));
            }
        }
    }
}
