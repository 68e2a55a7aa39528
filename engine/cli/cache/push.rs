//! `plumb cache push`: results go to a layer, for others to use.

use clap::Args;
use plumb_cache::{Parcel, Pushed, Repair, SecretKey, Shipment};
use plumb_engine::config::{Config, Home};
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::{layers, nearest};
use serde::Serialize;

use super::bar::Bar;
use super::target::Targets;
use crate::args::Form;
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

The bytes of these results are sent, and the records of everything they were made from, signed with your key (`plumb key
new`). What the layer has is not sent again; a push that was cut goes on when it is typed again, and
`--repair` also replaces what was damaged there. Layers are named in `config.toml` beside the key: `[layer.lab]` with
`url = \"s3://bucket/folder\"` (or `gs://…`, `az://container/…`, a folder), and `write = \"lab\"`.";

/// `plumb cache push`.
#[derive(Debug, Clone, Args)]
pub struct PushArgs {
    /// What to push.
    #[command(flatten)]
    pub targets: Targets,
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
}

/// Runs the command.
pub fn run(context: &Context, args: &PushArgs) -> Result<Exit, Trouble> {
    let home = Home::required()?;
    let config = Config::read(Some(&home), args.targets.folder())?;
    let (name, url) = chosen(&config, args.layer.as_deref())?;
    let key = SecretKey::read(&home.secret_key()).map_err(of_key)?;
    let key = key.ok_or_else(|| Trouble::usage("there is no key to sign with", "make one with `plumb key new`"))?;
    let store = context.store()?;
    let layer = layers::open_to_write(name, url).map_err(Diagnostics::from)?;
    let records = args.targets.resolve(context, &store)?.into_iter().map(|target| target.record).collect();
    let parcel = Parcel::of(&store, records, &key, &|_, _| false)?;
    let bar = Bar::new(context, "pushing");
    let repair = if args.repair { Repair::Yes } else { Repair::No };
    let progress = |progress| bar.show(progress);
    let shipped = layer.ship(&store, Shipment { repair, progress: &progress, ..Shipment::of(&parcel) })?;
    drop(bar);
    if let Some(lost) = shipped.lost.into_iter().next() {
        return Err(lost.into());
    }
    let pushed = shipped.pushed;
    if pushed.unconditional {
        context.printer.warning(&format!(
            "the store of `{name}` ignores conditional puts: of two results of one step that are pushed at once, the later \
             takes the place of the first"
        ));
    }
    tell(context, args.form, name, parcel.records.len(), pushed);
    Ok(Exit::Done)
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

fn tell(context: &Context, form: Form, layer: &str, results: usize, pushed: Pushed) {
    let Pushed { records, blobs, bytes, .. } = pushed;
    if form.json {
        let layer = layer.to_owned();
        let report = Report { layer, results, new_records: records, new_blobs: blobs, new_bytes: bytes };
        context.printer.json(&report);
        return;
    }
    let results = units::plural(results, "result");
    context.printer.note(&match (records, blobs) {
        (0, 0) => format!("`{layer}` has {results} already"),
        _ => format!(
            "pushed {results} to `{layer}`: {} and {} ({}) were new",
            units::plural(records, "record"),
            units::plural(blobs, "blob"),
            units::size(bytes)
        ),
    });
}
