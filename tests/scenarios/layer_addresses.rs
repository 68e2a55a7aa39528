//! Layers at every kind of address: what alice pushed there, bob reads; and what is said where that cannot be.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plumb_cache::Digest;

use crate::harness::{Outcome, Scene};
use crate::servers::s3::S3;
use crate::servers::web::{Answer, Server};

const SETTINGS: &str = "home/.config/plumb/config.toml";

/// A large file, which travels in five parts, a folder of small ones, and a step that reads the large one.
const PIPELINE: &str = r#"schema = 1

[pipeline]
name = "two"
goal = ["weights", "small", "length"]

[stage.weights]
uses = "command"
outputs = { out = "weights.bin" }
with.argv = ["sh", "-c", "echo weights >> $HOME/ran; seq 5000000 > {out:out}"]

[stage.small]
uses = "command"
outputs = { out = "small" }
with.argv = ["sh", "-c", "echo small >> $HOME/ran; mkdir {out:out}; for i in 1 2 3 4 5 6 7 8 9; do echo $i > {out:out}/$i; done"]

[stage.length]
uses = "command"
inputs.weights = "weights.out"
outputs = { out = "length" }
with.argv = ["sh", "-c", "echo length >> $HOME/ran; wc -c < {in:weights} > {out:out}"]
"#;

/// Everything that the pipeline runs.
pub const ALL: &str = "length small weights";

/// Alice, who ran the pipeline and has a key.
pub struct Alice {
    pub scene: Scene,
    key: String,
    digests: Vec<String>,
}

impl Alice {
    pub fn new() -> Alice {
        let scene = Scene::new(PIPELINE);
        scene.plumb("run p.toml").exits(0);
        assert_eq!(scene.executed(), ALL);
        let key = scene.plumb("key new").exits(0).raw.trim().to_owned();
        let digests = digests(&scene);
        Alice { scene, key, digests }
    }

    /// She pushes to this address from now on.
    pub fn uses(&self, url: &str) {
        self.scene.write(SETTINGS, &format!("write = \"lab\"\n[layer.lab]\nurl = \"{url}\"\n"));
    }

    pub fn push(&self) -> Outcome {
        self.scene.plumb("cache push p.toml")
    }

    /// Somebody who trusts her and reads this address.
    pub fn bob(&self, url: &str) -> Scene {
        let bob = Scene::new(PIPELINE);
        bob.write(SETTINGS, &format!("[layer.lab]\nurl = \"{url}\"\n[keys]\nalice = \"{}\"\n", self.key));
        bob
    }

    /// What somebody else has now is what she has.
    #[track_caller]
    pub fn agrees_with(&self, other: &Scene) {
        assert_eq!(digests(other), self.digests);
    }
}

fn digests(scene: &Scene) -> Vec<String> {
    ["weights.out", "small.out", "length.out"].map(|artifact| scene.digest(artifact)).to_vec()
}

/// Where a server of S3 is, for the programs of a scene.
pub fn point(scene: &Scene, endpoint: &str) {
    for (name, value) in [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret-word"),
    ] {
        scene.export(name, value);
    }
}

/// Every warning of a command.
pub fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.raw_stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).collect()
}

/// A process that ends with the scenario.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that alice has pushed to.
fn pushed() -> (Alice, PathBuf) {
    let alice = Alice::new();
    let lab = alice.scene.path("lab");
    fs::create_dir(&lab).unwrap();
    alice.uses(&lab.display().to_string());
    alice.push().exits(0);
    (alice, lab)
}

/// A web server over a folder that honours ranges, as most do.
fn server_of(folder: &Path) -> Server {
    let folder = folder.to_owned();
    Server::start(move |request| {
        let Ok(bytes) = fs::read(folder.join(request.path.trim_start_matches('/'))) else { return Answer::status(404) };
        let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let Some((start, end)) = range else { return Answer::file(request, &bytes, "\"x\"") };
        let (start, end) = (start.parse().unwrap(), (end.parse::<usize>().unwrap() + 1).min(bytes.len()));
        let answer = Answer { status: 206, headers: Vec::new(), body: bytes[start..end].to_vec(), cut: None };
        answer.with("Content-Range", format!("bytes {start}-{}/{}", end - 1, bytes.len()))
    })
}

