//! `plumb watch`: runs again after a change, and survives a pipeline that is wrong.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::Scene;

const COPY: &str = r#"schema = 1
[source.data]
path = "data/raw.txt"
[stage.copy]
uses = "command"
inputs.data = "source.data"
with.argv = ["sh", "copy.sh", "{in:data}", "{out:text}", "one"]
with.files = ["copy.sh"]
outputs = { text = "text.txt" }
"#;

struct Watching {
    scene: Scene,
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start() -> Self {
        let scene = Scene::new(COPY);
        scene.write("data/raw.txt", "raw\n");
        scene.write("copy.sh", "echo $3 >> $HOME/ran; cat $1 > $2\n");
        Self::over(scene)
    }

    fn over(scene: Scene) -> Self {
        let mut child = scene.start("watch p.toml --json");
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { scene, child, events }
    }

    /// The events up to the next of this name, which is the last of them.
    fn until(&mut self, what: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        for line in self.events.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let found = event["what"] == what;
            seen.push(event);
            if found {
                return seen;
            }
        }
        panic!("the watch ended before `{what}`: {seen:?}");
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(self) -> Scene {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.scene.wait("watch p.toml --json", self.child).exits(130);
        self.scene
    }
}

#[test]
fn a_change_of_the_pipeline_of_a_source_and_of_a_script_runs_what_it_invalidates() {
    let mut watching = Watching::start();
    watching.until("watching");
    assert_eq!(watching.scene.executed(), "one");
    watching.scene.edit("\"one\"", "\"two\"");
    let told = watching.until("watching");
    assert!(told[0]["paths"][0].as_str().unwrap().ends_with("/p.toml"), "{told:?}");
    assert_eq!(watching.scene.executed(), "two");
    // As editors write: a new file that takes the place of the old one.
    watching.scene.write("data/new.txt", "rawer\n");
    fs::rename(watching.scene.path("data/new.txt"), watching.scene.path("data/raw.txt")).unwrap();
    watching.until("watching");
    assert_eq!(watching.scene.executed(), "two");
    watching.scene.write("copy.sh", "echo $3 again >> $HOME/ran; cat $1 > $2\n");
    watching.until("watching");
    let scene = watching.interrupt();
    assert_eq!(scene.executed(), "two again");
    assert_eq!(scene.result("copy.text"), "rawer\n");
}

#[test]
fn a_wrong_pipeline_is_told_and_watching_goes_on() {
    let mut watching = Watching::start();
    watching.until("watching");
    watching.scene.executed();
    let good = watching.scene.read("p.toml");
    watching.scene.edit("uses = \"command\"", "uses = \"comand\"");
    let told = watching.until("watching");
    let wrong = told.iter().find(|event| event["what"] == "wrong").unwrap();
    assert!(wrong["message"].as_str().unwrap().contains("unknown stage kind `comand`"), "{wrong}");
    watching.scene.write("p.toml", &good.replace("\"one\"", "\"three\""));
    watching.until("watching");
    assert_eq!(watching.interrupt().executed(), "three");
}

#[test]
fn a_change_of_what_nobody_reads_runs_nothing() {
    let mut watching = Watching::start();
    watching.until("watching");
    watching.scene.executed();
    watching.scene.write("notes.txt", "unrelated\n");
    watching.scene.write("data/other.txt", "unrelated\n");
    watching.scene.edit("\"one\"", "\"two\"");
    let told = watching.until("changed");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["paths"].as_array().unwrap().len(), 1, "{told:?}");
    watching.until("watching");
    watching.interrupt();
}

#[test]
fn ctrl_c_while_a_step_runs_ends_the_step_and_the_watch() {
    let scene = Scene::new(COPY);
    let gate = scene.fifo("home/gate");
    scene.write("data/raw.txt", "raw\n");
    scene.write("copy.sh", "echo $$ > $HOME/gate; cat $HOME/gate > $2\n");
    let child = scene.start("watch p.toml --json");
    let step = fs::read_to_string(gate).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    scene.wait("watch p.toml --json", child).exits(130);
    let status = fs::read_to_string(format!("/proc/{}/stat", step.trim())).unwrap_or_default();
    assert!(status.is_empty() || status.contains(") Z "), "{status}");
}

/// Steps that say on `ready` which they are and wait for `gate`, unless it is open.
const TWO: &str = r#"schema = 1
[stage.left]
uses = "command"
with.argv = ["sh", "hold.sh", "left", "{out:text}", "one"]
with.files = ["hold.sh"]
outputs = { text = "text.txt" }
[stage.next]
uses = "command"
inputs.text = "left.text"
with.argv = ["sh", "-c", "echo next >> $HOME/ran; cat {in:text} > {out:text}; : $0", "first"]
outputs = { text = "text.txt" }
"#;

fn holding() -> Watching {
    let scene = Scene::new(TWO);
    scene.fifo("home/ready");
    scene.fifo("home/gate");
    let hold = "echo $1 $3 >> $HOME/ran; [ -e $HOME/open ] || { echo > $HOME/ready; cat $HOME/gate; }; echo $3 > $2\n";
    scene.write("hold.sh", hold);
    let watching = Watching::over(scene);
    fs::read_to_string(watching.scene.path("home/ready")).unwrap();
    watching.scene.write("home/open", "");
    watching
}

#[test]
fn a_change_that_touches_a_running_step_stops_it_at_once_and_runs_what_is_wanted_now() {
    let mut watching = holding();
    watching.scene.edit("\"one\"", "\"two\"");
    let told = watching.until("changed");
    assert_eq!(told.last().unwrap()["running"], "sorted", "{told:?}");
    // Nobody opens the gate: the step is stopped.
    let told = watching.until("watching");
    let skipped: Vec<_> =
        told.iter().filter(|event| event["what"] == "skipped").map(|event| &event["because"]).collect();
    assert_eq!(skipped, ["changed", "changed"]);
    let scene = watching.interrupt();
    assert_eq!(scene.executed(), "left one left two next");
    assert_eq!(scene.result("next.text"), "two\n");
}

#[test]
fn a_running_step_that_a_change_does_not_touch_goes_on() {
    let mut watching = holding();
    watching.scene.edit("\"first\"", "\"second\"");
    assert_eq!(watching.until("changed").last().unwrap()["running"], "sorted");
    fs::write(watching.scene.path("home/gate"), "").unwrap();
    watching.until("watching");
    let scene = watching.interrupt();
    assert_eq!(scene.executed(), "left one next");
    assert_eq!(scene.result("next.text"), "one\n");
}

#[test]
fn a_comment_or_a_mistake_stops_no_running_step() {
    let mut watching = holding();
    let good = watching.scene.read("p.toml");
    watching.scene.write("p.toml", &format!("# a comment\n{good}"));
    assert_eq!(watching.until("changed").last().unwrap()["running"], "go-on");
    watching.scene.write("p.toml", &format!("{good}oops"));
    assert_eq!(watching.until("changed").last().unwrap()["running"], "go-on");
    fs::write(watching.scene.path("home/gate"), "").unwrap();
    let told = watching.until("watching");
    assert!(told.iter().any(|event| event["what"] == "finished" && event["step"] == "next"), "{told:?}");
    assert!(told.iter().any(|event| event["what"] == "wrong"), "what is still wrong is told then: {told:?}");
    assert_eq!(watching.interrupt().executed(), "left one next");
}
