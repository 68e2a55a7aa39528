//! The filter `tojson` of chat templates: Python's `json.dumps`, with its options and blanks. Unlike Jinja's own it does
//! not escape `<`, `>` and `&`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

// How it is written.
struct Style {
    ensure_ascii: bool,
    indent: Option<usize>,
    between: String,
    after_key: String,
    sort_keys: bool,
}

/// The value as `json.dumps(value, ensure_ascii, indent, separators, sort_keys)` writes it.
pub fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (between, after_key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
        Some([between, after_key]) => (between.clone(), after_key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two")),
    };
    let style = Style {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        between,
        after_key,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    style.written(value, 0)
}

impl Style {
    fn written(&self, value: &Value, depth: usize) -> Result<String, Error> {
        Ok(match value.kind() {
            ValueKind::Undefined | ValueKind::None => "null".to_string(),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Bool => if value.is_true() { "true" } else { "false" }.to_string(),
            ValueKind::Number => value.to_string(),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Result<Vec<_>, _> = value.try_iter()?.map(|item| self.written(&item, depth + 1)).collect();
                self.bracketed("[", "]", &items?, depth)
            }
            ValueKind::Map => self.table(value, depth)?,
            other => return Err(Error::new(ErrorKind::InvalidOperation, format!("{other} has no JSON form"))),
        })
    }

    fn table(&self, table: &Value, depth: usize) -> Result<String, Error> {
        let mut keys: Vec<Value> = table.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        let pair = |key: Value| {
            let (name, value) = (self.text(&key.to_string()), self.written(&table.get_item(&key)?, depth + 1)?);
            Ok(format!("{name}{}{value}", self.after_key))
        };
        let pairs: Result<Vec<_>, Error> = keys.into_iter().map(pair).collect();
        Ok(self.bracketed("{", "}", &pairs?, depth))
    }

    fn bracketed(&self, open: &str, close: &str, items: &[String], depth: usize) -> String {
        let Some(indent) = self.indent.filter(|_| !items.is_empty()) else {
            return format!("{open}{}{close}", items.join(&self.between));
        };
        let line = |depth: usize| format!("\n{}", " ".repeat(indent.saturating_mul(depth).min(1024)));
        let between = format!("{}{}", self.between, line(depth + 1));
        format!("{open}{}{}{}{close}", line(depth + 1), items.join(&between), line(depth))
    }

    fn text(&self, text: &str) -> String {
        let written = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            return written;
        }
        let mut units = [0; 2];
        let escaped = |letter: char| match letter.is_ascii() {
            true => letter.to_string(),
            false => letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        written.chars().map(escaped).collect()
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    // Expected as Python 3.11 prints them.
    fn check(expression: &str, expected: &str) {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::to_json);
        let template = format!("{{{{ {expression} }}}}");
        assert_eq!(environment.render_str(&template, ()).expect("renders"), expected);
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        check(
            "{'b': [1, 2.0, true, none], 'a': '<ä\\n\\u0001>'} | tojson",
            r#"{"b": [1, 2.0, true, null], "a": "<ä\n\u0001>"}"#,
        );
        check("{'b': 1, 'a': {}} | tojson(sort_keys=true)", r#"{"a": {}, "b": 1}"#);
        check("[1, {'a': []}] | tojson(separators=(',', ':'))", r#"[1,{"a":[]}]"#);
        check("['ä😀'] | tojson(ensure_ascii=true)", r#"["\u00e4\ud83d\ude00"]"#);
    }

    #[test]
    fn an_indent_puts_each_item_on_a_line() {
        check("{'a': [1, 2], 'b': []} | tojson(indent=2)", "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": []\n}");
    }
}
