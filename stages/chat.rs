//! Hugging Face chat templates (Jinja text from a tokenizer's configuration) turned into the text a model is given.
//! Never reads a clock: `strftime_now` is not defined, so templates fall back to the date they carry.

use std::fs;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, context};
use plumb_engine::stage::StageError;

use crate::rows::Message;

/// The template with its model's special tokens bound, so that one text carries all that rendering needs.
/// Loaders of models call this once; an absent token is the empty string, as in transformers.
#[must_use]
pub fn bind(template: &str, bos_token: &str, eos_token: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "{{%- set bos_token = {} -%}}{{%- set eos_token = {} -%}}{{{{- '' -}}}}\n{template}",
        quoted(bos_token),
        quoted(eos_token)
    )
}

/// The template of an HF model folder with its tokens bound; `None` where the model has none.
pub fn of_model(folder: &Path) -> Result<Option<String>, StageError> {
    let text = |name: &str| {
        let path = folder.join(name);
        let read = || fs::read_to_string(&path).map_err(|error| StageError::file("read", &path, &error));
        path.exists().then(read).transpose()
    };
    let settings = match text("tokenizer_config.json")? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| StageError::file("read", &folder.join("tokenizer_config.json"), &error))?,
        None => serde_json::Value::Null,
    };
    let template = match text("chat_template.jinja")? {
        Some(template) => Some(template),
        None => default_template(&settings["chat_template"]),
    };
    Ok(template.map(|template| bind(&template, &token(&settings["bos_token"]), &token(&settings["eos_token"]))))
}

// One text, or a list of named ones.
fn default_template(value: &serde_json::Value) -> Option<String> {
    let named = || {
        let list = value.as_array()?;
        list.iter().find(|entry| entry["name"] == "default").or(list.first())?["template"].as_str()
    };
    value.as_str().or_else(named).map(str::to_string)
}

// A text, or a table whose `content` is the text.
fn token(value: &serde_json::Value) -> String {
    value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_string()
}

/// The text of a dialogue, ending where the assistant's next turn begins.
pub fn render(template: &str, messages: &[Message]) -> Result<String, StageError> {
    let told = |error: Error| StageError::new(format!("the model's chat template: {error}"));
    let turns: Vec<Value> = messages
        .iter()
        .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
        .collect();
    let source = without_generation_marks(template);
    let environment = environment().map_err(told)?;
    environment
        .render_named_str("chat_template", &source, context! { messages => turns, add_generation_prompt => true })
        .map_err(told)
}

// transformers compiles templates with these very settings.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", |value: Value| to_json(&value));
    environment.set_unknown_method_callback(python_method);
    Ok(environment)
}

// `{% generation %}` marks what transformers may train on; it renders nothing.
fn without_generation_marks(template: &str) -> String {
    let mut text = template.to_string();
    for (open, close) in [("{%-", "-%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%", "%}")] {
        text = text.replace(&format!("{open} generation {close}"), &format!("{open} if true {close}"));
        text = text.replace(&format!("{open} endgeneration {close}"), &format!("{open} endif {close}"));
    }
    text
}

// Unlike Jinja's own filter, transformers' does not escape `<`, `>` and `&`, and separates as Python does.
fn to_json(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => "null".to_string(),
        ValueKind::String => serde_json::Value::from(value.as_str().unwrap_or_default()).to_string(),
        ValueKind::Bool | ValueKind::Number => value.to_string(),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Result<Vec<_>, _> = value.try_iter()?.map(|item| to_json(&item)).collect();
            format!("[{}]", items?.join(", "))
        }
        ValueKind::Map => {
            let pair = |key: Value| Ok(format!("{}: {}", to_json(&key)?, to_json(&value.get_item(&key)?)?));
            let pairs: Result<Vec<_>, Error> = value.try_iter()?.map(pair).collect();
            format!("{{{}}}", pairs?.join(", "))
        }
        other => return Err(Error::new(ErrorKind::InvalidOperation, format!("{other} has no JSON form"))),
    })
}

