//! `model.import` of Hugging Face folders: whole, in shards, and those that are refused.

#![allow(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_engine::stage::StageError;
use plumb_stages::model::{Dtype, Model, Sequence};
use plumb_torch::import;
use plumb_torch::language_model::LanguageModel;
use safetensors::SafeTensors;
use tempfile::TempDir;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

/// A copy of the parity test's folder that a test may damage.
fn checkpoint() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(source().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn import(checkpoint: &Path) -> Result<TempDir, StageError> {
    let place = tempfile::tempdir().unwrap();
    let inputs = BTreeMap::from([("checkpoint".to_string(), InputPlace::One(checkpoint.into()))]);
    let outputs = BTreeMap::from([("model".to_string(), place.path().join("model"))]);
    import::run(&Io::new(inputs, outputs, place.path().into(), Manner::default(), None)?)?;
    Ok(place)
}

fn score(folder: &Path) -> Vec<Vec<f32>> {
    let mut model = LanguageModel::open(folder, Dtype::Float32, &Manner::default()).unwrap();
    model.log_probabilities(&[Sequence { prompt: vec![3, 9, 12, 7], completion: vec![8, 4, 40, 2] }], 1.0).unwrap()
}

/// Cuts `model.safetensors` into this many shards with their index.
fn shard(folder: &Path, shards: usize) {
    let whole = std::fs::read(folder.join("model.safetensors")).unwrap();
    let mut tensors = SafeTensors::deserialize(&whole).unwrap().tensors();
    // The crate's order differs from run to run.
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut places = BTreeMap::new();
    for (number, part) in tensors.chunks(tensors.len().div_ceil(shards)).enumerate() {
        let name = format!("model-{:05}-of-{shards:05}.safetensors", number + 1);
        places.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        let bytes = safetensors::serialize(part.iter().map(|(name, view)| (name, view)), None).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let index = serde_json::json!({ "metadata": { "total_size": whole.len() }, "weight_map": places });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
}

#[test]
fn a_folder_is_taken_over_whole_or_in_shards_and_says_the_same() {
    let expected = score(&source());
    assert_eq!(score(&import(checkpoint().path()).unwrap().path().join("model")), expected);
    for shards in [1, 3] {
        let sharded = checkpoint();
        shard(sharded.path(), shards);
        assert_eq!(score(&import(sharded.path()).unwrap().path().join("model")), expected, "{shards} shards");
    }
}

#[track_caller]
fn check_refused(damage: impl FnOnce(&Path), expected: Expect) {
    let folder = checkpoint();
    damage(folder.path());
    let error = import(folder.path()).map(|_| ()).unwrap_err();
    expected.assert_eq(&error.message.replace(&folder.path().display().to_string(), "[ROOT]"));
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn what_would_not_be_the_same_model_is_refused_by_name() {
    check_refused(
        |folder| edit(folder, "\"llama\"", "\"mamba\""),
        expect![[
            r#"read `[ROOT]/config.json`: `model_type` is "mamba": supported are "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text""#
        ]],
    );
    check_refused(
        |folder| edit(folder, "\"silu\"", "\"gelu\""),
        expect![[
            r#"read `[ROOT]/config.json`: `hidden_act` is "gelu": only "silu" and "gelu_pytorch_tanh" are supported"#
        ]],
    );
    check_refused(
        |folder| edit(folder, "\"hidden_size\": 24", "\"hidden_size\": 48"),
        expect!["[ROOT]/model.safetensors: tensor `model.embed_tokens.weight`: has shape [48, 24], expected [48, 48]"],
    );
    check_refused(
        |folder| std::fs::remove_file(folder.join("tokenizer.json")).unwrap(),
        expect!["`[ROOT]` has no `tokenizer.json`"],
    );
    check_refused(
        |folder| std::fs::write(folder.join("model.safetensors"), b"not one").unwrap(),
        expect!["parse `[ROOT]/model.safetensors`: header too small"],
    );
    check_refused(
        |folder| edit(folder, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        expect![
            "[ROOT]/model.safetensors: tensor `model.layers.2.input_layernorm.weight` is missing, expected of shape [24]"
        ],
    );
    check_refused(
        |folder| {
            shard(folder, 3);
            std::fs::remove_file(folder.join("model-00002-of-00003.safetensors")).unwrap();
        },
        expect!["`[ROOT]/model-00002-of-00003.safetensors` is missing: `model.safetensors.index.json` names it"],
    );
    let index = |folder: &Path, from: &str, to: &str| {
        shard(folder, 3);
        let path = folder.join("model.safetensors.index.json");
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
    };
    check_refused(
        |folder| index(folder, "model-00002-of", "../model-00002-of"),
        expect![
            "read `[ROOT]/model.safetensors.index.json`: `../model-00002-of-00003.safetensors` is no name of a safetensors file beside it"
        ],
    );
    check_refused(
        |folder| index(folder, "lm_head.weight", "head.weight"),
        expect![
            "read `[ROOT]/model.safetensors.index.json`: tensor `head.weight` is not in `model-00001-of-00003.safetensors`"
        ],
    );
    // A vocabulary of 49 words on an embedding of 48 rows.
    check_refused(
        |folder| {
            let path = folder.join("tokenizer.json");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("\"t0\":0", "\"t0\":0,\"more\":48")).unwrap();
        },
        expect![
            "read `[ROOT]/tokenizer.json`: the tokenizer has 49 tokens and the model's embedding 48 rows (`vocab_size`)"
        ],
    );
}
