//! Shared marks: what `plumb cache disown --share` and `own --share` put into a layer for others to read.

use clap::Args;
use plumb_cache::{ActionKey, Digest, Layer, PublicKey, SecretKey, SignedMarks, Statement, Store};
use plumb_engine::config::{Config, Home};
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::{clock, layers, upstream};

use super::push;
use crate::context::Context;
use crate::key::of_key;
use crate::trouble::Trouble;

/// Whether a mark is shared, and where.
#[derive(Debug, Clone, Args)]
pub struct ShareArgs {
    /// Tell others too, through a layer: whoever trusts you obeys it
    #[arg(long)]
    pub share: bool,
    /// The layer [default: `write` in the settings]
    #[arg(long, value_name = "NAME", requires = "share")]
    pub layer: Option<String>,
}

/// A layer that one's word is put into.
pub struct Pulpit {
    /// Its name.
    pub name: String,
    /// The layer.
    pub layer: Layer,
    key: SecretKey,
}

/// A result that something is said of.
pub struct Said {
    /// The action that made it.
    pub action: ActionKey,
    /// Its digest.
    pub result: Digest,
    /// Its step, for people.
    pub step: String,
}

impl Pulpit {
    /// Opens the layer and brings what was shared there. A project has no say in where one's word is sent.
    pub fn open(context: &Context, store: &Store, args: &ShareArgs) -> Result<Pulpit, Trouble> {
        let home = Home::required()?;
        let config = Config::of_person(Some(&home))?;
        let (name, url) = push::chosen(&config, args.layer.as_deref())?;
        let key = SecretKey::read(&home.secret_key()).map_err(of_key)?;
        let key = key.ok_or_else(|| Trouble::usage("there is no key to sign with", "make one with `plumb key new`"))?;
        let layer = layers::open_to_write(name, url).map_err(Diagnostics::from)?;
        store.set_people(upstream::people()?);
        for complaint in layer.read_marks(store)? {
            context.printer.warning(&complaint);
        }
        Ok(Pulpit { name: name.to_owned(), layer, key })
    }

    /// Whose word it is.
    pub fn signer(&self) -> PublicKey {
        self.key.public()
    }

    /// Says that results are disowned, for this reason, or, without one, that they are so no more.
    pub fn say(&self, store: &Store, results: Vec<Said>, reason: Option<&str>) -> Result<(), Trouble> {
        let last = store.last_words()?;
        let statement = |said: Said| {
            let Said { action, result, step } = said;
            let made = plumb_cache::Realisation { action, result };
            let number = last.get(&(self.signer(), made)).map_or(0, |said| said.number) + 1;
            let (taken_back, reason) = (reason.is_none(), reason.unwrap_or_default().to_owned());
            Statement { action, result, number, taken_back, reason, at: clock::now(), step }
        };
        let statements: Vec<Statement> = results.into_iter().map(statement).collect();
        if statements.is_empty() {
            return Ok(());
        }
        let marks = SignedMarks::sign(statements, &self.key).map_err(|why| Trouble::failed(why, "this is a bug"))?;
        self.layer.prepare()?;
        self.layer.publish_marks(&marks)?;
        store.keep_marks(&marks)?;
        Ok(())
    }
}
