//! Layers in trouble: whatever a server or a folder does, a run has one warning at most and the right results; what a
//! push is told. The server is moto's S3 behind a line on which things go wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Outcome, Scene};
use crate::scenarios::layer_addresses::{ALL, Alice, point, warnings};
use crate::servers::line::{Act, Line, Question};
use crate::servers::s3::S3;

/// Alice's results in S3, where nothing was in the way.
pub fn lab() -> (S3, Alice) {
    let s3 = S3::start("bucket");
    let alice = Alice::new();
    alice.uses("s3://bucket/shared");
    point(&alice.scene, s3.url());
    alice.push().exits(0);
    (s3, alice)
}

/// Alice before her first push, and the line that she is to use.
pub fn before_a_push() -> (S3, Line, Alice) {
    let s3 = S3::start("bucket");
    let (line, alice) = (s3.line(), Alice::new());
    alice.uses("s3://bucket/shared");
    point(&alice.scene, &line.url());
    (s3, line, alice)
}

/// Bob, who reads over this line.
pub fn bob(alice: &Alice, line: &Line) -> Scene {
    let bob = alice.bob("s3://bucket/shared");
    point(&bob, &line.url());
    bob
}

fn shorter(mut body: Vec<u8>) -> Vec<u8> {
    body.pop();
    body
}

fn other(mut body: Vec<u8>) -> Vec<u8> {
    *body.last_mut().unwrap() ^= 1;
    body
}

fn without_objects(body: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(body).unwrap();
    match (text.find("<Contents>"), text.rfind("</Contents>")) {
        (Some(start), Some(end)) => [&text[..start], &text[end + "</Contents>".len()..]].concat().into_bytes(),
        _ => text.into_bytes(),
    }
}

/// Asks with another clock than the server's are refused, as S3 does.
fn skew(question: &Question) -> Act {
    let date = |text: &str| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).unwrap();
    let asked = date(&question.headers["x-amz-date"]).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    match asked.duration_since(jiff::Timestamp::now()).abs() > jiff::SignedDuration::from_mins(15) {
        true => Act::Refuse(403, "RequestTimeTooSkewed", ""),
        false => Act::Pass,
    }
}

/// What bob sees, and what he is told: how many warnings, and a part of what is said.
struct Case {
    name: &'static str,
    rule: fn(&Question) -> Act,
    ran: &'static str,
    warnings: usize,
    says: &'static str,
}

const CASES: [Case; 10] = [
    Case { name: "500", rule: |_| Act::Refuse(500, "InternalError", ""), ran: ALL, warnings: 1, says: "500" },
    Case {
        name: "503",
        rule: |_| Act::Refuse(503, "SlowDown", "Retry-After: 1"),
        ran: ALL,
        warnings: 1,
        says: "503 Service Unavailable (SlowDown)",
    },
    Case {
        name: "403",
        rule: |_| Act::Refuse(403, "AccessDenied", ""),
        ran: ALL,
        warnings: 1,
        says: "permission denied (AccessDenied); set `AWS_ACCESS_KEY_ID`",
    },
    Case {
        name: "403 for blobs only",
        rule: |question| if question.is_blob() { Act::Refuse(403, "AccessDenied", "") } else { Act::Pass },
        ran: ALL,
        warnings: 1,
        says: "permission denied (AccessDenied)",
    },
    Case {
        name: "truncated bytes",
        rule: |question| if question.is_blob() { Act::Change(shorter) } else { Act::Pass },
        ran: ALL,
        warnings: 1,
        says: "bytes came where",
    },
    Case {
        name: "wrong bytes",
        rule: |question| if question.is_blob() { Act::Change(other) } else { Act::Pass },
        ran: ALL,
        warnings: 1,
        says: "they have another digest",
    },
    Case {
        name: "a list without the newest objects",
        rule: |question| match question.parameter("list-type") {
            Some(_) => Act::Change(without_objects),
            None => Act::Pass,
        },
        ran: ALL,
        warnings: 0,
        says: "",
    },
    Case {
        name: "an object that was just written is not there yet",
        rule: |question| if question.is_blob() { Act::Refuse(404, "NoSuchKey", "") } else { Act::Pass },
        ran: "length weights",
        warnings: 0,
        says: "turned out not to have output",
    },
    Case {
        name: "slow, but something comes",
        rule: |question| if question.is_blob() { Act::Slow(Duration::from_micros(500)) } else { Act::Pass },
        ran: "",
        warnings: 0,
        says: "",
    },
    Case { name: "silent", rule: |_| Act::Hold, ran: ALL, warnings: 1, says: "no answer within 15 s" },
];

