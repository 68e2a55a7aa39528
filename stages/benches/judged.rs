//! What 100,000 judged items cost: `cargo bench -p plumb-stages --bench judged [BRANCHES SEEDS ITEMS [CHARACTERS]]`. Judgments
//! of two branches and five seeds (each 10,000 items in clusters of two, 1,000 characters of rationale and gold) are
//! scored by `bench.s-corr` and compared by `stats.compare`, both with 10,000 resamples: of clusters, and on two levels of
//! seeds and clusters. Time by stage, and the highest memory of the process.

#![allow(clippy::print_stdout, reason = "a bench reports to whoever started it")]
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use plumb_engine::io::{Branch, InputPlace, Io, Manner};
use plumb_stages::registry;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const WORDS: [&str; 12] =
    ["the", "answer", "adds", "wrongly", "because", "seven", "is", "not", "five", "and", "rambles", "clearly"];

fn text(random: &mut ChaCha8Rng, characters: usize) -> String {
    let mut text = String::new();
    while text.len() < characters {
        write!(text, "{} ", WORDS[random.random_range(0..WORDS.len())]).unwrap();
    }
    text
}

/// Judgments of which four in five have the right label, and half of the rationales share most words with the gold.
fn judgments(path: &Path, items: usize, characters: usize, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for item in 0..items {
        let gold = text(&mut random, characters);
        let rationale = if random.random_bool(0.5) { gold.clone() } else { text(&mut random, characters) };
        let verdict = if random.random_bool(0.8) { "A" } else { "B" };
        let row = json!({
            "pair": {
                "id": format!("item-{item}"),
                "conversations": [{"role": "user", "content": "which one is right?"}],
                "response_A": "the first answer", "response_B": "the second answer, which is longer",
                "gt_label": "A", "gt_judgment": gold, "source": {"dataset": "bench", "subset": format!("s{}", item % 5)},
                "prompt_id": format!("prompt-{}", item / 2),
            },
            "order": "original", "model_judgment": format!("{rationale}\\boxed{{{verdict}}}"), "finished": true,
        });
        writeln!(file, "{row}").unwrap();
    }
}

/// Runs a kind as `plumb __step` does; the folder with its outputs.
fn run(kind: &str, params: Value, inputs: BTreeMap<String, InputPlace>, folder: &Path) -> BTreeMap<String, PathBuf> {
    let kind = registry().find(kind).unwrap().clone();
    std::fs::create_dir_all(folder).unwrap();
    let outputs = kind.declaration().outputs.iter();
    let outputs: BTreeMap<String, PathBuf> =
        outputs.map(|output| (output.name.to_string(), folder.join(output.file))).collect();
    let io = Io::new(inputs, outputs.clone(), folder.into(), Manner::default(), None).unwrap();
    kind.runner().unwrap()(params, &io).unwrap();
    outputs
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: not known").to_string()
}

fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let number = |place: usize, default: usize| given.get(place).copied().unwrap_or(default);
    let (branches, seeds, items, characters) = (number(0, 2), number(1, 5), number(2, 10_000), number(3, 1_000));
    let place = tempfile::tempdir().unwrap();
    let (mut scoring, mut gathered) = (0.0, Vec::new());
    for branch in 0..branches {
        for seed in 0..seeds {
            let folder = place.path().join(format!("{branch}-{seed}"));
            let input = place.path().join(format!("{branch}-{seed}.jsonl"));
            judgments(&input, items, characters, (branch * 1000 + seed) as u64);
            let start = Instant::now();
            let params = json!({"meta": {"kind": "overlap", "threshold": 0.9}});
            let outputs =
                run("bench.s-corr", params, [("judgments".into(), InputPlace::One(input.clone()))].into(), &folder);
            scoring += start.elapsed().as_secs_f64();
            std::fs::remove_file(input).unwrap();
            let labels = [("arm", branch), ("seed", seed)].map(|(axis, label)| (axis.to_string(), label.to_string()));
            let path = Some(outputs["items"].clone());
            let (stage, adaptive) = ("score".into(), BTreeMap::new());
            gathered.push(Branch { stage, labels: labels.into(), baseline: branch == 0, path, adaptive });
        }
    }
    let start = Instant::now();
    let inputs = [("items".into(), InputPlace::Gathered(gathered))].into();
    run("stats.compare", json!({"by_domain": false}), inputs, &place.path().join("compare"));
    let comparing = start.elapsed().as_secs_f64();
    println!("{branches} branches x {seeds} seeds x {items} items, {characters} characters");
    println!("bench.s-corr   {scoring:.1} s");
    println!("stats.compare  {comparing:.1} s");
    println!("together       {:.1} s\n{}", scoring + comparing, peak_memory());
}
