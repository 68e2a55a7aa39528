//! Hugging Face chat templates (Jinja text from a tokenizer's configuration) turned into the text a model is given, as
//! transformers' `apply_chat_template` does: the same settings, functions and filters.
//!
//! Never reads a clock, for a text that changed overnight would be a stale hit: `strftime_now` tells [`DATE`], whatever
//! the day. It is the date that Llama's templates fall back to where there is no clock. Templates are programs of
//! strangers: one that does not end is stopped, one that raises an exception is an error in its own words.

mod date;
mod json;
mod python;

use std::fs;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, context};
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

/// What templates take for today: 26 July 2024, midnight.
pub const DATE: date::Date = date::Date { year: 2024, month: 7, day: 26 };

// Instructions, and 64 bytes of text each: a long dialogue takes some ten thousand.
const FUEL: u64 = 10_000_000;

/// The text of a dialogue, ending where the assistant's next turn begins.
pub fn render(template: &str, messages: &[Message]) -> Result<String, StageError> {
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

// Its own words where the template raised them; what a template lacks is told with the line.
fn told(error: Error) -> StageError {
    match error.kind() {
        ErrorKind::OutOfFuel => StageError::new(format!("the model's chat template did not end within {FUEL} steps"))
            .hint("look for a loop in `chat_template` of the model's tokenizer_config.json or in chat_template.jinja"),
        _ => StageError::new(format!("the model's chat template: {error}")),
    }
}

// transformers compiles templates with these very settings.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| DATE.strftime(&format));
    environment.add_filter("tojson", json::to_json);
    environment.set_unknown_method_callback(python::method);
    environment.set_fuel(Some(FUEL));
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
    fn today_is_always_the_same_day() {
        let template = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}no clock{% endif %}";
        check(template, &[], expect!["26 Jul 2024"]);
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x\
                      {% endfor %}{% endfor %}{% endfor %}";
        check(nested, &[], expect!["error: the model's chat template did not end within 10000000 steps"]);
        let calling = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
        let error = render(calling, &[]).expect_err("does not end").to_string();
        assert!(error.contains("recursion limit"), "{error}");
    }

    #[test]
    fn what_a_dialogue_has_none_of_is_undefined() {
        let template = "{% if tools is defined or documents is defined or custom_tools %}x{% else %}none{% endif %}";
        check(template, &[], expect!["none"]);
    }

    #[test]
    fn marks_of_trainable_text_render_nothing() {
        check("{%- generation -%}x{%- endgeneration -%}", &[], expect!["x"]);
    }
}
