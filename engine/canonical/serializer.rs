//! From anything that serde can serialise to a [`Value`]. What JSON would drop or blur (NaN, infinities, repeated
//! names, `Some` of nothing) is an error here: a value that enters a key is never lost.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::ser::{self, Serialize};

use super::{CanonicalError, Value};

/// Makes a [`Value`].
pub struct ValueSerializer;

impl ser::Error for CanonicalError {
    fn custom<T: Display>(message: T) -> Self {
        CanonicalError(message.to_string())
    }
}

type Done = Result<Value, CanonicalError>;

fn finite(value: f64) -> Done {
    if value.is_finite() {
        return Ok(Value::Float(value));
    }
    Err(CanonicalError(format!("{value} is not a number that a key can hold")))
}

/// The 32-bit float's own shortest text, read as 64 bits: `0.1_f32` is 0.1 and not 0.10000000149011612.
fn widened(value: f32) -> f64 {
    format!("{value:?}").parse().unwrap_or_else(|_| f64::from(value))
}

fn tagged(variant: &str, value: Value) -> Value {
    Value::Map(BTreeMap::from([(variant.to_string(), value)]))
}

macro_rules! whole_numbers {
    ($($serialize:ident: $number:ty),+) => {$(
        fn $serialize(self, value: $number) -> Done {
            Ok(Value::Int(value.into()))
        }
    )+};
}

impl ser::Serializer for ValueSerializer {
    type Ok = Value;
    type Error = CanonicalError;
    type SerializeSeq = Sequence;
    type SerializeTuple = Sequence;
    type SerializeTupleStruct = Sequence;
    type SerializeTupleVariant = Sequence;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    fn serialize_bool(self, value: bool) -> Done {
        Ok(Value::Bool(value))
    }
    whole_numbers! { serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128 }
    whole_numbers! { serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64 }
    fn serialize_u128(self, value: u128) -> Done {
        let whole = i128::try_from(value).map_err(|_| CanonicalError(format!("{value} is too large for a key")))?;
        Ok(Value::Int(whole))
    }
    fn serialize_f32(self, value: f32) -> Done {
        finite(widened(value))
    }
    fn serialize_f64(self, value: f64) -> Done {
        finite(value)
    }
    fn serialize_char(self, value: char) -> Done {
        Ok(Value::Text(value.into()))
    }
    fn serialize_str(self, value: &str) -> Done {
        Ok(Value::Text(value.into()))
    }
    fn serialize_bytes(self, value: &[u8]) -> Done {
        Ok(Value::List(value.iter().map(|byte| Value::Int((*byte).into())).collect()))
    }
    fn serialize_none(self) -> Done {
        Ok(Value::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        match value.serialize(self)? {
            Value::Null => Err(CanonicalError("`Some` of nothing cannot be told from `None`".into())),
            value => Ok(value),
        }
    }
    fn serialize_unit(self) -> Done {
        Ok(Value::Null)
    }
    fn serialize_unit_struct(self, _name: &'static str) -> Done {
        Ok(Value::Null)
    }
    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Done {
        Ok(Value::Text(variant.into()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Done {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        Ok(tagged(variant, value.serialize(self)?))
    }
    fn serialize_seq(self, _length: Option<usize>) -> Result<Sequence, CanonicalError> {
        Ok(Sequence { values: Vec::new(), variant: None })
    }
    fn serialize_tuple(self, _length: usize) -> Result<Sequence, CanonicalError> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Sequence, CanonicalError> {
        self.serialize_seq(None)
    }
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Sequence, CanonicalError> {
        Ok(Sequence { values: Vec::new(), variant: Some(variant) })
    }
    fn serialize_map(self, _length: Option<usize>) -> Result<Entries, CanonicalError> {
        Ok(Entries { entries: BTreeMap::new(), name: None, variant: None })
    }
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Entries, CanonicalError> {
        self.serialize_map(None)
    }
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Entries, CanonicalError> {
        Ok(Entries { entries: BTreeMap::new(), name: None, variant: Some(variant) })
    }
}

/// A list being built.
pub struct Sequence {
    values: Vec<Value>,
    variant: Option<&'static str>,
}

impl Sequence {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        self.values.push(value.serialize(ValueSerializer)?);
        Ok(())
    }

    fn finish(self) -> Done {
        let list = Value::List(self.values);
        Ok(match self.variant {
            Some(variant) => tagged(variant, list),
            None => list,
        })
    }
}

/// Serde's four kinds of list are one to a key.
macro_rules! lists {
    ($($kind:ident: $element:ident),+) => {$(
        impl ser::$kind for Sequence {
            type Ok = Value;
            type Error = CanonicalError;
            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
                self.push(value)
            }
            fn end(self) -> Done {
                self.finish()
            }
        }
    )+};
}

lists! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
}

/// A map being built.
pub struct Entries {
    entries: BTreeMap<String, Value>,
    name: Option<String>,
    variant: Option<&'static str>,
}

impl Entries {
    fn insert<T: Serialize + ?Sized>(&mut self, name: String, value: &T) -> Result<(), CanonicalError> {
        let value = value.serialize(ValueSerializer)?;
        if self.entries.contains_key(&name) {
            return Err(CanonicalError(format!("the name `{name}` is given twice")));
        }
        self.entries.insert(name, value);
        Ok(())
    }

    fn finish(self) -> Value {
        match self.variant {
            Some(variant) => tagged(variant, Value::Map(self.entries)),
            None => Value::Map(self.entries),
        }
    }
}

impl ser::SerializeMap for Entries {
    type Ok = Value;
    type Error = CanonicalError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), CanonicalError> {
        self.name = Some(self::name(name.serialize(ValueSerializer)?)?);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        let name = self.name.take().ok_or_else(|| CanonicalError("a map gave a value before its name".into()))?;
        self.insert(name, value)
    }
    fn end(self) -> Done {
        Ok(self.finish())
    }
}

macro_rules! structs {
    ($($kind:ident),+) => {$(
        impl ser::$kind for Entries {
            type Ok = Value;
            type Error = CanonicalError;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), CanonicalError> {
                self.insert(name.to_string(), value)
            }
            fn end(self) -> Done {
                Ok(self.finish())
            }
        }
    )+};
}

structs! { SerializeStruct, SerializeStructVariant }

/// The name of a map's entry.
fn name(value: Value) -> Result<String, CanonicalError> {
    match value {
        Value::Text(name) => Ok(name),
        Value::Int(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(CanonicalError("the names of a map must be text, whole numbers or booleans".into())),
    }
}
