//! Settings that no pipeline holds: whose results are believed. A person's own are in
//! `$XDG_CONFIG_HOME/plumb/config.toml` (`~/.config/plumb/config.toml`), a project's in the nearest `plumb.toml` above
//! its pipeline. Nothing here enters a key.
//!
//! ```toml
//! trust = ["alice", "ci"]      # of the keys below; all of them where this is left out
//! distrust = ["mallory"]       # not even what came from them before: `plumb key distrust mallory` writes this line
//! write = "lab"                # the layer that `plumb cache push` sends to
//! push = "always"              # and `plumb run` too, after each step; "asked" is the default
//! [keys]
//! alice = "ed25519:9f…"        # `plumb key trust alice ed25519:9f…` writes this line
//! [layer.lab]
//! url = "s3://bucket/folder"   # or `gs://…`, `az://…`, `https://…` to read, or a folder: `/nfs/lab`
//! ```
//!
//! A project comes from anywhere: its file may narrow `trust` and name layers to read. Keys in it would let whoever wrote
//! it speak for themselves, and `write` and `push` would send one's results to them, so these are refused.

mod edit;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use plumb_cache::PublicKey;

pub use self::edit::{Added, distrust_key, trust_key};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::nearest;
use crate::pipeline::parse_toml;
use crate::pipeline::table::{self, Complaints, Fields, Text};

/// The name of a project's file.
const PROJECT: &str = "plumb.toml";

/// Where a person's settings are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// `$XDG_CONFIG_HOME/plumb`, or `~/.config/plumb`; `None` where there is no home folder.
    pub fn find() -> Option<Home> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
        Some(Home(base.join("plumb")))
    }

    /// The same, or what to do.
    pub fn required() -> Result<Home, Diagnostics> {
        let hint = "set `HOME` or `XDG_CONFIG_HOME`".to_string();
        Home::find().ok_or_else(|| Diagnostic::new("there is no home folder to keep a key in").hint(hint).into())
    }

    /// The file of settings.
    pub fn settings(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The secret key.
    pub fn secret_key(&self) -> PathBuf {
        self.0.join("key")
    }
}

/// What the files say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Every key that is known, by the name of its owner.
    pub keys: BTreeMap<String, PublicKey>,
    /// Those of them whose results are used.
    pub trusted: BTreeSet<String>,
    /// Those whose results are not used, though they are here already.
    pub distrusted: BTreeSet<String>,
    /// The addresses of layers, by name.
    pub layers: BTreeMap<String, String>,
    /// The layer that is pushed to.
    pub write: Option<String>,
    /// When.
    pub push: Push,
}

/// When results are sent to the layer that is pushed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Push {
    /// When `plumb cache push` is typed.
    #[default]
    Asked,
    /// After each step of a run too.
    Always,
}

/// Of one file.
#[derive(Debug, Default)]
struct Settings {
    keys: BTreeMap<String, PublicKey>,
    trust: Option<Vec<String>>,
    distrust: Vec<String>,
    layers: BTreeMap<String, String>,
    write: Option<String>,
    push: Push,
}

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    Person,
    Project,
}

impl Config {
    /// A person's settings, narrowed by those of the project that this folder belongs to.
    pub fn read(home: Option<&Home>, folder: &Path) -> Result<Config, Diagnostics> {
        let project = match project_file(folder) {
            Some(file) => Settings::of(&file, Author::Project)?,
            None => Settings::default(),
        };
        Config::narrowed(home, project)
    }

    /// A person's settings, whatever project they are in.
    pub fn of_person(home: Option<&Home>) -> Result<Config, Diagnostics> {
        Config::narrowed(home, Settings::default())
    }

    fn narrowed(home: Option<&Home>, project: Settings) -> Result<Config, Diagnostics> {
        let person = match home {
            Some(home) => Settings::of(&home.settings(), Author::Person)?,
            None => Settings::default(),
        };
        let named =
            |names: &Option<Vec<String>>, name: &String| names.as_ref().is_none_or(|names| names.contains(name));
        let trusted = person.keys.keys().filter(|name| named(&person.trust, name) && named(&project.trust, name));
        let distrusted: BTreeSet<String> = person.distrust.into_iter().collect();
        let trusted = trusted.filter(|name| !distrusted.contains(*name)).cloned().collect();
        // One's own word on what a name means comes before a project's.
        let layers = project.layers.into_iter().chain(person.layers).collect();
        let (write, push) = (person.write, person.push);
        Ok(Config { trusted, distrusted, keys: person.keys, layers, write, push })
    }
}

/// The nearest project file in this folder or above it.
fn project_file(folder: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    folder.ancestors().map(|folder| folder.join(PROJECT)).find(|file| file.is_file())
}

impl Settings {
    fn of(file: &Path, author: Author) -> Result<Settings, Diagnostics> {
        match std::fs::read_to_string(file) {
            Ok(text) => Settings::parse(file, &text, author),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => {
                Err(Diagnostic::new(format!("cannot read the settings `{}`: {error}", file.display())).into())
            }
        }
    }

