//! Reading TOML tables field by field with their spans, collecting every complaint instead of stopping at the
//! first. Knows TOML and names; knows nothing of stages, axes or graphs.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::nearest;

/// Text with its place.
pub type Text<'t> = Spanned<Cow<'t, str>>;
/// A value with its place.
pub type Item<'t> = Spanned<DeValue<'t>>;

/// The complaints of one file.
#[derive(Default)]
pub struct Complaints {
    /// In the order in which they were found.
    pub all: Vec<Diagnostic>,
}

impl Complaints {
    /// Adds one.
    pub fn add(&mut self, one: Diagnostic) {
        self.all.push(one);
    }

    /// Adds an error with a place.
    pub fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.add(Diagnostic::at(span, message));
    }

    /// Adds `unknown WHAT `NAME`` with the nearest of the known names.
    pub fn unknown<'c>(
        &mut self,
        span: Range<usize>,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'c str>,
    ) {
        let hint = nearest::hint(&plural(what), name, known);
        self.add(Diagnostic::at(span, format!("unknown {what} `{name}`")).hint(hint));
    }

    /// Whether the file cannot be used.
    pub fn any_errors(&self) -> bool {
        self.all.iter().any(Diagnostic::is_error)
    }
}

fn plural(what: &str) -> String {
    match what {
        "axis" => "axes".into(),
        _ if what.starts_with("value of") => "values".into(),
        _ => format!("{what}s"),
    }
}

/// A table whose known fields are taken one by one; what is left is unknown.
pub struct Fields<'t> {
    /// Where the table stands.
    pub span: Range<usize>,
    entries: DeTable<'t>,
    /// The names that were asked for.
    pub taken: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The fields of a table.
    pub fn new(table: Spanned<DeTable<'t>>) -> Self {
        Self { span: table.span(), entries: table.into_inner(), taken: Vec::new() }
    }

    /// The fields of a value that must be a table.
    pub fn of(item: Item<'t>, what: &str, complaints: &mut Complaints) -> Option<Self> {
        table(item, what, complaints).map(Self::new)
    }

    /// Removes a field.
    pub fn take(&mut self, name: &'static str) -> Option<Item<'t>> {
        self.take_entry(name).map(|(_, item)| item)
    }

    /// Removes a field with the place of its name.
    pub fn take_entry(&mut self, name: &'static str) -> Option<(Text<'t>, Item<'t>)> {
        self.taken.push(name);
        self.entries.remove_entry(name)
    }

    /// Removes a field that must be text.
    pub fn text(&mut self, name: &'static str, complaints: &mut Complaints) -> Option<Text<'t>> {
        text(self.take(name)?, &format!("`{name}`"), complaints)
    }

    /// Removes a field that must be a table, as entries in the order of the file.
    pub fn entries(&mut self, name: &'static str, complaints: &mut Complaints) -> Vec<(Text<'t>, Item<'t>)> {
        let Some(item) = self.take(name) else { return Vec::new() };
        table(item, &format!("`{name}`"), complaints).map(in_file_order).unwrap_or_default()
    }

    /// Complains about every field that was not taken.
    pub fn finish(self, what: &str, complaints: &mut Complaints) {
        for name in self.entries.keys() {
            complaints.unknown(name.span(), &format!("{what} key"), name.get_ref(), self.taken.iter().copied());
        }
    }
}

/// The entries of a table in the order of the file (the parser sorts them by name).
pub fn in_file_order<'t>(table: Spanned<DeTable<'t>>) -> Vec<(Text<'t>, Item<'t>)> {
    let mut entries: Vec<_> = table.into_inner().into_iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

/// A value that must be a table.
pub fn table<'t>(item: Item<'t>, what: &str, complaints: &mut Complaints) -> Option<Spanned<DeTable<'t>>> {
    let span = item.span();
    match item.into_inner() {
        DeValue::Table(table) => Some(Spanned::new(span, table)),
        other => mistyped(span, what, "a table", &other, complaints),
    }
}

