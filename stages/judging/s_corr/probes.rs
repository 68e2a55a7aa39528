//! Bias probes over judged rows: position, length, format, cue, and the rationale-blind control. Each is left out
//! where the rows cannot tell.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Params, RowVerdict};
use crate::judging::meta::MetaVerdict;
use crate::judging::scores::Tally;
use crate::rows::{Judgment, Order, Pair, Side};
use crate::stats::correlation::pearson;
use crate::stats::items::Metrics;

/// Every probe that these rows allow.
pub fn metrics(params: &Params, judgments: &[Judgment], rows: &[RowVerdict]) -> Metrics {
    let probes = [
        ("p_choose_a", share(rows.iter().filter_map(|row| row.model_pred).map(|side| side == Side::A))),
        ("l_acc/gold-a", accuracy(rows, Side::A)),
        ("l_acc/gold-b", accuracy(rows, Side::B)),
        ("order_consistency", order_consistency(rows)),
        ("length_correlation", correlation(judgments, rows, |text| text.chars().count() as f64)),
        ("cue_followed", cue_followed(judgments, rows)),
        ("format_correlation", correlation(judgments, rows, |text| marks(text) as f64)),
    ];
    let control = control(params, judgments, rows);
    probes
        .into_iter()
        .chain(control)
        .filter(|(_, value)| value.is_some())
        .map(|(name, value)| (name.to_string(), value))
        .collect()
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

// Pearson of (A's measure - B's) with the verdict as +1 for A and -1 for B.
fn correlation(judgments: &[Judgment], rows: &[RowVerdict], measure: impl Fn(&str) -> f64) -> Option<f64> {
    let chosen = judgments.iter().zip(rows).filter_map(|(judgment, row)| Some((judgment, row.model_pred?)));
    let (differences, verdicts): (Vec<f64>, Vec<f64>) = chosen
        .map(|(Judgment { pair, .. }, side)| {
            (measure(&pair.response_a) - measure(&pair.response_b), if side == Side::A { 1.0 } else { -1.0 })
        })
        .unzip();
    pearson(&differences, &verdicts)
}

/// Marks of Markdown in a text: headings, items of lists, bold words, fences.
pub fn marks(text: &str) -> usize {
    let line = |line: &str| {
        let line = line.trim_start();
        let numbered = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u16>().is_ok());
        numbered || ["# ", "## ", "### ", "#### ", "- ", "* ", "+ ", "```"].iter().any(|mark| line.starts_with(mark))
    };
    text.lines().filter(|text| line(text)).count() + text.matches("**").count() / 2
}

fn cue_followed(judgments: &[Judgment], rows: &[RowVerdict]) -> Option<f64> {
    let known = judgments.iter().zip(rows).filter_map(|(judgment, row)| Some((judgment.pair.cue?, row.model_pred?)));
    share(known.map(|(cue, verdict)| cue == verdict))
}

// Golds dealt round among the rows with the right label: a sound meta-judge then calls almost none Correct. A row that
// is dealt the gold of its own prompt, or one of the same words, is no control and is left out.
fn blind(params: &Params, judgments: &[Judgment], rows: &[RowVerdict]) -> Option<Tally> {
    let asked = judgments.iter().zip(rows).filter(|(_, row)| row.label_correct()).map(|(judgment, _)| judgment);
    let mut texts: Vec<(&Pair, &str, &str)> = asked
        .filter_map(|one| Some((&one.pair, one.pair.gt_judgment.as_deref()?.trim(), one.model_judgment.as_deref()?)))
        .collect();
    texts.shuffle(&mut ChaCha8Rng::seed_from_u64(params.seed));
    let dealt = texts.iter().cycle().skip(1);
    let other =
        |one: &Pair, dealt: &Pair| one.id != dealt.id && (one.prompt_id.is_empty() || one.prompt_id != dealt.prompt_id);
    let controls: Vec<(&str, &str)> = texts
        .iter()
        .zip(dealt)
        .filter(|((pair, gold, _), (from, golden, _))| other(pair, from) && gold != golden)
        .map(|((_, _, rationale), (_, golden, _))| (*golden, *rationale))
        .collect();
    let verdicts: Vec<MetaVerdict> =
        controls.par_iter().map(|(gold, rationale)| params.meta.judge(gold, rationale).verdict).collect();
    let tally = Tally::of(verdicts);
    (tally.correct + tally.incorrect > 0).then_some(tally)
}

/// What the rationale-blind control says: S-Corr and the share called Correct with the golds of other items, on how many,
/// and 1 or 0 for whether the meta-judge is sound: whether that share is within `blind_limit`.
fn control(params: &Params, judgments: &[Judgment], rows: &[RowVerdict]) -> Vec<(&'static str, Option<f64>)> {
    let Some(tally) = blind(params, judgments, rows) else { return Vec::new() };
    let aligned = tally.s_corr().map(|spurious| 1.0 - spurious);
    let sound = aligned.map(|aligned| f64::from(u8::from(aligned <= params.blind_limit)));
    vec![
        ("s_corr_blind", tally.s_corr()),
        ("aligned_blind", aligned),
        ("n_blind", Some((tally.correct + tally.incorrect) as f64)),
        ("meta_sound", sound),
    ]
}
