//! What `cache/TRUST.md` says of who can do what, where no other scenario shows it; and that each test which that table
//! names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::harness::Scene;
use crate::scenarios::people::{SETTINGS, Shared};

const FLAVOURED: &str = r#"schema = 1
[stage.taste]
uses = "command"
with.argv = ["sh", "-c", "echo taste >> $HOME/ran; cat $HOME/flavour > {out:text}"]
outputs = { text = "text.txt" }
"#;

fn flavoured(flavour: &str) -> Scene {
    let scene = Scene::new(FLAVOURED);
    scene.write("home/flavour", flavour);
    scene
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = |path: PathBuf| match path.is_dir() {
        true => holding(&path, text),
        false if fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()) => vec![path],
        false => Vec::new(),
    };
    entries.flat_map(found).collect()
}

#[test]
fn a_layer_that_is_rolled_back_fools_newcomers_only() {
    let lab = Shared::new();
    let alice = lab.with(flavoured("sweet"));
    alice.scene.plumb("run p.toml").exits(0);
    alice.scene.plumb("cache push p.toml taste").exits(0);
    copy(&lab.path("plumb-1"), &lab.path("older"));
    alice.scene.plumb("cache disown p.toml taste --reason wrong --share").exits(0);
    alice.scene.write("home/flavour", "salty");
    alice.scene.plumb("run p.toml").exits(0);
    alice.scene.plumb("cache push p.toml taste").exits(0);

    let bob = lab.with(flavoured("bitter"));
    bob.trusts("alice", &alice);
    bob.scene.plumb("cache pull p.toml").exits(0);
    assert_eq!(bob.scene.result("taste.text"), "salty", "the mark is on the first result alone");
    let reader = lab.with(flavoured("bitter"));
    reader.trusts("alice", &alice);
    assert!(reader.scene.plumb("plan p.toml").exits(0).raw.contains("1 step in the cache"));

    fs::remove_dir_all(lab.path("plumb-1")).unwrap();
    fs::rename(lab.path("older"), lab.path("plumb-1")).unwrap();
    assert_eq!(reader.runs(), "taste", "who has read the mark once is not fooled, and makes it himself");
    let newcomer = lab.with(flavoured("bitter"));
    newcomer.trusts("alice", &alice);
    assert_eq!(newcomer.runs(), "", "the older record is still what alice has signed");
    assert_eq!(newcomer.scene.result("taste.text"), "sweet");
}

#[test]
fn a_layer_that_a_project_names_is_only_another_place() {
    let (lab, evil) = (Shared::new(), Shared::new());
    let (alice, mallory, bob) = (lab.person(), evil.maker(), lab.person());
    bob.trusts("alice", &alice);
    let url = evil.path("").display().to_string();
    bob.scene.write("plumb.toml", &format!("[layer.evil]\nurl = \"{url}\"\n"));
    let plan = bob.scene.plumb("plan p.toml").exits(0).raw;
    assert!(plan.contains(&format!("in `evil`, signed by {}: not trusted", mallory.signature())), "{plan}");
    assert_eq!(bob.runs(), "count prep report");
    for (line, complaint) in [
        (format!("[keys]\nmallory = \"{}\"\n", mallory.key), "a project must not say whose key"),
        ("write = \"evil\"\n".to_owned(), "a project must not say where results are sent"),
        ("distrust = [\"alice\"]\n".to_owned(), "unknown top-level key `distrust`"),
    ] {
        bob.scene.write("plumb.toml", &line);
        let told = bob.scene.plumb("plan p.toml").exits(2).stderr;
        assert!(told.contains(complaint), "{told}");
    }
}

#[test]
fn a_pipeline_file_is_a_program() {
    let scene = Scene::new("");
    scene.write(
        "project/p.toml",
        r#"schema = 1
[source.other]
path = "../elsewhere.txt"
[stage.runs]
uses = "command"
inputs.other = "source.other"
with.argv = ["sh", "-c", "touch $HOME/by-run; cat {in:other} > {out:text}"]
with.probe = [["sh", "-c", "touch $HOME/by-plan; echo 1"]]
outputs = { text = "text.txt" }
"#,
    );
    scene.write("elsewhere.txt", "outside\n");
    let touched = |name: &str| scene.path("home").join(name).exists();
    scene.plumb("graph project/p.toml").exits(0);
    assert!(!touched("by-plan"), "reading it runs nothing");
    scene.plumb("plan project/p.toml").exits(0);
    assert!(touched("by-plan") && !touched("by-run"), "a plan runs its probes");
    scene.plumb("run project/p.toml").exits(0);
    scene.plumb("get project/p.toml runs.text got.txt").exits(0);
    assert!(touched("by-run") && scene.read("got.txt") == "outside\n", "with your rights, on any file of yours");
}

