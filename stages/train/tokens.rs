//! Between text and token ids. Texts already carry their special tokens: none is added.

use plumb_engine::stage::StageError;

use crate::model::{Completion, Model, Sequence};
use crate::rows::Demonstration;

/// Token ids of a text.
pub fn encode(model: &dyn Model, text: &str) -> Result<Vec<u32>, StageError> {
    let encoding = model.tokenizer().encode_fast(text, false);
    let encoding = encoding.map_err(|error| StageError::new(format!("the tokenizer cannot read a text: {error}")))?;
    Ok(encoding.get_ids().to_vec())
}

/// The text of a completion, without its special tokens.
pub fn decode(model: &dyn Model, completion: &Completion) -> Result<String, StageError> {
    let text = model.tokenizer().decode(&completion.tokens, true);
    text.map_err(|error| StageError::new(format!("the tokenizer cannot write a completion: {error}")))
}

/// What a demonstration teaches: its prompt, and its completion with the end token, cut at `max_length` tokens in all.
/// `None` where the prompt alone fills that.
pub fn sequence(
    model: &dyn Model,
    demonstration: &Demonstration,
    max_length: usize,
) -> Result<Option<Sequence>, StageError> {
    let prompt = encode(model, &demonstration.prompt)?;
    let mut completion = encode(model, &demonstration.completion)?;
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
