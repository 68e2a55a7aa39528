//! Reads canonical text back. A reader of its own, because serde_json turns a large whole number into a float and
//! keeps the last of two equal names without a word: here both are errors. Never panics, whatever the text.

use std::collections::BTreeMap;

use super::{CanonicalError, Value};

/// Deeper text than any document of ours: refused, so that a damaged file cannot exhaust the stack.
const DEEPEST: usize = 200;

/// The value of a whole text.
pub fn read(text: &str) -> Result<Value, CanonicalError> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.error("expected the end of the text"));
    }
    Ok(value)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self, what: &str) -> CanonicalError {
        CanonicalError(format!("canonical text, byte {}: {what}", self.at))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\n', '\r', '\t']).len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        if depth > DEEPEST {
            return Err(self.error("nested too deeply"));
        }
        self.skip_space();
        match self.rest().as_bytes().first().copied() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take("null") => Ok(Value::Null),
            _ if self.take("true") => Ok(Value::Bool(true)),
            _ if self.take("false") => Ok(Value::Bool(false)),
            _ => Err(self.error("expected a value")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        self.take("[");
        let mut values = Vec::new();
        self.skip_space();
        if self.take("]") {
            return Ok(Value::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.closes("]")? {
                return Ok(Value::List(values));
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        self.take("{");
        let mut entries = BTreeMap::new();
        self.skip_space();
        if self.take("}") {
            return Ok(Value::Map(entries));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            if !self.take(":") {
                return Err(self.error("expected `:`"));
            }
            let value = self.value(depth + 1)?;
            if entries.insert(name.clone(), value).is_some() {
                return Err(self.error(&format!("the name `{name}` is given twice")));
            }
            if self.closes("}")? {
                return Ok(Value::Map(entries));
            }
        }
    }

    /// After a member: whether the container ends, or another member follows.
    fn closes(&mut self, end: &str) -> Result<bool, CanonicalError> {
        self.skip_space();
        if self.take(end) {
            return Ok(true);
        }
        if self.take(",") { Ok(false) } else { Err(self.error(&format!("expected `,` or `{end}`"))) }
    }

    fn number(&mut self) -> Result<Value, CanonicalError> {
        let length = self.rest().find(|letter: char| !"+-.0123456789eE".contains(letter)).unwrap_or(self.rest().len());
        let digits = &self.rest()[..length];
        let value = if digits.contains(['.', 'e', 'E']) {
            digits.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Float)
        } else {
            digits.parse().ok().map(Value::Int)
        };
        let value = value.ok_or_else(|| self.error(&format!("`{digits}` is no number that a key can hold")))?;
        self.at += length;
        Ok(value)
    }

    fn string(&mut self) -> Result<String, CanonicalError> {
        if !self.take("\"") {
            return Err(self.error("expected a text in double quotes"));
        }
        let mut value = String::new();
        loop {
            let plain = self.rest().find(['"', '\\']).ok_or_else(|| self.error("the text has no closing quote"))?;
            value.push_str(&self.rest()[..plain]);
            self.at += plain;
            if self.take("\"") {
                return Ok(value);
            }
            value.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char, CanonicalError> {
        self.take("\\");
        let letter = self.rest().chars().next().ok_or_else(|| self.error("the text ends in an escape"))?;
        self.at += letter.len_utf8();
        Ok(match letter {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\\' | '/' => letter,
            'u' => return self.unicode(),
            _ => return Err(self.error(&format!("`\\{letter}` is no escape"))),
        })
    }

    /// Four hexadecimal digits; two such escapes where the first is half of a surrogate pair.
    fn unicode(&mut self) -> Result<char, CanonicalError> {
        let first = self.four_digits()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.take("\\u") {
            let second = self.four_digits()?;
            0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error("half of a surrogate pair"))
    }

    fn four_digits(&mut self) -> Result<u32, CanonicalError> {
        let code = self.rest().get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code = code.ok_or_else(|| self.error("expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_of_other_writers_reads_too() {
        let read = read(" { \"a\" : [ 1 , 2.5e0, \"\\u00e9\\ud83d\\ude00\\/\" ] ,\n\"b\":{}, \"c\":[] } ").unwrap();
        expect![[r#"{"a":[1,2.5,"é😀/"],"b":{},"c":[]}"#]].assert_eq(&read.canonical());
    }

    #[test]
    fn damaged_texts_are_refused_with_the_place() {
        let deep = "[".repeat(100_000);
        let damaged = ["", "{\"a\":1,\"a\":1}", "[1,]", "\"x", "1e999", "1 2", "\"\\ud800\"", "NaN", "01x", &deep];
        let told: Vec<String> = damaged.iter().map(|text| read(text).unwrap_err().to_string()).collect();
        expect![[r#"
            canonical text, byte 0: expected a value
            canonical text, byte 12: the name `a` is given twice
            canonical text, byte 3: expected a value
            canonical text, byte 1: the text has no closing quote
            canonical text, byte 0: `1e999` is no number that a key can hold
            canonical text, byte 2: expected the end of the text
            canonical text, byte 7: half of a surrogate pair
            canonical text, byte 0: expected a value
            canonical text, byte 2: expected the end of the text
            canonical text, byte 201: nested too deeply"#]]
        .assert_eq(&told.join("\n"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\[\\]{}\",:\\\\u0-9a-fé. -]{0,40}") {
            let _ = read(&text);
        }
    }
}
