//! JSONL files of typed rows: a malformed row is an error with its file and line, or counted and reported, never
//! silently dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use plumb_engine::stage::StageError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads every row, or says which line is wrong.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StageError> {
    let mut rows = Vec::new();
    in_file(path, |line, text| {
        let reader = &mut serde_json::Deserializer::from_slice(text);
        let row = serde_path_to_error::deserialize(&mut *reader).map_err(misplaced);
        let row = row.and_then(|row| reader.end().map(|()| row).map_err(|error| told(&error)));
        rows.push(row.map_err(|problem| bad_row(path, line, &problem))?);
        Ok(())
    })?;
    Ok(rows)
}

/// The same where there is nothing to do without a row: an empty file is an error.
pub fn read_some<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StageError> {
    let rows = read(path)?;
    if rows.is_empty() { Err(no_row(path)) } else { Ok(rows) }
}

/// The error for a file without rows.
pub fn no_row(path: &Path) -> StageError {
    StageError::new(format!("`{}` holds no row", path.display()))
        .hint("look at the step that wrote it, or at the source")
}

/// Hands each row, or what is wrong with it, to `take` with its 1-based line number. Blank lines are passed over.
pub fn for_each<T: DeserializeOwned>(
    path: &Path,
    mut take: impl FnMut(usize, Result<T, String>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    in_file(path, |line, text| take(line, serde_json::from_slice(text).map_err(|error| told(&error))))
}

/// Types a row that was read as a table, or says at which of its columns it is wrong.
pub fn typed<T: DeserializeOwned>(row: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(row)).map_err(misplaced)
}

fn in_file(path: &Path, take: impl FnMut(usize, &[u8]) -> Result<(), StageError>) -> Result<(), StageError> {
    let file = File::open(path).map_err(|error| StageError::file("read", path, &error))?;
    lines(path, BufReader::new(file), take)
}

/// Hands each line that is not blank to `take` with its 1-based number; `path` is what errors name.
pub fn lines(
    path: &Path,
    reader: impl BufRead,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), StageError>,
) -> Result<(), StageError> {
    for (index, line) in reader.split(b'\n').enumerate() {
        let line = line.map_err(|error| StageError::file("read", path, &error))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        take(index + 1, &line)?;
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

fn misplaced(error: serde_path_to_error::Error<serde_json::Error>) -> String {
    let problem = bare(error.inner());
    // A missing field is told by the table that should hold it.
    match error.path().iter().next() {
        None => problem,
        Some(_) => format!("column `{}`: {problem}", error.path()),
    }
}

/// What serde_json says of a line.
// serde_json ends its messages with "at line 1 column N": the line is ours to tell, the column stays.
pub fn told(error: &serde_json::Error) -> String {
    format!("{} (column {})", bare(error), error.column())
}

fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}
