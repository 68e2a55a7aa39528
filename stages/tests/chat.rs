//! Chat templates against what transformers' `apply_chat_template` wrote of the same dialogues (make_chat.py), byte for
//! byte: the committed ones always; with `PLUMB_CHAT_TEMPLATES`, a folder of tokenizers' folders, and
//! `PLUMB_REAL_PYTHON`, a Python with transformers, whatever lies there too.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic or a line on stderr is the report")]

use std::path::Path;
use std::process::Command;

use plumb_stages::chat::{bind, render};
use plumb_stages::rows::Message;
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    template: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    text: Option<String>,
    error: Option<String>,
}

/// Compares each file of the folder; returns how many dialogues there were.
fn compare(folder: &Path) -> usize {
    let mut compared = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recorded: Recorded = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let token = |token: &Option<String>| token.clone().unwrap_or_default();
        let template = bind(&recorded.template, &token(&recorded.bos_token), &token(&recorded.eos_token));
        for (number, case) in recorded.cases.iter().enumerate() {
            let place = format!("{}, dialogue {number}", path.display());
            match (render(&template, &case.messages), &case.text, &case.error) {
                (Ok(text), Some(expected), _) => assert_eq!(text, *expected, "{place}"),
                (Err(error), None, Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{place}: {error}, expected {expected}");
                }
                (found, text, error) => panic!("{place}: {found:?}, expected {text:?} {error:?}"),
            }
            compared += 1;
        }
    }
    compared
}

#[test]
fn templates_write_what_transformers_writes() {
    assert_eq!(compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chat")), 28);
}

#[test]
fn templates_at_hand_write_what_transformers_writes() {
    let (Some(folder), Ok(python)) = (std::env::var_os("PLUMB_CHAT_TEMPLATES"), std::env::var("PLUMB_REAL_PYTHON"))
    else {
        eprintln!("skipped: PLUMB_CHAT_TEMPLATES names no folder of tokenizers, or PLUMB_REAL_PYTHON no Python");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/make_chat.py");
    assert!(Command::new(python).arg(script).arg(folder).arg(out.path()).status().unwrap().success());
    let compared = compare(out.path());
    assert!(compared > 0, "PLUMB_CHAT_TEMPLATES has no tokenizer");
    eprintln!("{compared} dialogues are the same");
}
