//! `plumb cache ls`: the results, with what they weigh and cost.

use std::path::Path;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use plumb_cache::{Kept, Store, Testimony};
use plumb_engine::pipeline::matches;
use plumb_engine::upstream::Reading;
use serde::Serialize;

use super::bar::Bar;
use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::table::{Cell, Table};
use crate::testimony;
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb cache ls --sort size -n 20
  plumb cache ls --stage train --pipeline r-align
  plumb cache ls 'train@reward=label'     results of these steps
  plumb cache ls 3fa9                     by the first digits of the key
  plumb cache ls --sort age --older 30d";

/// `plumb cache ls`.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    /// Only results of this step (`*` is any text), or whose key begins so
    #[arg(value_name = "STEP|KEY")]
    pub only: Option<String>,
    /// Only results of this stage
    #[arg(long, value_name = "NAME")]
    pub stage: Option<String>,
    /// Only results of this pipeline, by its name
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// Only results older than this, as `36h` or `30d`
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    pub older: Option<std::time::Duration>,
    /// Only results of at least this size, as `500MB` or `2GiB`
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub larger: Option<u64>,
    /// Read the lists of layers too, to say who else has made the same
    #[arg(long)]
    pub layers: bool,
    /// Only disowned results, and what was made from them
    #[arg(long)]
    pub disowned: bool,
    /// What comes first: the largest, the oldest, the dearest, or by name
    #[arg(long, value_enum, default_value_t = Order::Step)]
    pub sort: Order,
    /// At most so many
    #[arg(short, long, value_name = "N")]
    pub number: Option<usize>,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By name
    Step,
    /// The largest
    Size,
    /// The oldest
    Age,
    /// What took longest
    Cost,
}

/// One result for machines.
#[derive(Debug, Serialize)]
struct Line<'a> {
    key: String,
    step: &'a str,
    stage: &'a str,
    pipeline: &'a str,
    bytes: u64,
    files: u64,
    made_at: &'a str,
    made_by: &'a str,
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_memory_bytes: u64,
    pinned: bool,
    disowned: bool,
    /// It was made from a disowned result.
    derived: bool,
    witness: bool,
    /// Who has made it and is believed, each once.
    reproduced_by: &'a [String],
    /// Who says the same and is not trusted.
    not_counted: &'a [String],
    /// How many other results its action has.
    others: usize,
}

/// Runs the command.
pub fn run(context: &Context, args: &LsArgs) -> Result<Exit, Trouble> {
    let store = match args.layers {
        true => context.store_asking(Path::new("."), Reading::default())?,
        false => context.store()?,
    };
    store.read_layers();
    let bar = Bar::new(context, "looking at every result");
    let mut kept = store.census()?.kept;
    drop(bar);
    let now = Timestamp::now();
    kept.retain(|kept| is_asked_for(args, kept, now));
    let marks = Marks::of(&store, &kept)?;
    kept.retain(|kept| !args.disowned || marks.bears(kept) || marks.derived.contains(&(kept.action, kept.result)));
    sort(&mut kept, args.sort);
    let all = kept.len();
    kept.truncate(args.number.unwrap_or(usize::MAX));
    let marks = marks.hearing(&store, &kept)?;
    if args.form.json {
        context.printer.json(&kept.iter().map(|kept| marks.line(kept)).collect::<Vec<_>>());
    } else if kept.is_empty() {
        context.printer.note("no such results");
    } else {
        context.printer.table(&marks.table(&kept, now));
        let bytes = units::size(kept.iter().map(Kept::size).sum());
        let more = if all > kept.len() { format!(" of {}", units::count(all as u64)) } else { String::new() };
        context.printer.note(&format!("{}{more}, {bytes}", units::plural(kept.len(), "result")));
    }
    Ok(Exit::Done)
}

fn is_asked_for(args: &LsArgs, kept: &Kept, now: Timestamp) -> bool {
    let named = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let only = args.only.as_ref().is_none_or(|only| {
        matches(only, &kept.step) || kept.stage == *only || kept.action.to_string().starts_with(&only.to_lowercase())
    });
    let older = args.older.is_none_or(|age| seconds_since(&kept.made_at, now).is_none_or(|old| old > age.as_secs()));
    let larger = args.larger.is_none_or(|size| kept.size() >= size);
    only && named(&args.stage, &kept.stage) && named(&args.pipeline, &kept.pipeline) && older && larger
}

fn seconds_since(when: &str, now: Timestamp) -> Option<u64> {
    let when: Timestamp = when.parse().ok()?;
    Some(u64::try_from(now.duration_since(when).as_secs()).unwrap_or(0))
}

