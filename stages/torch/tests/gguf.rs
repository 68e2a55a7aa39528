//! A GGUF file made of the parity test's model imports to the same model.

use std::path::Path;

use plumb_engine::io::Manner;
use plumb_stages::model::{Dtype, Model, Sequence};
use plumb_torch::language_model::LanguageModel;
use plumb_torch::weights::{Files, Part, parts};
use plumb_torch::{config::Config, gguf};
use proptest::prelude::*;
use tch::Tensor;

const KEYS: [(&str, u32); 6] = [
    ("llama.block_count", 2),
    ("llama.context_length", 64),
    ("llama.embedding_length", 24),
    ("llama.feed_forward_length", 40),
    ("llama.attention.head_count", 4),
    ("llama.attention.head_count_kv", 2),
];

// The transformer's own order keeps rotary pairs together, as GGUF does: its split without that step.
fn members(config: &Config, files: &Files, part: Part) -> Vec<(String, Tensor)> {
    let whole = files.part(config, part).expect("is there");
    let sources = part.sources(config);
    let rows: Vec<i64> = sources.iter().map(|(_, shape)| shape[0]).collect();
    sources.into_iter().map(|(name, _)| name).zip(whole.split_with_sizes(&rows, 0)).collect()
}

fn short(name: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    pairs.iter().fold(name.to_string(), |name, (from, to)| name.replace(from, to))
}

// The writer's half of the format: a header of counted texts and typed values, then the tensors, each on a multiple
// of 32.
fn text(words: &str) -> Vec<u8> {
    [&(words.len() as u64).to_le_bytes()[..], words.as_bytes()].concat()
}

fn field(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key)[..], &kind.to_le_bytes(), value].concat()
}

fn list(key: &str, kind: u32, values: &[Vec<u8>]) -> Vec<u8> {
    let counted = [&kind.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &values.concat()].concat();
    field(key, 9, &counted)
}

fn metadata() -> Vec<Vec<u8>> {
    let word = |index: u8| match index {
        2 => "<|end|>".to_string(),
        47 => "34".to_string(),
        _ => char::from(b'0' + index).to_string(),
    };
    let words: Vec<Vec<u8>> = (0..48).map(|index| text(&word(index))).collect();
    let kinds: Vec<Vec<u8>> = (0..48).map(|index| i32::to_le_bytes(if index == 2 { 3 } else { 1 }).to_vec()).collect();
    let mut fields = vec![
        field("general.architecture", 8, &text("llama")),
        field("llama.rope.freq_base", 6, &100f32.to_le_bytes()),
        field("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes()),
        field("tokenizer.ggml.model", 8, &text("gpt2")),
        field("tokenizer.ggml.pre", 8, &text("smollm")),
        list("tokenizer.ggml.tokens", 8, &words),
        list("tokenizer.ggml.token_type", 5, &kinds),
        list("tokenizer.ggml.merges", 8, &[text("3 4")]),
        field("tokenizer.ggml.eos_token_id", 4, &2u32.to_le_bytes()),
        field("tokenizer.chat_template", 8, &text("{{ messages[0]['content'] }}{{ eos_token }}")),
    ];
    fields.extend(KEYS.iter().map(|(key, value)| field(key, 4, &value.to_le_bytes())));
    fields
}

fn write_gguf(source: &Path, path: &Path) {
    let (config, files) = (Config::read(source).expect("reads"), Files::open(source).expect("opens"));
    let tensors: Vec<(String, Tensor)> =
        parts(&config).into_iter().flat_map(|part| members(&config, &files, part)).collect();
    let (fields, mut data, mut places) = (metadata(), Vec::<u8>::new(), Vec::new());
    for (name, tensor) in &tensors {
        let sizes: Vec<u8> = tensor.size().iter().rev().flat_map(|size| (*size as u64).to_le_bytes()).collect();
        let count = (tensor.dim() as u32).to_le_bytes();
        let start = (data.len() as u64).to_le_bytes();
        places.push([&text(&short(name))[..], &count, &sizes, &0u32.to_le_bytes(), &start].concat());
        let mut bytes = vec![0; tensor.numel() * 4];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(32), 0);
    }
    let counts = [(tensors.len() as u64).to_le_bytes(), (fields.len() as u64).to_le_bytes()].concat();
    let mut file = [&b"GGUF"[..], &3u32.to_le_bytes(), &counts, &fields.concat(), &places.concat()].concat();
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    std::fs::write(path, file).expect("writes");
}

#[test]
fn a_gguf_file_imports_to_the_model_it_was_made_of() {
    let place = tempfile::tempdir().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama");
    write_gguf(&source, &place.path().join("model.gguf"));
    let folder = place.path().join("model");
    std::fs::create_dir(&folder).expect("a folder");
    gguf::import(&place.path().join("model.gguf"), &folder).expect("imports");
    let open = |folder: &Path| LanguageModel::open(folder, Dtype::Float32, &Manner::default()).expect("opens");
    let sequence = Sequence { prompt: vec![3, 9, 12, 7], completion: vec![8, 4, 40, 2] };
    let score = |mut model: LanguageModel| model.log_probabilities(std::slice::from_ref(&sequence), 1.0);
    assert_eq!(score(open(&folder)), score(open(&source)));
    let imported = open(&folder);
    assert_eq!(imported.eos_token_ids(), [2]);
    assert!(imported.chat_template().is_some_and(|template| template.contains("<|end|>")));
    // smollm's rule keeps digits apart, though there is a merge for them.
    let ids = imported.tokenizer().encode("34<|end|>", false).expect("encodes").get_ids().to_vec();
    assert_eq!(ids, [3, 4, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_damaged_file_is_an_error_that_names_it_or_another_model(
        flips in proptest::collection::vec((0usize..3000, any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("model.gguf");
        write_gguf(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama"), &path);
        let mut bytes = std::fs::read(&path).expect("reads");
        flips.into_iter().for_each(|(at, value)| bytes[at] = value);
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        std::fs::write(&path, bytes).expect("writes");
        let folder = place.path().join("model");
        std::fs::create_dir(&folder).expect("a folder");
        if let Err(error) = gguf::import(&path, &folder) {
            prop_assert!(error.message.contains("model.gguf"), "{}", error);
            prop_assert!(!folder.join("model.safetensors").exists(), "{}: something was written", error);
        }
    }
}
