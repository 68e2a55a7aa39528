//! How a foreign row becomes a pair: which columns hold what, for known data sets and for any other.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::data::hash;
use crate::rows::{Message, Origin, Pair, Side};

/// Known layouts of preference data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Only what `columns` says.
    #[default]
    Columns,
    /// LLMBar: prompt, response_a, response_b, label, subset.
    Llmbar,
    /// GSM8K solutions: the same with qid and gold_rationale.
    Gsm8kPairs,
    /// PandaLM: prompt, response_a, response_b, label.
    Pandalm,
    /// HelpSteer3: context, response1, response2, overall_preference (negative: the first is better, 0 is a tie), with
    /// the annotators' reasons as gold.
    Helpsteer3,
    /// TRL's preference type: prompt, chosen, rejected; texts or messages, the prompt explicit or implied.
    Trl,
    /// R-Align's published columns: conversations, response_A, response_B, gt_label, gt_judgment, source, id.
    RAlign,
}

/// Which column holds what. A name left out keeps the format's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// Unique name of the row; without one, rows are named by their content.
    pub id: Option<String>,
    /// The dialogue: a text (one user turn) or a list of messages.
    pub prompt: Option<String>,
    /// The better answer (with `rejected`, instead of the three that follow).
    pub chosen: Option<String>,
    /// The worse answer.
    pub rejected: Option<String>,
    /// Answer A (with `response_b` and `label`).
    pub response_a: Option<String>,
    /// Answer B.
    pub response_b: Option<String>,
    /// Which answer is better; `labels` says what its values mean.
    pub label: Option<String>,
    /// The gold judgment, where the data have one.
    pub gold: Option<String>,
    /// What rows of one prompt share; without one, equal dialogues share it.
    pub prompt_id: Option<String>,
    /// Domain or subset.
    pub subset: Option<String>,
}

impl Columns {
    fn of(list: &[(&str, &str)]) -> Self {
        let find = |name: &str| list.iter().find(|(known, _)| *known == name).map(|(_, column)| (*column).to_string());
        Self {
            id: find("id"),
            prompt: find("prompt"),
            chosen: find("chosen"),
            rejected: find("rejected"),
            response_a: find("response_a"),
            response_b: find("response_b"),
            label: find("label"),
            gold: find("gold"),
            prompt_id: find("prompt_id"),
            subset: find("subset"),
        }
    }

    /// The columns without which no row can be read.
    pub fn needed(&self) -> Vec<String> {
        // TRL's `chosen` may hold the prompt too: then only a prompt that was named is asked for.
        let columns = match (&self.chosen, &self.rejected) {
            (Some(_), Some(_)) => vec![&self.prompt, &self.chosen, &self.rejected],
            _ => vec![&self.prompt, &self.response_a, &self.response_b, &self.label],
        };
        columns.into_iter().flatten().cloned().collect()
    }

    fn or(self, other: Self) -> Self {
        Self {
            id: self.id.or(other.id),
            prompt: self.prompt.or(other.prompt),
            chosen: self.chosen.or(other.chosen),
            rejected: self.rejected.or(other.rejected),
            response_a: self.response_a.or(other.response_a),
            response_b: self.response_b.or(other.response_b),
            label: self.label.or(other.label),
            gold: self.gold.or(other.gold),
            prompt_id: self.prompt_id.or(other.prompt_id),
            subset: self.subset.or(other.subset),
        }
    }
}