    fn parse(file: &Path, text: &str, author: Author) -> Result<Settings, Diagnostics> {
        let root = parse_toml(file, text)?;
        let mut complaints = Complaints::default();
        let mut fields = Fields::new(root);
        let keys = keys(&mut fields, author, &mut complaints);
        let trust = fields.take("trust").map(|item| table::texts(item, "`trust`", &mut complaints));
        if let (Author::Person, Some(trust)) = (author, &trust) {
            check_known(trust, &keys, &mut complaints);
        }
        let distrust = distrust(&mut fields, author, &keys, &mut complaints);
        let layers = layers(&mut fields, &mut complaints);
        let write = write(&mut fields, author, &layers, &mut complaints);
        let push = push(&mut fields, author, write.is_some(), &mut complaints);
        fields.finish("top-level", &mut complaints);
        match complaints.any_errors() {
            true => Err(Diagnostics::located(complaints.all, file, text)),
            false => {
                let trust = trust.map(|names| names.into_iter().map(|name| name.into_inner().into_owned()).collect());
                Ok(Settings { keys, trust, distrust, layers, write, push })
            }
        }
    }
}

fn keys(fields: &mut Fields<'_>, author: Author, complaints: &mut Complaints) -> BTreeMap<String, PublicKey> {
    let mut keys = BTreeMap::new();
    for (name, item) in fields.entries("keys", complaints) {
        if author == Author::Project {
            let message = format!("a project must not say whose key `{}` is", name.get_ref());
            let hint = "ask its owner for the key, and type `plumb key trust NAME KEY`".to_string();
            complaints.add(Diagnostic::at(name.span(), message).hint(hint));
            continue;
        }
        table::check_name(&name, "key", complaints);
        let Some(text) = table::text(item, "a key", complaints) else { continue };
        match text.get_ref().parse::<PublicKey>() {
            Ok(key) => drop(keys.insert(name.into_inner().into_owned(), key)),
            Err(error) => complaints.error(text.span(), error.to_string()),
        }
    }
    keys
}

/// A project has no say in it: whom somebody distrusts, they distrust everywhere.
fn distrust(
    fields: &mut Fields<'_>,
    author: Author,
    keys: &BTreeMap<String, PublicKey>,
    complaints: &mut Complaints,
) -> Vec<String> {
    let Some(item) = (author == Author::Person).then(|| fields.take("distrust")).flatten() else { return Vec::new() };
    let names = table::texts(item, "`distrust`", complaints);
    check_known(&names, keys, complaints);
    names.into_iter().map(|name| name.into_inner().into_owned()).collect()
}

fn layers(fields: &mut Fields<'_>, complaints: &mut Complaints) -> BTreeMap<String, String> {
    let mut layers = BTreeMap::new();
    for (name, item) in fields.entries("layer", complaints) {
        table::check_name(&name, "layer", complaints);
        let Some(mut fields) = Fields::of(item, "a layer", complaints) else { continue };
        match fields.text("url", complaints) {
            Some(url) => drop(layers.insert(name.into_inner().into_owned(), url.into_inner().into_owned())),
            None => complaints.error(name.span(), format!("the layer `{}` has no `url`", name.get_ref())),
        }
        fields.finish("layer", complaints);
    }
    layers
}

fn write(
    fields: &mut Fields<'_>,
    author: Author,
    layers: &BTreeMap<String, String>,
    complaints: &mut Complaints,
) -> Option<String> {
    let name = fields.text("write", complaints)?;
    if author == Author::Project {
        let hint = "put `write` into your own `config.toml`".to_string();
        complaints.add(Diagnostic::at(name.span(), "a project must not say where results are sent").hint(hint));
    } else if !layers.contains_key(name.get_ref().as_ref()) {
        complaints.unknown(name.span(), "layer", name.get_ref(), layers.keys().map(String::as_str));
    }
    Some(name.into_inner().into_owned())
}

fn push(fields: &mut Fields<'_>, author: Author, writes: bool, complaints: &mut Complaints) -> Push {
    let Some(when) = fields.text("push", complaints) else { return Push::Asked };
    if author == Author::Project {
        let hint = "put `push` into your own `config.toml`".to_string();
        complaints.add(Diagnostic::at(when.span(), "a project must not say when results are sent").hint(hint));
        return Push::Asked;
    }
    match when.get_ref().as_ref() {
        "asked" => {}
        "always" if writes => return Push::Always,
        "always" => {
            let hint = "name the layer: `write = \"lab\"`".to_string();
            complaints.add(Diagnostic::at(when.span(), "`push` needs a layer to push to").hint(hint));
        }
        other => complaints.unknown(when.span(), "time to push", other, ["asked", "always"]),
    }
    Push::Asked
}

fn check_known(trust: &[Text<'_>], keys: &BTreeMap<String, PublicKey>, complaints: &mut Complaints) {
    for name in trust.iter().filter(|name| !keys.contains_key(name.get_ref().as_ref())) {
        let hint = nearest::did_you_mean(name.get_ref(), keys.keys().map(String::as_str))
            .unwrap_or_else(|| format!("type `plumb key trust {} KEY`", name.get_ref()));
        let message = format!("no key of `{}` is known", name.get_ref());
        complaints.add(Diagnostic::at(name.span(), message).hint(hint));
    }
}

#[cfg(test)]
mod tests;
