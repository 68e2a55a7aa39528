//! The canonical typed value that keys are made of, and its one writer. Never serde_json's map order, which a
//! feature flag anywhere in the build can flip: names are sorted, floats are the shortest that round-trip,
//! -0.0 is 0.0, and what cannot be canonicalised is an error.

use std::collections::BTreeMap;

use serde::Serialize;

/// A typed value without an order of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: an `Option` that is `None`.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A finite number of a float-typed field.
    Float(f64),
    /// Text.
    Text(String),
    /// An ordered list.
    List(Vec<Value>),
    /// A map, sorted by name.
    Map(BTreeMap<String, Value>),
}

/// What cannot be canonicalised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CanonicalError(pub String);

/// The canonical value of anything that serde can serialise.
pub fn to_value<T: Serialize + ?Sized>(_value: &T) -> Result<Value, CanonicalError> {
    Err(CanonicalError("not written yet".into()))
}
