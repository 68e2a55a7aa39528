//! What comes from layers while a run goes on: it is told, and Ctrl-C ends it at once and breaks nothing.

use std::io::Read as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::scenarios::pushing::{alice, always, behind, files, key_of, reader, wait_for, warnings};
use crate::scenarios::reruns;
use crate::servers::gate::Gate;
use crate::servers::s3::S3;

const SETTINGS: &str = "home/.config/plumb/config.toml";

#[test]
fn ctrl_c_during_a_download_ends_the_run_and_the_next_one_goes_on() {
    let s3 = S3::start("bucket");
    let gate = Gate::to(s3.url(), &["GET /bucket/shared/plumb-1/packs/"]);
    let alice = alice(reruns::CHAIN);
    always(&alice, "s3://bucket/shared");
    behind(&alice, &gate);
    alice.plumb("run p.toml").exits(0);
    alice.plumb("cache push").exits(0);
    let alices = key_of(&alice);
    for goal in ["report", "more"] {
        let bob = reader(&alice, &[("alice", &alices)], "");
        bob.write(
            SETTINGS,
            &bob.read(SETTINGS).replace(&alice.path("lab").display().to_string(), "s3://bucket/shared"),
        );
        behind(&bob, &gate);
        // A step of his own reads what lies in the layer.
        let more = "\n[stage.more]\nuses = \"command\"\ninputs.text = \"report.text\"\n\
                    with.argv = [\"sh\", \"-c\", \"cat {in:text} > {out:text}\"]\noutputs = { text = \"more.txt\" }\n";
        bob.write("p.toml", &format!("{}{more}", reruns::CHAIN));
        gate.close();
        let command = format!("run p.toml {goal}");
        let run = bob.start(&command);
        gate.wait();
        let start = Instant::now();
        kill_process(Pid::from_child(&run), Signal::INT).unwrap();
        let told = bob.wait(&command, run).exits(130);
        assert!(start.elapsed() < Duration::from_secs(5), "{}", told.stderr);
        assert!(warnings(&told).is_empty(), "a layer that was not waited for is not sick: {}", told.stderr);
        assert_eq!((bob.executed().as_str(), files(&bob, "cache/v1/actions").len()), ("", 0));
        gate.open();
        let told = bob.plumb(&command).exits(0);
        assert!(told.stderr.contains("fetched  report"), "{}", told.stderr);
        assert_eq!((bob.executed().as_str(), bob.result(&format!("{goal}.text"))), ("", alice.result("report.text")));
    }
}

#[test]
fn a_download_that_takes_long_says_how_far_it_is() {
    let s3 = S3::start("bucket");
    let gate = Gate::to(s3.url(), &["GET /bucket/shared/plumb-1/packs/"]);
    let alice = alice(reruns::CHAIN);
    always(&alice, "s3://bucket/shared");
    behind(&alice, &gate);
    alice.plumb("run p.toml").exits(0);
    alice.plumb("cache push").exits(0);
    let bob = reader(&alice, &[("alice", &key_of(&alice))], "");
    bob.write(SETTINGS, &bob.read(SETTINGS).replace(&alice.path("lab").display().to_string(), "s3://bucket/shared"));
    behind(&bob, &gate);
    gate.close();
    let mut run = bob.start("run p.toml");
    let mut said = std::io::BufReader::new(run.stderr.take().unwrap());
    let mut told = wait_for(&mut said, "fetch  report");
    assert!(told.trim_end().ends_with("0 B of 8 B from lab"), "{told}");
    gate.open();
    said.read_to_string(&mut told).unwrap();
    assert!(run.wait().unwrap().success() && told.contains("fetched  report  8 B from lab"), "{told}");
}
