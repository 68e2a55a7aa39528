//! The canonical typed value that keys are made of, and its one writer. Never serde_json's map order, which a
//! feature flag anywhere in the build can flip: names are sorted, floats are the shortest that round-trip,
//! -0.0 is 0.0, and what cannot be canonicalised is an error.
//!
//! The text is also valid JSON, so that people can read a stored document. A number with a `.` or an exponent is
//! a float, any other is whole: `1` and `1.0` are different values and different texts.

mod diff;
mod reader;
mod serializer;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

pub use diff::{Difference, member};

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
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, CanonicalError> {
    value.serialize(serializer::ValueSerializer)
}

impl Value {
    /// The canonical text: two values have the same text exactly when they are equal.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    /// Appends the canonical text.
    pub fn write(&self, text: &mut String) {
        match self {
            Value::Null => text.push_str("null"),
            Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => write_shown(text, value),
            Value::Float(value) => write_float(text, *value),
            Value::Text(value) => write_text(text, value),
            Value::List(values) => write_list(text, values, |text, value| value.write(text)),
            Value::Map(entries) => {
                write_map(text, entries.iter().map(|(name, value)| (name.as_str(), value)), |text, value| {
                    value.write(text);
                });
            }
        }
    }

    /// Reads canonical text (or any JSON without repeated names) back.
    pub fn parse(text: &str) -> Result<Value, CanonicalError> {
        reader::read(text)
    }

    /// The same value for serde_json. A whole number beyond 64 bits becomes text there.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => serde_json::Number::from_i128(*value)
                .map_or_else(|| serde_json::Value::String(value.to_string()), serde_json::Value::Number),
            Value::Float(value) => (*value + 0.0).into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(values) => values.iter().map(Value::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
        }
    }

    /// The fields in which two values differ, in the order of their names.
    pub fn diff(before: &Value, now: &Value) -> Vec<Difference> {
        diff::diff(before, now)
    }
}

fn write_shown(text: &mut String, shown: &dyn std::fmt::Display) {
    write!(text, "{shown}").expect("writing to a String cannot fail");
}

/// `{:?}` of a float is the shortest text that reads back to the same bits, and always has a `.` or an exponent.
/// Adding 0.0 turns -0.0 into 0.0.
fn write_float(text: &mut String, value: f64) {
    write!(text, "{:?}", value + 0.0).expect("writing to a String cannot fail");
}

/// Appends text in quotes. What needs no escape is copied in one piece.
pub(crate) fn write_text(text: &mut String, value: &str) {
    text.push('"');
    let mut copied = 0;
    for (at, byte) in value.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        text.push_str(&value[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            _ => write_shown(text, &format_args!("\\u{byte:04x}")),
        }
    }
    text.push_str(&value[copied..]);
    text.push('"');
}

/// Appends a list.
pub(crate) fn write_list<T>(
    text: &mut String,
    values: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    text.push('[');
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, value);
    }
    text.push(']');
}

/// Appends a map whose entries come sorted by name.
pub(crate) fn write_map<'n, T>(
    text: &mut String,
    entries: impl IntoIterator<Item = (&'n str, T)>,
    mut write: impl FnMut(&mut String, T),
) {
    text.push('{');
    for (index, (name, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_text(text, name);
        text.push(':');
        write(text, value);
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    enum Shape {
        Point,
        Circle(f64),
        Box { width: u8 },
        Line(i8, i8),
    }

    #[derive(Serialize)]
    struct Everything {
        zulu: Option<u8>,
        alpha: Vec<Shape>,
        text: &'static str,
        small: f32,
        minus_zero: f64,
        whole_float: f64,
        large: f64,
        tiny: f64,
        most: u64,
        least: i64,
        letter: char,
        pair: (bool, ()),
        by_number: BTreeMap<i32, &'static str>,
    }

    fn everything() -> Everything {
        Everything {
            zulu: None,
            alpha: vec![Shape::Point, Shape::Circle(0.1), Shape::Box { width: 3 }, Shape::Line(-1, 1)],
            text: "a \"quoted\" \\ line\n\ttab \u{1} é 漢",
            small: 0.1,
            minus_zero: -0.0,
            whole_float: 1.0,
            large: 1e300,
            tiny: 5e-324,
            most: u64::MAX,
            least: i64::MIN,
            letter: 'x',
            pair: (true, ()),
            by_number: BTreeMap::from([(-2, "b"), (10, "a")]),
        }
    }

    #[test]
    fn the_canonical_bytes_of_every_type_stay_as_they_are() {
        let text = to_value(&everything()).unwrap().canonical();
        expect![[r#"{"alpha":["Point",{"Circle":0.1},{"Box":{"width":3}},{"Line":[-1,1]}],"by_number":{"-2":"b","10":"a"},"large":1e300,"least":-9223372036854775808,"letter":"x","minus_zero":0.0,"most":18446744073709551615,"pair":[true,null],"small":0.1,"text":"a \"quoted\" \\ line\n\ttab \u0001 é 漢","tiny":5e-324,"whole_float":1.0,"zulu":null}"#]]
        .assert_eq(&text);
    }

    #[test]
    fn json_keeps_every_value() {
        let value = to_value(&everything()).unwrap();
        assert_eq!(Value::parse(&value.to_json().to_string()).unwrap(), value);
    }

    #[test]
    fn what_cannot_be_canonicalised_is_an_error() {
        let refused = [
            to_value(&f64::NAN),
            to_value(&f32::INFINITY),
            to_value(&[1.0, f64::NEG_INFINITY]),
            to_value(&u128::MAX),
            to_value(&Some(Option::<u8>::None)),
            to_value(&BTreeMap::from([((1, 2), 3)])),
        ];
        let told: Vec<String> = refused.into_iter().map(|result| result.unwrap_err().to_string()).collect();
        expect![[r#"
            NaN is not a number that a key can hold
            inf is not a number that a key can hold
            -inf is not a number that a key can hold
            340282366920938463463374607431768211455 is too large for a key
            `Some` of nothing cannot be told from `None`
            the names of a map must be text, whole numbers or booleans"#]]
        .assert_eq(&told.join("\n"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let finite = any::<f64>().prop_filter("finite", |value| value.is_finite());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i128>().prop_map(Value::Int),
            (-3..3_i128).prop_map(Value::Int),
            finite.prop_map(Value::Float),
            (-3..3_i8).prop_map(|whole| Value::Float(f64::from(whole))),
            any::<String>().prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_reads_back_from_its_text(value in any_value()) {
            prop_assert_eq!(Value::parse(&value.canonical()).unwrap(), value);
        }

        #[test]
        fn texts_are_equal_exactly_when_values_are(left in any_value(), right in any_value()) {
            prop_assert_eq!(left.canonical() == right.canonical(), left == right);
            prop_assert_eq!(Value::diff(&left, &right).is_empty(), left == right);
        }

        #[test]
        fn the_order_in_which_a_map_was_filled_does_not_show(
            entries in prop::collection::vec(("[a-z]{1,3}", any_value()), 0..6),
        ) {
            let forward: BTreeMap<_, _> = entries.iter().cloned().rev().collect();
            let distinct: Vec<_> = forward.clone().into_iter().rev().collect();
            let backward: BTreeMap<_, _> = distinct.into_iter().collect();
            prop_assert_eq!(Value::Map(forward).canonical(), Value::Map(backward).canonical());
        }
    }
}
