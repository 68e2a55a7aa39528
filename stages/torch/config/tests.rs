//! What is read of each family's `config.json`, in both spellings, and what is refused.

use super::*;

fn with(change: Value) -> Value {
    let mut document = json!({"model_type": "llama", "vocab_size": 8, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2});
    change.as_object().expect("an object").iter().for_each(|(name, value)| document[name] = value.clone());
    document
}

fn read(change: Value) -> Config {
    Config::from_json(with(change)).expect("valid")
}

fn refused(change: Value) -> String {
    Config::from_json(with(change)).expect_err("should be refused")
}

#[test]
fn what_the_transformer_does_not_follow_is_named() {
    assert!(
        refused(json!({"model_type": "mamba"})).starts_with("`model_type` is \"mamba\": supported are \"llama\", ")
    );
    assert!(refused(json!({"hidden_act": "relu"})).starts_with("`hidden_act` is \"relu\": only "));
    assert_eq!(
        refused(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})),
        "`rope_scaling`: `rope_type` is \"yarn\": only \"default\", \"linear\" and \"llama3\" are supported"
    );
    assert_eq!(refused(json!({"partial_rotary_factor": 0.5})), "`partial_rotary_factor` is 0.5: only 1.0 is supported");
    assert!(refused(json!({"num_key_value_heads": 3})).contains("must divide"));
    assert!(refused(json!({"num_hidden_layers": 1u64 << 40})).contains("`num_hidden_layers` is 1099511627776"));
    assert!(refused(json!({"vocab_size": i64::MAX})).contains("`vocab_size` is"));
    assert!(refused(json!({"quantization_config": {"bits": 4}})).contains("`quantization_config` is {\"bits\":4}"));
    assert!(refused(json!({"embedding_multiplier": 12.0})).contains("this field is not known here"));
    assert!(refused(json!({"model_type": "mistral", "attention_bias": true})).contains("only false"));
    assert!(refused(json!({"model_type": "qwen3", "query_pre_attn_scalar": 3})).contains("not a field of qwen3"));
    assert!(refused(json!({"sliding_window": 4})).contains("not a field of llama"));
    assert!(
        refused(json!({"model_type": "qwen2", "layer_types": ["full_attention"]})).contains("`layer_types` is no list")
    );
    let chunked = json!(["chunked_attention", "full_attention", "full_attention"]);
    assert!(refused(json!({"model_type": "qwen2", "layer_types": chunked})).contains("`layer_types[0]`"));
    // What is off changes nothing.
    read(json!({"use_mrope": false, "quantization_config": null, "_name_or_path": "x"}));
}

fn rope(change: Value) -> Rope {
    read(change).ropes.remove(0)
}

#[test]
fn old_and_new_spellings_of_rotary_positions_are_the_same() {
    let plain = |theta| Rope { theta, scaling: Scaling::Default };
    assert_eq!(rope(json!({})), plain(10_000.0));
    assert_eq!(rope(json!({"rope_theta": 100.0})), plain(100.0));
    assert_eq!(
        rope(json!({"rope_theta": 100.0, "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}})),
        plain(5.0)
    );
    let scaling = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32});
    let mut old = scaling.clone();
    old["type"] = json!("llama3");
    let mut new = scaling;
    new["rope_type"] = json!("llama3");
    new["rope_theta"] = json!(5e5);
    let expected = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 32.0 };
    assert_eq!(rope(json!({"rope_theta": 5e5, "rope_scaling": old})), Rope { theta: 5e5, scaling: expected.clone() });
    assert_eq!(rope(json!({"rope_parameters": new})), Rope { theta: 5e5, scaling: expected });
    let linear = rope(json!({"rope_scaling": {"type": "linear", "factor": 2.0}}));
    assert_eq!(linear, Rope { theta: 10_000.0, scaling: Scaling::Linear { factor: 2.0 } });
}

#[test]
fn gemma_turns_local_layers_by_their_own_base_in_both_spellings() {
    let old = read(json!({"model_type": "gemma3_text", "num_hidden_layers": 7, "rope_theta": 1e6,
        "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window": 5}));
    let types = ["sliding_attention"; 5].into_iter().chain(["full_attention", "sliding_attention"]);
    let new = read(json!({"model_type": "gemma3_text", "num_hidden_layers": 7, "sliding_window": 5,
        "layer_types": types.collect::<Vec<_>>(), "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}));
    assert_eq!((&old.ropes, &old.layers), (&new.ropes, &new.layers));
    assert_eq!(old.layers[0], Layer { window: Some(5), rope: 1 });
    assert_eq!(old.layers[5], Layer { window: None, rope: 0 });
    assert_eq!(old.ropes[0].scaling, Scaling::Linear { factor: 8.0 });
    assert_eq!((old.head_dim, old.attention_scale, old.tie_word_embeddings), (256, Some(0.0625), true));
}

#[test]
fn each_family_says_which_layers_have_a_window() {
    let windows =
        |change: Value| -> Vec<Option<i64>> { read(change).layers.iter().map(|layer| layer.window).collect() };
    assert_eq!(windows(json!({})), [None; 3]);
    assert_eq!(windows(json!({"model_type": "mistral"})), [Some(4096); 3]);
    assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": null})), [None; 3]);
    let qwen = |on: bool| json!({"model_type": "qwen2", "use_sliding_window": on, "sliding_window": 4, "max_window_layers": 1});
    assert_eq!(windows(qwen(false)), [None; 3]);
    assert_eq!(windows(qwen(true)), [None, Some(4), Some(4)]);
    assert_eq!(windows(json!({"model_type": "gemma2", "sliding_window": 4})), [Some(4), None, Some(4)]);
    let types = json!(["full_attention", "sliding_attention", "full_attention"]);
    let typed = json!({"model_type": "qwen3", "use_sliding_window": true, "sliding_window": 9, "layer_types": types});
    assert_eq!(windows(typed), [None, Some(9), None]);
}

#[test]
fn each_family_sets_its_switches() {
    let biases = |change: Value| {
        let config = read(change);
        [config.qkv_bias, config.out_bias, config.mlp_bias]
    };
    assert_eq!(biases(json!({})), [false; 3]);
    assert_eq!(biases(json!({"attention_bias": true, "mlp_bias": true})), [true; 3]);
    assert_eq!(biases(json!({"model_type": "qwen2"})), [true, false, false]);
    assert_eq!(biases(json!({"model_type": "qwen3", "attention_bias": true})), [true, true, false]);
    let caps = |change: Value| {
        let config = read(change);
        (config.attention_cap, config.logits_cap)
    };
    assert_eq!(caps(json!({"model_type": "gemma2"})), (Some(50.0), Some(30.0)));
    assert_eq!(caps(json!({"model_type": "gemma2", "attn_logit_softcapping": null})), (None, Some(30.0)));
    let ignored = refused(json!({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}));
    assert!(ignored.contains("transformers does not apply it in gemma3_text"), "{ignored}");
    assert_eq!(caps(json!({"model_type": "gemma3_text", "final_logit_softcapping": 20.0})), (None, Some(20.0)));
}
