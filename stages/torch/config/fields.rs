//! Fields of `config.json`: how they are read, and which may be passed over. A field that is not known here is refused
//! unless it is off (null or false), for it may change what the model computes.

use serde_json::{Map, Value, json};

/// A document of `config.json`, or a table within it.
pub type Fields = Map<String, Value>;

/// Fields that the configuration reads.
const FOLLOWED: [&str; 32] = [
    "attention_bias",
    "attn_logit_softcapping",
    "eos_token_id",
    "final_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_interleaved",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "sliding_window_pattern",
    "tie_word_embeddings",
    "use_bidirectional_attention",
    "use_sliding_window",
    "vocab_size",
];

/// Fields that change no logits: provenance, training, generation, other heads.
const PASSED_OVER: [&str; 62] = [
    "architectures",
    "attention_dropout",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
    "vocab_size_or_config_json_file",
];

/// Refuses what would change the computation and is not followed.
pub fn refuse_unknown(document: &Fields) -> Result<(), String> {
    let known = |name: &str| FOLLOWED.contains(&name) || PASSED_OVER.contains(&name) || name.starts_with('_');
    let off = |value: &Value| value.is_null() || *value == json!(false);
    match document.iter().find(|(name, value)| !known(name) && !off(value)) {
        None => Ok(()),
        Some((name, value)) => Err(format!(
            "`{name}` is {value}: this field is not known here; if it does not change what the model computes, remove it"
        )),
    }
}

/// Refuses any value of a field but `expected`; a missing field or null has it.
pub fn only(document: &Fields, name: &str, expected: &Value) -> Result<(), String> {
    match present(document, name) {
        None => Ok(()),
        Some(value) if value == expected || (value.as_f64().is_some() && value.as_f64() == expected.as_f64()) => Ok(()),
        Some(value) => Err(format!("`{name}` is {value}: only {expected} is supported")),
    }
}

/// The value, where it is neither missing nor null.
pub fn present<'a>(document: &'a Fields, name: &str) -> Option<&'a Value> {
    document.get(name).filter(|value| !value.is_null())
}

pub fn integer(document: &Fields, name: &str) -> Result<i64, String> {
    let value = document.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
    value.as_i64().ok_or_else(|| format!("`{name}` is {value}, expected an integer"))
}

pub fn integer_or(document: &Fields, name: &str, default: i64) -> Result<i64, String> {
    if present(document, name).is_some() { integer(document, name) } else { Ok(default) }
}

pub fn number(document: &Fields, name: &str) -> Result<Option<f64>, String> {
    let typed = |value: &Value| value.as_f64().ok_or_else(|| format!("`{name}` is {value}, expected a number"));
    present(document, name).map(typed).transpose()
}

pub fn number_or(document: &Fields, name: &str, default: f64) -> Result<f64, String> {
    number(document, name).map(|found| found.unwrap_or(default))
}

/// A number above zero, where there is one.
pub fn positive(document: &Fields, name: &str) -> Result<Option<f64>, String> {
    match number(document, name)? {
        Some(value) if value <= 0.0 => Err(format!("`{name}` is {value}, expected a number above 0")),
        found => Ok(found),
    }
}

pub fn flag_or(document: &Fields, name: &str, default: bool) -> Result<bool, String> {
    let typed = |value: &Value| value.as_bool().ok_or_else(|| format!("`{name}` is {value}, expected true or false"));
    present(document, name).map_or(Ok(default), typed)
}
