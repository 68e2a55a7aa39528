//! `plumb cache disown` and `own`: results that are not to be used, nor what was made from them, and those taken back.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use plumb_cache::{ActionKey, ActionRecord, Mark, PublicKey, Store};
use plumb_engine::config::{Config, Home};
use plumb_engine::{clock, maker, nearest};
use serde::Serialize;

use super::share::{Pulpit, Said, ShareArgs};
use super::target::{Targets, by_prefix, is_pipeline};
use crate::args::{Form, Pipeline, Variant};
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb cache disown r-align.toml judge --reason 'the key had expired'
  plumb cache disown --key 3fa94c --reason 'a broken GPU'
  plumb cache disown --signer bob --since 2026-11-01 --reason 'wrong labels'
  plumb cache disown r-align.toml judge --reason 'a broken GPU' --share
  plumb cache own 3fa94c                  take it back; with `--share` what was shared, too

Nothing is deleted. A disowned result is not found any more, nor is what was made from it, and `plumb why` says so; the
step runs again when it is asked for, and the mark goes if it makes the same bytes. The marks are those of this cache;
with `--share` they also go into a layer, signed, and whoever trusts you obeys them from the next time that the layer is
read (`plumb status`, `why`, a plan that misses something). With `--signer`, `--share` marks what this person has in the
layer, too. With `--since` the signer's own dates count: leave it out for a key that was stolen, and type `plumb key
distrust` as well.";

/// `plumb cache disown`.
#[derive(Debug, Clone, Args)]
pub struct DisownArgs {
    /// A pipeline file and its steps [default: its goals], or the first digits of keys
    #[arg(value_name = "FILE [STEP…] | KEY…", required_unless_present_any = ["key", "signer"])]
    pub targets: Vec<String>,
    /// The result with a key that begins so
    #[arg(long, value_name = "KEY", conflicts_with_all = ["targets", "signer"])]
    pub key: Option<String>,
    /// Every result here that this person has signed: a name of `plumb key list`, or a public key
    #[arg(long, value_name = "NAME", conflicts_with = "targets")]
    pub signer: Option<String>,
    /// Of these only what was made since, as `2026-11-01` or `2026-11-01T09:00:00Z`
    #[arg(long, value_name = "DATE", requires = "signer", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Why, for whoever misses the result
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Whether others are told.
    #[command(flatten)]
    pub sharing: ShareArgs,
    /// Only say what would be marked
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How the pipeline is instantiated.
    #[command(flatten)]
    pub variant: Variant,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// `plumb cache own`.
#[derive(Debug, Clone, Args)]
pub struct OwnArgs {
    /// What to take back: a pipeline file and its steps [default: its goals], or the first digits of keys
    #[command(flatten)]
    pub targets: Targets,
    /// Whether others are told.
    #[command(flatten)]
    pub sharing: ShareArgs,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    disowned: Vec<Line>,
    /// Results that were made from these, directly or not.
    derived: Vec<Line>,
    /// The layer that others are told through.
    shared: Option<String>,
}

/// One result.
#[derive(Debug, Serialize)]
struct Line {
    key: String,
    step: String,
}

impl Line {
    fn new(action: &ActionKey, step: &str) -> Line {
        Line { key: action.to_string(), step: step.to_owned() }
    }

    fn told(&self) -> String {
        format!("{} ({})", self.step, &self.key[..12])
    }
}

/// Disowns.
pub fn disown(context: &Context, args: &DisownArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let records = chosen(context, &store, args)?;
    let pulpit = pulpit(context, &store, &args.sharing)?;
    let elsewhere = match (&pulpit, &args.signer) {
        (Some(pulpit), Some(signer)) => in_layer(pulpit, &store, signer, args.since, &records)?,
        _ => Vec::new(),
    };
    let mark = Mark { reason: args.reason.clone(), by: maker::name(), at: clock::now() };
    if !args.dry_run {
        for record in &records {
            store.disown(&record.action, mark.clone())?;
        }
    }
    let records: Vec<ActionRecord> = records.into_iter().chain(elsewhere).collect();
    if let Some(pulpit) = pulpit.as_ref().filter(|_| !args.dry_run) {
        pulpit.say(&store, records.iter().map(said).collect(), Some(&args.reason))?;
    }
    let disowned = records.iter().map(|record| Line::new(&record.action, &record.step)).collect();
    let marked = records.iter().map(|record| record.action).collect();
    let shared = pulpit.map(|pulpit| pulpit.name);
    let report = Report { dry_run: args.dry_run, disowned, derived: derived(&store, &marked)?, shared };
    if args.form.json {
        context.printer.json(&report);
        return Ok(Exit::Done);
    }
    let done = if args.dry_run { "would disown" } else { "disowned" };
    for line in &report.disowned {
        context.printer.note(&format!("{done} {}", line.told()));
    }
    for line in &report.derived {
        context.printer.note(&format!("  from it was made {}", line.told()));
    }
    match &report.shared {
        _ if report.disowned.is_empty() => context.printer.note("no such results"),
        Some(layer) if !args.dry_run => {
            context.printer.note(&format!("shared in `{layer}`: whoever trusts you obeys it"))
        }
        _ => {}
    }
    Ok(Exit::Done)
}

/// Takes marks back.
pub fn own(context: &Context, args: &OwnArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let pulpit = pulpit(context, &store, &args.sharing)?;
    let signer = pulpit.as_ref().map(Pulpit::signer);
    let mut lines = Vec::new();
    let meant = meant(context, &store, &args.targets, signer)?;
    for (action, step) in &meant {
        store.own(action)?;
        lines.push(Line::new(action, step));
    }
    if let Some(pulpit) = &pulpit {
        let own = store.last_words()?.into_iter().filter(|((by, _), word)| *by == pulpit.signer() && !word.taken_back);
        let results = own.filter(|((_, made), _)| meant.contains_key(&made.action));
        let said = results.map(|((_, made), word)| Said { action: made.action, result: made.result, step: word.step });
        pulpit.say(&store, said.collect(), None)?;
    }
    if args.form.json {
        context.printer.json(&lines);
        return Ok(Exit::Done);
    }
    for line in &lines {
        context.printer.note(&format!("took back {}", line.told()));
    }
    if lines.is_empty() {
        context.printer.note("none of these is disowned");
    } else if let Some(pulpit) = &pulpit {
        context.printer.note(&format!("what you had shared of it in `{}` is taken back, too", pulpit.name));
    }
    Ok(Exit::Done)
}

fn pulpit(context: &Context, store: &Store, args: &ShareArgs) -> Result<Option<Pulpit>, Trouble> {
    args.share.then(|| Pulpit::open(context, store, args)).transpose()
}

fn said(record: &ActionRecord) -> Said {
    Said { action: record.action, result: record.result_digest(), step: record.step.clone() }
}

/// What this person has signed in a layer, beside what is here: others have it, or will.
fn in_layer(
    pulpit: &Pulpit,
    store: &Store,
    signer: &str,
    since: Option<Timestamp>,
    here: &[ActionRecord],
) -> Result<Vec<ActionRecord>, Trouble> {
    let key = key_of(signer)?;
    let known: BTreeSet<_> = here.iter().map(ActionRecord::realisation).collect();
    let catalogue = pulpit.layer.catalogue(store)?;
    let signed = catalogue.entries().iter().filter_map(|entry| entry.record()).filter(|signed| signed.signer() == key);
    let records = signed.map(|signed| signed.record().clone()).filter(|record| !is_early(record, since));
    let new: BTreeMap<_, _> = records.map(|record| (record.realisation(), record)).collect();
    Ok(new.into_iter().filter(|(made, _)| !known.contains(made)).map(|(_, record)| record).collect())
}

/// A date that does not read might be any.
fn is_early(record: &ActionRecord, since: Option<Timestamp>) -> bool {
    since.is_some_and(|since| record.made_at.parse::<Timestamp>().is_ok_and(|made| made < since))
}

fn chosen(context: &Context, store: &Store, args: &DisownArgs) -> Result<Vec<ActionRecord>, Trouble> {
    if let Some(signer) = &args.signer {
        return of_signer(store, signer, args.since);
    }
    if let Some(key) = &args.key {
        return Ok(vec![by_prefix(store, key)?.record]);
    }
    let targets = Targets { targets: args.targets.clone(), variant: args.variant.clone() };
    Ok(targets.resolve(context, store)?.into_iter().map(|target| target.record).collect())
}

/// Results that are here by the word of this signer.
fn of_signer(store: &Store, signer: &str, since: Option<Timestamp>) -> Result<Vec<ActionRecord>, Trouble> {
    let key = key_of(signer)?;
    let mut found: BTreeMap<ActionKey, ActionRecord> = BTreeMap::new();
    for signed in store.signed_by(&key)? {
        let record = signed.record();
        let here = store.record(&record.action)?.filter(|here| here.result_digest() == record.result_digest());
        found.extend(here.filter(|_| !is_early(record, since)).map(|here| (here.action, here)));
    }
    Ok(found.into_values().collect())
}

fn key_of(signer: &str) -> Result<PublicKey, Trouble> {
    if let Ok(key) = signer.parse() {
        return Ok(key);
    }
    let config = Config::read(Home::find().as_ref(), std::path::Path::new("."))?;
    config.keys.get(signer).copied().ok_or_else(|| {
        let hint = nearest::hint("keys", signer, config.keys.keys().map(String::as_str));
        Trouble::Usage { message: format!("there is no key of `{signer}`"), hint }
    })
}

/// What was made from these, directly or not.
fn derived(store: &Store, marked: &BTreeSet<ActionKey>) -> Result<Vec<Line>, Trouble> {
    let census = store.census()?;
    let mut children: BTreeMap<ActionKey, Vec<usize>> = BTreeMap::new();
    for (index, kept) in census.kept.iter().enumerate() {
        kept.ancestry.iter().for_each(|above| children.entry(*above).or_default().push(index));
    }
    let mut found = BTreeMap::new();
    let mut waiting: Vec<ActionKey> = marked.iter().copied().collect();
    while let Some(action) = waiting.pop() {
        for index in children.get(&action).into_iter().flatten() {
            let kept = &census.kept[*index];
            if !marked.contains(&kept.action) && found.insert(kept.action, &kept.step).is_none() {
                waiting.push(kept.action);
            }
        }
    }
    let mut lines: Vec<Line> = found.iter().map(|(action, step)| Line::new(action, step)).collect();
    lines.sort_by(|one, other| (&one.step, &one.key).cmp(&(&other.step, &other.key)));
    Ok(lines)
}

/// The disowned results that are meant. A disowned step has no result that a plan would find, so the marks are asked
/// which of them are on results of these steps.
fn meant(
    context: &Context,
    store: &Store,
    targets: &Targets,
    signer: Option<PublicKey>,
) -> Result<BTreeMap<ActionKey, String>, Trouble> {
    let mut marked: BTreeMap<ActionKey, (String, String)> = BTreeMap::new();
    for mark in store.all_disowned()? {
        let record = store.record(&mark.action)?;
        let named = record.map(|record| (record.pipeline, record.step)).unwrap_or_default();
        marked.insert(mark.action, named);
    }
    // What was taken back here already may still be shared.
    let shared = store.last_words()?.into_iter().filter(|((by, _), word)| Some(*by) == signer && !word.taken_back);
    for ((_, made), word) in shared {
        let here = store.remembered(&made.action)?.map(|record| record.pipeline);
        marked.entry(made.action).or_insert_with(|| (here.unwrap_or_default(), word.step));
    }
    match targets.targets.split_first() {
        Some((file, steps)) if is_pipeline(file) => {
            let pipeline = Pipeline { file: file.into(), variant: targets.variant.clone() };
            let graph = context.load(&pipeline, steps)?;
            let names: BTreeSet<String> = graph.goals.iter().map(|id| graph.step(*id).address.to_string()).collect();
            marked.retain(|_, (pipeline, step)| *pipeline == graph.name && names.contains(step));
        }
        _ => marked.retain(|action, _| {
            let key = action.to_string();
            targets.targets.iter().any(|prefix| !prefix.is_empty() && key.starts_with(&prefix.to_lowercase()))
        }),
    }
    Ok(marked.into_iter().map(|(action, (_, step))| (action, step)).collect())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let midnight = text.parse::<Date>().and_then(|date| date.to_zoned(TimeZone::UTC));
    midnight.map(|midnight| midnight.timestamp()).map_err(|_| "a date is written as `2026-11-01`".into())
}