// Methods of Python's str and dict that published templates call.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return string_method(text, method, args);
    }
    match (value.kind(), method) {
        (ValueKind::Map, "items") => state.apply_filter("items", std::slice::from_ref(value)),
        (ValueKind::Map, "keys") => Ok(value.try_iter()?.collect()),
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
        "startswith" => Value::from(text.starts_with(one_text(args)?.as_str())),
        "endswith" => Value::from(text.ends_with(one_text(args)?.as_str())),
        "strip" | "lstrip" | "rstrip" => Value::from(stripped(text, method, args)?),
        "split" => split(text, args)?,
        "replace" => {
            let (from, to): (String, String) = from_args(args)?;
            Value::from(text.replace(&from, &to))
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn one_text(args: &[Value]) -> Result<String, Error> {
    from_args::<(String,)>(args).map(|(text,)| text)
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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    fn check(template: &str, messages: &[Message], expected: Expect) {
        let told = render(template, messages).unwrap_or_else(|error| format!("error: {error}"));
        expected.assert_eq(&told);
    }

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn a_chatml_template_adds_its_own_system_turn() {
        check(
            CHATML,
            &[message("user", "hi <there>")],
            expect![[r#"
                <|im_start|>system
                You help.<|im_end|>
                <|im_start|>user
                hi <there><|im_end|>
                <|im_start|>assistant
            "#]],
        );
    }

    #[test]
    fn bound_tokens_appear_and_add_no_blank() {
        let template = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content.strip() }} [/INST]{% endfor %}";
        check(&bind(template, "<s>", "</s>"), &[message("user", " hi ")], expect!["<s>[INST] hi [/INST]"]);
        let indented = "  {{- bos_token }}{{ eos_token }}";
        check(&bind(indented, "<\"s'>", ""), &[], expect![[r#"<"s'>"#]]);
    }

    #[test]
    fn a_model_folder_gives_its_template_in_each_published_form() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(of_model(folder.path()).expect("readable"), None);
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        let rendered =
            || of_model(folder.path()).expect("readable").map(|template| render(&template, &[]).expect("a text"));
        let named = r#"{"bos_token": {"content": "<s>"}, "chat_template": [{"name": "default", "template": "{{ bos_token }}1"}]}"#;
        write("tokenizer_config.json", named);
        assert_eq!(rendered().as_deref(), Some("<s>1"));
        write("tokenizer_config.json", r#"{"eos_token": "</s>", "chat_template": "{{ bos_token }}{{ eos_token }}2"}"#);
        assert_eq!(rendered().as_deref(), Some("</s>2"));
        write("chat_template.jinja", "3");
        assert_eq!(rendered().as_deref(), Some("3"));
    }

    #[test]
    fn block_lines_leave_no_trace() {
        let template = "{% for m in messages %}\n    {% if m.role == 'user' %}\nU: {{ m.content }}\n    {% endif %}\n{% endfor %}\n";
        check(
            template,
            &[message("user", "a"), message("user", "b")],
            expect![[r#"
            U: a
            U: b
        "#]],
        );
    }

    #[test]
    fn a_template_refuses_with_its_own_words() {
        check(
            "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
            &[message("system", "x")],
            expect![
                "error: the model's chat template: invalid operation: System role not supported (in chat_template:1)"
            ],
        );
    }

    #[test]
    fn python_methods_and_loop_controls_work() {
        check(
            "{% for m in messages %}{% if m.content.startswith('skip') %}{% continue %}{% endif %}\
             {{ m.content.split('</think>')[-1].lstrip('\\n') }}|{{ m.get('name', 'none') }}|{{ m.content | tojson }};\
             {% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
            &[message("user", "skip"), message("user", "a</think>\n\nb"), message("user", "<c>"), message("user", "d")],
            expect![[r#"b|none|"a</think>\n\nb";<c>|none|"<c>";"#]],
        );
    }

    #[test]
    fn the_clock_is_not_defined_so_templates_use_their_own_date() {
        let template = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}";
        check(template, &[], expect!["26 Jul 2024"]);
    }

    #[test]
    fn marks_of_trainable_text_render_nothing() {
        check("{%- generation -%}x{%- endgeneration -%}", &[], expect!["x"]);
    }
}
