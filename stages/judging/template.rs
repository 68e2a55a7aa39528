//! From rows to the very text a model is given. Never tokenises, never parses what the model answers (`verdict.rs`).
//!
//! The miniature's grammar, every token apart by one blank: a judge reads `<bos> TASK <A> ANSWER <B> ANSWER <judge>`
//! and writes a judgment; a policy reads `<bos> TASK <resp>` and writes an answer. Training adds the end token.

use std::fmt::Write as _;

use plumb_engine::stage::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chat;
use crate::rows::{Message, Origin, Pair, Side, Task};

/// How judgments are asked for and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// Criteria, dialogue and two answers in prose; the verdict is `\boxed{A}` or `\boxed{B}`.
    #[default]
    Boxed,
    /// The miniature's token grammar; the verdict is `[A]` or `[B]`.
    Miniature,
}

impl Template {
    /// How a judgment of this template states its verdict.
    #[must_use]
    pub fn verdict_text(self, side: Side) -> String {
        match self {
            Self::Boxed => format!("\\boxed{{{side}}}"),
            Self::Miniature => format!("[{side}]"),
        }
    }
}

// Short on purpose: a small model's window has to hold it beside two answers.
const INSTRUCTIONS: &str = "You compare two answers to one request. Prefer the answer that does what was asked; then \
the one that is correct; then the one that is complete and clear. Length, politeness and layout earn nothing by \
themselves. Give your reasons in one to three sentences, then finish with \\boxed{A} or \\boxed{B}. There are no ties.";

const QUESTION: &str = "Which answer is better? Reasons first, then \\boxed{A} or \\boxed{B}.";

/// The text a judge is given for a pair, special tokens included: tokenise it without adding any.
/// `chat` is the model's chat template (its tokens bound by [`chat::bind`]); without one the text is plain.
pub fn judge_prompt(template: Template, pair: &Pair, chat: Option<&str>) -> Result<String, StageError> {
    let (last, earlier) = turns(pair)?;
    if template == Template::Miniature {
        return Ok(format!("<bos> {} <A> {} <B> {} <judge>", last.content, pair.response_a, pair.response_b));
    }
    let comparison = comparison(earlier, last, &pair.response_a, &pair.response_b);
    let Some(chat) = chat else { return Ok(format!("{INSTRUCTIONS}\n\n{comparison}\n\n[Judgment]\n")) };
    chat::render(chat, &instructed(comparison))
}

/// The same as messages, for a judge that has its own way to show them.
pub fn judge_messages(pair: &Pair) -> Result<Vec<Message>, StageError> {
    let (last, earlier) = turns(pair)?;
    Ok(instructed(comparison(earlier, last, &pair.response_a, &pair.response_b)).to_vec())
}

fn turns(pair: &Pair) -> Result<(&Message, &[Message]), StageError> {
    let missing = || StageError::new(format!("pair `{}` has no dialogue", pair.id));
    pair.conversations.split_last().ok_or_else(missing)
}

fn instructed(comparison: String) -> [Message; 2] {
    [
        Message { role: "system".into(), content: INSTRUCTIONS.into() },
        Message { role: "user".into(), content: comparison },
    ]
}

fn comparison(earlier: &[Message], last: &Message, a: &str, b: &str) -> String {
    let mut text = String::new();
    if !earlier.is_empty() {
        text.push_str("[Dialogue so far]\n");
        text.push_str(&plain_dialogue(earlier));
        text.push('\n');
    }
    let _ = write!(text, "[Request]\n{}\n\n[Answer A]\n{a}\n\n[Answer B]\n{b}\n\n{QUESTION}", last.content);
    text
}

fn plain_dialogue(messages: &[Message]) -> String {
    messages.iter().map(|message| format!("{}: {}\n", message.role, message.content)).collect()
}

/// The text a policy is given for a task, special tokens included.
pub fn task_prompt(template: Template, task: &Task, chat: Option<&str>) -> Result<String, StageError> {
    let missing = || StageError::new(format!("task `{}` has no dialogue", task.id));
    dialogue_prompt(template, &task.conversations, chat, missing)
}

/// The text a policy is given for the dialogue of a pair: what either answer continues.
pub fn answer_prompt(template: Template, pair: &Pair, chat: Option<&str>) -> Result<String, StageError> {
    let missing = || StageError::new(format!("pair `{}` has no dialogue", pair.id));
    dialogue_prompt(template, &pair.conversations, chat, missing)
}

