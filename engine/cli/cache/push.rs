//! `plumb cache push`: results go to a layer, for others to use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Args;
use plumb_cache::{ActionKey, ActionRecord, Layer, Parcel, Pushed, Repair, SecretKey, Shipment, Store};
use plumb_engine::config::{Config, Home};
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::upstream::Reading;
use plumb_engine::{courier, history, layers, nearest};
use serde::Serialize;

use super::bar::Bar;
use super::target::{Targets, is_pipeline};
use crate::args::{Form, Variant};
use crate::context::Context;
use crate::exit::Exit;
use crate::key::of_key;
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb cache push r-align.toml                 the goals, to the layer that `write` names
  plumb cache push r-align.toml 'train@seed=*' --layer lab
  plumb cache push r-align.toml --run last      every result that the last run made or used
  plumb cache push                              what `push = \"always\"` could not send yet

The bytes of these results are sent, and the records of everything they were made from, signed with your key (`plumb key
new`). What the layer has is not sent again; a push that was cut goes on when it is typed again, and
`--repair` also replaces what was damaged there. Layers are named in `config.toml` beside the key: `[layer.lab]` with
`url = \"s3://bucket/folder\"` (or `gs://…`, `az://container/…`, a folder), and `write = \"lab\"`. With
`push = \"always\"` beside it `plumb run` sends what it makes after each step, in the background; what is not sent when
the run ends waits in the cache, and goes with the next run.";

/// `plumb cache push`.
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// A pipeline file and its steps [default: its goals], or the first digits of keys [default: what waits]
    #[arg(value_name = "FILE [STEP…] | KEY…")]
    pub targets: Vec<String>,
    /// How the pipeline is instantiated.
    #[command(flatten)]
    pub variant: Variant,
    /// Every result that this run of FILE made or used: its id as `plumb log` prints it, or its beginning, or `last`
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Read what the layer has of these results, and send again what is wrong
    #[arg(long)]
    pub repair: bool,
    /// The layer [default: `write` in the settings]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    layer: String,
    results: usize,
    new_records: usize,
    new_blobs: usize,
    new_bytes: u64,
    /// Results of the run whose bytes are not in this cache.
    not_here: usize,
}

/// What was asked for.
#[derive(Default)]
struct Asked {
    records: Vec<ActionRecord>,
    /// Those of which the layer is known to have something wrong.
    broken: Vec<ActionRecord>,
    not_here: usize,
}

/// Runs the command.
pub fn run(context: &Context, args: &PushArgs) -> Result<Exit, Trouble> {
    let home = Home::required()?;
    let targets = Targets { targets: args.targets.clone(), variant: args.variant.clone() };
    let config = Config::read(Some(&home), targets.folder())?;
    let (name, url) = chosen(&config, args.layer.as_deref())?;
    let key = SecretKey::read(&home.secret_key()).map_err(of_key)?;
    let key = key.ok_or_else(|| Trouble::usage("there is no key to sign with", "make one with `plumb key new`"))?;
    let store = context.store_asking(targets.file(), Reading::default())?;
    let layer = layers::open_to_write(name, url).map_err(Diagnostics::from)?;
    let asked = match (&args.run, args.targets.is_empty()) {
        (Some(run), _) => of_run(&store, &args.targets, run)?,
        (None, true) => of_outbox(&store, name)?,
        (None, false) => {
            let found = targets.resolve(context, &store)?.into_iter().map(|target| target.record);
            Asked { records: found.collect(), ..Asked::default() }
        }
    };
    let Asked { mut records, mut broken, not_here } = asked;
    if args.repair {
        broken.append(&mut records);
    }
    let results = records.len() + broken.len();
    let mut pushed = Pushed::default();
    for (repair, records) in [(Repair::No, records), (Repair::Yes, broken)] {
        if !records.is_empty() {
            pushed =
                pushed.and(send(context, &store, &layer, &Parcel::of(&store, records, &key, &|_, _| false)?, repair)?);
        }
    }
    if pushed.unconditional {
        context.printer.warning(&courier::unconditional(name));
    }
    tell(context, args.form, name, (results, not_here), pushed);
    Ok(Exit::Done)
}

/// What was sent waits no longer.
fn send(context: &Context, store: &Store, layer: &Layer, parcel: &Parcel, repair: Repair) -> Result<Pushed, Trouble> {
    let bar = Bar::new(context, "pushing");
    let progress = |progress| bar.show(progress);
    let shipped = layer.ship(store, Shipment { repair, progress: &progress, ..Shipment::of(parcel) })?;
    drop(bar);
    for (recipe, action) in &shipped.there {
        store.sent(layer.name(), recipe, action)?;
    }
    match shipped.lost.into_iter().next() {
        Some(lost) => Err(lost.into()),
        None => Ok(shipped.pushed),
    }
}