#[test]
fn a_pushed_folder_behind_a_web_server_is_a_layer_to_read() {
    let (alice, lab) = pushed();
    let server = server_of(&lab);
    let bob = alice.bob(&format!("{}/", server.url()));
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]));
    alice.agrees_with(&bob);
    let asked = server.asked();
    assert!(
        asked.iter().all(|asked| asked.starts_with("GET /plumb-1/") || asked.starts_with("HEAD /plumb-1/")),
        "{asked:?}"
    );
    assert!(asked[0].starts_with("GET /plumb-1/list"), "{asked:?}");
    alice.uses(&server.url());
    let again = alice.push().exits(2);
    assert!(again.stderr.contains("can only be read: a web server takes nothing"), "{}", again.stderr);
    assert_eq!(server.asked(), Vec::<String>::new(), "nothing is sent");
}

#[test]
fn a_web_server_that_knows_no_ranges_serves_a_layer_too() {
    let (alice, lab) = pushed();
    let python = Command::new("python3")
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"])
        .current_dir(&lab)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut python = Running(python.unwrap());
    let mut said = String::new();
    BufReader::new(python.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let url = said.split(['(', ')']).nth(1).unwrap().trim_end_matches('/');
    let bob = alice.bob(url);
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]), "{}", told.stderr);
    alice.agrees_with(&bob);
}

#[test]
fn a_list_that_is_stale_or_lies_is_only_a_miss() {
    let (alice, lab) = pushed();
    let server = server_of(&lab);
    let list = lab.join("plumb-1/list");
    let whole = fs::read_to_string(&list).unwrap();
    assert_eq!(whole.lines().count(), 1);
    let stranger = Digest::of(b"no such segment");
    for lie in [String::new(), format!("{stranger} 100\n"), "no digest at all\n../../etc/passwd\n".into()] {
        fs::write(&list, lie).unwrap();
        let bob = alice.bob(&server.url());
        let told = bob.plumb("run p.toml").exits(0);
        assert_eq!((bob.executed().as_str(), warnings(&told)), (ALL, vec![]));
        alice.agrees_with(&bob);
    }
    fs::write(&list, format!("{stranger} 100\n{whole}rubbish")).unwrap();
    let bob = alice.bob(&server.url());
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "", "what is true in it is used");
    fs::remove_file(&list).unwrap();
    let bob = alice.bob(&server.url());
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told).len()), (ALL, 1));
    assert!(
        told.stderr.contains("there is no layer at its address, or nobody has pushed to it yet"),
        "{}",
        told.stderr
    );
}

#[test]
fn addresses_that_cannot_be_are_refused_with_what_to_do() {
    let alice = Alice::new();
    for (url, what, hint) in [
        ("s4://bucket", "`s4://` is no place for a layer", "did you mean `s3://`?"),
        ("htps://host/x", "`htps://` is no place for a layer", "did you mean `https://`?"),
        ("ftp://host/x", "`ftp://` is no place for a layer", "hint: "),
        ("s3://", "it names no bucket", "write `s3://BUCKET/FOLDER`"),
        ("gs:///folder", "it names no bucket", "write `gs://BUCKET/FOLDER`"),
        ("az://", "it names no bucket", "write `az://CONTAINER/FOLDER`"),
        ("az://container", "Account must be specified", "set `AZURE_STORAGE_ACCOUNT_NAME`"),
        ("relative/folder", "its path is not absolute", "make the folder first"),
    ] {
        alice.uses(url);
        let told = alice.push().exits(2);
        assert!(told.stderr.contains(what) && told.stderr.contains(hint), "{url}: {}", told.stderr);
    }
    for url in ["https://me:word@host/x", "https://host/x?token=word"] {
        let bob = alice.bob(url);
        let told = bob.plumb("plan p.toml").exits(0);
        assert!(warnings(&told)[0].ends_with("; write `https://HOST/FOLDER`"), "{}", told.stderr);
        assert_eq!(warnings(&told).len(), 1, "{}", told.stderr);
        assert!(!told.raw_stderr.contains("word@") && !told.raw_stderr.contains("=word"), "{}", told.raw_stderr);
    }
}

