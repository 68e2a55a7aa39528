//! Between text and token ids. What a chat template wrote carries its special tokens, and none is added; a plain prompt
//! begins as the tokenizer itself begins a text, once. Completions are taken as they are.

use plumb_engine::stage::StageError;
use tokenizers::Tokenizer;

use crate::model::{Completion, Model, Sequence};
use crate::rows::Demonstration;

/// Token ids of a prompt.
pub fn encode(model: &dyn Model, text: &str) -> Result<Vec<u32>, StageError> {
    let own = ids(model.tokenizer(), text, Special::InText)?;
    if model.chat_template().is_some() {
        return Ok(own);
    }
    Ok(begun(own, &ids(model.tokenizer(), text, Special::Added)?))
}

// Who writes special tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    InText,
    Added,
}

fn ids(tokenizer: &Tokenizer, text: &str, special: Special) -> Result<Vec<u32>, StageError> {
    let encoding = tokenizer.encode_fast(text, special == Special::Added);
    let encoding = encoding.map_err(|error| StageError::new(format!("the tokenizer cannot read a text: {error}")))?;
    Ok(encoding.get_ids().to_vec())
}

// `whole` is the tokenizer's own beginning, `own`, and its own end: a prompt takes the beginning, unless it has it.
fn begun(own: Vec<u32>, whole: &[u32]) -> Vec<u32> {
    let place = whole.windows(own.len().max(1)).position(|window| window == own).unwrap_or_default();
    let beginning = &whole[..place];
    if own.starts_with(beginning) { own } else { [beginning, &own].concat() }
}

/// The text of a completion, without its special tokens.
pub fn decode(model: &dyn Model, completion: &Completion) -> Result<String, StageError> {
    let text = model.tokenizer().decode(&completion.tokens, true);
    text.map_err(|error| StageError::new(format!("the tokenizer cannot write a completion: {error}")))
}

/// What stands before the first of these texts; `None` where none of them is there.
pub fn before<'a>(text: &'a str, stop: &[String]) -> Option<&'a str> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min().map(|end| &text[..end])
}

/// What a demonstration teaches: its prompt, and its completion with the end token, cut at `max_length` tokens in all.
/// `None` where the prompt alone fills that.
pub fn sequence(
    model: &dyn Model,
    demonstration: &Demonstration,
    max_length: usize,
) -> Result<Option<Sequence>, StageError> {
    let prompt = encode(model, &demonstration.prompt)?;
    let mut completion = ids(model.tokenizer(), &demonstration.completion, Special::InText)?;
    completion.extend(model.eos_token_ids().first());
    completion.truncate(max_length.saturating_sub(prompt.len()));
    Ok((!prompt.is_empty() && !completion.is_empty()).then_some(Sequence { prompt, completion }))
}

/// Refuses what the model was not made for.
pub fn check_context(model: &dyn Model, id: &str, tokens: usize) -> Result<(), StageError> {
    let most = model.context();
    if tokens <= most {
        return Ok(());
    }
    Err(StageError::new(format!(
        "`{id}` takes {tokens} tokens, but the model's context (`max_position_embeddings`) is {most}"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // As Llama's and Gemma's: a beginning of its own, and here an end too.
    fn tokenizer() -> Tokenizer {
        let special = |id: u32, token: &str| json!({"id": token, "ids": [id], "tokens": [token]});
        let added = |id: u32, token: &str| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        };
        let piece = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let document = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": [added(0, "<bos>"), added(1, "<eos>")],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {"type": "TemplateProcessing", "single": [piece("<bos>"), text, piece("<eos>")],
                "pair": [text, text], "special_tokens": {"<bos>": special(0, "<bos>"), "<eos>": special(1, "<eos>")}},
            "model": {"type": "WordLevel", "vocab": {"<bos>": 0, "<eos>": 1, "a": 2, "b": 3}, "unk_token": "a"},
        });
        document.to_string().parse().expect("a tokenizer")
    }

    #[test]
    fn a_plain_prompt_begins_as_the_tokenizer_begins_a_text_and_only_once() {
        let tokenizer = tokenizer();
        let prompt = |text: &str| {
            let own = ids(&tokenizer, text, Special::InText).expect("encodes");
            begun(own, &ids(&tokenizer, text, Special::Added).expect("encodes"))
        };
        assert_eq!(prompt("a b"), [0, 2, 3]);
        // What a template wrote begins with it already.
        assert_eq!(prompt("<bos> a b"), [0, 2, 3]);
        assert_eq!(prompt(""), [0u32; 0]);
    }

    #[test]
    fn a_text_ends_before_the_first_of_its_ends() {
        let stop = ["Question:".to_string(), "</s>".to_string()];
        assert_eq!(before("#### 6\n\nQuestion: more</s>", &stop), Some("#### 6\n\n"));
        assert_eq!(before("#### 6</s>Question:", &stop), Some("#### 6"));
        assert_eq!(before("#### 6", &stop), None);
        assert_eq!(before("#### 6", &[]), None);
    }
}