fn dialogue_prompt(
    template: Template,
    dialogue: &[Message],
    chat: Option<&str>,
    missing: impl Fn() -> StageError,
) -> Result<String, StageError> {
    let last = dialogue.last().ok_or_else(missing)?;
    match (template, chat) {
        (Template::Miniature, _) => Ok(format!("<bos> {} <resp>", last.content)),
        (Template::Boxed, Some(chat)) => chat::render(chat, dialogue),
        (Template::Boxed, None) => Ok(format!("{}assistant:", plain_dialogue(dialogue))),
    }
}

/// A pair that sets an answer (on `side`) against the task's reference. The label is a placeholder: nobody knows it.
pub fn against_reference(task: &Task, answer: &str, side: Side) -> Result<Pair, StageError> {
    let missing = || {
        StageError::new(format!("task `{}` has no reference answer to compare with", task.id))
            .hint("give the stage tasks with a `reference`, as `data.tasks` makes them from pairs")
    };
    let reference = task.reference.clone().ok_or_else(missing)?;
    let (response_a, response_b) = match side {
        Side::A => (answer.to_string(), reference),
        Side::B => (reference, answer.to_string()),
    };
    Ok(Pair {
        id: task.id.clone(),
        conversations: task.conversations.clone(),
        response_a,
        response_b,
        gt_label: Side::A,
        gt_judgment: None,
        source: Origin { dataset: String::new(), subset: task.domain.clone() },
        prompt_id: task.id.clone(),
        swapped: false,
        cue: None,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn turns(texts: &[&str]) -> Vec<Message> {
        let roles = ["user", "assistant"];
        let turn = |(index, text): (usize, &&str)| Message { role: roles[index % 2].into(), content: (*text).into() };
        texts.iter().enumerate().map(turn).collect()
    }

    fn task(texts: &[&str], reference: Option<&str>) -> Task {
        Task {
            id: "t".into(),
            domain: "d".into(),
            conversations: turns(texts),
            reference: reference.map(Into::into),
            checker: None,
            target: serde_json::Value::Null,
        }
    }

    const CHAT: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";

    #[test]
    fn the_miniature_speaks_in_tokens() {
        let pair = against_reference(&task(&["max 4 3"], Some("ans 3")), "sure ! ans 4", Side::B).expect("a reference");
        let prompt = judge_prompt(Template::Miniature, &pair, Some(CHAT)).expect("a prompt");
        expect!["<bos> max 4 3 <A> ans 3 <B> sure ! ans 4 <judge>"].assert_eq(&prompt);
        let prompt = task_prompt(Template::Miniature, &task(&["max 4 3"], None), None).expect("a prompt");
        expect!["<bos> max 4 3 <resp>"].assert_eq(&prompt);
    }

    #[test]
    fn a_boxed_prompt_shows_context_request_and_answers() {
        let pair = against_reference(&task(&["hi", "hello", "2+2?"], Some("5")), "4", Side::A).expect("a reference");
        let prompt = judge_prompt(Template::Boxed, &pair, Some(CHAT)).expect("a prompt");
        expect![[r#"
            <system>You compare two answers to one request. Prefer the answer that does what was asked; then the one that is correct; then the one that is complete and clear. Length, politeness and layout earn nothing by themselves. Give your reasons in one to three sentences, then finish with \boxed{A} or \boxed{B}. There are no ties.<user>[Dialogue so far]
            user: hi
            assistant: hello

            [Request]
            2+2?

            [Answer A]
            4

            [Answer B]
            5

            Which answer is better? Reasons first, then \boxed{A} or \boxed{B}.<assistant>"#]]
        .assert_eq(&prompt);
    }

    #[test]
    fn a_model_without_a_chat_template_gets_plain_text() {
        let prompt = task_prompt(Template::Boxed, &task(&["hi"], None), None).expect("a prompt");
        expect![[r#"
            user: hi
            assistant:"#]]
        .assert_eq(&prompt);
        let pair = against_reference(&task(&["hi"], Some("yo")), "hello", Side::A).expect("a reference");
        let prompt = judge_prompt(Template::Boxed, &pair, None).expect("a prompt");
        assert!(prompt.ends_with("\\boxed{B}.\n\n[Judgment]\n"), "{prompt}");
    }

    #[test]
    fn a_task_without_a_reference_is_told_by_its_name() {
        let error = against_reference(&task(&["hi"], None), "hello", Side::A).expect_err("no reference");
        assert_eq!(error.message, "task `t` has no reference answer to compare with");
    }
}
