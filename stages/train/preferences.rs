//! Preference pairs as what a policy would have written: the dialogue rendered as a prompt, the better and the worse
//! answer as completions of it. Knows no loss.

use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;

use super::tokens;
use crate::jsonl;
use crate::judging::template::{Template, answer_prompt};
use crate::model::{Model, Sequence};
use crate::rows::{Demonstration, Pair, Side};
use serde::Deserialize;

/// One pair, tokenised.
pub(super) struct Encoded {
    pub pair: Pair,
    pub chosen: Sequence,
    pub rejected: Sequence,
    /// By how much the better answer is to win; 0 where the row does not say.
    pub margin: f64,
}

// The column that a pair may have beside its own.
#[derive(Deserialize)]
struct Margin {
    #[serde(default)]
    margin: Option<f64>,
}

impl Encoded {
    /// Tokens of both sequences, the prompt counted twice, as TRL counts them.
    pub fn tokens(&self) -> usize {
        [&self.chosen, &self.rejected].map(|one| one.prompt.len() + one.completion.len()).iter().sum()
    }
}

/// Reads pairs; those with no answer left within `max_length` tokens are left out and counted.
pub(super) fn read(
    model: &dyn Model,
    path: &Path,
    template: Template,
    max_length: usize,
    io: &Io,
) -> Result<Vec<Encoded>, StageError> {
    let (mut encoded, mut dropped) = (Vec::new(), 0);
    let margins = jsonl::read::<Margin>(path)?;
    for (pair, Margin { margin }) in jsonl::read_some::<Pair>(path)?.into_iter().zip(margins) {
        match encode(model, pair, margin.unwrap_or_default(), (template, max_length))? {
            Some(pair) => encoded.push(pair),
            None => dropped += 1,
        }
    }
    if dropped > 0 {
        io.log(format!("{dropped} pairs have an answer that does not begin within {max_length} tokens: left out"));
    }
    if encoded.is_empty() {
        return Err(StageError::new(format!("`{}` has no pair to learn from", path.display())));
    }
    Ok(encoded)
}

fn encode(
    model: &dyn Model,
    pair: Pair,
    margin: f64,
    (template, max_length): (Template, usize),
) -> Result<Option<Encoded>, StageError> {
    let prompt = answer_prompt(template, &pair, model.chat_template())?;
    let answer = |side: Side| {
        let text = if side == Side::A { &pair.response_a } else { &pair.response_b };
        let row = Demonstration { id: pair.id.clone(), prompt: prompt.clone(), completion: text.clone() };
        let sequence = tokens::sequence(model, &row, max_length)?;
        if let Some(sequence) = &sequence {
            tokens::check_context(model, &pair.id, sequence.prompt.len() + sequence.completion.len())
                .map_err(|error| error.hint(format!("with.max_length = {}", model.context())))?;
        }
        Ok(sequence)
    };
    let both = answer(pair.gt_label)?.zip(answer(pair.gt_label.other())?);
    Ok(both.map(|(chosen, rejected)| Encoded { pair, chosen, rejected, margin }))
}