#[test]
fn whatever_a_server_does_a_run_has_one_warning_at_most_and_the_right_results() {
    let (s3, alice) = lab();
    let check = |case: &Case| {
        let line = s3.line();
        line.treat(case.rule);
        let (bob, start) = (bob(&alice, &line), Instant::now());
        let told = bob.plumb("run p.toml").exits(0);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(90), "{}: a sick layer held a run up for {took:?}", case.name);
        let ran = bob.executed();
        let seen = (ran.split(' ').filter(|name| !case.ran.contains(name)).collect(), warnings(&told).len());
        assert_eq!(seen, (Vec::<&str>::new(), case.warnings), "{}: {}", case.name, told.raw_stderr);
        assert!(case.ran.is_empty() || ran.contains("weights"), "{}: {ran}", case.name);
        assert!(told.raw_stderr.contains(case.says), "{}: {}", case.name, told.raw_stderr);
        alice.agrees_with(&bob);
    };
    thread::scope(|scope| CASES.iter().for_each(|case| drop(scope.spawn(|| check(case)))));
}

#[test]
fn a_server_that_is_killed_while_it_sends_is_a_miss_with_one_warning() {
    let (s3, alice) = lab();
    let line = s3.line();
    let bob = bob(&alice, &line);
    let doomed = line.clone();
    line.treat(move |question| match question.headers.get("range") {
        Some(range) if question.is_blob() && !range.starts_with("bytes=0-") => {
            doomed.die();
            Act::CutAnswer(1000)
        }
        _ => Act::Pass,
    });
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!(warnings(&told).len(), 1, "{}", told.raw_stderr);
    assert!(bob.executed().contains("weights"), "{}", told.raw_stderr);
    alice.agrees_with(&bob);
}

#[test]
fn a_push_that_is_refused_says_why_and_asks_once() {
    let (_s3, line, alice) = before_a_push();
    line.treat(|_| Act::Refuse(403, "AccessDenied", ""));
    let told = alice.push().exits(3);
    assert!(told.stderr.contains("permission denied (AccessDenied); set `AWS_ACCESS_KEY_ID`"), "{}", told.stderr);
    assert_eq!(line.asked().len(), 1, "a refusal is not asked for again");
}

#[test]
fn a_push_while_what_was_just_written_cannot_be_read_yet_is_whole() {
    let (_s3, line, alice) = before_a_push();
    let mut seen = BTreeSet::new();
    line.treat(move |question| match question.method.as_str() {
        // What is asked for the first time is not there yet.
        "GET" | "HEAD" if question.parameter("list-type").is_none() && seen.insert(question.path.clone()) => {
            Act::Refuse(404, "NoSuchKey", "")
        }
        "GET" if question.parameter("list-type").is_some() => Act::Change(without_objects),
        _ => Act::Pass,
    });
    alice.push().exits(0);
    alice.push().exits(0);
    line.treat(|_| Act::Pass);
    let bob = bob(&alice, &line);
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]));
    alice.agrees_with(&bob);
}

/// Needs `faketime` (Debian's package of that name).
#[test]
fn a_clock_that_is_wrong_is_told() {
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found = folders.iter().map(|folder| format!("{folder}/libfaketime.so.1"));
    let Some(library) = found.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: `apt-get install faketime` to run it");
        return;
    };
    let (s3, alice) = lab();
    let line = s3.line();
    line.treat(skew);
    let bob = bob(&alice, &line);
    bob.export("LD_PRELOAD", &library);
    bob.export("FAKETIME", "+2h");
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told).len()), (ALL, 1), "{}", told.raw_stderr);
    assert!(told.raw_stderr.contains("this machine's clock and the server's are too far apart"), "{}", told.raw_stderr);
    alice.agrees_with(&bob);
    let right = self::bob(&alice, &line);
    let told = right.plumb("run p.toml").exits(0);
    assert_eq!((right.executed().as_str(), warnings(&told)), ("", vec![]), "{}", told.raw_stderr);
}

