//! Adding to a person's settings: one line, and all else of the file as its owner wrote it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use plumb_cache::PublicKey;
use toml_edit::{DocumentMut, Item, Table, value};

use super::{Author, Home, Settings};
use crate::diagnostic::{Diagnostic, Diagnostics};

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
    let file = home.settings();
    let known = Settings::of(&file, Author::Person)?;
    let trusts = known.trust.as_ref().is_none_or(|names| names.iter().any(|known| known == name));
    match known.keys.get(name) {
        Some(known) if known != key => return Ok(Added::Taken(*known)),
        Some(_) if trusts => return Ok(Added::Known),
        _ => {}
    }
    let wrong = |why: String| Diagnostics::from(Diagnostic::new(format!("cannot change `{}`: {why}", file.display())));
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| wrong(error.to_string()))?,
    };
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| wrong(error.to_string()))?;
    let keys = document.entry("keys").or_insert_with(|| Item::Table(Table::new()));
    let keys = keys.as_table_like_mut().ok_or_else(|| wrong("`keys` is no table".into()))?;
    keys.insert(name, value(key.to_string()));
    if let (false, Some(trust)) = (trusts, document.get_mut("trust").and_then(Item::as_array_mut)) {
        trust.push(name);
    }
    let text = document.to_string();
    // Never a file that the next command could not read: a bad name, above all.
    Settings::parse(&file, &text, Author::Person)?;
    write(&file, &text).map_err(|error| wrong(error.to_string())).map(|()| Added::New)
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut temp = tempfile::NamedTempFile::new_in(folder)?;
    temp.write_all(text.as_bytes())?;
    temp.persist(file).map(|_| ()).map_err(|error| error.error)
}
