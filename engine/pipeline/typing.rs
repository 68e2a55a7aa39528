//! Types a stage's parameters against its kind and says what is wrong with each of them, not only with the first:
//! a parameter that does not type is told, taken out, and the rest is typed again.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::resolve::Stage;
use super::table::{Complaints, Item, Text};
use super::with::{self, Named};
use crate::canonical::Value;
use crate::diagnostic::Diagnostic;
use crate::nearest;
use crate::stage::{Kind, ParamError};

/// Types `with`, made anew (references replaced) each time it is asked for: typing uses it up. `branch` is the address
/// to tell where a value came from an axis.
pub fn params<'t>(
    stage: &Stage<'_>,
    kind: &dyn Kind,
    with: &dyn Fn() -> DeTable<'t>,
    branch: &dyn Fn() -> String,
    complaints: &mut Complaints,
) -> Option<Value> {
    let span = stage.text.with.span();
    match kind.type_params(Spanned::new(span.clone(), with())) {
        Ok(value) => Some(value),
        Err(errors) => {
            let mut teller = Teller { stage, kind, span, with: with(), branch, taken: BTreeSet::new(), complaints };
            teller.tell_all(errors);
            None
        }
    }
}

struct Teller<'a, 't> {
    stage: &'a Stage<'a>,
    kind: &'a dyn Kind,
    span: Range<usize>,
    with: DeTable<'t>,
    branch: &'a dyn Fn() -> String,
    /// Parameters already told and taken out.
    taken: BTreeSet<String>,
    complaints: &'a mut Complaints,
}

impl Teller<'_, '_> {
    fn tell_all(&mut self, mut errors: Vec<ParamError>) {
        loop {
            let mut took = false;
            for error in errors {
                took |= self.tell(error);
            }
            if !took {
                return;
            }
            match self.kind.type_params(Spanned::new(self.span.clone(), self.with.clone())) {
                Ok(_) => return,
                Err(more) => errors = more,
            }
        }
    }

    /// Tells one error; true where a parameter was taken out, so that typing again may tell more.
    fn tell(&mut self, error: ParamError) -> bool {
        if let Some(field) = &error.field {
            let span = locate(&self.with, field).unwrap_or_else(|| self.span.clone());
            self.add(span, format!("`{field}`: {}", error.message), None);
            return false;
        }
        if error.message.starts_with("missing field") {
            let nested = error.span.as_ref().and_then(|span| self.holder(span)).is_some();
            if !nested {
                self.tell_missing(&error.message);
                return false;
            }
        }
        let span = error.span.clone().unwrap_or_else(|| self.span.clone());
        let holder = error.span.as_ref().and_then(|span| self.holder(span));
        let (message, hint) = reworded(&error.message, holder.as_deref(), self.kind.declaration().kind);
        self.add(span, message, hint);
        let Some(holder) = holder else { return false };
        self.with.remove(holder.as_str());
        self.taken.insert(holder)
    }

    fn add(&mut self, span: Range<usize>, message: String, hint: Option<String>) {
        let hint = match (hint, self.origin(&span)) {
            (Some(hint), Some(origin)) => Some(format!("{hint} ({origin})")),
            (hint, origin) => hint.or(origin),
        };
        self.complaints.add(Diagnostic::at(span, message).hint(hint));
    }

    /// Where the value came from, if a reference stands at the place.
    fn origin(&self, at: &Range<usize>) -> Option<String> {
        let mut origin = None;
        with::visit(self.stage.text.with.get_ref(), &mut |named, span| {
            if span == *at {
                origin = Some(match named {
                    Named::Param(name) => format!("it is the value of the parameter `{name}`"),
                    Named::Axis(_) => format!("in the branch `{}`", (self.branch)()),
                });
            }
        });
        origin
    }

    /// The parameter whose name or value a span lies in.
    fn holder(&self, span: &Range<usize>) -> Option<String> {
        self.with.iter().find(|(name, item)| holds(name, item, span)).map(|(name, _)| name.get_ref().to_string())
    }

    /// serde stops at the first missing parameter; the schema knows the others.
    fn tell_missing(&mut self, message: &str) {
        let schema = self.kind.schema();
        let required = schema.get("required").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let mut missing: BTreeSet<String> =
            required.iter().filter_map(|name| name.as_str().map(str::to_string)).collect();
        missing.extend(quoted(message).next().map(str::to_string));
        missing.retain(|name| !self.taken.contains(name) && !self.with.contains_key(name.as_str()));
        for name in missing {
            let about = schema.get("properties").and_then(|all| all.get(&name)).and_then(|one| one.get("description"));
            let about = about.and_then(serde_json::Value::as_str).and_then(|text| text.lines().next());
            let about = about.map(|about| format!(": {about}")).unwrap_or_default();
            let message = format!("stage `{}` lacks the parameter `{name}`", self.stage.text.name.get_ref());
            let hint = format!("add `with.{name} = …`{about}");
            self.complaints.add(Diagnostic::at(self.stage.text.name.span(), message).hint(hint));
        }
    }
}

/// The table of a dotted key has the span of its name only, so what is in it is looked at too.
fn holds(name: &Text<'_>, item: &Item<'_>, span: &Range<usize>) -> bool {
    let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end && !outer.is_empty();
    let inside =
        || item.get_ref().as_table().is_some_and(|table| table.iter().any(|(name, item)| holds(name, item, span)));
    within(name.span()) || within(item.span()) || inside()
}

/// The place of a dotted field, or of the nearest table that should hold it.
fn locate(with: &DeTable<'_>, field: &str) -> Option<Range<usize>> {
    let mut names = field.split(['.', '[']).map(|name| name.trim_end_matches(']'));
    let mut item = with.get(names.next()?)?;
    for name in names {
        let inner = match item.get_ref() {
            DeValue::Table(table) => table.get(name),
            DeValue::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        let Some(inner) = inner else { break };
        item = inner;
    }
    Some(item.span())
}

/// The names in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// serde's sentence in the house's words, with the nearest of the names it expected.
fn reworded(message: &str, parameter: Option<&str>, kind: &str) -> (String, Option<String>) {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    if let Some(name) = what.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`')) {
        let hint = nearest::did_you_mean(name, quoted(expected));
        let hint = hint.unwrap_or_else(|| format!("`plumb show {kind}` lists the parameters"));
        return (format!("unknown parameter `{name}`"), Some(hint));
    }
    let prefix = parameter.map(|name| format!("`{name}`: ")).unwrap_or_default();
    if let Some(name) = what.strip_prefix("unknown variant `").and_then(|rest| rest.strip_suffix('`')) {
        return (format!("{prefix}unknown value `{name}`"), nearest::hint("values", name, quoted(expected)));
    }
    match expected {
        "" => (format!("{prefix}{what}"), None),
        expected => (format!("{prefix}{what}, expected {}", plain(expected)), None),
    }
}

/// Rust's type names in words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a string" => "text",
        "a boolean" => "true or false",
        other => other,
    }
}
