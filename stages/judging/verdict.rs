//! Reading a verdict out of a judge's text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::rows::Side;

/// Which rule reads the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Parse {
    /// After the last `</think>`, the last box, tolerant of spaces and `\text`.
    #[default]
    StrictLast,
    /// The official script's rule, to the letter: the first box anywhere.
    RalignOfficial,
}

/// The verdict, or `None` where there is none.
pub fn verdict(_parse: Parse, _template: Template, _text: &str) -> Option<Side> {
    None
}
