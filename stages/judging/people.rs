//! `bench.meta-judge`: how good a meta-judge is, before anyone believes its S-Corr: it is asked what people have
//! answered. MetaCritique's rows: is a claim of the reference critique in the critique (recall), and does a claim of the
//! critique hold (precision, against the reference critique and answer)?

use std::collections::BTreeMap;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meta::{MetaJudge, MetaVerdict};
use crate::jsonl;
use crate::stats::bootstrap::{self, Bootstrap};
use crate::stats::items::Metrics;
use crate::stats::kappa::Agreement;

/// Parameters of `bench.meta-judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The meta-judge, as in `bench.s-corr`.
    pub meta: MetaJudge,
    /// Resamples of the bootstrap over prompts.
    #[serde(default = "bootstrap::ten_thousand")]
    pub bootstrap_samples: usize,
    /// Level of the intervals.
    #[serde(default = "bootstrap::ninety_five")]
    pub interval: f64,
    /// Seed of the bootstrap.
    #[serde(default)]
    pub seed: u64,
}

/// `bench.meta-judge`.
pub struct BenchMetaJudge;

impl Declare for BenchMetaJudge {
    const KIND: &'static str = "bench.meta-judge";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "how far a meta-judge agrees with people on which claims of critiques hold";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required(
        "raw",
        "JSONL with id, critique, claims, precision_labels, reference_critique, reference_claims, recall_labels",
    )];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("rows", "rows.jsonl", "one row a claim: what people and what the meta-judge say"),
        OutputSpec::result("metrics", "metrics.json", "precision, recall, F1 and kappa against people, with intervals"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let meta = params.meta.problem().map(|message| Problem::new("meta.threshold", message));
        meta.into_iter().chain(Bootstrap::problems(params.bootstrap_samples, params.interval)).collect()
    }
}

/// A critique as MetaCritique's people labelled it.
#[derive(Debug, Deserialize)]
struct Critique {
    id: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    reference_answer: String,
    reference_critique: String,
    reference_claims: Vec<String>,
    critique: String,
    claims: Vec<String>,
    precision_labels: Vec<bool>,
    recall_labels: Vec<bool>,
}

/// What is asked of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Question {
    /// Whether the critique has the reference's claim.
    Covered,
    /// Whether the critique's claim holds.
    Holds,
}

/// One claim: people's label and the meta-judge's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ClaimRow {
    id: String,
    /// Claims of one prompt share it.
    cluster: String,
    question: Question,
    people: bool,
    metarm_verdict: MetaVerdict,
    agreement: Option<f64>,
    metarm_analysis: String,
}

struct Asked {
    id: String,
    cluster: String,
    question: Question,
    people: bool,
    golden: String,
    rationale: String,
}

impl Stage for BenchMetaJudge {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let path = io.input("raw")?;
        let critiques: Vec<Critique> = jsonl::read_some(path)?;
        let mut asked = Vec::new();
        for (line, critique) in critiques.iter().enumerate() {
            let questions = questions(critique).map_err(|problem| jsonl::bad_row(path, line + 1, &problem))?;
            asked.extend(questions);
        }
        let rows: Vec<ClaimRow> = asked.par_iter().map(|asked| answered(&params.meta, asked)).collect();
        jsonl::write(io.output("rows")?, &rows)?;
        jsonl::write_json(io.output("metrics")?, &metrics(&params, &rows))
    }
}

fn questions(critique: &Critique) -> Result<Vec<Asked>, String> {
    let lists = [
        ("claims", critique.claims.len(), "precision_labels", critique.precision_labels.len()),
        ("reference_claims", critique.reference_claims.len(), "recall_labels", critique.recall_labels.len()),
    ];
    for (claims, count, labels, others) in lists {
        if count != others {
            return Err(format!(
                "`{}` has {count} {claims} and {others} {labels}: expected one label a claim",
                critique.id
            ));
        }
    }
    let cluster = if critique.prompt.is_empty() { &critique.id } else { &critique.prompt };
    let reference = format!("{}\n{}", critique.reference_critique, critique.reference_answer);
    let asked = |(place, question, people, golden, rationale): (usize, Question, bool, &str, &str)| Asked {
        id: format!("{}#{}-{place}", critique.id, if question == Question::Covered { "covered" } else { "holds" }),
        cluster: crate::data::hash::number(&[cluster]).to_string(),
        question,
        people,
        golden: golden.into(),
        rationale: rationale.into(),
    };
    let covered = critique.reference_claims.iter().zip(&critique.recall_labels).enumerate();
    let covered = covered
        .map(|(place, (claim, label))| (place, Question::Covered, *label, claim.as_str(), critique.critique.as_str()));
    let holds = critique.claims.iter().zip(&critique.precision_labels).enumerate();
    let holds =
        holds.map(|(place, (claim, label))| (place, Question::Holds, *label, reference.as_str(), claim.as_str()));
    Ok(covered.chain(holds).map(asked).collect())
}

fn answered(meta: &MetaJudge, asked: &Asked) -> ClaimRow {
    let judged = meta.judge(&asked.golden, &asked.rationale);
    ClaimRow {
        id: asked.id.clone(),
        cluster: asked.cluster.clone(),
        question: asked.question,
        people: asked.people,
        metarm_verdict: judged.verdict,
        agreement: judged.known_score(),
        metarm_analysis: judged.analysis,
    }
}

