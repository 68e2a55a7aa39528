//! `model.import`: a checkpoint from outside as a model folder. A Hugging Face folder is checked and copied, a GGUF
//! file converted (`gguf.rs`).

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;

use crate::config::Config;
use crate::weights::{Files, parts};
use crate::{gguf, lora, vocabulary};

/// Files of a folder that are taken over beside the weights.
const TAKEN: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Runs `model.import`.
pub fn run(io: &Io) -> Result<(), StageError> {
    let (checkpoint, folder) = (io.input("checkpoint")?, io.output("model")?);
    std::fs::create_dir_all(folder).map_err(|error| StageError::file("create", folder, &error))?;
    if checkpoint.is_dir() {
        take_over(checkpoint, folder)?
    } else {
        gguf::import(checkpoint, folder)?
    }
    io.optional_input("adapter").map_or(Ok(()), |adapter| lora::merge(folder, adapter))
}

fn take_over(checkpoint: &Path, folder: &Path) -> Result<(), StageError> {
    let config = Config::read(checkpoint)?;
    let files = Files::open(checkpoint)?;
    for (name, shape) in parts(&config).into_iter().flat_map(|part| part.sources(&config)) {
        files.check(&name, &shape)?;
    }
    if !checkpoint.join("tokenizer.json").exists() {
        return Err(StageError::new(format!("`{}` has no `tokenizer.json`", checkpoint.display()))
            .hint("save the tokenizer with transformers' `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"));
    }
    vocabulary::tokenizer(checkpoint, &config)?;
    let present = TAKEN.into_iter().filter(|name| checkpoint.join(name).exists()).map(str::to_string);
    for name in present.chain(files.names()) {
        let (from, to) = (checkpoint.join(&name), folder.join(&name));
        std::fs::copy(&from, &to).map_err(|error| StageError::file("copy", &from, &error))?;
    }
    Ok(())
}
