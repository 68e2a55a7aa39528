//! What every scenario stands on: a folder of its own with a pipeline and a cache, the `plumb` binary, and its whole
//! output with what varies replaced. A failing scenario prints the last command, the folder's tree and the logs.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and says why")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

use expect_test::Expect;
use plumb_cache::{ActionKey, ActionRecord, Store, StoreOptions};
use regex::Regex;

/// A folder with a pipeline `p.toml` and a cache.
pub struct Scene {
    root: tempfile::TempDir,
    /// The commands typed so far with their output, for the report of a failure.
    told: Mutex<Vec<String>>,
    /// Variables of every command.
    variables: Mutex<Vec<(String, String)>>,
    /// What starts every command, with its own arguments.
    starter: Mutex<Vec<String>>,
}

/// What one command did.
pub struct Outcome {
    /// Exit code; 128 + signal where it was killed.
    pub code: i32,
    /// Its stdout, masked.
    pub stdout: String,
    /// Its stderr, masked.
    pub stderr: String,
    /// Its stdout as it was.
    pub raw: String,
    /// Its stderr as it was.
    pub raw_stderr: String,
}

impl Scene {
    /// A folder with this pipeline as `p.toml`.
    pub fn new(pipeline: &str) -> Self {
        let root = tempfile::Builder::new().prefix("plumb-scene-").tempdir().unwrap();
        let scene = Self { root, told: Mutex::default(), variables: Mutex::default(), starter: Mutex::default() };
        fs::create_dir(scene.path("home")).unwrap();
        scene.write("p.toml", pipeline);
        scene
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file, its folders too.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file; empty where there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Replaces text in the pipeline, which must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let pipeline = self.read("p.toml");
        assert!(pipeline.contains(from), "the pipeline has no `{from}`");
        self.write("p.toml", &pipeline.replace(from, to));
    }

    /// Which steps really ran since the last call, by what they appended to `$HOME/ran`: sorted, on one line.
    pub fn executed(&self) -> String {
        let ran = self.read("home/ran");
        let _ = fs::remove_file(self.path("home/ran"));
        let mut names: Vec<&str> = ran.lines().collect();
        names.sort_unstable();
        names.join(" ")
    }

    /// The text of `STEP.OUTPUT`, which must be in the cache.
    pub fn result(&self, artifact: &str) -> String {
        fs::read_to_string(self.blob(artifact)).unwrap()
    }

    /// The digest of `STEP.OUTPUT`, which must be in the cache.
    pub fn digest(&self, artifact: &str) -> String {
        let told = self.plumb(&format!("open p.toml {artifact} --json")).exits(0).json();
        told["digest"].as_str().unwrap().to_owned()
    }

    /// Removes the blob of `STEP.OUTPUT` from the cache.
    pub fn forget(&self, artifact: &str) {
        fs::remove_file(self.blob(artifact)).unwrap();
    }