fn metrics(params: &Params, rows: &[ClaimRow]) -> Metrics {
    let mut metrics = Metrics::new();
    of_rows(&mut metrics, "", params, rows);
    for (suffix, question) in [("/covered", Question::Covered), ("/holds", Question::Holds)] {
        let inside: Vec<ClaimRow> = rows.iter().filter(|row| row.question == question).cloned().collect();
        of_rows(&mut metrics, suffix, params, &inside);
    }
    metrics
}

fn of_rows(metrics: &mut Metrics, suffix: &str, params: &Params, rows: &[ClaimRow]) {
    let mut clusters: BTreeMap<&str, Agreement> = BTreeMap::new();
    for row in rows {
        let said = match row.metarm_verdict {
            MetaVerdict::Correct => true,
            MetaVerdict::Incorrect => false,
            _ => continue,
        };
        clusters.entry(&row.cluster).or_default().count(said, row.people);
    }
    let clusters: Vec<Agreement> = clusters.into_values().collect();
    let total = |tables: &mut dyn Iterator<Item = &Agreement>| {
        let mut sum = Agreement::default();
        tables.for_each(|table| sum.add(table));
        sum
    };
    let all = total(&mut clusters.iter());
    let failed = |verdict: MetaVerdict| rows.iter().filter(|row| row.metarm_verdict == verdict).count() as f64;
    let coverage = (!rows.is_empty()).then(|| all.items() / rows.len() as f64);
    let values = [
        ("n", Some(rows.len() as f64)),
        ("coverage", coverage),
        ("call_fail", Some(failed(MetaVerdict::CallFail))),
        ("parse_fail", Some(failed(MetaVerdict::ParseFail))),
        ("accuracy", all.observed()),
        ("precision", all.precision()),
        ("recall", all.recall()),
        ("f1", all.f1()),
        ("kappa", all.kappa()),
        ("meta_yes", all.first_rate()),
        ("people_yes", all.second_rate()),
    ];
    metrics.extend(values.into_iter().map(|(name, value)| (format!("{name}{suffix}"), value)));
    let bootstrap = Bootstrap { samples: params.bootstrap_samples, level: params.interval, seed: params.seed };
    let resampled = |draw: &mut bootstrap::Draw| {
        let sum = total(&mut (0..clusters.len()).map(|_| &clusters[draw.index(clusters.len())]));
        [sum.observed(), sum.precision(), sum.recall(), sum.kappa()]
    };
    let ends = if clusters.is_empty() { [None; 4] } else { bootstrap.intervals(resampled) };
    for (name, ends) in ["accuracy", "precision", "recall", "kappa"].into_iter().zip(ends) {
        metrics.insert(format!("{name}_low{suffix}"), ends.map(|ends| ends.low));
        metrics.insert(format!("{name}_high{suffix}"), ends.map(|ends| ends.high));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Bench, shared};

    #[test]
    fn verdicts_are_set_against_peoples_labels() {
        let row = json!({"id": "c", "prompt": "q", "reference_critique": "the sum is wrong", "reference_answer": "",
            "reference_claims": ["the sum is wrong", "it rambles"], "recall_labels": [true, true],
            "critique": "the sum is wrong", "claims": ["the sum is wrong", "it is rude"], "precision_labels": [true, false]});
        let bench = Bench::new();
        let raw = bench.file("raw", &row.to_string());
        let params = json!({"meta": {"kind": "overlap", "threshold": 0.5}, "bootstrap_samples": 20});
        bench.run::<BenchMetaJudge>(params, &[("raw", &raw)]).expect("scores");
        let metrics = bench.json("metrics.json");
        let of = |name: &str| metrics[name].as_f64();
        assert_eq!([of("n"), of("accuracy"), of("precision"), of("f1")], [Some(4.0), Some(0.75), Some(1.0), Some(0.8)]);
        assert_eq!([of("recall/covered"), of("kappa/holds"), of("kappa/covered")], [Some(0.5), Some(1.0), Some(0.0)]);
    }

    #[test]
    fn a_critique_whose_labels_do_not_fit_its_claims_is_told() {
        let row = json!({"id": "c", "reference_critique": "r", "reference_claims": ["r"], "recall_labels": [],
            "critique": "c", "claims": [], "precision_labels": []});
        let bench = Bench::new();
        let raw = bench.file("raw", &row.to_string());
        let params = json!({"meta": {"kind": "overlap", "threshold": 0.5}});
        let error = bench.run::<BenchMetaJudge>(params, &[("raw", &raw)]).expect_err("a label is missing");
        assert!(
            error
                .message
                .ends_with("raw:1: `c` has 1 reference_claims and 0 recall_labels: expected one label a claim")
        );
    }

    #[test]
    fn peoples_own_labels_of_metacritique_come_in_whole() {
        let Some(raw) = shared("metacritique/annotated.jsonl") else { return };
        let bench = Bench::new();
        let params = json!({"meta": {"kind": "overlap", "threshold": 0.3}, "bootstrap_samples": 100});
        bench.run::<BenchMetaJudge>(params, &[("raw", &raw)]).expect("scores");
        let rows: Vec<ClaimRow> = bench.rows("rows.jsonl");
        let yes = |question| rows.iter().filter(|row| row.question == question && row.people).count();
        let ids: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!((rows.len(), ids.len()), (4057, 4057));
        assert_eq!((yes(Question::Covered), yes(Question::Holds)), (1090, 1454));
        // Word overlap is a stand-in and no instrument: people would not recognise their labels in it.
        let kappa = bench.json("metrics.json")["kappa"].as_f64().expect("a kappa");
        assert!((-0.2..0.6).contains(&kappa), "{kappa}");
    }
}
