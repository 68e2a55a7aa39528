//! Methods of Python's str and dict that published chat templates call. Knows no template.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// The method of that name, where there is one.
pub fn method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return string_method(text, method, args);
    }
    match (value.kind(), method) {
        (ValueKind::Map, "items") => state.apply_filter("items", std::slice::from_ref(value)),
        (ValueKind::Map, "keys") => Ok(value.try_iter()?.collect()),
        (ValueKind::Map, "values") => value.try_iter()?.map(|key| value.get_item(&key)).collect(),
        (ValueKind::Map, "get") => {
            let (key, fallback): (Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() { fallback.unwrap_or_else(|| Value::from(())) } else { found })
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "capitalize" => Value::from(capitalized(text)),
        "title" => Value::from(titled(text)),
        "startswith" => Value::from(texts(args)?.iter().any(|start| text.starts_with(start.as_str()))),
        "endswith" => Value::from(texts(args)?.iter().any(|end| text.ends_with(end.as_str()))),
        "removeprefix" => Value::from(text.strip_prefix(one_text(args)?.as_str()).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(one_text(args)?.as_str()).unwrap_or(text)),
        "count" => Value::from(text.matches(one_text(args)?.as_str()).count()),
        "find" => Value::from(found(text, &one_text(args)?)),
        "isdigit" => Value::from(!text.is_empty() && text.chars().all(char::is_numeric)),
        "join" => joined(text, args)?,
        "splitlines" => text.lines().map(Value::from).collect(),
        "rsplit" => rsplit(text, args)?,
        "strip" | "lstrip" | "rstrip" => Value::from(stripped(text, method, args)?),
        "split" => split(text, args)?,
        "replace" => {
            let (from, to, most): (String, String, Option<usize>) = from_args(args)?;
            Value::from(most.map_or_else(|| text.replace(&from, &to), |most| text.replacen(&from, &to, most)))
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn one_text(args: &[Value]) -> Result<String, Error> {
    from_args::<(String,)>(args).map(|(text,)| text)
}

// One text or a tuple of them.
fn texts(args: &[Value]) -> Result<Vec<String>, Error> {
    let (wanted,): (Value,) = from_args(args)?;
    if wanted.as_str().is_some() {
        return one_text(args).map(|text| vec![text]);
    }
    wanted.try_iter()?.map(|text| one_text(&[text])).collect()
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters.as_str().to_lowercase().chars()).collect())
}

fn titled(text: &str) -> String {
    let mut within = false;
    let letter = |letter: char| -> Vec<char> {
        let first = letter.is_alphabetic() && !std::mem::replace(&mut within, letter.is_alphabetic());
        within = letter.is_alphabetic();
        if first { letter.to_uppercase().collect() } else { letter.to_lowercase().collect() }
    };
    text.chars().flat_map(letter).collect()
}

// In letters, as Python counts; -1 where it is not there.
fn found(text: &str, wanted: &str) -> i64 {
    text.find(wanted).map_or(-1, |place| text[..place].chars().count() as i64)
}

fn joined(between: &str, args: &[Value]) -> Result<Value, Error> {
    let (parts,): (Value,) = from_args(args)?;
    let parts = parts.try_iter()?.map(|part| one_text(&[part])).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::from(parts.join(between)))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (String, Option<usize>) = from_args(args)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = text.rsplitn(pieces, separator.as_str()).collect();
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

fn stripped<'a>(text: &'a str, method: &str, args: &[Value]) -> Result<&'a str, Error> {
    let (set,): (Option<String>,) = from_args(args)?;
    let strip = |c: char| set.as_ref().map_or(c.is_whitespace(), |set| set.contains(c));
    Ok(match method {
        "lstrip" => text.trim_start_matches(strip),
        "rstrip" => text.trim_end_matches(strip),
        _ => text.trim_matches(strip),
    })
}

fn split(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<String>, Option<usize>) = from_args(args)?;
    let Some(separator) = separator else { return Ok(text.split_whitespace().map(Value::from).collect()) };
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    Ok(text.splitn(pieces, separator.as_str()).map(Value::from).collect())
}