impl Format {
    /// The columns of a format, those of the user first.
    #[must_use]
    pub fn columns(self, given: &Columns) -> Columns {
        const AB: [(&str, &str); 5] = [
            ("id", "id"),
            ("prompt", "prompt"),
            ("response_a", "response_a"),
            ("response_b", "response_b"),
            ("label", "label"),
        ];
        let own = match self {
            Self::Columns => Columns::default(),
            Self::Llmbar => Columns::of(&[&AB[..], &[("subset", "subset")]].concat()),
            Self::Gsm8kPairs => Columns::of(&[&AB[..], &[("prompt_id", "qid"), ("gold", "gold_rationale")]].concat()),
            Self::Pandalm => Columns::of(&AB),
            Self::Helpsteer3 => Columns::of(&[
                ("prompt", "context"),
                ("response_a", "response1"),
                ("response_b", "response2"),
                ("label", "overall_preference"),
                ("gold", "individual_preference"),
                ("subset", "domain"),
            ]),
            Self::Trl => Columns::of(&[("prompt", "prompt"), ("chosen", "chosen"), ("rejected", "rejected")]),
            Self::RAlign => Columns::of(&[
                ("id", "id"),
                ("prompt", "conversations"),
                ("response_a", "response_A"),
                ("response_b", "response_B"),
                ("label", "gt_label"),
                ("gold", "gt_judgment"),
                ("prompt_id", "prompt_id"),
                ("subset", "source"),
            ]),
        };
        given.clone().or(own)
    }

    /// The name that rows carry as their data set where the user gives none.
    #[must_use]
    pub fn dataset(self) -> &'static str {
        match self {
            Self::Columns => "pairs",
            Self::Llmbar => "llmbar",
            Self::Gsm8kPairs => "gsm8k",
            Self::Pandalm => "pandalm",
            Self::Helpsteer3 => "helpsteer3",
            Self::Trl => "trl",
            Self::RAlign => "r-align",
        }
    }
}

/// What a row turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A pair, placed as in the file.
    Pair(Box<Pair>),
    /// Neither answer is better.
    Tie,
}

/// Reads rows of one file.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Columns in use.
    pub columns: Columns,
    /// What the label's values mean, beside `A` and `B`.
    pub labels: BTreeMap<String, Side>,
    /// Data set's name.
    pub dataset: String,
}

impl Reader {
    /// The pair of a row, or what is wrong with it.
    pub fn read(&self, row: &Map<String, Value>) -> Result<Read, String> {
        let (response_a, response_b, gt_label) = match self.answers(row)? {
            Some(answers) => answers,
            None => return Ok(Read::Tie),
        };
        let conversations = self.dialogue(row)?;
        let text: Vec<&str> =
            conversations.iter().flat_map(|turn| [turn.role.as_str(), turn.content.as_str()]).collect();
        let content = [&text[..], &[&response_a, &response_b]].concat();
        let id = match optional_text(row, self.columns.id.as_deref())? {
            Some(id) => id,
            None => format!("{}-{:016x}", self.dataset, hash::number(&content)),
        };
        let prompt_id = match optional_text(row, self.columns.prompt_id.as_deref())? {
            Some(prompt_id) => prompt_id,
            None => format!("{:016x}", hash::number(&text)),
        };
        let subset = subset(row, self.columns.subset.as_deref());
        Ok(Read::Pair(Box::new(Pair {
            id,
            gt_judgment: gold(row, self.columns.gold.as_deref())?,
            conversations,
            response_a,
            response_b,
            gt_label,
            source: Origin { dataset: self.dataset.clone(), subset },
            prompt_id,
            swapped: false,
            cue: None,
        })))
    }

    fn answers(&self, row: &Map<String, Value>) -> Result<Option<(String, String, Side)>, String> {
        let columns = &self.columns;
        if let (Some(chosen), Some(rejected)) = (&columns.chosen, &columns.rejected) {
            return Ok(Some((answer(row, chosen)?, answer(row, rejected)?, Side::A)));
        }
        let name = |column: &Option<String>, what: &str| {
            column.clone().ok_or_else(|| format!("no column is named for `{what}`"))
        };
        let (a, b) = (name(&columns.response_a, "response_a")?, name(&columns.response_b, "response_b")?);
        let label = self.label(row, &name(&columns.label, "label")?)?;
        Ok(match label {
            Some(label) => Some((answer(row, &a)?, answer(row, &b)?, label)),
            None => None,
        })
    }

