//! Transfers to and from layers that were cut: by a killed command, or by a server that went away. The rest goes on where
//! it was, and nothing half-sent stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Scene;
use crate::scenarios::layer_addresses::{Alice, warnings};
use crate::scenarios::sick_layers::{before_a_push, bob, elsewhere, lab};
use crate::servers::line::{Act, Line};

/// The length of a part.
const PART: u64 = 8 << 20;

/// Waits for what is to come, and not for long.
#[expect(clippy::disallowed_methods, reason = "files in the cache of a running command tell nobody that they change")]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(120), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The files of a folder of a cache, without locks.
fn files(scene: &Scene, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.path("cache/v1").join(folder)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_none()).collect()
}

/// A pull that is ended so once the first part of the large file is there; where that lies.
fn cut_pull(bob: &Scene, line: &Line, end: impl FnOnce(&mut Child)) -> PathBuf {
    line.treat(|question| match question.headers.get("range") {
        Some(range) if question.is_blob() && !range.starts_with("bytes=0-") => Act::Hold,
        _ => Act::Pass,
    });
    let mut pull = bob.start("cache pull p.toml weights");
    let first_part = || files(bob, "partial").into_iter().find(|path| fs::metadata(path).unwrap().len() == PART);
    wait_until("the first part is there", || first_part().is_some());
    end(&mut pull);
    assert!(!pull.wait().unwrap().success());
    line.treat(|_| Act::Pass);
    line.revive();
    line.asked();
    first_part().unwrap()
}

/// From which byte on the blob was asked for.
fn asked_from(line: &Line) -> Vec<u64> {
    let asked = line.asked();
    let ranges =
        asked.iter().filter(|question| question.is_blob()).filter_map(|question| question.headers.get("range"));
    let start = |range: &String| range.strip_prefix("bytes=").unwrap().split('-').next().unwrap().parse().unwrap();
    ranges.map(start).collect::<BTreeSet<u64>>().into_iter().collect()
}

#[test]
fn a_pull_that_was_killed_goes_on_from_the_bytes_that_came() {
    let (s3, alice) = lab();
    let line = s3.line();
    let bob = bob(&alice, &line);
    cut_pull(&bob, &line, |pull| pull.kill().unwrap());
    bob.plumb("cache pull p.toml weights").exits(0);
    assert_eq!(asked_from(&line), [1, 2, 3, 4].map(|part| part * PART));
    assert_eq!(files(&bob, "partial"), Vec::<PathBuf>::new());
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
}

#[test]
fn a_pull_from_a_server_that_went_away_goes_on_when_it_is_back() {
    let (s3, alice) = lab();
    let line = s3.line();
    let bob = bob(&alice, &line);
    cut_pull(&bob, &line, |_| line.die());
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]));
    assert_eq!(asked_from(&line), [1, 2, 3, 4].map(|part| part * PART));
    alice.agrees_with(&bob);
}

#[test]
fn bytes_that_were_kept_and_are_wrong_are_thrown_away() {
    let (s3, alice) = lab();
    let line = s3.line();
    let bob = bob(&alice, &line);
    let partial = cut_pull(&bob, &line, |pull| pull.kill().unwrap());
    fs::write(&partial, vec![0; PART as usize]).unwrap();
    let told = bob.plumb("run p.toml").exits(0);
    assert_eq!((bob.executed().as_str(), warnings(&told)), ("", vec![]));
    assert_eq!(asked_from(&line), [0, 1, 2, 3, 4].map(|part| part * PART), "all of it, once the rest did not fit");
    alice.agrees_with(&bob);
}

/// The parts that were sent, and to how many uploads.
fn sent(line: &Line) -> (Vec<u64>, usize) {
    let asked = line.asked();
    let parts = asked.iter().filter(|question| question.is_part());
    let numbers = parts.clone().map(|part| part.parameter("partNumber").unwrap().parse().unwrap());
    let uploads: BTreeSet<_> = parts.map(|part| part.parameter("uploadId").unwrap().to_owned()).collect();
    (numbers.collect::<BTreeSet<u64>>().into_iter().collect(), uploads.len())
}

/// A push that is killed once two parts are sent; the note of it.
fn cut_push(alice: &Alice, line: &Line) -> PathBuf {
    line.treat(|question| match question.parameter("partNumber") {
        Some("1" | "2") | None => Act::Pass,
        Some(_) => Act::Hold,
    });
    let mut push = alice.scene.start("cache push p.toml");
    let noted = || {
        files(&alice.scene, "uploads").into_iter().find(|path| fs::read_to_string(path).unwrap().lines().count() == 3)
    };
    wait_until("two parts are sent", || noted().is_some());
    push.kill().unwrap();
    push.wait().unwrap();
    line.treat(|_| Act::Pass);
    line.asked();
    noted().unwrap()
}

