//! The layers that a person's and a project's settings name, as a cache asks them for what it has not got, and whom it
//! believes. Reads settings and keys; opens no layer before it is asked.

use std::path::Path;

use plumb_cache::{KeyError, Opener, Policy, PublicKey, RecipeKey, Refused, SecretKey, Store, Upstream, Warn};

use crate::config::{Config, Home};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::event::Cause;
use crate::layers;
use crate::nearest;

/// Which layers are read, and whom to believe.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// Only this layer.
    pub layer: Option<&'a str>,
    /// Whoever signed (`--trust-any`).
    pub anybody: bool,
}

/// The layers that the settings of this folder name; `None` where they name none.
pub fn of_settings(folder: &Path, reading: Reading<'_>, warn: Warn) -> Result<Option<Upstream>, Diagnostics> {
    let home = Home::find();
    let mut config = Config::read(home.as_ref(), folder)?;
    if let Some(name) = reading.layer {
        if !config.layers.contains_key(name) {
            let hint = nearest::hint("layers", name, config.layers.keys().map(String::as_str));
            let unknown = Diagnostic::new(format!("there is no layer `{name}`"));
            return Err(match hint {
                Some(hint) => unknown.hint(hint),
                None => unknown,
            }
            .into());
        }
        config.layers.retain(|known, _| known == name);
    }
    if config.layers.is_empty() {
        return Ok(None);
    }
    let own = own_key(home.as_ref()).unwrap_or_else(|error| {
        warn(&error.to_string());
        None
    });
    let policy = policy(&config, own);
    let policy = if reading.anybody { policy.of_anybody() } else { policy };
    Ok(Some(Upstream::new(config.layers.into_iter().map(opener), policy, warn)))
}

/// A warning has one line.
fn in_a_line(error: Diagnostic) -> String {
    match error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message,
    }
}

/// Why the result of a recipe is not used that lies in a layer, as far as it was asked for.
pub fn untrusted(store: &Store, recipe: &RecipeKey) -> Option<Cause> {
    let Refused { layer, signer, ancestor } = store.refused(recipe)?;
    Some(Cause::Untrusted { layer, signer, ancestor })
}

/// Whom the owner of a cache believes, whatever a project says: for words that are in the cache already.
pub fn people() -> Result<Policy, Diagnostics> {
    let home = Home::find();
    let config = Config::of_person(home.as_ref())?;
    // A key that cannot be read signs nothing; whoever needs it is told why.
    Ok(policy(&config, own_key(home.as_ref()).unwrap_or_default()))
}

fn own_key(home: Option<&Home>) -> Result<Option<PublicKey>, KeyError> {
    let key = home.map(|home| SecretKey::read(&home.secret_key())).transpose()?;
    Ok(key.flatten().map(|key| key.public()))
}

fn policy(config: &Config, own: Option<PublicKey>) -> Policy {
    let named = config.keys.iter().map(|(name, key)| (*key, name.clone()));
    let (trusted, known): (Vec<_>, Vec<_>) = named.partition(|(_, name)| config.trusted.contains(name));
    let barred = config.distrusted.iter().filter_map(|name| config.keys.get(name)).copied();
    let policy = Policy::new(trusted, known).distrusting(barred);
    own.into_iter().fold(policy, Policy::owned_by)
}

fn opener((name, url): (String, String)) -> (String, Opener) {
    let called = name.clone();
    (name, Box::new(move || layers::open(&called, &url).map_err(in_a_line)))
}