#[test]
fn a_bucket_that_is_not_there_and_credentials_that_are_not_are_told() {
    let alice = Alice::new();
    alice.scene.export("AWS_EC2_METADATA_DISABLED", "true");
    alice.uses("s3://bucket/x");
    let told = alice.push().exits(2);
    assert!(told.stderr.contains("no credentials were found"), "{}", told.stderr);
    assert!(told.stderr.contains("hint: set `AWS_ACCESS_KEY_ID`"), "{}", told.stderr);
    let s3 = S3::start("bucket");
    point(&alice.scene, s3.url());
    alice.uses("s3://backet/x");
    let told = alice.push().exits(3);
    assert!(told.stderr.contains("there is no such place (NoSuchBucket)"), "{}", told.stderr);
    let bob = alice.bob("s3://backet/x");
    point(&bob, s3.url());
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told).len()), (ALL, 1), "{}", told.stderr);
    assert!(told.stderr.contains("NoSuchBucket"), "{}", told.stderr);
}

/// Google's protocol for objects is that of S3 but for its conditions; the emulators that package registries have take no
/// puts of it, and moto's S3 does.
#[test]
fn a_bucket_of_google_cloud_storage_is_a_layer() {
    let s3 = S3::start("bucket");
    let alice = Alice::new();
    alice.scene.export("STORAGE_EMULATOR_HOST", s3.url());
    alice.uses("gs://bucket/shared");
    let told = alice.push().exits(0);
    assert!(told.raw_stderr.contains("pushed 3 results"), "{}", told.raw_stderr);
    assert!(warnings(&told)[0].contains("ignores conditional puts"), "moto knows no conditions of Google's");
    assert!(alice.push().exits(0).raw_stderr.contains("`lab` has 3 results already"));
    let bob = alice.bob("gs://bucket/shared");
    bob.export("STORAGE_EMULATOR_HOST", s3.url());
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]));
    alice.agrees_with(&bob);
}

/// Needs `azurite-blob` on the path (`npm install -g azurite`).
#[test]
fn a_container_of_azure_is_a_layer() {
    let alice = Alice::new();
    let azurite = Command::new("azurite-blob")
        .args(["--inMemoryPersistence", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry"])
        .current_dir(alice.scene.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(azurite) = azurite else {
        eprintln!("skipped: `npm install -g azurite` to run it");
        return;
    };
    let mut azurite = Running(azurite);
    let mut lines = BufReader::new(azurite.0.stdout.take().unwrap()).lines();
    let url = lines.find_map(|line| Some(line.unwrap().split_once("listens on ")?.1.trim().to_owned())).unwrap();
    // It would stop at a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    make_container(&url);
    for (name, value) in [("AZURE_STORAGE_USE_EMULATOR", "true"), ("AZURITE_BLOB_STORAGE_URL", url.as_str())] {
        alice.scene.export(name, value);
    }
    alice.uses("az://container/shared");
    assert!(alice.push().exits(0).raw_stderr.contains("pushed 3 results"));
    assert!(alice.push().exits(0).raw_stderr.contains("`lab` has 3 results already"));
    let bob = alice.bob("az://container/shared");
    for (name, value) in [("AZURE_STORAGE_USE_EMULATOR", "true"), ("AZURITE_BLOB_STORAGE_URL", url.as_str())] {
        bob.export(name, value);
    }
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]));
    alice.agrees_with(&bob);
    alice.uses("az://elsewhere/shared");
    assert!(alice.push().exits(3).stderr.contains("there is no such place (ContainerNotFound)"));
}

/// A container, with the key that every emulator has, as Azure's documentation prints it.
fn make_container(url: &str) {
    const MAKE: &str = r#"
import base64, datetime, hashlib, hmac, sys, urllib.request
key = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/devstoreaccount1/devstoreaccount1/container\nrestype:container"
signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0", "Authorization": "SharedKey devstoreaccount1:" + signature}
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + "/devstoreaccount1/container?restype=container", method="PUT", headers=headers))
"#;
    let made = Command::new("python3").args(["-c", MAKE, url]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