#[test]
fn a_push_that_was_killed_sends_only_the_parts_that_are_missing() {
    let (s3, line, alice) = before_a_push();
    cut_push(&alice, &line);
    alice.push().exits(0);
    assert_eq!(sent(&line), (vec![3, 4, 5], 1));
    assert_eq!(files(&alice.scene, "uploads"), Vec::<PathBuf>::new());
    assert!(!s3.look("/bucket?uploads").contains("<Upload>"), "nothing half-sent stays");
    let bob = bob(&alice, &line);
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
}

#[test]
fn an_upload_that_the_server_forgot_starts_anew() {
    let (_s3, line, alice) = before_a_push();
    let note = cut_push(&alice, &line);
    let text = fs::read_to_string(&note).unwrap();
    let id = text.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(&note, text.replace(id, "of-old-times")).unwrap();
    // As S3 answers; moto fails at a part of an upload that it does not know.
    line.treat(|question| match question.is_part() && question.parameter("uploadId") == Some("of-old-times") {
        true => Act::Refuse(404, "NoSuchUpload", ""),
        false => Act::Pass,
    });
    alice.push().exits(0);
    assert_eq!(sent(&line).0, [1, 2, 3, 4, 5]);
    let bob = bob(&alice, &line);
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
}

#[test]
fn an_upload_that_nobody_went_on_with_is_given_up_at_a_later_push() {
    let (s3, line, alice) = before_a_push();
    let note = cut_push(&alice, &line);
    assert!(s3.look("/bucket?uploads").contains("<Upload>"));
    let file = fs::File::options().append(true).open(&note).unwrap();
    let old = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(8 * 24 * 3600);
    file.set_modified(old).unwrap();
    alice.scene.plumb("cache push p.toml small").exits(0);
    assert!(!s3.look("/bucket?uploads").contains("<Upload>"));
    assert!(!note.exists());
}

#[test]
fn a_push_goes_on_when_a_server_comes_back() {
    let (_s3, line, alice) = before_a_push();
    let doomed = line.clone();
    line.treat(move |question| {
        if question.parameter("partNumber") == Some("3") {
            doomed.die();
        }
        Act::Pass
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            line.wait_for(2, |question| question.parameter("partNumber") == Some("3"));
            line.treat(|_| Act::Pass);
            line.revive();
        });
        let told = alice.push().exits(0);
        assert!(told.raw_stderr.contains("pushed 3 results"), "{}", told.raw_stderr);
    });
    let bob = bob(&alice, &line);
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
}

#[test]
fn a_push_to_a_server_that_is_busy_for_a_while_goes_through() {
    let (_s3, line, alice) = before_a_push();
    let refused = AtomicUsize::new(0);
    line.treat(move |question| {
        let busy = question.number < 4 || question.is_part() && refused.fetch_add(1, Ordering::Relaxed) < 10;
        match (busy, question.number % 3) {
            (true, 0) => Act::Refuse(503, "SlowDown", "Retry-After: 1"),
            (true, 1) => Act::Refuse(500, "InternalError", ""),
            (true, _) => Act::CutQuestion(1000),
            (false, _) => Act::Pass,
        }
    });
    alice.push().exits(0);
    line.treat(|_| Act::Pass);
    let bob = bob(&alice, &line);
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
}

/// Killed by the system where it writes beyond a limit: after two parts, or within one of the others.
#[test]
fn a_push_into_a_folder_that_was_killed_goes_on() {
    let alice = Alice::new();
    let Some(folder) = elsewhere(&alice.scene) else { return };
    alice.uses(&folder.path().display().to_string());
    alice.scene.start_through(["prlimit", "--core=0", "--fsize=16777216"].into_iter());
    let killed = alice.push();
    assert_eq!(killed.code, 128 + 25, "SIGXFSZ: {}", killed.stderr);
    alice.scene.start_through(std::iter::empty());
    let uploads = || fs::read_dir(folder.path().join("plumb-1/uploads")).unwrap().flatten().map(|entry| entry.path());
    let cut: Vec<PathBuf> = uploads().collect();
    assert_eq!((cut.len(), files(&alice.scene, "uploads").len()), (1, 1));
    alice.push().exits(0);
    assert_eq!(
        (uploads().count(), files(&alice.scene, "uploads").len()),
        (0, 0),
        "it went on with the one that there was"
    );
    let bob = alice.bob(&folder.path().display().to_string());
    bob.plumb("run p.toml").exits(0);
    assert_eq!(bob.executed(), "");
    alice.agrees_with(&bob);
}