/// A folder on another file system than the caches, if there is one.
pub fn elsewhere(scene: &Scene) -> Option<tempfile::TempDir> {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::Builder::new().prefix("plumb-lab-").tempdir_in("/dev/shm").ok()?;
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let other = device(folder.path()) != device(scene.root());
    if !other {
        eprintln!("skipped: `/dev/shm` is no other file system than the temporary folder");
    }
    other.then_some(folder)
}

/// Bob's own step, which waits in a fifo, and one that reads alice's large file after it.
fn with_a_step_that_waits(bob: &Scene) -> PathBuf {
    let fifo = bob.path("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let more = format!(
        "\n[stage.wait]\nuses = \"command\"\noutputs = {{ out = \"out\" }}\nwith.argv = [\"sh\", \"-c\", \"cat {} > {{out:out}}\"]\n\
         \n[stage.both]\nuses = \"command\"\ninputs.weights = \"weights.out\"\ninputs.wait = \"wait.out\"\noutputs = {{ out = \"out\" }}\n\
         with.argv = [\"sh\", \"-c\", \"wc -c < {{in:weights}} > {{out:out}}\"]\n",
        fifo.display()
    );
    let pipeline = bob.read("p.toml") + &more;
    bob.write("p.toml", &pipeline);
    fifo
}

/// Runs bob's step, and does something to the layer while it waits.
fn meanwhile(bob: &Scene, fifo: &Path, doing: impl FnOnce()) -> Outcome {
    let run = bob.start("run p.toml both");
    // Opening it waits for the step.
    let gate = fs::File::options().write(true).open(fifo).unwrap();
    doing();
    drop(gate);
    bob.wait("run p.toml both", run).exits(0)
}

#[test]
fn a_folder_on_another_file_system_is_a_layer_and_one_that_disappears_is_sick() {
    let alice = Alice::new();
    let Some(folder) = elsewhere(&alice.scene) else { return };
    let lab = folder.path().join("lab");
    fs::create_dir(&lab).unwrap();
    alice.uses(&lab.display().to_string());
    alice.push().exits(0);
    let bob = alice.bob(&lab.display().to_string());
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
    // The folder of a file server that went away is there, and empty.
    for remains in [false, true] {
        let bob = alice.bob(&lab.display().to_string());
        let fifo = with_a_step_that_waits(&bob);
        let (away, lab) = (folder.path().join("away"), lab.clone());
        let told = meanwhile(&bob, &fifo, || {
            fs::rename(&lab, &away).unwrap();
            if remains {
                fs::create_dir(&lab).unwrap();
            }
        });
        assert_eq!((bob.executed().as_str(), warnings(&told).len()), ("weights", 1), "{}", told.raw_stderr);
        let said = if remains { "another folder is at" } else { "is gone" };
        assert!(told.raw_stderr.contains(said), "{}", told.raw_stderr);
        assert_eq!(fs::read_dir(&lab).into_iter().flatten().count(), 0, "nothing was written there");
        let _ = fs::remove_dir(&lab);
        fs::rename(&away, &lab).unwrap();
        bob.plumb("run p.toml weights small length").exits(0);
        alice.agrees_with(&bob);
    }
}

#[test]
fn damaged_and_lost_objects_of_a_folder_are_a_miss() {
    let alice = Alice::new();
    let Some(folder) = elsewhere(&alice.scene) else { return };
    alice.uses(&folder.path().display().to_string());
    alice.push().exits(0);
    let mut blobs = Vec::new();
    for fan in fs::read_dir(folder.path().join("plumb-1/cas")).unwrap() {
        blobs.extend(fs::read_dir(fan.unwrap().path()).unwrap().map(|blob| blob.unwrap().path()));
    }
    let blob = blobs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(&blob).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    for (bytes, expected) in [(Some(other(whole.clone())), 1), (Some(cut), 1), (None, 0)] {
        match bytes {
            Some(bytes) => fs::write(&blob, bytes).unwrap(),
            None => fs::remove_file(&blob).unwrap(),
        }
        let bob = alice.bob(&folder.path().display().to_string());
        let told = bob.plumb("run p.toml").exits(0);
        assert_eq!(warnings(&told).len(), expected, "{}", told.raw_stderr);
        assert!(bob.executed().contains("weights"));
        alice.agrees_with(&bob);
    }
}
