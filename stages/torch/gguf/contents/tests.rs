//! Small files made by hand: what they hold is read, what damages them is told.

use pmetal_gguf::GgmlType;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text(words: &str) -> Vec<u8> {
    [&(words.len() as u64).to_le_bytes()[..], words.as_bytes()].concat()
}

// A file of one tensor, `output.weight`, and an alignment where one is given.
fn file(kind: GgmlType, sizes: [u64; 2], data: &[u8], alignment: Option<u32>) -> Vec<u8> {
    let mut fields = vec![
        [text("llama.block_count"), [4u32.to_le_bytes(), 7u32.to_le_bytes()].concat()].concat(),
        [
            text("tokens"),
            [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat(),
            2u64.to_le_bytes().to_vec(),
            text("a"),
            text("b"),
        ]
        .concat(),
    ];
    fields.extend(
        alignment.map(|alignment| {
            [text("general.alignment"), [4u32.to_le_bytes(), alignment.to_le_bytes()].concat()].concat()
        }),
    );
    let mut bytes =
        [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &(fields.len() as u64).to_le_bytes()].concat();
    bytes.extend(fields.concat());
    bytes.extend([text("output.weight"), 2u32.to_le_bytes().to_vec()].concat());
    bytes.extend([sizes[0].to_le_bytes(), sizes[1].to_le_bytes()].concat());
    bytes.extend([&(kind as u32).to_le_bytes()[..], &0u64.to_le_bytes()].concat());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    [&bytes, data].concat()
}

fn floats() -> Vec<u8> {
    let data: Vec<u8> = (0..6u8).flat_map(|number| f32::from(number).to_le_bytes()).collect();
    file(GgmlType::F32, [3, 2], &data, None)
}

#[test]
fn metadata_and_tensors_are_read() {
    let bytes = floats();
    let contents = Contents::read(&bytes).expect("reads");
    assert_eq!(json!(contents.metadata), json!({"llama.block_count": 7, "tokens": ["a", "b"]}));
    assert_eq!(contents.tensor("output.weight", &[2, 3]).expect("is there"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!((contents.has("output.weight"), contents.has("token_embd.weight")), (true, false));
    let told = |name, shape: &[i64]| contents.tensor(name, shape).expect_err("is not there");
    assert_eq!(told("output.weight", &[3, 2]), "has shape [2, 3], expected [3, 2]");
    assert_eq!(told("token_embd.weight", &[3, 2]), "`token_embd.weight` is missing");
}

#[test]
fn a_file_that_ends_anywhere_is_an_error() {
    let whole = floats();
    for length in 0..whole.len() {
        assert!(Contents::read(&whole[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_huge_count_and_an_alignment_of_nothing_are_told() {
    let lie = [&b"GGUF"[..], &3u32.to_le_bytes(), &u64::MAX.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    assert!(Contents::read(&lie).is_err());
    let zero = file(GgmlType::F32, [3, 2], &[0; 24], Some(0));
    assert!(Contents::read(&zero).is_err_and(|problem| problem.contains("alignment")));
    let vast = file(GgmlType::F32, [u64::MAX, u64::MAX], &[0; 24], None);
    assert!(Contents::read(&vast).is_err());
    assert!(Contents::read(b"GGML").is_err_and(|problem| problem.contains("is no GGUF file")));
}

// Numbers of the Python package gguf 0.19.0 for the same bytes: their bits, folded as h * 31 + bits.
#[test]
fn every_format_gives_the_numbers_of_ggmls_own_reader() {
    let folded = [
        (GgmlType::F16, 0x3ffa_efbf_8f3c_6000_u64),
        (GgmlType::Bf16, 0x1c1f_426b_8f50_0000),
        (GgmlType::Q4_0, 0x4cf4_677c_d15f_fc00),
        (GgmlType::Q4_1, 0x7fa4_ac06_2955_ec4f),
        (GgmlType::Q5_0, 0x4233_1488_4683_2000),
        (GgmlType::Q5_1, 0x892e_ece1_5feb_ae16),
        (GgmlType::Q8_0, 0xd930_d0a4_fee6_6d00),
        (GgmlType::Q2K, 0x2080_fdea_96f8_4900),
        (GgmlType::Q3K, 0x4eae_defe_7f7b_4500),
        (GgmlType::Q4K, 0x181e_3d5c_6169_301b),
        (GgmlType::Q5K, 0x9555_37dc_4898_c3cc),
        (GgmlType::Q6K, 0xee6b_f5be_63d0_0e2c),
        (GgmlType::Iq4Nl, 0x0980_a4f0_8603_bc80),
        (GgmlType::Iq4Xs, 0xa1e0_7435_f273_f6e2),
    ];
    for (kind, expected) in folded {
        let size = 768 / kind.block_size() * kind.type_size();
        let data: Vec<u8> = (0..size).map(|index| ((index * 37 + 11) % 61) as u8).collect();
        let bytes = file(kind, [256, 3], &data, None);
        let values = Contents::read(&bytes).expect("reads").tensor("output.weight", &[3, 256]).expect("is there");
        let found = values.iter().fold(0_u64, |hash, value| hash.wrapping_mul(31).wrapping_add(value.to_bits().into()));
        assert_eq!(found, expected, "{kind:?}");
    }
}

proptest! {
    #[test]
    fn flipped_bytes_are_an_error_or_other_contents_and_never_a_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = floats();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let length = if whole { bytes.len() } else { cut.index(bytes.len()) };
        if let Ok(contents) = Contents::read(&bytes[..length]) {
            let _ = contents.tensor("output.weight", &[2, 3]);
        }
    }
}
