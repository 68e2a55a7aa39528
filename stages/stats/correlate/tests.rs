//! The stage on branches small enough to check by hand, and on the paper's own seven points.

use expect_test::expect;
use plumb_engine::io::{Branch, InputPlace, Manner};

use super::*;
use crate::stats::items::Metrics;

struct Given {
    stage: &'static str,
    labels: Vec<(&'static str, String)>,
    metrics: Vec<(&'static str, f64)>,
}

fn given(stage: &'static str, labels: &[(&'static str, &str)], metrics: &[(&'static str, f64)]) -> Given {
    let labels = labels.iter().map(|(axis, label)| (*axis, label.to_string())).collect();
    Given { stage, labels, metrics: metrics.to_vec() }
}

fn run(scores: &[Given], outcomes: &[Given], params: serde_json::Value) -> Result<[String; 3], StageError> {
    let folder = tempfile::tempdir().unwrap();
    let gather = |side: &str, given: &[Given]| {
        let branch = |(place, given): (usize, &Given)| {
            let path = folder.path().join(format!("{side}-{place}.json"));
            let metrics: Metrics = given.metrics.iter().map(|(name, value)| (name.to_string(), Some(*value))).collect();
            jsonl::write_json(&path, &metrics).unwrap();
            let labels = given.labels.iter().map(|(axis, label)| (axis.to_string(), label.clone())).collect();
            Branch { stage: given.stage.into(), labels, baseline: false, path: Some(path), adaptive: BTreeMap::new() }
        };
        (side.to_string(), InputPlace::Gathered(given.iter().enumerate().map(branch).collect()))
    };
    let inputs = BTreeMap::from([gather("scores", scores), gather("outcomes", outcomes)]);
    let names = ["table", "correlation", "metrics"];
    let outputs: BTreeMap<_, _> = names.map(|name| (name.to_string(), folder.path().join(name))).into();
    let io = Io::new(inputs, outputs.clone(), folder.path().into(), Manner::default(), None).unwrap();
    let mut all = serde_json::json!({ "y": "avg", "bootstrap_samples": 200 });
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    Correlate::run(serde_json::from_value(all).unwrap(), &io)?;
    Ok(names.map(|name| std::fs::read_to_string(&outputs[name]).unwrap()))
}

#[test]
fn the_papers_seven_judges_come_out_and_are_called_indicative() {
    let judges = ["a", "b", "c", "d", "e", "f", "g"];
    let label = [72.9, 72.9, 73.1, 74.1, 75.5, 76.3, 74.7];
    let fidelity = [39.5, 40.4, 47.8, 44.5, 40.1, 54.0, 30.6];
    let downstream = [58.1, 57.6, 59.7, 59.1, 59.4, 61.7, 54.8];
    let score = |i: usize| given("score", &[("judge", judges[i])], &[("l_acc", label[i]), ("f_score", fidelity[i])]);
    let outcome = |i: usize| given("eval", &[("judge", judges[i])], &[("avg", downstream[i])]);
    let scores: Vec<Given> = (0..7).map(score).collect();
    let outcomes: Vec<Given> = (0..7).map(outcome).collect();
    let [table, _, metrics] = run(&scores, &outcomes, serde_json::json!({})).unwrap();
    expect![[r#"
        # Correlation

        A point is a branch averaged over its seeds. Intervals are at 95 % and resample the seeds; p is that of a permutation
        of the points.

        | correlation                    |              n | Pearson |                          over seeds | Spearman |     p | all seeds apart | per seed |
        |--------------------------------|---------------:|--------:|------------------------------------:|---------:|------:|----------------:|---------:|
        | f_score of score ~ avg of eval | 7 (indicative) |  +0.947 | [+0.368, +0.999] (points: one seed) |   +0.821 | 0.005 |    +0.947 (n 7) |   +0.947 |
        | l_acc of score ~ avg of eval   | 7 (indicative) |  +0.366 | [-0.803, +0.970] (points: one seed) |   +0.487 | 0.429 |    +0.366 (n 7) |   +0.366 |

        Fewer than 10 points: indicative.

        ## Points

        | branch  |            score |     outcome | seeds |      x |      y |
        |---------|-----------------:|------------:|------:|-------:|-------:|
        | judge=a | f_score of score | avg of eval |     1 | 39.500 | 58.100 |
        | judge=b | f_score of score | avg of eval |     1 | 40.400 | 57.600 |
        | judge=c | f_score of score | avg of eval |     1 | 47.800 | 59.700 |
        | judge=d | f_score of score | avg of eval |     1 | 44.500 | 59.100 |
        | judge=e | f_score of score | avg of eval |     1 | 40.100 | 59.400 |
        | judge=f | f_score of score | avg of eval |     1 | 54.000 | 61.700 |
        | judge=g | f_score of score | avg of eval |     1 | 30.600 | 54.800 |
        | judge=a |   l_acc of score | avg of eval |     1 | 72.900 | 58.100 |
        | judge=b |   l_acc of score | avg of eval |     1 | 72.900 | 57.600 |
        | judge=c |   l_acc of score | avg of eval |     1 | 73.100 | 59.700 |
        | judge=d |   l_acc of score | avg of eval |     1 | 74.100 | 59.100 |
        | judge=e |   l_acc of score | avg of eval |     1 | 75.500 | 59.400 |
        | judge=f |   l_acc of score | avg of eval |     1 | 76.300 | 61.700 |
        | judge=g |   l_acc of score | avg of eval |     1 | 74.700 | 54.800 |
    "#]].assert_eq(&table);
    expect![[r#"
        {
          "f_score of score ~ avg of eval": 0.9473406150307998,
          "f_score of score ~ avg of eval/high": 0.9994803635377185,
          "f_score of score ~ avg of eval/low": 0.36753706653127316,
          "f_score of score ~ avg of eval/n": 7.0,
          "f_score of score ~ avg of eval/spearman": 0.8214285714285714,
          "l_acc of score ~ avg of eval": 0.3659188470960107,
          "l_acc of score ~ avg of eval/high": 0.9703677984773726,
          "l_acc of score ~ avg of eval/low": -0.8027699846319022,
          "l_acc of score ~ avg of eval/n": 7.0,
          "l_acc of score ~ avg of eval/spearman": 0.4865062298556018
        }
    "#]]
    .assert_eq(&metrics);
}

// Three variants by three seeds, a warm start that sees no `reward` axis, on two benchmarks.
fn variants(metric: &'static str, stages: [&'static str; 2], slope: f64) -> Vec<Given> {
    let mut all = Vec::new();
    for seed in 0..3_i32 {
        let wobble = f64::from((seed * 7 + stages[0].len() as i32 * 3) % 5) / 100.0;
        let name = seed.to_string();
        for (place, reward) in ["label", "label-and-rationale"].into_iter().enumerate() {
            let value = 0.2 + slope * place as f64 + wobble;
            all.push(given(stages[0], &[("reward", reward), ("seed", &name)], &[(metric, value)]));
        }
        all.push(given(stages[1], &[("seed", &name)], &[(metric, 0.2 + slope * 0.7 - wobble)]));
    }
    all
}

#[test]
fn a_warm_start_stands_beside_the_arms_and_seeds_are_resampled() {
    let scores = variants("f_score", ["score", "score-warm"], 0.6);
    let outcomes = variants("avg", ["eval", "eval-warm"], 0.3);
    let [table, _, _] = run(&scores, &outcomes, serde_json::json!({ "x": ["f_score"] })).unwrap();
    expect![[r#"
        # Correlation

        A point is a branch averaged over its seeds. Intervals are at 95 % and resample the seeds; p is that of a permutation
        of the points.

        | correlation                                             |              n | Pearson |       over seeds | Spearman |     p | all seeds apart |             per seed |
        |---------------------------------------------------------|---------------:|--------:|-----------------:|---------:|------:|----------------:|---------------------:|
        | f_score of score + score-warm ~ avg of eval + eval-warm | 3 (indicative) |  +0.995 | [+0.974, +1.000] |   +1.000 | 0.167 |    +0.985 (n 9) | +0.989 +0.974 +0.997 |

        Fewer than 10 points: indicative.

        ## Points

        | branch                     |                         score |                 outcome | seeds |     x |     y |
        |----------------------------|------------------------------:|------------------------:|------:|------:|------:|
        | reward=label               | f_score of score + score-warm | avg of eval + eval-warm |     3 | 0.220 | 0.223 |
        | reward=label-and-rationale | f_score of score + score-warm | avg of eval + eval-warm |     3 | 0.820 | 0.523 |
        | (no axis)                  | f_score of score + score-warm | avg of eval + eval-warm |     3 | 0.600 | 0.387 |
    "#]].assert_eq(&table);
}

#[test]
fn two_benchmarks_are_two_correlations_unless_grouped_otherwise() {
    let mut scores = variants("f_score", ["id", "id-warm"], 0.6);
    scores.extend(variants("f_score", ["anti", "anti-warm"], -0.1));
    let outcomes = variants("avg", ["eval", "eval-warm"], 0.3);
    let groups =
        serde_json::json!({ "in": ["id", "id-warm"], "out": ["anti", "anti-warm"], "y": ["eval", "eval-warm"] });
    let params = serde_json::json!({ "x": ["f_score"], "groups": groups });
    let [_, _, metrics] = run(&scores, &outcomes, params).unwrap();
    expect![[r#"
        {
          "f_score of in ~ avg of y": 0.9920158609868366,
          "f_score of in ~ avg of y/high": 0.9972484080362228,
          "f_score of in ~ avg of y/low": 0.9816647122705708,
          "f_score of in ~ avg of y/n": 3.0,
          "f_score of in ~ avg of y/spearman": 1.0,
          "f_score of out ~ avg of y": -0.8226281528177113,
          "f_score of out ~ avg of y/high": -0.594702753863977,
          "f_score of out ~ avg of y/low": -0.9610750938980089,
          "f_score of out ~ avg of y/n": 3.0,
          "f_score of out ~ avg of y/spearman": -0.5
        }
    "#]]
    .assert_eq(&metrics);
}

#[test]
fn what_cannot_be_correlated_is_an_error_with_what_there_is() {
    let scores = [given("score", &[("reward", "label")], &[("f_score", 0.5)])];
    let outcomes = [given("eval", &[("reward", "label")], &[("exact_match", 0.5)])];
    let error = run(&scores, &outcomes, serde_json::json!({ "x": ["f_score"] })).unwrap_err();
    assert_eq!(error.message, "no branch knows both score `f_score` and outcome `avg`");
    assert_eq!(error.hint.unwrap(), "scores have: f_score; outcomes have: exact_match");
    let elsewhere = [given("eval", &[("reward", "none")], &[("avg", 0.5)])];
    let error = run(&scores, &elsewhere, serde_json::json!({})).unwrap_err();
    assert_eq!(error.message, "no branch of `scores` stands at the address of a branch of `outcomes`");
}