#[test]
fn names_of_outputs_lead_nowhere_else() {
    for name in ["../up.txt", "/tmp/up.txt", "in/../../up.txt"] {
        let scene = Scene::new(&format!(
            "schema = 1\n[stage.up]\nuses = \"command\"\nwith.argv = [\"true\"]\noutputs = {{ text = \"{name}\" }}\n"
        ));
        let told = scene.plumb("run p.toml").exits(2).stderr;
        assert!(told.contains(&format!("`{name}`")), "{told}");
    }
    let scene = Scene::new("schema = 1\n[stage.\"../up\"]\nuses = \"command\"\nwith.argv = [\"true\"]\n");
    let told = scene.plumb("plan p.toml").exits(2).stderr;
    assert!(told.contains("`../up`"), "{told}");
}

#[test]
fn a_secret_is_in_no_object_of_a_layer_and_whose_machine_it_was_is() {
    let lab = Shared::new();
    let scene = Scene::new(
        r#"schema = 1
[stage.tell]
uses = "command"
with.argv = ["sh", "-c", "echo ${#API_KEY} > {out:text}; echo the key is $API_KEY"]
outputs = { text = "text.txt" }
run = { secrets = ["API_KEY"] }
"#,
    );
    scene.export("API_KEY", "sk-0123456789abcde");
    let alice = lab.with(scene);
    alice.scene.plumb("run p.toml").exits(0);
    assert_eq!(alice.scene.result("tell.text"), "18\n");
    alice.scene.plumb("cache push p.toml tell").exits(0);
    assert_eq!(holding(&lab.path("plumb-1"), "sk-0123456789abcde"), Vec::<PathBuf>::new());
    let secret = alice.scene.read("home/.config/plumb/key");
    let secret = secret.trim().rsplit(' ').next().unwrap();
    assert_eq!(holding(&lab.path("plumb-1"), secret), Vec::<PathBuf>::new());
    let record = alice.scene.plumb("cache ls --json").exits(0).json();
    let maker = record[0]["made_by"].as_str().unwrap();
    assert!(!holding(&lab.path("plumb-1"), maker).is_empty(), "a reader learns `{maker}`");
    assert!(!holding(&lab.path("plumb-1"), "echo ${#API_KEY}").is_empty(), "and every parameter");
}

#[test]
fn a_key_is_written_to_no_settings_of_a_project() {
    let lab = Shared::new();
    let alice = lab.person();
    alice.scene.write("plumb.toml", "trust = []\n");
    alice
        .scene
        .plumb("key trust bob ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        .exits(0);
    assert_eq!(alice.scene.read("plumb.toml"), "trust = []\n");
    assert!(alice.scene.read(SETTINGS).contains("bob = "));
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("cache/TRUST.md")).unwrap();
    let named = Regex::new(r"`([a-z_/]+\.rs)::([a-z0-9_]+)`").unwrap();
    let (mut missing, mut rows) = (BTreeSet::new(), 0);
    for found in named.captures_iter(&table) {
        let text = fs::read_to_string(root.join(&found[1])).unwrap_or_default();
        rows += 1;
        let test = Regex::new(&format!(r"#\[test\]\s+(?:#\[[^\n]*\]\s+)*fn {}\(", &found[2])).unwrap();
        if !test.is_match(&text) {
            missing.insert(found[0].to_owned());
        }
    }
    assert!(rows > 30 && missing.is_empty(), "{rows} named; not there: {missing:?}");
    let lines = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| can"));
    let untested: Vec<&str> = lines.filter(|line| !named.is_match(line)).collect();
    assert!(untested.is_empty(), "each line names its test: {untested:?}");
}
