//! JSONL files of typed rows: a malformed row is an error with its file and line, or counted and reported, never
//! silently dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use plumb_engine::stage::StageError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads every row, or says which line is wrong.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StageError> {
    let mut rows = Vec::new();
    for_each(path, |line, row| {
        rows.push(row.map_err(|problem| bad_row(path, line, &problem))?);
        Ok(())
    })?;
    Ok(rows)
}

/// Hands each row, or what is wrong with it, to `take` with its 1-based line number. Blank lines are passed over.
pub fn for_each<T: DeserializeOwned>(
    path: &Path,
    mut take: impl FnMut(usize, Result<T, String>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let file = File::open(path).map_err(|error| StageError::file("read", path, &error))?;
    for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.map_err(|error| StageError::file("read", path, &error))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        take(index + 1, serde_json::from_slice(&line).map_err(|error| told(&error)))?;
    }
    Ok(())
}

/// The error for one bad row.
pub fn bad_row(path: &Path, line: usize, problem: &str) -> StageError {
    StageError::new(format!("{}:{line}: {problem}", path.display()))
}

/// Writes rows, one a line.
pub fn write<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<(), StageError> {
    let told = |error: &dyn std::fmt::Display| StageError::file("write", path, error);
    let mut file = BufWriter::new(File::create(path).map_err(|error| told(&error))?);
    for row in rows {
        serde_json::to_writer(&mut file, &row).map_err(|error| told(&error))?;
        file.write_all(b"\n").map_err(|error| told(&error))?;
    }
    file.flush().map_err(|error| told(&error))
}

/// Reads one JSON document.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StageError> {
    let bytes = std::fs::read(path).map_err(|error| StageError::file("read", path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| StageError::file("parse", path, &error))
}

/// Writes one JSON document, indented, with a final newline.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, document: &T) -> Result<(), StageError> {
    let mut text = serde_json::to_string_pretty(document).map_err(|error| StageError::file("write", path, &error))?;
    text.push('\n');
    write_text(path, &text)
}

/// Writes a text.
pub fn write_text(path: &Path, text: &str) -> Result<(), StageError> {
    std::fs::write(path, text).map_err(|error| StageError::file("write", path, &error))
}

// serde_json ends its messages with "at line 1 column N": the line is ours to tell, the column stays.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text).to_string();
    format!("{message} (column {})", error.column())
}
