//! Which files of a folder are data: the hub's layout (`data/test-00000-of-00001.parquet`, `test.jsonl`) and what
//! `datasets` saves (`test/data-00000-of-00001.arrow`). Opens none of them.

use std::path::{Path, PathBuf};

use plumb_engine::stage::StageError;

const ENDINGS: [&str; 6] = [".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".gz"];
// What stands beside the data and is none.
const OTHERS: [&str; 5] = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"];

/// The data files of a folder (or the one file), in the order of their names.
pub fn of(path: &Path, split: Option<&str>) -> Result<Vec<PathBuf>, StageError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut all = Vec::new();
    walk(path, &mut all)?;
    all.sort();
    let inside = |file: &&PathBuf| split.is_none_or(|split| of_split(file.strip_prefix(path).unwrap_or(file), split));
    let chosen: Vec<PathBuf> = all.iter().filter(inside).cloned().collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let wanted = split.map_or(String::new(), |split| format!(" of split `{split}`"));
    let found: Vec<String> =
        all.iter().map(|file| file.strip_prefix(path).unwrap_or(file).display().to_string()).collect();
    let found = if found.is_empty() { "nothing".to_string() } else { found.join(", ") };
    Err(StageError::new(format!("`{}` holds no data file{wanted}: found {found}", path.display()))
        .hint(format!("data files end in {}", ENDINGS.join(", "))))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), StageError> {
    let failed = |error: std::io::Error| StageError::file("list", folder, &error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, found)?;
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) && !OTHERS.contains(&name.as_str()) {
            found.push(path);
        }
    }
    Ok(())
}

// A part of the path is the split, or begins with it: `test`, `test.jsonl`, `test-00000-of-00001.parquet`.
fn of_split(path: &Path, split: &str) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy().into_owned();
        part.strip_prefix(split).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_a_folder_or_begins_a_name() {
        for path in ["test.jsonl", "data/test-00000-of-00001.parquet", "test/data-00000-of-00002.arrow"] {
            assert!(of_split(Path::new(path), "test"), "{path}");
        }
        for path in ["latest.jsonl", "data/tests.parquet", "train.jsonl"] {
            assert!(!of_split(Path::new(path), "test"), "{path}");
        }
    }
}
