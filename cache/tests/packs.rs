//! Files kept in pieces: what checkpoints share is kept once, and every file comes back byte for byte, whoever asks.

use std::fs;
use std::time::SystemTime;

use plumb_cache::{ActionRecord, Artifact, CacheError, CollectOptions, Materialise, Packed, Repair, Store};
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::support::{House, files, flip_a_bit, flip_a_bit_unseen, record};

/// Bytes that compress badly and differ for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A checkpoint as the format's own crate writes it: tensors by name, each of noise of its seed.
fn checkpoint(tensors: &[(&str, u64, usize)]) -> Vec<u8> {
    let bytes: Vec<(String, Vec<u8>)> =
        tensors.iter().map(|(name, seed, length)| ((*name).to_owned(), noise(*seed, *length))).collect();
    let views = bytes
        .iter()
        .map(|(name, bytes)| (name.clone(), TensorView::new(Dtype::F16, vec![bytes.len() / 2], bytes).unwrap()));
    let about = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    serialize(views.collect::<Vec<_>>(), Some(about)).unwrap()
}

fn published(store: &Store, name: &str, bytes: &[u8]) -> ActionRecord {
    let made = record(name, store.ingest_bytes(bytes).unwrap());
    store.publish(&made).unwrap();
    made
}

fn artifact(record: &ActionRecord) -> Artifact {
    record.outputs["out"].artifact
}

/// Packs, and takes the whole files away.
fn pack(store: &Store) -> Packed {
    let packed = store.pack(&|_| {}).unwrap();
    let options = CollectOptions { max_size: None, keep_runs: 0, forgotten: SystemTime::UNIX_EPOCH, drop_whole: true };
    assert_eq!(store.collect(&options, &mut || {}).unwrap().evicted, []);
    packed
}

fn blobs(house: &House) -> u64 {
    let cas = house.cache().join("v1/cas");
    files(&cas).iter().map(|file| fs::metadata(cas.join(file)).unwrap().len()).sum()
}

const EMBEDDING: usize = 400_000;
const LAYER: usize = 100_000;

/// A base model, and one fine-tuned on its last layer with a frozen embedding.
pub fn base_and_tuned() -> [Vec<u8>; 2] {
    let base = [("embed", 1, EMBEDDING), ("layer.0", 2, LAYER), ("layer.1", 3, LAYER), ("norm", 4, 64)];
    let tuned = [("embed", 1, EMBEDDING), ("layer.0", 2, LAYER), ("layer.1", 33, LAYER), ("norm", 44, 64)];
    [checkpoint(&base), checkpoint(&tuned)]
}

#[test]
fn two_checkpoints_with_a_frozen_embedding_keep_it_once_and_come_back_byte_for_byte() {
    let house = House::new();
    let store = house.quick_store();
    let [base, tuned] = base_and_tuned();
    let records = [published(&store, "base", &base), published(&store, "tuned", &tuned)];
    let before = blobs(&house);
    let packed = pack(&store);
    assert_eq!((packed.files, packed.bytes), (2, before));
    let saved = before - blobs(&house);
    let header = base.len() - EMBEDDING - 2 * LAYER - 64;
    assert_eq!(saved, (header + EMBEDDING + LAYER) as u64, "all that they share, once");
    for store in [store, house.quick_store()] {
        for (record, bytes) in records.iter().zip([&base, &tuned]) {
            assert!(store.present(&artifact(record)));
            assert_eq!(&store.read(&artifact(record)).unwrap(), bytes);
            assert_eq!(store.action(&record.action).unwrap().as_ref(), Some(record));
        }
    }
    assert_eq!(blobs(&house), before - saved, "reading in memory stores nothing");
}

#[test]
fn a_merged_adapter_stores_only_what_it_changed() {
    let house = House::new();
    let store = house.quick_store();
    let layers: Vec<String> = (0..8).map(|layer| format!("layer.{layer}.q")).collect();
    let model = |merged: &dyn Fn(usize) -> bool| {
        let tensors = layers
            .iter()
            .enumerate()
            .map(|(layer, name)| (name.as_str(), layer as u64 + if merged(layer) { 100 } else { 0 }, LAYER));
        checkpoint(&tensors.collect::<Vec<_>>())
    };
    let base = model(&|_| false);
    published(&store, "base", &base);
    assert_eq!(pack(&store), Packed::default(), "alone it shares nothing, and stays whole");
    let merged = model(&|layer| layer == 2 || layer == 5);
    let made = published(&store, "merged", &merged);
    pack(&store);
    assert_eq!(blobs(&house), base.len() as u64 + 2 * LAYER as u64, "their headers are the same too");
    let again = pack(&store);
    assert_eq!(again, Packed::default(), "and a second time there is nothing to do");
    store.materialise(&artifact(&made), &house.path("out"), Materialise::Shared).unwrap();
    assert!(fs::read(house.path("out")).unwrap() == merged);
}

