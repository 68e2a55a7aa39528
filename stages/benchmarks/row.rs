//! One row of a benchmark's file, asked for by column: what is missing or of another type is told together with what
//! was found and what was expected.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::group::Group;
use crate::data::pairs::format::{self, Columns, Format, Reader};
use crate::rows::{Message, Origin, Side};

/// What a row turned out to be.
pub enum Read {
    /// An item.
    Group(Box<Group>),
    /// Neither answer is better.
    Tie,
}

impl From<Group> for Read {
    fn from(group: Group) -> Self {
        Self::Group(Box::new(group))
    }
}

/// How the rows of one benchmark are read.
pub struct Adapter {
    /// The benchmark.
    pub name: &'static str,
    /// Columns that every row must have; several lists where the benchmark has several files, the first that fits counts.
    pub columns: Vec<Vec<String>>,
    /// Reads a row that has them.
    #[expect(clippy::type_complexity, reason = "named once")]
    read: Box<dyn Fn(&Row<'_>) -> Result<Read, String>>,
}

impl Adapter {
    /// An adapter for rows with these columns.
    pub fn new(
        name: &'static str,
        columns: &[&[&str]],
        read: impl Fn(&Row<'_>) -> Result<Read, String> + 'static,
    ) -> Self {
        let columns = columns.iter().map(|list| list.iter().map(|column| (*column).to_string()).collect()).collect();
        Self { name, columns, read: Box::new(read) }
    }

    /// An adapter for pairs that `data.pairs` could read too.
    pub fn of_pairs(name: &'static str, form: Format, given: &Columns, labels: &BTreeMap<String, Side>) -> Self {
        let columns = form.columns(given);
        let needed = columns.needed();
        let reader = Reader { columns, labels: labels.clone(), dataset: name.to_string() };
        let read = move |row: &Row<'_>| {
            Ok(match reader.read(row.columns)? {
                format::Read::Pair(pair) => Group::of_pair(*pair).into(),
                format::Read::Tie => Read::Tie,
            })
        };
        Self { name, columns: vec![needed], read: Box::new(read) }
    }

    /// The item of a row, or what is wrong with it.
    pub fn read(&self, columns: &Map<String, Value>) -> Result<Read, String> {
        let row = Row { columns, dataset: self.name };
        let missing = |list: &Vec<String>| list.iter().filter(|name| !columns.contains_key(*name)).count();
        let Some(nearest) = self.columns.iter().min_by_key(|list| missing(list)) else { return (self.read)(&row) };
        if missing(nearest) == 0 {
            return (self.read)(&row);
        }
        let lacking = nearest.iter().filter(|name| !columns.contains_key(*name));
        let found: Vec<&str> = columns.keys().map(String::as_str).collect();
        Err(format!(
            "no column {}: `{}` has {}, and this row has {}",
            lacking.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and "),
            self.name,
            nearest.join(", "),
            if found.is_empty() { "none".to_string() } else { found.join(", ") }
        ))
    }

    /// What to do about a row that cannot be read.
    pub fn hint(&self) -> String {
        format!("is it a file of `{}`? `with.benchmark` names another one, and `pairs` reads any columns", self.name)
    }
}

/// A row by its columns.
pub struct Row<'a> {
    /// The columns.
    pub columns: &'a Map<String, Value>,
    /// The benchmark's name.
    pub dataset: &'static str,
}

impl<'a> Row<'a> {
    /// Whether the row has the column.
    pub fn has(&self, column: &str) -> bool {
        self.columns.get(column).is_some_and(|value| !value.is_null())
    }

    fn value(&self, column: &str) -> Result<&'a Value, String> {
        self.columns.get(column).ok_or_else(|| format!("column `{column}` is missing"))
    }

    /// A text.
    pub fn text(&self, column: &str) -> Result<&'a str, String> {
        let value = self.value(column)?;
        value.as_str().ok_or_else(|| unexpected(column, "a text", value))
    }

    /// A name: a text, or a number as text.
    pub fn name(&self, column: &str) -> Result<String, String> {
        match self.value(column)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(unexpected(column, "a text or a number", other)),
        }
    }

    /// The name in a column that need not be there; empty without one.
    pub fn optional_name(&self, column: &str) -> Result<String, String> {
        if self.has(column) { self.name(column) } else { Ok(String::new()) }
    }

    /// A list of texts, with at least one.
    pub fn texts(&self, column: &str) -> Result<Vec<String>, String> {
        let value = self.value(column)?;
        let texts = || value.as_array()?.iter().map(|one| Some(one.as_str()?.to_string())).collect::<Option<Vec<_>>>();
        match texts().filter(|texts| !texts.is_empty()) {
            Some(texts) => Ok(texts),
            None => Err(unexpected(column, "a list of texts", value)),
        }
    }

    /// A list.
    pub fn list(&self, column: &str) -> Result<&'a [Value], String> {
        let value = self.value(column)?;
        value.as_array().map(Vec::as_slice).ok_or_else(|| unexpected(column, "a list", value))
    }

    /// A text inside a table, as `chosen.answer`.
    pub fn inner(&self, column: &str, field: &str) -> Result<String, String> {
        inner(self.value(column)?, column, field)
    }

    /// A dialogue that ends with the user: a text (one turn) or a list of messages.
    pub fn dialogue(&self, column: &str) -> Result<Vec<Message>, String> {
        let value = self.value(column)?;
        let turns = match value {
            Value::String(text) => vec![Message { role: "user".into(), content: text.clone() }],
            Value::Array(_) => serde_json::from_value(value.clone())
                .map_err(|error| format!("messages in column `{column}`: {error}"))?,
            other => return Err(unexpected(column, "a text or a list of messages", other)),
        };
        match turns.last() {
            Some(Message { role, content }) if role == "user" && !content.trim().is_empty() => Ok(turns),
            _ => Err(format!("the dialogue in column `{column}` does not end with a user turn that says something")),
        }
    }

    /// Whether a column says `true` (or 1).
    pub fn flag(&self, column: &str) -> bool {
        self.columns.get(column).is_some_and(|value| *value == Value::Bool(true) || value.as_f64() == Some(1.0))
    }

    /// Where the row comes from.
    pub fn origin(&self, subset: impl Into<String>) -> Origin {
        Origin { dataset: self.dataset.to_string(), subset: subset.into() }
    }
}

/// A text inside a table.
pub fn inner(value: &Value, column: &str, field: &str) -> Result<String, String> {
    let text = value.get(field).and_then(Value::as_str).map(str::to_string);
    text.ok_or_else(|| unexpected(column, &format!("a table with a text `{field}`"), value))
}

/// The message for a value of another type.
pub fn unexpected(column: &str, expected: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "nothing".to_string(),
        Value::Bool(_) => "true or false".to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", text.chars().take(40).collect::<String>()),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(table) => format!("a table with {}", table.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    format!("column `{column}` holds {found}: expected {expected}")
}
