//! A GGUF file made of the parity test's model imports to the same model.

use std::path::Path;

use gguf_rs::writer::{GGUFWriter, MetadataValue, TensorInfo};
use plumb_engine::io::Manner;
use plumb_stages::model::{Dtype, Model, Sequence};
use plumb_torch::language_model::LanguageModel;
use plumb_torch::weights::{Files, Part, parts};
use plumb_torch::{config::Config, gguf};
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

fn texts(words: impl IntoIterator<Item = String>) -> Vec<MetadataValue> {
    words.into_iter().map(MetadataValue::String).collect()
}

fn write_gguf(source: &Path, path: &Path) {
    let (config, files) = (Config::read(source).expect("reads"), Files::open(source).expect("opens"));
    let mut writer = GGUFWriter::new(path, 3).expect("a writer");
    writer.add_metadata("general.architecture", "llama");
    KEYS.iter().for_each(|(key, value)| writer.add_metadata_u32(key, *value));
    writer.add_metadata_f32("llama.rope.freq_base", 100.0);
    writer.add_metadata_f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    writer.add_metadata("tokenizer.ggml.model", "gpt2");
    writer.add_metadata("tokenizer.ggml.pre", "smollm");
    let words = (0..48u8).map(|index| if index == 2 { "<|end|>".into() } else { char::from(b'0' + index).to_string() });
    writer.add_metadata_array("tokenizer.ggml.tokens", texts(words));
    let kinds = (0..48).map(|index| MetadataValue::Int32(if index == 2 { 3 } else { 1 })).collect();
    writer.add_metadata_array("tokenizer.ggml.token_type", kinds);
    writer.add_metadata_array("tokenizer.ggml.merges", texts(["3 4".to_string()]));
    writer.add_metadata_u32("tokenizer.ggml.eos_token_id", 2);
    writer.add_metadata("tokenizer.chat_template", "{{ messages[0]['content'] }}{{ eos_token }}");
    let tensors: Vec<(String, Tensor)> =
        parts(&config).into_iter().flat_map(|part| members(&config, &files, part)).collect();
    for (name, tensor) in &tensors {
        let shape = tensor.size().iter().rev().map(|size| *size as u64).collect();
        writer.add_tensor(TensorInfo { name: short(name), shape, dtype: 0 });
    }
    writer.write().expect("writes the header");
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        let mut bytes = vec![0; tensor.numel() * 4];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        writer.write_tensor_data(index, &bytes).expect("writes a tensor");
    }
    writer.finalize().expect("finishes");
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
    let ids = imported.tokenizer().encode("7<|end|>", false).expect("encodes").get_ids().to_vec();
    assert_eq!(ids, [7, 2]);
}
