//! Bias probes over judged rows: position, length, cue, and the rationale-blind control. Each is left out
//! where the rows cannot tell.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Params, RowVerdict};
use crate::judging::scores::Tally;
use crate::rows::{Judgment, Order, Side};
use crate::stats::correlation::pearson;
use crate::stats::items::Metrics;

/// Every probe that these rows allow.
pub fn metrics(params: &Params, judgments: &[Judgment], rows: &[RowVerdict]) -> Metrics {
    let probes = [
        ("p_choose_a", share(rows.iter().filter_map(|row| row.model_pred).map(|side| side == Side::A))),
        ("l_acc/gold-a", accuracy(rows, Side::A)),
        ("l_acc/gold-b", accuracy(rows, Side::B)),
        ("order_consistency", order_consistency(rows)),
        ("length_correlation", length_correlation(judgments, rows)),
        ("cue_followed", cue_followed(judgments, rows)),
        ("s_corr_blind", blind(params, judgments, rows)),
    ];
    probes.into_iter().filter(|(_, value)| value.is_some()).map(|(name, value)| (name.to_string(), value)).collect()
}

fn share(flags: impl Iterator<Item = bool>) -> Option<f64> {
    let (hits, all) = flags.fold((0_u64, 0_u64), |(hits, all), flag| (hits + u64::from(flag), all + 1));
    (all > 0).then(|| hits as f64 / all as f64)
}

fn accuracy(rows: &[RowVerdict], gold: Side) -> Option<f64> {
    share(rows.iter().filter(|row| row.gt_label == gold).map(RowVerdict::label_correct))
}

// Share of pairs seen in both orders whose two verdicts name the same answer; a missing verdict is no agreement.
fn order_consistency(rows: &[RowVerdict]) -> Option<f64> {
    let mut pairs: BTreeMap<&str, Vec<Option<Side>>> = BTreeMap::new();
    for row in rows {
        let in_original_order = match row.order {
            Order::Original => row.model_pred,
            Order::Swapped => row.model_pred.map(Side::other),
        };
        pairs.entry(&row.id).or_default().push(in_original_order);
    }
    let both = pairs.values().filter(|verdicts| verdicts.len() == 2);
    share(both.map(|verdicts| verdicts[0].is_some() && verdicts[0] == verdicts[1]))
}

// Pearson of (length of A - length of B) with the verdict as +1 for A and -1 for B.
fn length_correlation(judgments: &[Judgment], rows: &[RowVerdict]) -> Option<f64> {
    let chosen = judgments.iter().zip(rows).filter_map(|(judgment, row)| Some((judgment, row.model_pred?)));
    let length = |text: &str| text.chars().count() as f64;
    let (lengths, verdicts): (Vec<f64>, Vec<f64>) = chosen
        .map(|(Judgment { pair, .. }, side)| {
            (length(&pair.response_a) - length(&pair.response_b), if side == Side::A { 1.0 } else { -1.0 })
        })
        .unzip();
    pearson(&lengths, &verdicts)
}

fn cue_followed(judgments: &[Judgment], rows: &[RowVerdict]) -> Option<f64> {
    let known = judgments.iter().zip(rows).filter_map(|(judgment, row)| Some((judgment.pair.cue?, row.model_pred?)));
    share(known.map(|(cue, verdict)| cue == verdict))
}

// Golds dealt round among the rows with the right label: a sound meta-judge then calls almost all Incorrect (near 1).
fn blind(params: &Params, judgments: &[Judgment], rows: &[RowVerdict]) -> Option<f64> {
    let asked = judgments.iter().zip(rows).filter(|(_, row)| row.label_correct());
    let mut texts: Vec<(&str, &str)> = asked
        .filter_map(|(judgment, _)| Some((judgment.pair.gt_judgment.as_deref()?, judgment.model_judgment.as_deref()?)))
        .collect();
    texts.shuffle(&mut ChaCha8Rng::seed_from_u64(params.seed));
    let golds = texts.iter().map(|(gold, _)| gold).cycle().skip(1);
    let verdicts = texts.iter().zip(golds).map(|((_, rationale), gold)| params.meta.judge(gold, rationale).verdict);
    (texts.len() > 1).then(|| Tally::of(verdicts).s_corr()).flatten()
}
