//! What sharing saved: whose results runs used or layers brought, by person and stage. Each result counts once, however
//! often it was a hit. Nothing is counted of what was not brought: an input that nobody needed, since what was made from
//! it came.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use plumb_cache::{ActionKey, ActionRecord, Census, Kept, Policy, Store};
use serde::Serialize;

use crate::error::EngineError;
use crate::history;
use crate::maker;

/// The results of one person and stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The name of the key that signed them, or the start of the key; `user@host` of what nobody signed.
    pub who: String,
    /// Whether they were made here, by the same user on the same machine: nothing was shared.
    pub own: bool,
    /// The stage.
    pub stage: String,
    /// How many there are.
    pub results: usize,
    /// How often a run used one instead of making it.
    pub hits: usize,
    /// What making them took: wall time times GPUs.
    pub gpu_seconds: f64,
    /// Of all cores.
    pub cpu_seconds: f64,
    /// From start to end.
    pub wall_seconds: f64,
    /// Bytes of their outputs.
    pub bytes: u64,
}

/// GPU time of a result: its wall time times the GPUs that it was given, as far as its record says.
pub fn gpu_seconds(record: &ActionRecord) -> f64 {
    let said = |name: &str| record.environment.get(name).map(String::as_str);
    // Records from before the number was kept say what was asked for.
    let asked = || said("resources")?.split(", ").find_map(|part| part.strip_prefix("gpu "));
    let gpus = said("gpus").or_else(asked).and_then(|gpus| gpus.parse::<u32>().ok()).unwrap_or(0);
    record.cost.wall_seconds * f64::from(gpus)
}

/// The shares of everybody, those of others first, then by what they saved.
pub fn shares(store: &Store, census: &Census, people: &Policy) -> Result<Vec<Share>, EngineError> {
    let brought = store.signed_actions()?;
    let hits = hits(store, census, &brought)?;
    let mut shares: BTreeMap<(String, String), Share> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let results = census.kept.iter().filter(|kept| !kept.witness).chain(&census.past);
    for kept in results.filter(|kept| seen.insert(kept.action)) {
        let hits = hits.get(&kept.action).copied().unwrap_or(0);
        let came = brought.contains(&kept.action);
        // The record of an ancestor that came without its bytes saved nothing.
        let was_here = !census.past.contains(kept) || store.collected_at(&kept.action).is_some();
        if hits == 0 && !(came && was_here) {
            continue;
        }
        let Some(record) = store.remembered(&kept.action)? else { continue };
        let (who, own) = maker_of(store, kept, people)?;
        let share =
            shares.entry((who.clone(), kept.stage.clone())).or_insert_with(|| Share::none(who, own, &kept.stage));
        share.add(kept, hits, gpu_seconds(&record));
    }
    let mut shares: Vec<Share> = shares.into_values().collect();
    let saved = |share: &Share| (share.gpu_seconds, share.cpu_seconds);
    shares.sort_by(|one, other| {
        one.own.cmp(&other.own).then(saved(other).partial_cmp(&saved(one)).unwrap_or(std::cmp::Ordering::Equal))
    });
    Ok(shares)
}

impl Share {
    fn none(who: String, own: bool, stage: &str) -> Self {
        let (gpu_seconds, cpu_seconds, wall_seconds) = (0.0, 0.0, 0.0);
        Self { who, own, stage: stage.into(), results: 0, hits: 0, gpu_seconds, cpu_seconds, wall_seconds, bytes: 0 }
    }

    fn add(&mut self, kept: &Kept, hits: usize, gpu_seconds: f64) {
        self.results += 1;
        self.hits += hits;
        self.gpu_seconds += gpu_seconds;
        self.cpu_seconds += kept.cost.cpu_seconds;
        self.wall_seconds += kept.cost.wall_seconds;
        self.bytes += kept.size();
    }
}

/// How many runs used a result that was there before they began, or that came from others.
fn hits(
    store: &Store,
    census: &Census,
    brought: &BTreeSet<ActionKey>,
) -> Result<BTreeMap<ActionKey, usize>, EngineError> {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let made: BTreeMap<ActionKey, Option<Timestamp>> =
        census.past.iter().chain(&census.kept).map(|kept| (kept.action, time(&kept.made_at))).collect();
    let runs = history::runs(store, None)?.into_iter().map(|run| (run.id, time(&run.started_at)));
    let started: BTreeMap<String, Option<Timestamp>> = runs.collect();
    let mut hits = BTreeMap::new();
    for (run, used) in store.used_by_runs()? {
        let Some(Some(start)) = started.get(&run) else { continue };
        let before = |action: &ActionKey| made.get(action).copied().flatten().is_some_and(|made| made < *start);
        for action in used.into_iter().filter(|action| brought.contains(action) || before(action)) {
            *hits.entry(action).or_default() += 1;
        }
    }
    Ok(hits)
}

fn maker_of(store: &Store, kept: &Kept, people: &Policy) -> Result<(String, bool), EngineError> {
    let signed = store.signed_by_others(&kept.action)?;
    Ok(match signed.iter().find(|signed| signed.record().result_digest() == kept.result) {
        Some(signed) => {
            let key = signed.signer();
            let name = people.name(&key).map_or_else(|| format!("{}…", &key.to_string()[..20]), str::to_owned);
            (name, false)
        }
        None if kept.made_by == maker::name() => ("you".into(), true),
        None => (kept.made_by.clone(), false),
    })
}