fn of_outbox(store: &Store, layer: &str) -> Result<Asked, Trouble> {
    let (broken, sound): (Vec<_>, Vec<_>) =
        store.waiting(layer)?.into_iter().partition(|waiting| waiting.repair == Repair::Yes);
    let records = |waiting: Vec<plumb_cache::Waiting>| waiting.into_iter().map(|waiting| waiting.record).collect();
    Ok(Asked { records: records(sound), broken: records(broken), not_here: 0 })
}

/// What a run made or used, for every recipe of its stages that came to it. What was disowned meanwhile is left out.
fn of_run(store: &Store, targets: &[String], asked: &str) -> Result<Asked, Trouble> {
    let [file] = targets else {
        let how = "type `plumb cache push FILE --run RUN`, without steps";
        return Err(Trouble::usage("`--run` takes all results of a run of one pipeline file", how));
    };
    let used: BTreeSet<ActionKey> = store.used_by(&run_of(store, file, asked)?)?.into_iter().collect();
    let (mut found, mut asked) = (BTreeMap::new(), Asked::default());
    let mut stages = BTreeSet::new();
    for action in &used {
        let Some(record) = store.action(action)?.filter(|record| is_here(store, record)) else {
            asked.not_here += 1;
            continue;
        };
        if stages.insert((record.pipeline.clone(), record.stage.clone())) {
            let seen = store.records_of_stage(&record.pipeline, &record.stage)?;
            let seen = seen.into_iter().filter(|seen| used.contains(&seen.action) && is_here(store, seen));
            found.extend(seen.map(|seen| ((seen.recipe, seen.action), seen)));
        }
        found.insert((record.recipe, record.action), record);
    }
    asked.records = found.into_values().collect();
    Ok(asked)
}

fn is_here(store: &Store, record: &ActionRecord) -> bool {
    record.outputs.values().all(|output| store.present(&output.artifact))
}

fn run_of(store: &Store, file: &str, asked: &str) -> Result<String, Trouble> {
    let list = || format!("`plumb log {file}` lists its runs");
    if !is_pipeline(file) {
        return Err(Trouble::usage(format!("`{file}` is no pipeline file"), list()));
    }
    let runs = store.runs_of(Path::new(file))?;
    let found = match asked {
        "last" => runs.into_iter().max(),
        id => history::find(store, id)?.map(|run| run.id).filter(|id| runs.contains(id)),
    };
    found.ok_or_else(|| match asked {
        "last" => Trouble::usage(format!("`{file}` was not run on this cache"), format!("type `plumb run {file}`")),
        id => Trouble::usage(format!("no one run of `{file}` has an id that begins with `{id}`"), list()),
    })
}

pub(super) fn chosen<'c>(config: &'c Config, asked: Option<&str>) -> Result<(&'c str, &'c str), Trouble> {
    let how = "name one in `config.toml`: `[layer.lab]` with `url = …`, and `write = \"lab\"`";
    let name = asked.or(config.write.as_deref()).ok_or_else(|| Trouble::usage("no layer is pushed to", how))?;
    let found = config.layers.get_key_value(name);
    found.map(|(name, url)| (name.as_str(), url.as_str())).ok_or_else(|| {
        let hint = nearest::hint("layers", name, config.layers.keys().map(String::as_str));
        Trouble::Usage { message: format!("there is no layer `{name}`"), hint }
    })
}

fn tell(context: &Context, form: Form, layer: &str, (results, not_here): (usize, usize), pushed: Pushed) {
    let Pushed { records, blobs, bytes, .. } = pushed;
    if form.json {
        let layer = layer.to_owned();
        let report = Report { layer, results, new_records: records, new_blobs: blobs, new_bytes: bytes, not_here };
        context.printer.json(&report);
        return;
    }
    if not_here > 0 {
        let what = units::plural(not_here, "result");
        context.printer.note(&format!("left out: {what} of the run whose bytes are not in this cache"));
    }
    let told = units::plural(results, "result");
    context.printer.note(&match (results, records, blobs) {
        (0, ..) => format!("there is nothing to send to `{layer}`"),
        (_, 0, 0) => format!("`{layer}` has {told} already"),
        _ => format!(
            "pushed {told} to `{layer}`: {} and {} ({}) were new",
            units::plural(records, "record"),
            units::plural(blobs, "blob"),
            units::size(bytes)
        ),
    });
}