    /// Flips a bit of the blob of `STEP.OUTPUT`, size kept, as a bad disk does.
    pub fn damage(&self, artifact: &str) {
        let blob = self.blob(artifact);
        let mut bytes = fs::read(&blob).unwrap();
        bytes[0] ^= 1;
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&blob, bytes).unwrap();
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o444)).unwrap();
    }

    fn blob(&self, artifact: &str) -> PathBuf {
        let opened = self.plumb(&format!("open p.toml {artifact}")).exits(0);
        PathBuf::from(opened.raw.trim_end())
    }

    /// The cache, for what no command does.
    pub fn store(&self) -> Store {
        Store::open(&self.path("cache"), StoreOptions::default()).unwrap()
    }

    /// The key of a step, whose inputs must be there.
    pub fn key(&self, step: &str) -> ActionKey {
        let told = self.plumb(&format!("why p.toml {step} --json")).exits(0).json();
        told[0]["chain"][0]["action"].as_str().unwrap().parse().unwrap()
    }

    /// Where the record of a result lies.
    pub fn record_file(&self, key: ActionKey) -> PathBuf {
        let hex = key.to_string();
        self.path("cache/v1/actions").join(&hex[..2]).join(&hex[2..])
    }

    /// Puts another record in the place of the one of its key.
    pub fn replace_record(&self, record: &ActionRecord) {
        let file = self.record_file(record.action);
        fs::remove_file(&file).unwrap();
        fs::write(&file, record.encode().unwrap()).unwrap();
    }

    /// The folder of a run, the only one there is.
    pub fn run_folder(&self) -> PathBuf {
        fs::read_dir(self.path("cache/v1/runs")).unwrap().next().unwrap().unwrap().path()
    }

    /// Makes a named pipe: what a step that reads or writes it is held by.
    pub fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// Gives every later command a variable.
    pub fn export(&self, name: &str, value: &str) {
        self.variables.lock().unwrap().push((name.into(), value.into()));
    }

    /// Has every later command started by another program.
    pub fn start_through<'a>(&self, starter: impl Iterator<Item = &'a str>) {
        *self.starter.lock().unwrap() = starter.map(String::from).collect();
    }

    /// The command `plumb …`, ready to be changed and started.
    pub fn command(&self, line: &str) -> Command {
        self.other(&format!("{} {line}", env!("CARGO_BIN_EXE_plumb")))
    }

    /// A command of the system, in the same surroundings.
    pub fn other(&self, line: &str) -> Command {
        let starter = self.starter.lock().unwrap();
        let mut words = starter.iter().map(String::as_str).chain(line.split_whitespace());
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .current_dir(self.root())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("PLUMB_CACHE", self.path("cache"))
            .env("COLUMNS", "100")
            .envs(self.variables.lock().unwrap().iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `plumb …` to its end.
    pub fn plumb(&self, line: &str) -> Outcome {
        self.ended(line, self.command(line).output().unwrap())
    }

    /// Starts `plumb …`.
    pub fn start(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Waits for a started command.
    pub fn wait(&self, line: &str, child: Child) -> Outcome {
        self.ended(line, child.wait_with_output().unwrap())
    }

    /// Takes in the end of a command that the scenario ran itself.
    pub fn ended(&self, line: &str, output: Output) -> Outcome {
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
        let raw = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        self.told.lock().unwrap().push(format!("$ plumb {line}\n{raw}{stderr}[exit {code}]"));
        Outcome { code, stdout: self.masked(&raw), stderr: self.masked(&stderr), raw, raw_stderr: stderr }
    }

    /// A text with what varies replaced.
    pub fn masked(&self, text: &str) -> String {
        let rules = [
            (r"\b[0-9a-f]{64}\b", "[KEY]"),
            (r"\b(file|tree):[0-9a-f]{12}\b", "$1:[DIGEST]"),
            (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?Z?)?", "[WHEN]"),
            (r"\b\d{8}T\d{6}(\.\d+)?Z[-\w]*", "[RUN]"),
            (r"\b\d+ at once\b", "[N] at once"),
            (r"\b\d+ h \d\d min\b|\b\d+ min \d\d s\b|\b\d+\.\d s\b|\b\d+ ms\b", "[TIME]"),
            (r"\b\d+(\.\d+)? (B|[KMGT]iB)\b", "[SIZE]"),
        ];
        let real = fs::canonicalize(self.root()).unwrap();
        let mut text = text.replace(&*real.to_string_lossy(), "[ROOT]");
        text = text.replace(&*self.root().to_string_lossy(), "[ROOT]");
        for (pattern, mask) in rules {
            text = Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
        }
        // What a mask stands for has a width that differs from run to run, and with it the columns beside it.
        if text.contains("[TIME]") || text.contains("[SIZE]") {
            text = Regex::new(r"(\S) {2,}").unwrap().replace_all(&text, "$1  ").into_owned();
        }
        text
    }
}

impl Outcome {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; stderr:\n{}", self.stderr);
        self
    }

    /// Asserts the whole of stdout.
    pub fn prints(self, expect: Expect) -> Self {
        expect.assert_eq(&self.stdout);
        self
    }

    /// Asserts stdout and stderr without their order in time.
    pub fn says(self, expect: Expect) -> Self {
        expect.assert_eq(&format!("{}---\n{}", self.stdout, self.stderr));
        self
    }

    /// stdout as one JSON value.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.raw).expect("stdout is JSON")
    }

    /// stdout as JSON lines.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.raw.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut report = String::new();
        for told in self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            let _ = writeln!(report, "{told}");
        }
        let _ = writeln!(report, "--- files");
        list(self.root(), self.root(), &mut report);
        eprintln!("{report}");
    }
}

// Blobs are listed, logs are printed.
fn list(root: &Path, folder: &Path, report: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let _ = writeln!(report, "{}", path.strip_prefix(root).unwrap_or(&path).display());
        if path.is_dir() {
            list(root, &path, report);
        } else if path.extension().is_some_and(|extension| extension == "log" || extension == "toml") {
            for line in fs::read_to_string(&path).unwrap_or_default().lines() {
                let _ = writeln!(report, "    | {line}");
            }
        }
    }
}
