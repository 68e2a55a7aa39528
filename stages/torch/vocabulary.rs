//! Whether a tokenizer's ids have rows in a model's embedding. Looked at before tensors are: libtorch tells of an index
//! out of range on a CPU, and brings a GPU's process down.

use std::path::Path;

use plumb_engine::stage::StageError;
use tokenizers::Tokenizer;

use crate::config::Config;

/// The tokenizer of a model folder, if its vocabulary fits into the embedding. Added tokens may lie beyond (Gemma's
/// text models have one for images): those are refused where they are used.
pub fn tokenizer(folder: &Path, config: &Config) -> Result<Tokenizer, StageError> {
    let path = folder.join("tokenizer.json");
    let tokenizer = Tokenizer::from_file(&path).map_err(|error| StageError::file("read", &path, &error))?;
    let (words, rows) = (tokenizer.get_vocab_size(false), config.vocab_size);
    if i64::try_from(words).is_ok_and(|words| words <= rows) {
        return Ok(tokenizer);
    }
    let problem = format!("the tokenizer has {words} tokens and the model's embedding {rows} rows (`vocab_size`)");
    Err(StageError::file("read", &path, &problem).hint("take `tokenizer.json` and the weights from the same model"))
}

/// Refuses ids that have no row.
pub fn check<'a>(
    config: &Config,
    tokenizer: &Tokenizer,
    mut texts: impl Iterator<Item = &'a [u32]>,
) -> Result<(), StageError> {
    let beyond = |id: &&u32| i64::from(**id) >= config.vocab_size;
    match texts.find_map(|text| text.iter().find(beyond)) {
        None => Ok(()),
        Some(id) => {
            let token = tokenizer.id_to_token(*id).unwrap_or_default();
            let rows = config.vocab_size;
            Err(StageError::new(format!("token {id}, `{token}`, has no row: the model's embedding has {rows}")))
        }
    }
}