#[test]
fn every_way_to_ask_for_a_packed_file_gives_it_and_the_next_packing_takes_the_whole_away_again() {
    let house = House::new();
    let store = house.quick_store();
    let [base, tuned] = base_and_tuned();
    house.write("model/model.safetensors", &tuned);
    house.write("model/config.json", "{}");
    published(&store, "base", &base);
    let made = record("tuned", store.ingest(&house.path("model")).unwrap());
    store.publish(&made).unwrap();
    pack(&store);
    let packed = blobs(&house);
    let folder = artifact(&made);
    let weights = store.subpath(&folder, "model.safetensors").unwrap();

    store.materialise(&folder, &house.path("private"), Materialise::Private).unwrap();
    assert!(fs::read(house.path("private/model.safetensors")).unwrap() == tuned);
    assert_eq!(blobs(&house), packed, "a copy of one's own is put together in its place");
    fs::write(house.path("private/model.safetensors"), "mine").unwrap();

    let view = store.open_tree(&folder).unwrap();
    assert!(fs::read(view.join("model.safetensors")).unwrap() == tuned);
    assert!(fs::read(store.path_of(&weights).unwrap()).unwrap() == tuned);
    assert_eq!(blobs(&house), packed + tuned.len() as u64);
    assert_eq!(store.ingest(&house.path("model")).unwrap(), folder);
    pack(&store);
    assert_eq!(blobs(&house), packed);
    assert!(store.present(&folder));
    assert_eq!(store.ingest_bytes(&tuned).unwrap(), weights, "made again, it is known by its pieces");
    assert_eq!(blobs(&house), packed);
    let found = store.verify(Repair::Yes, &|_| {}).unwrap();
    assert!(found.is_clean(), "{found:?}");
}

#[test]
fn a_piece_that_is_lost_or_damaged_is_a_miss_of_every_file_that_has_it() {
    for damage in [flip_a_bit, flip_a_bit_unseen, |path: &std::path::Path| fs::remove_file(path).unwrap()] {
        let house = House::new();
        let [base, tuned] = base_and_tuned();
        let records =
            [published(&house.quick_store(), "base", &base), published(&house.quick_store(), "tuned", &tuned)];
        pack(&house.quick_store());
        let largest = |house: &House| {
            let cas = house.cache().join("v1/cas");
            files(&cas).into_iter().map(|file| cas.join(file)).max_by_key(|path| fs::metadata(path).unwrap().len())
        };
        damage(&largest(&house).unwrap());
        for record in &records {
            let error = house.quick_store().read(&artifact(record)).unwrap_err();
            assert!(error.is_miss(), "{error}");
            let error = house.quick_store().materialise(&artifact(record), &house.path("out"), Materialise::Private);
            assert!(matches!(error, Err(CacheError::Missing { .. } | CacheError::Damaged { .. })));
            assert!(!house.path("out").exists());
        }
        let found = house.quick_store().verify(Repair::Yes, &|_| {}).unwrap();
        assert_eq!((found.bad_manifests.len(), found.lost.len()), (2, 2), "{found:?}");
        let made = published(&house.quick_store(), "tuned", &tuned);
        assert!(house.quick_store().read(&artifact(&made)).unwrap() == tuned, "made again, it is whole");
    }
}

#[test]
fn a_manifest_of_another_file_is_found_out() {
    let house = House::new();
    let store = house.quick_store();
    let [base, tuned] = base_and_tuned();
    let records = [published(&store, "base", &base), published(&store, "tuned", &tuned)];
    pack(&store);
    let place = |record: &ActionRecord| {
        let name = artifact(record).digest.to_string();
        house.cache().join("v1/packs").join(&name[..2]).join(&name[2..])
    };
    fs::copy(place(&records[0]), place(&records[1])).unwrap();
    assert!(matches!(store.read(&artifact(&records[1])), Err(CacheError::Damaged { .. })));
    assert!(!place(&records[1]).exists(), "it was moved aside");
    assert!(store.read(&artifact(&records[0])).unwrap() == base);
    fs::write(place(&records[0]), "plumb-pack 1 rubbish").unwrap();
    assert!(!house.quick_store().present(&artifact(&records[0])));
}

#[test]
fn files_that_only_claim_to_be_checkpoints_are_left_alone() {
    let house = House::new();
    let store = house.quick_store();
    let mut lying = checkpoint(&[("a", 1, LAYER), ("b", 2, LAYER)]);
    lying.truncate(150_000);
    let mut text = 20u64.to_le_bytes().to_vec();
    text.extend(noise(9, 100_000));
    for (index, bytes) in [&lying, &text, &noise(3, 100_000), &b"{}".repeat(60_000)].into_iter().enumerate() {
        published(&store, &index.to_string(), bytes);
        published(&store, &format!("{index} again"), &[bytes.as_slice(), b"x"].concat());
    }
    let before = files(&house.cache().join("v1/cas"));
    assert_eq!(pack(&store), Packed::default());
    assert_eq!(files(&house.cache().join("v1/cas")), before);
}

/// A checkpoint as others write it: holes between tensors, tensors of no bytes, blanks behind the header.
fn odd(seeds: [u64; 3], padding: usize, gap: usize) -> Vec<u8> {
    let mut data = Vec::new();
    let mut named = vec![
        r#""__metadata__":{"by":"hand"}"#.to_owned(),
        r#""none":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#.to_owned(),
    ];
    for (index, seed) in seeds.into_iter().enumerate() {
        let begin = data.len();
        data.extend(noise(seed, LAYER));
        named.push(format!(r#""{index}":{{"dtype":"U8","shape":[{LAYER}],"data_offsets":[{begin},{}]}}"#, data.len()));
        data.extend(noise(77, gap));
    }
    let header = format!("{{{}}}{}", named.join(","), " ".repeat(padding));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn odd_checkpoints_come_back_byte_for_byte(
        seeds in prop::array::uniform3(0..4u64), others in prop::array::uniform3(0..4u64),
        padding in 0..40usize, gap in 0..20_000usize,
    ) {
        let house = House::new();
        let store = house.quick_store();
        let both = [odd(seeds, padding, gap), odd(others, 0, gap)];
        let records = [published(&store, "one", &both[0]), published(&store, "two", &both[1])];
        let before = blobs(&house);
        pack(&store);
        prop_assert!(blobs(&house) <= before);
        for (record, bytes) in records.iter().zip(&both) {
            prop_assert!(&store.read(&artifact(record)).unwrap() == bytes);
        }
    }
}