/// A value that must be text.
pub fn text<'t>(item: Item<'t>, what: &str, complaints: &mut Complaints) -> Option<Text<'t>> {
    let span = item.span();
    match item.into_inner() {
        DeValue::String(text) => Some(Spanned::new(span, text)),
        other => mistyped(span, what, "text", &other, complaints),
    }
}

/// A value that must be a list.
pub fn list<'t>(item: Item<'t>, what: &str, complaints: &mut Complaints) -> Option<Vec<Item<'t>>> {
    let span = item.span();
    match item.into_inner() {
        DeValue::Array(items) => Some(items.into_iter().collect()),
        other => mistyped(span, what, "a list", &other, complaints),
    }
}

/// A value that must be a list of texts.
pub fn texts<'t>(item: Item<'t>, what: &str, complaints: &mut Complaints) -> Vec<Text<'t>> {
    let items = list(item, what, complaints).unwrap_or_default();
    items.into_iter().filter_map(|item| text(item, &format!("each of {what}"), complaints)).collect()
}

/// A value that must be a whole number of a range.
pub fn whole(item: &Item<'_>, what: &str, range: Range<u64>, complaints: &mut Complaints) -> Option<u64> {
    let DeValue::Integer(integer) = item.get_ref() else {
        return mistyped(item.span(), what, "a whole number", item.get_ref(), complaints);
    };
    let value = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|value| range.contains(value));
    if value.is_none() {
        let message = format!("{what} must be {} to {}, not {integer}", range.start, range.end - 1);
        complaints.error(item.span(), message);
    }
    value
}

fn mistyped<T>(
    span: Range<usize>,
    what: &str,
    expected: &str,
    found: &DeValue<'_>,
    complaints: &mut Complaints,
) -> Option<T> {
    complaints.error(span, format!("{what} must be {expected}, not {}", noun(found)));
    None
}

/// What a value is, for messages.
pub fn noun(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Complains about a name that is not `[a-z0-9-]`.
pub fn check_name(name: &Text<'_>, what: &str, complaints: &mut Complaints) {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    check_letters(name, what, "lowercase letters, digits and `-`", allowed, '-', complaints);
}

/// Complains about a key that is not `[a-z0-9_]`.
pub fn check_key(name: &Text<'_>, what: &str, complaints: &mut Complaints) {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    check_letters(name, what, "lowercase letters, digits and `_`", allowed, '_', complaints);
}

fn check_letters(
    name: &Text<'_>,
    what: &str,
    letters: &str,
    allowed: impl Fn(char) -> bool,
    instead: char,
    complaints: &mut Complaints,
) {
    let text = name.get_ref();
    if !text.is_empty() && text.chars().all(&allowed) {
        return;
    }
    let repaired: String =
        text.to_lowercase().chars().map(|letter| if allowed(letter) { letter } else { instead }).collect();
    let hint = (!text.is_empty()).then(|| format!("write `{repaired}`"));
    complaints.add(Diagnostic::at(name.span(), format!("{what} `{text}`: names are {letters}")).hint(hint));
}

/// Complains about every nan and infinity: they have no place in a key.
pub fn refuse_infinite(table: &DeTable<'_>, complaints: &mut Complaints) {
    for item in table.values() {
        refuse_infinite_value(item, complaints);
    }
}

fn refuse_infinite_value(item: &Item<'_>, complaints: &mut Complaints) {
    match item.get_ref() {
        DeValue::Float(float) if float.as_str().contains(['n', 'i']) => {
            complaints.error(item.span(), format!("`{float}` is not a number that a key can hold"));
        }
        DeValue::Array(items) => items.iter().for_each(|item| refuse_infinite_value(item, complaints)),
        DeValue::Table(table) => refuse_infinite(table, complaints),
        _ => {}
    }
}
