//! The parameters of a kind, read from the JSON Schema that schemars writes of its `Params`.

use serde::Serialize;
use serde_json::Value as Json;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// Dotted for a field of a table.
    pub name: String,
    /// Its type in words.
    pub is: String,
    /// Whether the pipeline must give it.
    pub required: bool,
    /// Its default as TOML-like JSON.
    pub default: Option<Json>,
    /// Its documentation.
    pub about: String,
    /// The values of a choice, with what each means.
    pub choices: Vec<(String, String)>,
}

/// Every parameter, by name; the fields of a table under dotted names.
pub(super) fn parameters(schema: &schemars::Schema) -> Vec<Parameter> {
    let mut found = Vec::new();
    let root = schema.as_value();
    Reader { root }.table("", root, None, &mut found);
    // By name, whatever the order of serde_json's maps in this build.
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

/// Reads a JSON Schema as schemars writes it.
struct Reader<'s> {
    root: &'s Json,
}

impl<'s> Reader<'s> {
    /// The fields of an object; those of inner tables under dotted names. A type that holds itself is not followed.
    fn table(&self, prefix: &str, schema: &'s Json, defaults: Option<&Json>, found: &mut Vec<Parameter>) {
        let required: Vec<&str> = list(schema, "required").filter_map(Json::as_str).collect();
        let Some(fields) = schema.get("properties").and_then(Json::as_object) else { return };
        for (name, field) in fields {
            let default = field.get("default").or_else(|| defaults.and_then(|defaults| defaults.get(name)));
            let path = format!("{prefix}{name}");
            let inner = self.follow(field);
            found.push(Parameter {
                is: self.is(field, 0),
                required: required.contains(&name.as_str()) && prefix.is_empty(),
                default: default.cloned(),
                about: text(field, "description").or_else(|| text(inner, "description")).unwrap_or_default(),
                choices: self.choices(inner),
                name: path.clone(),
            });
            if inner.get("properties").is_some() && path.matches('.').count() < 4 {
                self.table(&format!("{path}."), inner, default, found);
            }
        }
    }

    /// What a `$ref`, or the one real alternative beside `null`, stands for.
    fn follow(&self, schema: &'s Json) -> &'s Json {
        let mut schema = schema;
        for _ in 0..8 {
            let reference = schema.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix('#'));
            let next = match reference {
                Some(path) => self.root.pointer(path),
                None => only(list(schema, "anyOf").filter(|one| one.get("type") != Some(&Json::from("null"))))
                    .or_else(|| only(list(schema, "allOf"))),
            };
            let Some(next) = next else { return schema };
            schema = next;
        }
        schema
    }

    fn is(&self, schema: &'s Json, depth: usize) -> String {
        let inner = self.follow(schema);
        if depth > 4 {
            return "a value".into();
        }
        if !self.choices(inner).is_empty() {
            return "choice".into();
        }
        let types: Vec<&str> = match inner.get("type") {
            Some(Json::String(one)) => vec![one],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        };
        match types.iter().find(|one| **one != "null") {
            Some(&"array") => {
                let items = inner.get("items").map(|items| self.is(items, depth + 1));
                format!("list of {}", items.unwrap_or_else(|| "values".into()))
            }
            Some(&"object") => "table".into(),
            Some(&"integer") if inner.get("minimum").and_then(Json::as_f64) == Some(0.0) => {
                "whole number from 0".into()
            }
            Some(&"integer") => "whole number".into(),
            Some(&"number") => "number".into(),
            Some(&"string") => "text".into(),
            Some(&"boolean") => "true or false".into(),
            _ => "a value".into(),
        }
    }

    /// The values of an enum of plain names, documented or not.
    fn choices(&self, schema: &'s Json) -> Vec<(String, String)> {
        let mut choices: Vec<(String, String)> =
            list(schema, "enum").filter_map(|value| Some((value.as_str()?.to_string(), String::new()))).collect();
        for one in list(schema, "oneOf") {
            let about = text(one, "description").unwrap_or_default();
            choices.extend(one.get("const").and_then(Json::as_str).map(|value| (value.to_string(), about.clone())));
            choices.extend(list(one, "enum").filter_map(Json::as_str).map(|value| (value.to_string(), about.clone())));
        }
        choices
    }
}

fn list<'s>(schema: &'s Json, name: &str) -> impl Iterator<Item = &'s Json> {
    schema.get(name).and_then(Json::as_array).into_iter().flatten()
}

fn only<'s>(mut all: impl Iterator<Item = &'s Json>) -> Option<&'s Json> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// A documentation text with its lines joined.
fn text(schema: &Json, name: &str) -> Option<String> {
    let text = schema.get(name)?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<&str>>().join(" "))
}