fn sort(kept: &mut [Kept], order: Order) {
    // Ties, and everything in the end, by name: two listings of one cache are the same.
    kept.sort_by(|one, other| {
        (&one.pipeline, &one.step, one.action).cmp(&(&other.pipeline, &other.step, other.action))
    });
    match order {
        Order::Step => {}
        Order::Size => kept.sort_by_key(|kept| std::cmp::Reverse(kept.size())),
        Order::Age => kept.sort_by(|one, other| one.made_at.cmp(&other.made_at)),
        Order::Cost => kept.sort_by(|one, other| other.cost.wall_seconds.total_cmp(&one.cost.wall_seconds)),
    }
}

/// What is pinned and what is disowned.
struct Marks {
    pinned: std::collections::BTreeSet<plumb_cache::ActionKey>,
    disowned: std::collections::BTreeSet<(plumb_cache::ActionKey, plumb_cache::Digest)>,
    /// Results that were made from disowned ones.
    derived: std::collections::BTreeSet<(plumb_cache::ActionKey, plumb_cache::Digest)>,
    /// What is said of results, where it is more than one word.
    said: std::collections::BTreeMap<(plumb_cache::ActionKey, plumb_cache::Digest), Testimony>,
}

impl Marks {
    fn of(store: &Store, kept: &[Kept]) -> Result<Marks, Trouble> {
        let pinned = store.pins()?.into_iter().map(|pin| pin.action).collect();
        let disowned = store.all_disowned()?.into_iter().map(|mark| (mark.action, mark.result)).collect();
        let mut marks = Marks { pinned, disowned, derived: Default::default(), said: Default::default() };
        if marks.disowned.is_empty() {
            return Ok(marks);
        }
        for kept in kept.iter().filter(|kept| !kept.witness) {
            if marks.bears(kept) {
                continue;
            }
            if let Some(record) = store.record(&kept.action)?
                && store.disowned(&record)?.is_some()
            {
                marks.derived.insert((kept.action, kept.result));
            }
        }
        Ok(marks)
    }

    /// With what others say of these. Where nobody has a word in this cache, nobody is asked.
    fn hearing(mut self, store: &Store, kept: &[Kept]) -> Result<Marks, Trouble> {
        if !store.hears_others() {
            return Ok(self);
        }
        for kept in kept.iter().filter(|kept| !kept.witness) {
            if let Some(record) = store.record(&kept.action)? {
                self.said.insert((kept.action, kept.result), store.testimony(&record)?);
            }
        }
        Ok(self)
    }

    fn bears(&self, kept: &Kept) -> bool {
        self.disowned.contains(&(kept.action, kept.result))
    }

    fn line<'a>(&'a self, kept: &'a Kept) -> Line<'a> {
        let said = self.said.get(&(kept.action, kept.result));
        Line {
            key: kept.action.to_string(),
            step: &kept.step,
            stage: &kept.stage,
            pipeline: &kept.pipeline,
            bytes: kept.size(),
            files: kept.outputs.iter().map(|(_, artifact, _)| artifact.files).sum(),
            made_at: &kept.made_at,
            made_by: &kept.made_by,
            wall_seconds: kept.cost.wall_seconds,
            cpu_seconds: kept.cost.cpu_seconds,
            peak_memory_bytes: kept.cost.peak_memory_bytes,
            pinned: self.pinned.contains(&kept.action),
            disowned: self.bears(kept),
            derived: self.derived.contains(&(kept.action, kept.result)),
            witness: kept.witness,
            reproduced_by: said.map_or(&[], |said| &said.reproduced_by),
            not_counted: said.map_or(&[], |said| &said.not_counted),
            others: said.map_or(0, |said| said.others.len()),
        }
    }

    fn table(&self, kept: &[Kept], now: Timestamp) -> Table {
        let mut table = Table::new(["step", "pipeline", "key", "size", "age", "took", "by", ""]);
        for kept in kept {
            let line = self.line(kept);
            let marks = [
                (line.pinned, "pinned"),
                (line.disowned, "disowned"),
                (line.derived, "made from disowned"),
                (line.witness, "witness"),
            ];
            let again = self.said.get(&(kept.action, kept.result)).and_then(testimony::reproduced);
            let marks = marks.into_iter().filter(|(is, _)| *is).map(|(_, name)| name.to_owned());
            let marks: Vec<String> = marks.chain(again).collect();
            table.row([
                Cell::from(kept.step.as_str()),
                kept.pipeline.as_str().into(),
                Cell::toned(Tone::Faint, kept.action.short()),
                Cell::number(units::size(line.bytes)),
                Cell::number(seconds_since(&kept.made_at, now).map_or_else(|| "?".into(), units::age)),
                Cell::number(units::seconds(kept.cost.wall_seconds)),
                kept.made_by.as_str().into(),
                Cell::toned(Tone::Warn, marks.join(", ")),
            ]);
        }
        table
    }
}
