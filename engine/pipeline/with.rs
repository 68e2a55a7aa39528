//! The `with` table: finding `{ param = … }` and `{ axis = … }` at any depth, and replacing them. The value that
//! takes a reference's place takes its span too, so that a mistyped one is told where it was used.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::table::Item;
use crate::canonical;

/// What a reference names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// `{ param = "steps" }`.
    Param(&'a str),
    /// `{ axis = "reward" }` or `{ axis = "data.max_pairs" }`.
    Axis(&'a str),
}

/// Whether a value is a reference: a table whose only key is `param` or `axis`, with text.
fn named<'a>(value: &'a DeValue<'_>) -> Option<Named<'a>> {
    let table = value.as_table().filter(|table| table.len() == 1)?;
    let (name, item) = table.iter().next()?;
    let text = item.get_ref().as_str()?;
    match name.get_ref().as_ref() {
        "param" => Some(Named::Param(text)),
        "axis" => Some(Named::Axis(text)),
        _ => None,
    }
}

/// Visits every reference of a table.
pub fn visit<'a>(table: &'a DeTable<'_>, visitor: &mut impl FnMut(Named<'a>, Range<usize>)) {
    table.values().for_each(|item| visit_value(item, visitor));
}

/// The path of every value that an axis gives, as differences of two `with` tables are told, with the axis.
pub fn axes(table: &DeTable<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, item) in table {
        axes_of(&canonical::member("", name.get_ref()), item.get_ref(), &mut found);
    }
    found
}

fn axes_of(path: &str, value: &DeValue<'_>, found: &mut BTreeMap<String, String>) {
    if let Some(named) = named(value) {
        if let Named::Axis(axis) = named {
            let axis = axis.split_once('.').map_or(axis, |(axis, _)| axis);
            found.insert(path.to_string(), axis.to_string());
        }
        return;
    }
    match value {
        DeValue::Table(table) => {
            let fields = table.iter();
            fields.for_each(|(name, item)| axes_of(&canonical::member(path, name.get_ref()), item.get_ref(), found));
        }
        DeValue::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| axes_of(&format!("{path}[{index}]"), item.get_ref(), found));
        }
        _ => {}
    }
}

fn visit_value<'a>(item: &'a Item<'_>, visitor: &mut impl FnMut(Named<'a>, Range<usize>)) {
    if let Some(named) = named(item.get_ref()) {
        return visitor(named, item.span());
    }
    match item.get_ref() {
        DeValue::Table(table) => visit(table, visitor),
        DeValue::Array(items) => items.iter().for_each(|item| visit_value(item, visitor)),
        _ => {}
    }
}

/// The table with every reference replaced. One that `find` does not know is left out: it was complained about.
pub fn replace<'t, 'v>(table: &DeTable<'t>, find: &impl Fn(Named<'_>) -> Option<&'v Item<'t>>) -> DeTable<'t>
where
    't: 'v,
{
    let replaced = table.iter().filter_map(|(name, item)| Some((name.clone(), replace_value(item, find)?)));
    replaced.collect()
}

fn replace_value<'t, 'v>(item: &Item<'t>, find: &impl Fn(Named<'_>) -> Option<&'v Item<'t>>) -> Option<Item<'t>>
where
    't: 'v,
{
    if let Some(named) = named(item.get_ref()) {
        return find(named).map(|value| at(value.get_ref(), item.span()));
    }
    let value = match item.get_ref() {
        DeValue::Table(table) => DeValue::Table(replace(table, find)),
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            items.iter().filter_map(|item| replace_value(item, find)).for_each(|item| array.push(item));
            DeValue::Array(array)
        }
        scalar => scalar.clone(),
    };
    Some(Spanned::new(item.span(), value))
}

/// A copy of a value that stands at another place.
fn at<'t>(value: &DeValue<'t>, span: Range<usize>) -> Item<'t> {
    let moved = match value {
        DeValue::Table(table) => {
            let entries = table.iter().map(|(name, item)| {
                (Spanned::new(span.clone(), name.get_ref().clone()), at(item.get_ref(), span.clone()))
            });
            DeValue::Table(entries.collect())
        }
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            items.iter().for_each(|item| array.push(at(item.get_ref(), span.clone())));
            DeValue::Array(array)
        }
        scalar => scalar.clone(),
    };
    Spanned::new(span, moved)
}
