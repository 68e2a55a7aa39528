//! Training that cannot go on, through both programs: what the user is told, what is kept, and that nothing is published.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic in a test is the report, and a skip is told")]

mod programs;

use std::path::Path;

use programs::{command_on, plumb};
use serde_json::{Value, json};

/// A pipeline that fine-tunes the recorded model on these rows.
struct Bench {
    place: tempfile::TempDir,
}

impl Bench {
    fn new(rows: &[Value], with: &str) -> Self {
        let bench = Self { place: tempfile::tempdir().unwrap() };
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(bench.path("rows.jsonl"), text).unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama");
        let pipeline = format!(
            "schema = 1\n[source.model]\npath = \"{}\"\n[source.rows]\npath = \"rows.jsonl\"\n[stage.tune]\nuses = \"lm.sft\"\n\
             inputs = {{ model = \"source.model\", demonstrations = \"source.rows\" }}\nwith = {{ {with} }}\n",
            model.display()
        );
        std::fs::write(bench.path("tune.toml"), pipeline).unwrap();
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.place.path().join(name)
    }

    /// The exit code, and everything that was said.
    fn run(&self, plumb: &Path) -> (Option<i32>, String) {
        let pipeline = self.path("tune.toml");
        let mut command = command_on(&pipeline.to_string_lossy(), plumb, "run", &self.path("cache"), &[]);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Names in the state folders of the cache, where checkpoints lie.
    fn state(&self) -> Vec<String> {
        let folders = walk(&self.path("cache"), 4).into_iter();
        let names = folders.filter_map(|path| Some(path.file_name()?.to_str()?.to_string()));
        names.filter(|name| name.starts_with("checkpoint-") || name == "unfinished").collect()
    }
}

fn walk(folder: &Path, depth: usize) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = |path: std::path::PathBuf| {
        let deeper = if depth > 0 && path.is_dir() { walk(&path, depth - 1) } else { Vec::new() };
        std::iter::once(path).chain(deeper)
    };
    entries.flat_map(below).collect()
}

fn row(id: &str, completion: &str) -> Value {
    json!({"id": id, "prompt": "t3 t4", "completion": completion})
}

#[test]
fn a_run_whose_loss_is_no_number_is_told_with_step_items_and_tensor_and_keeps_its_last_checkpoint() {
    let Some(plumb) = plumb() else { return };
    let rows = [row("one", "t5 t6"), row("two", "t7")];
    let bench = Bench::new(&rows, "max_steps = 10, learning_rate = 1e30, per_device_train_batch_size = 2");
    let (code, said) = bench.run(&plumb);
    assert_eq!(code, Some(1), "{said}");
    for part in ["step 2: loss NaN", "the gradient of `model.", "not finite", "two", "the last checkpoint is kept"] {
        assert!(said.contains(part), "`{part}` is not said\n{said}");
    }
    assert_eq!(bench.state(), ["checkpoint-1"], "{said}");
    // A second run goes on from there, and stops at the same place.
    let (code, said) = bench.run(&plumb);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("continuing after step 1") && said.contains("step 2: loss NaN"), "{said}");
}

#[test]
fn rows_that_no_training_can_use_are_told_with_what_to_do() {
    let Some(plumb) = plumb() else { return };
    let long = "t5 ".repeat(200);
    let cases = [
        (Vec::new(), "max_steps = 2", "rows.jsonl` holds no row", ""),
        (
            vec![row("one", &long)],
            "max_steps = 2",
            "`one` takes 203 tokens, but the model's context",
            "with.max_length = 64",
        ),
        (vec![row("one", "t5")], "max_steps = 2, max_length = 2", "rows.jsonl` has no row to learn from", ""),
    ];
    for (rows, with, error, hint) in cases {
        let bench = Bench::new(&rows, with);
        let (code, said) = bench.run(&plumb);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(error) && said.contains(hint), "{error}\n{said}");
        assert_eq!(bench.state(), Vec::<String>::new());
    }
}
