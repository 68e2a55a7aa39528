//! The drill-down as the page reads it: shared texts, unknown columns, and its size.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::*;
use crate::report::page::{Page, Settings};

/// What the page's script makes of the packed data.
fn unpacked(data: &str) -> Value {
    let deflated = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    let mut text = String::new();
    ZlibDecoder::new(deflated.as_slice()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn write(folder: &std::path::Path, name: &str, rows: &[Value]) -> std::path::PathBuf {
    let path = folder.join(name);
    jsonl::write(&path, rows).unwrap();
    path
}

fn judgment(id: &str, answer: &str, rationale: &str) -> Value {
    json!({"pair": {"id": id, "conversations": [{"role": "user", "content": format!("question {id}")}],
        "response_A": answer, "response_B": "no", "gt_label": "A", "gt_judgment": "because"},
        "order": "original", "model_judgment": rationale, "finished": true})
}

fn row(id: &str, verdict: &str) -> Value {
    json!({"id": id, "order": "original", "subset": "s", "gt_label": "A", "model_pred": "A", "metarm_verdict": verdict,
        "metarm_score": null, "agreement": 0.5, "metarm_analysis": "grounds", "metarm_raw": "grounds", "key_points": ["one", "two"], "nothing": null})
}

fn branch(arm: &str, rows: std::path::PathBuf, judgments: Option<std::path::PathBuf>) -> Scored {
    let labels = [("arm".to_owned(), arm.to_owned())].into();
    let step = format!("score@arm={arm}");
    Scored { stage: "score".into(), step, labels, rows: Some(rows), judgments, ..Scored::default() }
}

#[test]
fn branches_share_their_items_and_texts_and_unknown_columns_stay() {
    let folder = tempfile::tempdir().unwrap();
    let rows = write(folder.path(), "rows", &[row("1", "Correct")]);
    let scored = ["a", "b"].map(|arm| {
        let judged = write(folder.path(), arm, &[judgment("1", "yes", &format!("</script> says {arm}"))]);
        branch(arm, rows.clone(), Some(judged))
    });
    let evidence = Evidence { scored: scored.into(), ..Evidence::default() };
    let packed = Drill::of(&evidence, &Roles::of(&evidence, "bench", "seed")).unwrap().pack(usize::MAX).unwrap();
    assert_eq!((packed.judgments, packed.items, packed.shortened), (2, 1, None));
    let data = unpacked(&packed.data);
    let texts = ["question 1", "yes", "no", "because", "</script> says a", "grounds", "</script> says b"];
    assert_eq!(data["texts"], json!(texts));
    assert_eq!(data["items"], json!([["score", "1", "original", "", "A", [["user", 0]], 1, 2, 3]]));
    let extra = json!([["key_points", null, ["one", "two"]], ["metarm_raw", 5, null]]);
    assert_eq!(data["verdicts"][1], json!([1, 0, "A", "Correct", 0.5, 6, 5, true, extra]));
}

#[test]
fn rows_without_judgments_are_shown_with_what_they_say_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let rows = write(folder.path(), "rows", &[row("1", "CallFail"), json!({"id": "2"})]);
    let evidence = Evidence { scored: vec![branch("a", rows, None)], ..Evidence::default() };
    let packed = Drill::of(&evidence, &Roles::of(&evidence, "bench", "seed")).unwrap().pack(usize::MAX).unwrap();
    let data = unpacked(&packed.data);
    assert_eq!(data["items"][1], json!(["score", "2", "", "", "", [], 0, 0, null]));
    assert_eq!(data["verdicts"][1], json!([0, 1, "", "", null, null, null, null]));
}

#[test]
fn a_row_that_is_no_table_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let rows = write(folder.path(), "rows.jsonl", &[row("1", "Correct"), json!(3)]);
    let evidence = Evidence { scored: vec![branch("a", rows, None)], ..Evidence::default() };
    let error = Drill::of(&evidence, &Roles::of(&evidence, "bench", "seed")).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl") && error.contains('2'), "{error}");
}

#[test]
fn a_text_is_cut_between_its_letters_and_keeps_its_end() {
    let text = "ä".repeat(100) + "[[A]]";
    let kept = cut(&text, Some(48));
    assert!(kept.starts_with("ää") && kept.ends_with("ä[[A]]") && kept.contains("[…]"), "{kept}");
    assert_eq!(cut("short", Some(48)), "short");
}

/// Words drawn as people use them: few often, many seldom.
fn prose(random: &mut ChaCha8Rng, words: usize) -> String {
    let word = |random: &mut ChaCha8Rng| {
        let rank = (5000.0_f64.powf(random.random::<f64>())) as u64;
        let mut letters = ChaCha8Rng::seed_from_u64(rank);
        let long = letters.random_range(2..10);
        (0..long).map(|_| char::from(letters.random_range(b'a'..=b'z'))).collect::<String>()
    };
    (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

#[test]
fn ten_branches_of_two_thousand_items_stay_under_three_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let answers: Vec<String> = (0..2000).map(|_| prose(&mut random, 100)).collect();
    let ids: Vec<String> = (0..2000).map(|place| format!("item-{place:05}")).collect();
    let rows: Vec<Value> = ids.iter().map(|id| row(id, "Incorrect")).collect();
    let rows = write(folder.path(), "rows", &rows);
    let scored = |arm: usize| {
        let mut one = |(id, answer): (&String, &String)| judgment(id, answer, &prose(&mut random, 80));
        let judged: Vec<Value> = ids.iter().zip(&answers).map(&mut one).collect();
        let judged = write(folder.path(), &format!("judged-{arm}"), &judged);
        branch(&format!("arm-{arm}"), rows.clone(), Some(judged))
    };
    let evidence = Evidence { scored: (0..10).map(scored).collect(), ..Evidence::default() };
    let page = Page::of(&evidence, &Settings::default()).unwrap();
    assert_eq!(page.judgments, 20_000, "nothing is left out");
    assert!(page.html.len() < 3_000_000, "{} bytes", page.html.len());
    // About 12 MB of text: it does not fit whole, and the page says so; what is kept is still worth reading.
    let kept = page.shortened.expect("texts are shortened");
    assert!(kept >= 100, "{kept} letters");
    assert!(page.html.contains(&format!("Texts above {kept} letters are shortened")));
}
