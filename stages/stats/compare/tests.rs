//! The stage on branches small enough to check by hand, and its headline interval under simulation.

use expect_test::{Expect, expect};
use plumb_engine::io::{Branch, InputPlace, Manner};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::stats::intervals::over_seeds;
use crate::stats::paired::Pairing;

fn item(id: usize, values: &[(&str, Option<f64>)]) -> ItemRow {
    let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    let domain = if id.is_multiple_of(2) { "stem" } else { "code" };
    ItemRow { id: format!("item-{id}"), cluster: format!("prompt-{}", id / 2), domain: domain.into(), values }
}

// A letter an item: `c`orrect, `s`purious, `w`rong label, `f`ailed meta-judge.
fn items(fates: &str) -> Vec<ItemRow> {
    let row = |(id, fate): (usize, char)| match fate {
        'c' => item(id, &[("label_correct", Some(1.0)), ("spurious", Some(0.0)), ("faithful", Some(1.0))]),
        's' => item(id, &[("label_correct", Some(1.0)), ("spurious", Some(1.0)), ("faithful", Some(0.0))]),
        'f' => item(id, &[("label_correct", Some(1.0)), ("spurious", None), ("faithful", None)]),
        _ => item(id, &[("label_correct", Some(0.0)), ("spurious", Some(0.0)), ("faithful", Some(0.0))]),
    };
    fates.chars().enumerate().map(row).collect()
}

fn branch(folder: &Path, stage: &str, reward: &str, seed: &str, rows: Option<&[ItemRow]>) -> Branch {
    let path = folder.join(format!("{stage}-{reward}-{seed}.jsonl"));
    if let Some(rows) = rows {
        jsonl::write(&path, rows).unwrap();
    }
    let labels = [("reward", reward), ("seed", seed)].map(|(axis, label)| (axis.to_string(), label.to_string()));
    Branch {
        stage: stage.into(),
        labels: labels.into(),
        baseline: reward == "label",
        path: rows.map(|_| path),
        adaptive: BTreeMap::new(),
    }
}

fn run(fates: &[(&str, &str, Option<&str>)], params: serde_json::Value) -> Result<[String; 3], StageError> {
    let folder = tempfile::tempdir().unwrap();
    let of = |(reward, seed, fates): &(&str, &str, Option<&str>)| {
        branch(folder.path(), "score-id", reward, seed, fates.map(items).as_deref())
    };
    run_on(folder.path(), fates.iter().map(of).collect(), params)
}

fn run_on(folder: &Path, branches: Vec<Branch>, params: serde_json::Value) -> Result<[String; 3], StageError> {
    let inputs = BTreeMap::from([("items".to_string(), InputPlace::Gathered(branches))]);
    let names = ["table", "comparison", "metrics"];
    let outputs: BTreeMap<_, _> = names.map(|name| (name.to_string(), folder.join(name))).into();
    let io = Io::new(inputs, outputs.clone(), folder.into(), Manner::default(), None).unwrap();
    let mut given = serde_json::json!({ "bootstrap_samples": 200 });
    given.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    Compare::run(serde_json::from_value(given).unwrap(), &io)?;
    Ok(names.map(|name| std::fs::read_to_string(&outputs[name]).unwrap()))
}

fn check(fates: &[(&str, &str, Option<&str>)], params: serde_json::Value, expected: Expect) {
    let [table, _, _] = run(fates, params).unwrap();
    expected.assert_eq(&table);
}

const THREE_SEEDS: [(&str, &str, Option<&str>); 6] = [
    ("label", "0", Some("sssscsssww")),
    ("label", "1", Some("sssssssscw")),
    ("label", "2", Some("ssscssscww")),
    ("label-and-rationale", "0", Some("ccccccccww")),
    ("label-and-rationale", "1", Some("cccccscwww")),
    ("label-and-rationale", "2", Some("ccccccfcww")),
];

