//! Each kind on a text that follows it and one that does not; then real responses of real models.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::testing::shared;

fn check(kind: &str, arguments: Value, good: &str, bad: &str) {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    assert_eq!(follows(kind, &arguments, good), Ok(true), "{kind} on {good:?}");
    assert_eq!(follows(kind, &arguments, bad), Ok(false), "{kind} on {bad:?}");
}

#[test]
fn every_kind_tells_good_from_bad() {
    check(
        "change_case:capital_word_frequency",
        json!({"capital_relation": "at least", "capital_frequency": 2}),
        "GO NOW",
        "go NOW",
    );
    check("change_case:english_capital", json!({}), "GO AND STAY WITH THE CAT", "Go");
    check("change_case:english_lowercase", json!({}), "go and stay with the cat", "Go");
    check("combination:repeat_prompt", json!({"prompt_to_repeat": "Say hi. "}), "say hi. Hi!", "Hi! Say hi.");
    check("combination:two_responses", json!({}), "one\n******\ntwo", "one\n******\none");
    check("detectable_content:number_placeholders", json!({"num_placeholders": 2}), "[a] [b]", "[a]");
    check("detectable_content:postscript", json!({"postscript_marker": "P.S."}), "Hi\nP.S. bye", "Hi, bye");
    check("detectable_format:constrained_response", json!({}), "My answer is maybe.", "maybe");
    check("detectable_format:json_format", json!({}), "```json\n{\"a\": 1}\n```", "{a: 1}");
    check(
        "detectable_format:multiple_sections",
        json!({"section_spliter": "SECTION", "num_sections": 2}),
        "SECTION 1 x SECTION 2 y",
        "SECTION 1 x",
    );
    check("detectable_format:number_bullet_lists", json!({"num_bullets": 2}), "* a\n- b", "* a\n- b\n* c");
    check("detectable_format:number_highlighted_sections", json!({"num_highlights": 2}), "*a* and **b**", "*a*");
    check("detectable_format:title", json!({}), "<<Title>>\nx", "<<>>\nx");
    check("keywords:existence", json!({"keywords": ["cat", "dog"]}), "Dogs and cats", "cats");
    check("keywords:forbidden_words", json!({"forbidden_words": ["cat"]}), "cats", "A cat.");
    check("keywords:frequency", json!({"keyword": "cat", "relation": "at least", "frequency": 2}), "cat Cats", "cat");
    check(
        "keywords:letter_frequency",
        json!({"letter": "q", "let_relation": "less than", "let_frequency": 2}),
        "Q",
        "qQ",
    );
    check("language:response_language", json!({"language": "de"}), "Das ist nicht gut.", "This is not the one.");
    let nth = json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"});
    check("length_constraints:nth_paragraph_first_word", nth, "One.\n\n\"Then, two.", "One.\n\nTwo.");
    check("length_constraints:number_paragraphs", json!({"num_paragraphs": 2}), "a\n***\nb", "a\n\nb");
    check(
        "length_constraints:number_sentences",
        json!({"relation": "less than", "num_sentences": 2}),
        "One.",
        "One. Two.",
    );
    check("length_constraints:number_words", json!({"relation": "at least", "num_words": 3}), "a b c", "a b");
    check("punctuation:no_comma", json!({}), "a b", "a, b");
    check("startend:end_checker", json!({"end_phrase": "Bye."}), "Hi. \"bye.\"", "Bye. Hi");
    check("startend:quotation", json!({}), "\"hi\"", "hi");
}

#[test]
fn unknown_kinds_and_arguments_are_told() {
    let read = |target| Instructions::read(&target).expect_err("a bad target");
    let unknown = read(json!({"instruction_id_list": ["x:y"], "kwargs": [{}]}));
    assert_eq!(unknown, "instruction `x:y`: no checker is known");
    let missing = read(json!({"instruction_id_list": ["keywords:existence"], "kwargs": [{}]}));
    assert_eq!(missing, "instruction `keywords:existence`: expected a list in `keywords`");
    let uneven = read(json!({"instruction_id_list": ["punctuation:no_comma"], "kwargs": []}));
    assert!(uneven.starts_with("expected as many"), "{uneven}");
}

#[test]
fn the_loose_reading_forgives_an_introduction_and_asterisks() {
    let target = json!({"instruction_id_list": ["startend:quotation"], "kwargs": [{}]});
    let instructions = Instructions::read(&target).expect("a target");
    assert_eq!(instructions.strict("Sure:\n*\"hi\"*"), [false]);
    assert_eq!(instructions.loose("Sure:\n*\"hi\"*"), [true]);
    assert_eq!((instructions.strict(" "), instructions.loose(" ")), (vec![false], vec![false]));
}

#[test]
fn every_published_prompt_has_its_checkers() {
    let Some(path) = shared("ifeval/prompts.jsonl") else { return };
    let prompts: Vec<Value> = crate::jsonl::read(&path).expect("prompts");
    let mut seen = BTreeSet::new();
    for prompt in &prompts {
        let read = Instructions::read(prompt).unwrap_or_else(|error| panic!("{}: {error}", prompt["key"]));
        seen.extend(read.instruction_id_list);
    }
    assert_eq!(prompts.len(), 541);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), KINDS);
}

/// Real responses that the original checkers sorted: the winner follows everything, the loser breaks what is listed.
#[test]
fn real_responses_are_sorted_as_the_original_checkers_sort_them() {
    let (Some(prompts), Some(pairs)) = (shared("ifeval/prompts.jsonl"), shared("ifeval/pairs.jsonl")) else { return };
    let prompts: Vec<Value> = crate::jsonl::read(&prompts).expect("prompts");
    let by_key: BTreeMap<u64, Instructions> =
        prompts.iter().filter_map(|row| Some((row["key"].as_u64()?, Instructions::read(row).ok()?))).collect();
    let pairs: Vec<Value> = crate::jsonl::read(&pairs).expect("pairs");
    let mut agreed = 0;
    let mut parted: BTreeMap<String, usize> = BTreeMap::new();
    for pair in &pairs {
        let instructions = &by_key[&pair["key"].as_u64().expect("a key")];
        let (a, b) = (pair["response_a"].as_str().expect("text"), pair["response_b"].as_str().expect("text"));
        let (winner, loser) = if pair["label"] == "A" { (a, b) } else { (b, a) };
        let violated: BTreeSet<&str> =
            pair["violated"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let mut wrong = 0;
        // A prompt may give one kind twice; the file says only that the kind was broken.
        let broken = |response: &str| -> BTreeSet<&str> {
            let kinds = instructions.instruction_id_list.iter().map(String::as_str);
            kinds.zip(instructions.strict(response)).filter(|(_, obeyed)| !obeyed).map(|(kind, _)| kind).collect()
        };
        for (who, response, expected) in [("winner", winner, BTreeSet::new()), ("loser", loser, violated)] {
            for kind in broken(response).symmetric_difference(&expected) {
                wrong += 1;
                *parted.entry(format!("{kind} ({who})")).or_default() += 1;
            }
        }
        agreed += usize::from(wrong == 0);
    }
    // Where they part: see the differences that the module's head lists.
    expect![[r#"
        746 of 759 pairs; parted on {
            "change_case:english_capital (loser)": 2,
            "change_case:english_lowercase (loser)": 3,
            "keywords:letter_frequency (loser)": 4,
            "keywords:letter_frequency (winner)": 1,
            "language:response_language (loser)": 2,
            "language:response_language (winner)": 1,
        }"#]]
    .assert_eq(&format!("{agreed} of {} pairs; parted on {parted:#?}", pairs.len()));
}
