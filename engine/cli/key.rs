//! `plumb key`: one's own key, and the keys of those whose results are used.

use std::path::Path;

use clap::{Args, Subcommand};
use plumb_cache::{KeyError, PublicKey, SecretKey};
use plumb_engine::config::{self, Added, Config, Home};
use serde::Serialize;

use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb key new                           make your key; what you push is signed with it
  plumb key show                          the public half: give it to your colleagues
  plumb key trust alice ed25519:9f…       use what alice has signed
  plumb key distrust alice                use nothing of hers any more, not even what is here
  plumb key list                          who is trusted

The secret half is `key` in `$XDG_CONFIG_HOME/plumb` (or `~/.config/plumb`), open to you alone. Keys are in `config.toml`
beside it. Ask the owner for a key, not the bucket. `distrust` is for a key that was stolen, or an owner gone bad: what
came here by this key alone, and all that was made from it, is used no more, in every cache of yours, and made again when
it is asked for; what you or others you trust have made as well stays. `--trust-any` does not overrule it; `key trust`
does. A name that is only left out of `trust` sends nothing new, and what it sent before stays.";

/// `plumb key`.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Make a key of your own
    New(Form),
    /// Print the public half of your key
    Show(Form),
    /// Use the results that the owner of a key has signed
    Trust(TrustArgs),
    /// Use nothing that the owner of a key has signed, neither what comes nor what is here
    Distrust(DistrustArgs),
    /// List the keys that are known, and which are trusted here
    List(Form),
}

/// `plumb key trust`.
#[derive(Debug, Clone, Args)]
pub struct TrustArgs {
    /// What you call its owner: lowercase letters, digits and `-`
    pub name: String,
    /// The public key, as its owner's `plumb key show` prints it
    #[arg(value_name = "PUBKEY")]
    pub key: String,
}

/// `plumb key distrust`.
#[derive(Debug, Clone, Args)]
pub struct DistrustArgs {
    /// What you call its owner
    pub name: String,
    /// The public key, where it is not known yet
    #[arg(value_name = "PUBKEY")]
    pub key: Option<String>,
}

/// One key for machines.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    key: String,
    trusted: bool,
    distrusted: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &KeyArgs) -> Result<Exit, Trouble> {
    let home = Home::find()
        .ok_or_else(|| Trouble::usage("there is no home folder to keep a key in", "set `HOME` or `XDG_CONFIG_HOME`"))?;
    match &args.command {
        KeyCommand::New(form) => new(context, &home, *form),
        KeyCommand::Show(form) => show(context, &home, *form),
        KeyCommand::Trust(args) => trust(context, &home, args),
        KeyCommand::Distrust(args) => distrust(context, &home, args),
        KeyCommand::List(form) => list(context, &home, *form),
    }
}

fn new(context: &Context, home: &Home, form: Form) -> Result<Exit, Trouble> {
    let path = home.secret_key();
    let key = SecretKey::new().map_err(|error| Trouble::file("make the key", &path, &error))?;
    key.write_new(&path).map_err(of_key)?;
    context.printer.note(&format!("made the key `{}`; its public half:", path.display()));
    tell(context, &key.public(), form);
    Ok(Exit::Done)
}

fn show(context: &Context, home: &Home, form: Form) -> Result<Exit, Trouble> {
    let path = home.secret_key();
    let key = SecretKey::read(&path).map_err(of_key)?;
    let missing = || Trouble::usage(format!("there is no key `{}`", path.display()), "make one with `plumb key new`");
    tell(context, &key.ok_or_else(missing)?.public(), form);
    Ok(Exit::Done)
}

fn tell(context: &Context, key: &PublicKey, form: Form) {
    match form.json {
        true => context.printer.json(&serde_json::json!({ "key": key.to_string() })),
        false => context.printer.data(&key.to_string()),
    }
}

fn trust(context: &Context, home: &Home, args: &TrustArgs) -> Result<Exit, Trouble> {
    let key: PublicKey = args.key.parse().map_err(of_key)?;
    let file = home.settings();
    match config::trust_key(home, &args.name, &key)? {
        Added::New => context.printer.note(&format!("results that `{}` has signed are used from now on", args.name)),
        Added::Known => context.printer.note(&format!("the key of `{}` was trusted already", args.name)),
        Added::Taken(other) => {
            let hint = format!(
                "if `{}` has a new key (ask, by another way than this one came), remove the old line from `{}` first",
                args.name,
                file.display()
            );
            return Err(Trouble::usage(format!("`{}` has another key: {other}", args.name), hint));
        }
    }
    Ok(Exit::Done)
}

fn distrust(context: &Context, home: &Home, args: &DistrustArgs) -> Result<Exit, Trouble> {
    let key = args.key.as_ref().map(|key| key.parse::<PublicKey>()).transpose().map_err(of_key)?;
    let name = &args.name;
    match config::distrust_key(home, name, key.as_ref())? {
        Added::New => {
            context
                .printer
                .note(&format!("nothing that `{name}` alone has signed is used any more, nor what was made from it"));
            context.printer.hint("`plumb cache ls --disowned` lists what is here of it");
        }
        Added::Known => context.printer.note(&format!("`{name}` was distrusted already")),
        Added::Taken(other) => {
            let hint = "call the owner of this key something else";
            return Err(Trouble::usage(format!("`{name}` has another key: {other}"), hint));
        }
    }
    Ok(Exit::Done)
}

fn list(context: &Context, home: &Home, form: Form) -> Result<Exit, Trouble> {
    let config = Config::read(Some(home), Path::new("."))?;
    let own = SecretKey::read(&home.secret_key()).map_err(of_key)?.map(|key| key.public());
    let line = |(name, key): (&String, &PublicKey)| Line {
        name: name.clone(),
        key: key.to_string(),
        trusted: config.trusted.contains(name),
        distrusted: config.distrusted.contains(name),
    };
    let own = own.map(|key| Line { name: "(you)".into(), key: key.to_string(), trusted: true, distrusted: false });
    let lines: Vec<Line> = own.into_iter().chain(config.keys.iter().map(line)).collect();
    if form.json {
        context.printer.json(&lines);
    } else if lines.is_empty() {
        context.printer.note("no keys are known");
        context.printer.hint("`plumb key new` makes one; `plumb key trust NAME PUBKEY` trusts somebody else's");
    } else {
        let mut table = Table::new(["name", "key", ""]);
        for Line { name, key, trusted, distrusted } in lines {
            let told = match (trusted, distrusted) {
                (_, true) => Cell::toned(Tone::Bad, "distrusted"),
                (true, _) => Cell::from("trusted"),
                (false, _) => Cell::toned(Tone::Warn, "not in `trust`"),
            };
            table.row([Cell::from(name), Cell::from(key), told]);
        }
        context.printer.table(&table);
    }
    Ok(Exit::Done)
}

/// A key that cannot be used is the user's own trouble.
pub fn of_key(error: KeyError) -> Trouble {
    Trouble::Usage { message: error.to_string(), hint: error.hint() }
}
