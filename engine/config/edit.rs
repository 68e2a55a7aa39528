//! Adding to a person's settings: one line, and all else of the file as its owner wrote it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use plumb_cache::PublicKey;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::{Author, Home, Settings};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::nearest;

/// What became of a key that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there under this name.
    Known,
    /// Another key was there under this name, and is still.
    Taken(PublicKey),
}

/// Adds a key to those that are believed, under a name. Never replaces one: whoever has another key now may be
/// somebody else.
pub fn trust_key(home: &Home, name: &str, key: &PublicKey) -> Result<Added, Diagnostics> {
    let known = Settings::of(&home.settings(), Author::Person)?;
    let trusts = known.trust.as_ref().is_none_or(|names| names.iter().any(|known| known == name));
    let distrusts = known.distrust.iter().any(|known| known == name);
    match known.keys.get(name) {
        Some(known) if known != key => return Ok(Added::Taken(*known)),
        Some(_) if trusts && !distrusts => return Ok(Added::Known),
        _ => {}
    }
    change(home, |document| {
        insert_key(document, name, key)?;
        if let (false, Some(trust)) = (trusts, document.get_mut("trust").and_then(Item::as_array_mut)) {
            trust.push(name);
        }
        remove(document, "distrust", name);
        Ok(Added::New)
    })
}

/// Has nothing believed that the owner of a key has signed, neither what comes nor what has come. The key is needed
/// where it is not known yet.
pub fn distrust_key(home: &Home, name: &str, key: Option<&PublicKey>) -> Result<Added, Diagnostics> {
    let known = Settings::of(&home.settings(), Author::Person)?;
    match (known.keys.get(name), key) {
        (Some(known), Some(key)) if known != key => return Ok(Added::Taken(*known)),
        (Some(_), _) if known.distrust.iter().any(|known| known == name) => return Ok(Added::Known),
        (None, None) => {
            let hint = nearest::hint("keys", name, known.keys.keys().map(String::as_str));
            let unknown = Diagnostic::new(format!("no key of `{name}` is known"));
            return Err(hint.map_or(unknown.clone(), |hint| unknown.hint(hint)).into());
        }
        _ => {}
    }
    change(home, |document| {
        if let Some(key) = key {
            insert_key(document, name, key)?;
        }
        remove(document, "trust", name);
        let list = document.entry("distrust").or_insert_with(|| value(Array::new()));
        list.as_array_mut().ok_or("`distrust` is no list")?.push(name);
        Ok(Added::New)
    })
}

fn insert_key(document: &mut DocumentMut, name: &str, key: &PublicKey) -> Result<(), String> {
    let keys = document.entry("keys").or_insert_with(|| Item::Table(Table::new()));
    keys.as_table_like_mut().ok_or("`keys` is no table")?.insert(name, value(key.to_string()));
    Ok(())
}

/// A list that is left empty stays: an empty `trust` trusts nobody, none trusts everybody.
fn remove(document: &mut DocumentMut, list: &str, name: &str) {
    if let Some(list) = document.get_mut(list).and_then(Item::as_array_mut) {
        list.retain(|known| known.as_str() != Some(name));
    }
}

fn change(home: &Home, edit: impl FnOnce(&mut DocumentMut) -> Result<Added, String>) -> Result<Added, Diagnostics> {
    let file = home.settings();
    let wrong = |why: String| Diagnostics::from(Diagnostic::new(format!("cannot change `{}`: {why}", file.display())));
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| wrong(error.to_string()))?,
    };
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| wrong(error.to_string()))?;
    let added = edit(&mut document).map_err(wrong)?;
    let text = document.to_string();
    // Never a file that the next command could not read: a bad name, above all.
    Settings::parse(&file, &text, Author::Person)?;
    write(&file, &text).map_err(|error| wrong(error.to_string())).map(|()| added)
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temp = tempfile::NamedTempFile::new_in(folder)?;
    temp.write_all(text.as_bytes())?;
    temp.persist(file).map(|_| ()).map_err(|error| error.error)
}