#[test]
fn three_seeds_give_a_t_interval_and_a_two_level_bootstrap() {
    check(
        &THREE_SEEDS,
        serde_json::json!({}),
        expect![[r#"
            # Comparison

            Differences are the first branch minus the second, on the items both have. Intervals are at 95 %: Student's t over
            the per-seed differences (the headline), and a bootstrap of seeds and of item clusters within them (200 resamples).
            Holm's correction covers 3 tests.

            ## score-id

            | branch                     |  metric | seeds |  mean |        interval |  over | items | coverage |
            |----------------------------|--------:|------:|------:|----------------:|------:|------:|---------:|
            | reward=label (baseline)    |   l_acc |     3 | 0.833 |  [0.690, 0.977] | seeds |    30 |    1.000 |
            | reward=label (baseline)    |  s_corr |     3 | 0.838 |  [0.648, 1.028] | seeds |    30 |    1.000 |
            | reward=label (baseline)    | f_score |     3 | 0.133 | [-0.010, 0.277] | seeds |    30 |    1.000 |
            | reward=label-and-rationale |   l_acc |     3 | 0.767 |  [0.623, 0.910] | seeds |    30 |    1.000 |
            | reward=label-and-rationale |  s_corr |     3 | 0.048 | [-0.157, 0.253] | seeds |    30 |    0.967 |
            | reward=label-and-rationale | f_score |     3 | 0.726 |  [0.454, 0.998] | seeds |    30 |    0.967 |

            | difference                             |  metric |   mean |     t over seeds |        bootstrap | p (Holm) | smallest detectable | McNemar p |
            |----------------------------------------|--------:|-------:|-----------------:|-----------------:|---------:|--------------------:|----------:|
            | reward=label-and-rationale minus label |   l_acc | -0.067 | [-0.354, +0.220] | [-0.201, +0.000] |    0.423 |               0.358 |         – |
            | reward=label-and-rationale minus label |  s_corr | -0.778 | [-0.990, -0.567] | [-0.958, -0.497] |    0.012 |               0.264 |         – |
            | reward=label-and-rationale minus label | f_score | +0.585 | [+0.329, +0.842] | [+0.366, +0.823] |    0.020 |               0.320 |         – |

            - reward=label-and-rationale minus label, s_corr on the 22 items that both label right: 0.048 against 0.863, -0.815 [-1.034, -0.597]
            - reward=label-and-rationale minus label, s_corr: compared on 29 items; 1 not known to both, 0 only in the first, 0 only in the second branch
            - reward=label-and-rationale minus label, f_score: compared on 29 items; 1 not known to both, 0 only in the first, 0 only in the second branch
        "#]],
    );
    let [_, _, metrics] = run(&THREE_SEEDS, serde_json::json!({ "metrics": ["s_corr"] })).unwrap();
    expect![[r#"
        {
          "score-id:s_corr:reward=label-and-rationale minus label": -0.7784391534391535,
          "score-id:s_corr:reward=label-and-rationale minus label/high": -0.5669961214675163,
          "score-id:s_corr:reward=label-and-rationale minus label/low": -0.9898821854107906
        }
    "#]]
    .assert_eq(&metrics);
}

#[test]
fn one_seed_is_labelled_items_only_and_domains_are_a_family_of_their_own() {
    let one = [THREE_SEEDS[0], THREE_SEEDS[3]];
    check(
        &one,
        serde_json::json!({ "metrics": ["f_score"], "by_domain": true }),
        expect![[r#"
            # Comparison

            Differences are the first branch minus the second, on the items both have. Intervals are at 95 %: Student's t over
            the per-seed differences (the headline), and a bootstrap of seeds and of item clusters within them (200 resamples).
            Holm's correction covers 0 tests.

            ## score-id

            | branch                     |  metric | seeds |  mean |       interval |           over | items | coverage |
            |----------------------------|--------:|------:|------:|---------------:|---------------:|------:|---------:|
            | reward=label (baseline)    | f_score |     1 | 0.100 | [0.018, 0.404] | items (Wilson) |    10 |    1.000 |
            | reward=label-and-rationale | f_score |     1 | 0.800 | [0.490, 0.943] | items (Wilson) |    10 |    1.000 |

            | difference                             |  metric |   mean |         t over seeds |        bootstrap | p (Holm) | smallest detectable | McNemar p |
            |----------------------------------------|--------:|-------:|---------------------:|-----------------:|---------:|--------------------:|----------:|
            | reward=label-and-rationale minus label | f_score | +0.700 | one seed: items only | [+0.400, +1.000] |        – |                   – |     0.016 |

            ## score-id/code

            | branch                     |  metric | seeds |  mean |       interval |           over | items | coverage |
            |----------------------------|--------:|------:|------:|---------------:|---------------:|------:|---------:|
            | reward=label (baseline)    | f_score |     1 | 0.000 | [0.000, 0.434] | items (Wilson) |     5 |    1.000 |
            | reward=label-and-rationale | f_score |     1 | 0.800 | [0.376, 0.964] | items (Wilson) |     5 |    1.000 |

            | difference                             |  metric |   mean |         t over seeds |        bootstrap | p (Holm) | smallest detectable | McNemar p |
            |----------------------------------------|--------:|-------:|---------------------:|-----------------:|---------:|--------------------:|----------:|
            | reward=label-and-rationale minus label | f_score | +0.800 | one seed: items only | [+0.400, +1.000] |        – |                   – |     0.125 |

            ## score-id/stem

            | branch                     |  metric | seeds |  mean |       interval |           over | items | coverage |
            |----------------------------|--------:|------:|------:|---------------:|---------------:|------:|---------:|
            | reward=label (baseline)    | f_score |     1 | 0.200 | [0.036, 0.624] | items (Wilson) |     5 |    1.000 |
            | reward=label-and-rationale | f_score |     1 | 0.800 | [0.376, 0.964] | items (Wilson) |     5 |    1.000 |

            | difference                             |  metric |   mean |         t over seeds |        bootstrap | p (Holm) | smallest detectable | McNemar p |
            |----------------------------------------|--------:|-------:|---------------------:|-----------------:|---------:|--------------------:|----------:|
            | reward=label-and-rationale minus label | f_score | +0.600 | one seed: items only | [+0.200, +1.000] |        – |                   – |     0.250 |
        "#]],
    );
}

#[test]
fn a_ratio_of_one_seed_is_bounded_by_a_bootstrap_of_its_clusters_on_every_slice() {
    let one = [("label", "0", Some("scscsssscw")), ("label-and-rationale", "0", Some("ccccccccww"))];
    let [_, comparison, _] = run(&one, serde_json::json!({ "metrics": ["s_corr"], "by_domain": true })).unwrap();
    let comparison: serde_json::Value = serde_json::from_str(&comparison).unwrap();
    let sections = comparison["sections"].as_array().unwrap();
    assert_eq!(sections.len(), 3, "all, code, stem");
    for section in sections {
        let [spurious, grounded] = [0, 1].map(|at| &section["branches"][at]);
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        let (low, mean, high) = (&spurious["interval"]["low"], &spurious["mean"], &spurious["interval"]["high"]);
        assert!(0.0 <= number(low) && number(low) < number(mean), "{spurious}");
        assert!(number(mean) < number(high) && number(high) <= 1.0, "{spurious}");
        assert_eq!(spurious["over"], "items");
        // Nothing spurious in any cluster: no resample says otherwise.
        assert_eq!(grounded["interval"], serde_json::json!({ "low": 0.0, "high": 0.0 }));
    }
}

#[test]
fn failed_branches_and_lone_seeds_are_told() {
    let branches = [THREE_SEEDS[0], ("label", "1", None), THREE_SEEDS[3], THREE_SEEDS[4]];
    check(
        &branches,
        serde_json::json!({ "metrics": ["l_acc"] }),
        expect![[r#"
            # Comparison

            Differences are the first branch minus the second, on the items both have. Intervals are at 95 %: Student's t over
            the per-seed differences (the headline), and a bootstrap of seeds and of item clusters within them (200 resamples).
            Holm's correction covers 0 tests.

            ## score-id

            | branch                     | metric | seeds |  mean |       interval |           over | items | coverage |
            |----------------------------|-------:|------:|------:|---------------:|---------------:|------:|---------:|
            | reward=label (baseline)    |  l_acc |     1 | 0.800 | [0.490, 0.943] | items (Wilson) |    10 |    1.000 |
            | reward=label-and-rationale |  l_acc |     2 | 0.750 | [0.115, 1.385] |          seeds |    20 |    1.000 |

            | difference                             | metric |   mean |         t over seeds |        bootstrap | p (Holm) | smallest detectable | McNemar p |
            |----------------------------------------|-------:|-------:|---------------------:|-----------------:|---------:|--------------------:|----------:|
            | reward=label-and-rationale minus label |  l_acc | +0.000 | one seed: items only | [+0.000, +0.000] |        – |                   – |     1.000 |

            - reward=label: failed for seed 1
            - reward=label-and-rationale minus label, l_acc: only one branch has seed 1
        "#]],
    );
}

#[test]
fn a_named_contrast_is_drawn_at_every_combination_of_the_other_axes_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let at = |bench: &str, reward: &str, fates: &str| {
        let mut branch = branch(folder.path(), bench, reward, "0", Some(&items(fates)));
        branch.stage = "score".into();
        branch.labels.insert("bench".into(), bench.into());
        branch
    };
    let branches = vec![
        at("id", "label", "sscww"),
        at("bal", "label", "swwww"),
        at("id", "label-and-rationale", "ccccw"),
        at("bal", "label-and-rationale", "ccccc"),
    ];
    let contrast = serde_json::json!({ "axis": "reward", "of": "label-and-rationale", "against": "label" });
    let [table, _, metrics] =
        run_on(folder.path(), branches, serde_json::json!({ "metrics": ["l_acc"], "contrast": contrast })).unwrap();
    let differences: Vec<&str> = table.lines().filter(|line| line.contains(" minus label at ")).collect();
    expect![[r#"
        | reward=label-and-rationale minus label at bench=id  |  l_acc | +0.200 | one seed: items only | [+0.000, +0.500] |        – |                   – |     1.000 |
        | reward=label-and-rationale minus label at bench=bal |  l_acc | +0.800 | one seed: items only | [+0.500, +1.000] |        – |                   – |     0.125 |"#]].assert_eq(&differences.join("\n"));
    expect![[r#"
        {
          "score:l_acc:reward=label-and-rationale minus label at bench=bal": 0.8,
          "score:l_acc:reward=label-and-rationale minus label at bench=bal/high": 1.0,
          "score:l_acc:reward=label-and-rationale minus label at bench=bal/low": 0.5,
          "score:l_acc:reward=label-and-rationale minus label at bench=id": 0.20000000000000007,
          "score:l_acc:reward=label-and-rationale minus label at bench=id/high": 0.5,
          "score:l_acc:reward=label-and-rationale minus label at bench=id/low": 0.0
        }
    "#]]
    .assert_eq(&metrics);
}

#[test]
fn a_named_contrast_turns_the_difference_round() {
    let contrast = serde_json::json!({ "axis": "reward", "of": "label", "against": "label-and-rationale" });
    let [_, _, metrics] = run(&THREE_SEEDS, serde_json::json!({ "metrics": ["l_acc"], "contrast": contrast })).unwrap();
    expect![[r#"
        {
          "score-id:l_acc:reward=label minus label-and-rationale": 0.0666666666666667,
          "score-id:l_acc:reward=label minus label-and-rationale/high": 0.3535101820000001,
          "score-id:l_acc:reward=label minus label-and-rationale/low": -0.2201768486666667
        }
    "#]]
    .assert_eq(&metrics);
    let unknown = serde_json::json!({ "axis": "kl", "of": "0", "against": "1" });
    let error = run(&THREE_SEEDS, serde_json::json!({ "contrast": unknown })).unwrap_err();
    expect!["no two branches differ by `kl` being `0` and `1` alone"].assert_eq(&error.message);
}

#[test]
fn an_unknown_metric_is_an_error_that_lists_the_known_ones() {
    let error = run(&THREE_SEEDS, serde_json::json!({ "metrics": ["exact_match"] })).unwrap_err();
    assert_eq!(error.message, "no item has what metric `exact_match` needs");
    assert_eq!(error.hint.unwrap(), "the items have: faithful, label_correct, spurious");
}

#[test]
fn an_item_that_stands_twice_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.jsonl");
    jsonl::write(&path, [item(3, &[]), item(3, &[])]).unwrap();
    assert!(load(&path).unwrap_err().message.ends_with("items.jsonl: item `item-3` stands twice"));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(run(&THREE_SEEDS, serde_json::json!({})).unwrap(), run(&THREE_SEEDS, serde_json::json!({})).unwrap());
}

// Five seeds of 60 items: each seed moves the true difference by a sd of about 3 points, items add theirs.
fn coverage(true_difference: f64) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(2602);
    let metric = Metric::named("right");
    let runs = 1000;
    let covered = (0..runs).filter(|_| {
        let differences: Vec<f64> = (0..5).map(|_| seed_difference(&mut random, &metric, true_difference)).collect();
        let interval = over_seeds(&differences, 0.95).unwrap().interval;
        interval.low <= true_difference && true_difference <= interval.high
    });
    covered.count() as f64 / f64::from(runs)
}

fn seed_difference(random: &mut ChaCha8Rng, metric: &Metric, true_difference: f64) -> f64 {
    // The sum of four uniform numbers is near enough to normal, with variance 1/3.
    let shift = (0..4).map(|_| random.random_range(-0.5..0.5)).sum::<f64>() * 0.05;
    let mut branch = |rate: f64| -> Vec<ItemRow> {
        (0..60).map(|id| item(id, &[("right", Some(f64::from(u8::from(random.random_bool(rate)))))])).collect()
    };
    let (of, against) = (branch(0.6 + true_difference + shift), branch(0.6));
    Pairing::of(metric, &of, &against).difference().unwrap()
}

#[test]
fn the_headline_interval_covers_the_truth_under_the_null_and_under_a_difference() {
    for true_difference in [0.0, 0.2] {
        let covered = coverage(true_difference);
        assert!((0.94..=0.97).contains(&covered), "at {true_difference} the interval covers {covered}");
    }
}
