//! Recorded behaviour of the official R-Align scripts, reproduced row by row and number by number; and every place
//! where `strict-last` reads the same text differently. Skips, saying so, where the recordings are not at hand.

use std::path::{Path, PathBuf};

use expect_test::expect;
use serde::Deserialize;

use super::meta::{MetaVerdict, Reply, official_reply, tolerant_reply};
use super::scores::Tally;
use super::template::Template;
use super::verdict::{Parse, verdict};
use crate::jsonl;
use crate::rows::Side;

#[derive(Deserialize)]
struct Label {
    model_judgment: Option<String>,
    model_pred: Option<Side>,
}

#[derive(Deserialize)]
struct Meta {
    metarm_raw: Option<String>,
    #[serde(flatten)]
    reply: Reply,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    gt_label: Side,
    #[serde(flatten)]
    label: Label,
    #[serde(flatten)]
    meta: Meta,
}

fn recordings() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings of the official scripts at {}", folder.display());
    None
}

fn read(parse: Parse, text: Option<&str>) -> Option<Side> {
    verdict(parse, Template::Boxed, text?)
}

fn letter(side: Option<Side>) -> String {
    side.map_or("none".into(), |side| side.to_string())
}

#[test]
fn labels_are_read_as_the_official_script_reads_them_and_strict_last_differs_where_listed() {
    let Some(folder) = recordings() else { return };
    let mut differences = String::new();
    for row in jsonl::read::<Label>(&folder.join("label_parser.jsonl")).unwrap() {
        let text = row.model_judgment.as_deref();
        assert_eq!(read(Parse::RalignOfficial, text), row.model_pred, "{text:?}");
        let strict = read(Parse::StrictLast, text);
        if strict != row.model_pred {
            let (strict, official) = (letter(strict), letter(row.model_pred));
            differences += &format!("{:?}: strict-last {strict}, official {official}\n", text.unwrap_or_default());
        }
    }
    expect![[r#"
        "I first thought \\boxed{A} or \\boxed{B}.\n\n</think>\n\nB is more accurate.\n\n\\boxed{B}": strict-last B, official A
        "plan: \\boxed{B}\n\n</think>\n\nA states the correct year.\n\n\\boxed{A}": strict-last A, official B
        "\\boxed{ B }": strict-last B, official none
        "\\boxed{\\text{B}}": strict-last B, official none
        "\\boxed{a}": strict-last A, official none
        "\\boxed{A}\n\\boxed{B}": strict-last B, official A
        "boxed {A}": strict-last A, official none
    "#]].assert_eq(&differences);
}

#[test]
fn replies_are_read_as_the_official_script_reads_them_and_the_tolerant_rule_differs_where_listed() {
    let Some(folder) = recordings() else { return };
    let mut differences = String::new();
    for row in jsonl::read::<Meta>(&folder.join("meta_parser.jsonl")).unwrap() {
        let raw = row.metarm_raw.as_deref();
        assert_eq!(official_reply(raw), row.reply, "{raw:?}");
        let tolerant = tolerant_reply(raw).verdict;
        if tolerant != row.reply.verdict {
            let shown = raw.unwrap_or_default().replace('\n', " ");
            differences += &format!("{shown}: tolerant {tolerant:?}, official {:?}\n", row.reply.verdict);
        }
    }
    expect![[r#"
        <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict> Correct. </final_verdict>: tolerant Correct, official Incorrect
        <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict> **Correct** </final_verdict>: tolerant Correct, official Incorrect
        <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict> Correct OR Incorrect </final_verdict>: tolerant ParseFail, official Incorrect
        <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict>  </final_verdict>: tolerant ParseFail, official Incorrect
        <final_verdict>Correct</final_verdict>: tolerant Correct, official ParseFail
        thinking <final_verdict>Incorrect</final_verdict> done  </think>  <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict> Correct </final_verdict>: tolerant Correct, official Incorrect
        quoted <genrm_analysis>x</genrm_analysis><final_verdict>Correct</final_verdict>  </think>  <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict> Incorrect </final_verdict>: tolerant Incorrect, official Correct
        <golden_key_points>k</golden_key_points> <genrm_analysis> covers the key point </genrm_analysis> <final_verdict> Partially correct </final_verdict>: tolerant ParseFail, official Incorrect
    "#]].assert_eq(&differences);
}

#[test]
fn rows_and_summary_of_two_judges_on_two_benchmarks_come_out_to_the_last_digit() {
    let Some(folder) = recordings() else { return };
    let mut summary = String::from("model");
    for benchmark in ["helpsteer3_aug", "reward_bench2_aug"] {
        for metric in ["label_acc", "spurious_correctness", "fidelity_score"] {
            summary += &format!(",{benchmark}__{metric}");
        }
    }
    for model in ["judge-one", "judge_two"] {
        summary += &format!("\n{model}");
        for benchmark in ["helpsteer3_aug", "reward_bench2_aug"] {
            let tally = tally(&folder.join(format!("result_metarm/{benchmark}__{model}_metarm_meta.jsonl")));
            for value in [tally.l_acc(), tally.s_corr(), tally.f_score()] {
                summary += &format!(",{:.4}", 100.0 * value.unwrap());
            }
        }
    }
    let recorded = std::fs::read_to_string(folder.join("results_summary.csv")).unwrap();
    assert_eq!(summary.trim(), recorded.replace('\r', "").trim());
}

fn tally(file: &Path) -> Tally {
    let verdict = |row: Row| {
        let prediction = read(Parse::RalignOfficial, row.label.model_judgment.as_deref());
        assert_eq!(prediction, row.label.model_pred, "{}", row.id);
        if prediction != Some(row.gt_label) {
            assert_eq!(row.meta.reply.verdict, MetaVerdict::SkippedLabelMismatch, "{}", row.id);
            return MetaVerdict::SkippedLabelMismatch;
        }
        let reply = official_reply(row.meta.metarm_raw.as_deref());
        assert_eq!(reply, row.meta.reply, "{}", row.id);
        reply.verdict
    };
    Tally::of(jsonl::read::<Row>(file).unwrap().into_iter().map(verdict))
}
