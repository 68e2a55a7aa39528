//! Generation item by item: what has ended is kept in the step's state folder at once, so that a step that is killed asks
//! for the rest only. Knows no stage.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use plumb_engine::io::Io;
use plumb_engine::stage::StageError;
use serde::{Deserialize, Serialize};

use crate::model::{Completion, Model, Request, Sampling, Watch};

/// A request that has ended, as a line of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    request: usize,
    completions: Vec<Completion>,
}

/// Completions of every request, in order. `name` names the file that keeps them.
pub fn generate(
    model: &mut dyn Model,
    requests: &[Request],
    sampling: &Sampling,
    io: &Io,
    name: &str,
) -> Result<Vec<Vec<Completion>>, StageError> {
    let path = io.state().join(format!("{name}.jsonl"));
    let mut done: Vec<Option<Vec<Completion>>> = requests.iter().map(|_| None).collect();
    for kept in read(&path)? {
        if let Some(place) = done.get_mut(kept.request) {
            *place = Some(kept.completions);
        }
    }
    let rest: Vec<usize> = (0..requests.len()).filter(|index| done[*index].is_none()).collect();
    let kept = requests.len() - rest.len();
    if kept > 0 {
        io.log(format!("{kept} of {} were generated before this attempt", requests.len()));
    }
    let asked: Vec<Request> = rest.iter().map(|index| requests[*index].clone()).collect();
    let mut keeper = Keeper::new(&path, &rest, io)?;
    let drawn = model.generate_watched(&asked, sampling, &mut keeper)?;
    for (index, completions) in rest.into_iter().zip(drawn) {
        done[index] = Some(completions);
    }
    Ok(done.into_iter().flatten().collect())
}

// A line that was cut by a kill, and what follows it, was not kept.
fn read(path: &Path) -> Result<Vec<Kept>, StageError> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StageError::file("read", path, &error)),
    };
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let kept: Vec<(usize, Kept)> =
        whole.map_while(|line| serde_json::from_str(line).ok().map(|kept| (line.len() + 1, kept))).collect();
    let length: usize = kept.iter().map(|(bytes, _)| bytes).sum();
    if length < text.len() {
        let file = OpenOptions::new().write(true).open(path);
        let cut = file.and_then(|file| file.set_len(length as u64));
        cut.map_err(|error| StageError::file("write", path, &error))?;
    }
    Ok(kept.into_iter().map(|(_, kept)| kept).collect())
}

struct Keeper<'a> {
    file: File,
    path: PathBuf,
    /// The requests' own numbers.
    of: &'a [usize],
    io: &'a Io,
}

impl<'a> Keeper<'a> {
    fn new(path: &Path, of: &'a [usize], io: &'a Io) -> Result<Self, StageError> {
        let open = || OpenOptions::new().create(true).append(true).open(path);
        let file = std::fs::create_dir_all(io.state()).and_then(|()| open());
        let file = file.map_err(|error| StageError::file("write", path, &error))?;
        Ok(Self { file, path: path.to_path_buf(), of, io })
    }
}

impl Watch for Keeper<'_> {
    fn drawn(&mut self, tokens: u64) {
        self.io.progress(tokens, None, "tokens");
    }

    fn ended(&mut self, request: usize, completions: &[Completion]) -> Result<(), StageError> {
        let kept = Kept { request: self.of[request], completions: completions.to_vec() };
        let failed = |error: &dyn std::fmt::Display| StageError::file("write", &self.path, &error.to_string());
        let mut line = serde_json::to_vec(&kept).map_err(|error| failed(&error))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| failed(&error))
    }

    fn note(&mut self, message: &str) {
        self.io.log(message);
    }
}
