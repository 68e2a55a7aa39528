//! Rows of a table file, whatever its form: JSONL, a JSON list, either compressed by gzip, Parquet, or Arrow's stream
//! and file. The form is told by the first bytes, for a step's inputs have no endings. Never says what a column means.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plumb_engine::stage::StageError;
use serde_json::{Map, Value};

use super::files;
use crate::jsonl;

/// Takes a row with its file and its 1-based place there.
pub type Take<'a> = dyn FnMut(&Path, usize, Map<String, Value>) -> Result<(), StageError> + 'a;

// Rows of a batch: long answers make a row heavy, and a batch is turned into text at once.
const BATCH: usize = 256;

/// Hands every row of the file, or of the folder's files, to `take`.
pub fn for_each(path: &Path, split: Option<&str>, take: &mut Take<'_>) -> Result<(), StageError> {
    for file in files::of(path, split)? {
        one(&file, take)?;
    }
    Ok(())
}

fn one(path: &Path, take: &mut Take<'_>) -> Result<(), StageError> {
    let failed = |error: &dyn std::fmt::Display| StageError::file("read", path, error);
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let mut start = Vec::new();
    (&mut file).take(6).read_to_end(&mut start).map_err(|error| failed(&error))?;
    file.rewind().map_err(|error| failed(&error))?;
    match &start[..] {
        [b'P', b'A', b'R', b'1', ..] => parquet(path, file, take),
        b"ARROW1" => {
            let batches = arrow_ipc::reader::FileReader::try_new(file, None).map_err(|error| failed(&error))?;
            batches_of(path, batches, take)
        }
        [0xff, 0xff, 0xff, 0xff, ..] => {
            let file = BufReader::new(file);
            let batches = arrow_ipc::reader::StreamReader::try_new(file, None).map_err(|error| failed(&error))?;
            batches_of(path, batches, take)
        }
        [0x1f, 0x8b, ..] => text(path, Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)))), take),
        _ => text(path, Box::new(BufReader::new(file)), take),
    }
}

fn parquet(path: &Path, file: File, take: &mut Take<'_>) -> Result<(), StageError> {
    let failed = |error: parquet::errors::ParquetError| StageError::file("read", path, &error);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
    batches_of(path, reader.with_batch_size(BATCH).build().map_err(failed)?, take)
}

fn batches_of<E: std::fmt::Display>(
    path: &Path,
    batches: impl Iterator<Item = Result<RecordBatch, E>>,
    take: &mut Take<'_>,
) -> Result<(), StageError> {
    let mut row = 0;
    for batch in batches {
        let batch = batch.map_err(|error| StageError::file("read", path, &error))?;
        for place in (0..batch.num_rows()).step_by(BATCH) {
            let part = batch.slice(place, BATCH.min(batch.num_rows() - place));
            let lines = as_lines(&part).map_err(|error| StageError::file("read", path, &error))?;
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                row += 1;
                let columns = serde_json::from_slice(line);
                take(path, row, columns.map_err(|error| jsonl::bad_row(path, row, &error.to_string()))?)?;
            }
        }
    }
    Ok(())
}

// A column whose value is null is there: only one that the file has not is missing.
fn as_lines(batch: &RecordBatch) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut lines = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(lines)
}

fn text(path: &Path, mut reader: Box<dyn BufRead>, take: &mut Take<'_>) -> Result<(), StageError> {
    let failed = |error: &dyn std::fmt::Display| StageError::file("read", path, error);
    if first_character(&mut reader).map_err(|error| failed(&error))? == Some(b'[') {
        let rows: Vec<Map<String, Value>> =
            serde_json::from_reader(reader).map_err(|error| failed(&format!("a list of tables: {error}")))?;
        return rows.into_iter().enumerate().try_for_each(|(place, row)| take(path, place + 1, row));
    }
    jsonl::lines(path, reader, |line, text| {
        let row = serde_json::from_slice(text).map_err(|error| jsonl::bad_row(path, line, &jsonl::told(&error)));
        take(path, line, row?)
    })
}

fn first_character(reader: &mut Box<dyn BufRead>) -> std::io::Result<Option<u8>> {
    loop {
        let waiting = reader.fill_buf()?;
        let blank = waiting.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match waiting.get(blank) {
            Some(byte) => return Ok(Some(*byte)),
            None if waiting.is_empty() => return Ok(None),
            None => reader.consume(blank),
        }
    }
}