    // A side, or `None` for a tie. Whole numbers are HelpSteer3's scale: their sign decides.
    fn label(&self, row: &Map<String, Value>, column: &str) -> Result<Option<Side>, String> {
        let value = row.get(column).ok_or_else(|| format!("column `{column}` is missing"))?;
        let written = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        if let Some(side) = self.labels.get(&written) {
            return Ok(Some(*side));
        }
        match (written.as_str(), value.as_i64()) {
            ("A", _) => Ok(Some(Side::A)),
            ("B", _) => Ok(Some(Side::B)),
            ("tie" | "Tie" | "same", _) | (_, Some(0)) => Ok(None),
            (_, Some(preference)) if (-3..=3).contains(&preference) => {
                Ok(Some(if preference < 0 { Side::A } else { Side::B }))
            }
            _ => Err(format!("`{written}` in column `{column}` is no label: expected A or B, or a value of `labels`")),
        }
    }

    fn dialogue(&self, row: &Map<String, Value>) -> Result<Vec<Message>, String> {
        let column = self.columns.prompt.as_deref().unwrap_or("prompt");
        let turns = match (row.get(column), &self.columns.chosen) {
            (Some(Value::String(text)), _) => vec![Message { role: "user".into(), content: text.clone() }],
            (Some(list @ Value::Array(_)), _) => messages(list, column)?,
            (Some(_), _) => return Err(format!("expected a text or a list of messages in column `{column}`")),
            // TRL's implicit prompt: `chosen` is the whole dialogue.
            (None, Some(chosen)) if row.get(chosen).is_some_and(Value::is_array) => {
                let mut turns = messages(&row[chosen.as_str()], chosen)?;
                turns.pop();
                turns
            }
            (None, _) => return Err(format!("column `{column}` is missing")),
        };
        match turns.last() {
            Some(last) if last.role == "user" && !last.content.trim().is_empty() => Ok(turns),
            Some(last) if last.role == "user" => Err(format!("the prompt in column `{column}` is empty")),
            _ => Err(format!("the dialogue in column `{column}` does not end with a user turn")),
        }
    }
}

fn messages(list: &Value, column: &str) -> Result<Vec<Message>, String> {
    serde_json::from_value(list.clone()).map_err(|error| format!("messages in column `{column}`: {error}"))
}

fn answer(row: &Map<String, Value>, column: &str) -> Result<String, String> {
    Ok(match row.get(column) {
        Some(Value::String(text)) => text.clone(),
        Some(list @ Value::Array(_)) => messages(list, column)?.pop().map(|turn| turn.content).unwrap_or_default(),
        Some(_) => return Err(format!("expected a text or a list of messages in column `{column}`")),
        None => return Err(format!("column `{column}` is missing")),
    })
}

fn optional_text(row: &Map<String, Value>, column: Option<&str>) -> Result<Option<String>, String> {
    match column.and_then(|column| row.get(column)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(number @ Value::Number(_)) => Ok(Some(number.to_string())),
        Some(_) => Err(format!("expected a text in column `{}`", column.unwrap_or_default())),
    }
}

// A text, or HelpSteer3's list of annotators, whose reasons are joined.
fn gold(row: &Map<String, Value>, column: Option<&str>) -> Result<Option<String>, String> {
    let Some(Value::Array(annotators)) = column.and_then(|column| row.get(column)) else {
        return Ok(optional_text(row, column)?.filter(|text| !text.trim().is_empty()));
    };
    let reasons: Vec<&str> = annotators.iter().filter_map(|one| one.get("reasoning")?.as_str()).collect();
    Ok((!reasons.is_empty()).then(|| reasons.join("\n")))
}

// A text, or R-Align's `source` table.
fn subset(row: &Map<String, Value>, column: Option<&str>) -> String {
    let value = column.and_then(|column| row.get(column));
    let inner = value.map(|value| value.get("subset").unwrap_or(value));
    inner.and_then(Value::as_str).unwrap_or_default().to_string()
}
