//! What makes a model a reward model: transformers' sequence classifier with one label.

use serde_json::{Value, json};

use super::Family;
use super::fields::{Fields, present};

const CLASSIFIER: &str = "ForSequenceClassification";

/// Whether the document describes a reward model; a classifier with several labels is refused.
pub fn scores(document: &Fields) -> Result<bool, String> {
    let named = present(document, "architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
    if !named.is_some_and(|name| name.ends_with(CLASSIFIER)) {
        return Ok(false);
    }
    // transformers takes two labels where none are named.
    let labels = present(document, "id2label").and_then(Value::as_object).map_or(2, |labels| labels.len());
    if labels == 1 { Ok(true) } else { Err(format!("`id2label` names {labels} labels: a reward model has one")) }
}

/// Makes a reward model of a language model's document.
pub fn describe(document: &mut Fields, family: Family, end: Option<u32>) {
    let name = match family.architecture.strip_suffix("ForCausalLM") {
        // Without the word it is the model that sees.
        Some("Gemma3") => format!("Gemma3Text{CLASSIFIER}"),
        Some(name) => format!("{name}{CLASSIFIER}"),
        None => format!("{}{CLASSIFIER}", family.architecture),
    };
    document.insert("architectures".into(), json!([name]));
    document.insert("id2label".into(), json!({"0": "LABEL_0"}));
    document.insert("label2id".into(), json!({"LABEL_0": 0}));
    // transformers reads the reward off the last token that is not padding.
    let padding = present(document, "pad_token_id").and_then(Value::as_u64);
    let end = end.map(u64::from);
    if padding.is_none() || padding == end {
        document.insert("pad_token_id".into(), json!(u64::from(end == Some(0))));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn llama(more: Value) -> Config {
        let mut document = json!({"model_type": "llama", "vocab_size": 8, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 1, "num_attention_heads": 4, "tie_word_embeddings": true});
        more.as_object().into_iter().flatten().for_each(|(name, value)| document[name] = value.clone());
        Config::from_json(document).expect("valid")
    }

    #[test]
    fn a_reward_model_is_a_classifier_with_one_label_and_a_padding_that_is_not_the_end() {
        for (padding, end, expected) in [(Value::Null, 2, 0), (json!(2), 2, 0), (json!(0), 0, 1), (json!(3), 2, 3)] {
            let config = llama(json!({"pad_token_id": padding})).with_scores(Some(end)).expect("valid");
            assert!(config.scores && !config.tie_word_embeddings);
            let document = config.to_json();
            assert_eq!(document["architectures"], json!(["LlamaForSequenceClassification"]));
            assert_eq!(document["pad_token_id"], json!(expected));
            assert!(Config::from_json(document).expect("valid").scores, "it is read as what it was written as");
        }
    }

    #[test]
    fn a_classifier_of_several_labels_is_refused() {
        let document = json!({"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "a", "1": "b"}});
        let Value::Object(document) = document else { return };
        let error = scores(&document).expect_err("has two");
        assert_eq!(error, "`id2label` names 2 labels: a reward model has one");
    }
}
