//! Sources behind `http` addresses, from a server on loopback: what is asked, what is downloaded, what goes wrong.

use std::sync::{Arc, Mutex};

use expect_test::expect;

use crate::harness::{Outcome, Scene};
use crate::servers::web::{Answer, Request, Server};

/// What the server has: bytes, ETag, and how it misbehaves next.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    etag: String,
    next: Vec<Trouble>,
}

enum Trouble {
    Cut(usize),
    Status(u16),
}

struct Web {
    scene: Scene,
    server: Server,
    held: Arc<Mutex<Held>>,
}

fn web(bytes: &[u8]) -> Web {
    let held = Arc::new(Mutex::new(Held { bytes: bytes.into(), etag: "\"one\"".into(), next: Vec::new() }));
    let there = held.clone();
    let server = Server::start(move |request| answer(&mut there.lock().unwrap(), request));
    let scene = Scene::new(&format!(
        r#"schema = 1

[source.data]
url = "{}/data.txt"

[stage.count]
uses = "command"
inputs.data = "source.data"
with.argv = ["sh", "-c", "echo count >> $HOME/ran; wc -c < {{in:data}} > {{out:size}}"]
outputs = {{ size = "size.txt" }}
"#,
        server.url()
    ));
    Web { scene, server, held }
}

/// A server of five bytes that the lock file pins.
fn locked() -> Web {
    let web = web(b"12345");
    web.plumb("lock p.toml").exits(0);
    web
}

fn answer(held: &mut Held, request: &Request) -> Answer {
    if !held.next.is_empty() {
        match held.next.remove(0) {
            Trouble::Cut(after) => return Answer::file(request, &held.bytes, &held.etag).cut(after),
            Trouble::Status(status) => return Answer::status(status).with("Retry-After", "0"),
        }
    }
    Answer::file(request, &held.bytes, &held.etag)
}

impl Web {
    fn plumb(&self, line: &str) -> Outcome {
        let outcome = self.scene.plumb(line);
        let hide = |text: &str| text.replace(&self.server.url(), "[SERVER]");
        Outcome { stdout: hide(&outcome.stdout), stderr: hide(&outcome.stderr), ..outcome }
    }

    fn now_has(&self, bytes: &[u8], etag: &str) {
        let mut held = self.held.lock().unwrap();
        (held.bytes, held.etag) = (bytes.into(), etag.into());
    }

    fn next(&self, next: Vec<Trouble>) {
        self.held.lock().unwrap().next = next;
    }
}

#[test]
fn an_address_is_downloaded_once_and_asked_for_at_each_plan() {
    let web = web(b"12345");
    web.plumb("run p.toml").exits(0).says(expect![[r#"
        ---
        fetched  data  [SIZE] from [SERVER]/data.txt in [TIME]
           plan  1 step  0 in the cache, 1 to run
          start  count  no earlier result of this stage is known
           done  count  [TIME]

          step  time  why
          count  ran  [TIME]  no earlier result of this stage is known

        ran 1 step in [TIME]
    "#]]);
    assert_eq!(web.server.asked(), ["GET /data.txt"]);
    assert_eq!(web.scene.result("count.size").trim(), "5");
    web.scene.executed();
    web.server.asked();
    web.plumb("run p.toml").exits(0);
    assert_eq!(
        (web.server.asked().join("\n"), web.scene.executed()),
        ("GET /data.txt if-none-match: \"one\"".into(), "".into())
    );
}

#[test]
fn a_download_is_an_event_like_everything_else() {
    let web = web(b"12345");
    let events = web.plumb("run p.toml --json").exits(0).json_lines();
    let fetched = events.iter().find(|event| event["what"] == "fetched").expect("a download is told");
    assert_eq!((fetched["source"].as_str(), fetched["bytes"].as_u64()), (Some("data"), Some(5)));
}

#[test]
fn what_changed_on_the_server_runs_its_stage_again() {
    let web = web(b"12345");
    web.plumb("run p.toml").exits(0);
    web.now_has(b"123456", "\"two\"");
    web.plumb("run p.toml").exits(0);
    assert_eq!(web.scene.executed(), "count count");
    assert_eq!(web.scene.result("count.size").trim(), "6");
}

#[test]
fn the_same_bytes_under_another_etag_run_nothing() {
    let web = web(b"12345");
    web.plumb("run p.toml").exits(0);
    web.now_has(b"12345", "\"two\"");
    web.plumb("run p.toml").exits(0);
    assert_eq!(web.scene.executed(), "count");
}

#[test]
fn a_pinned_address_whose_bytes_are_here_needs_no_network() {
    let web = locked();
    expect![[r##"
        # What the sources of p.toml held when they were accepted. `plumb lock p.toml` writes it.
        version = 1

        [source.data]
        kind = "http"
        from = "[SERVER]/data.txt"
        digest = "file:[KEY]"
        size = 5
        files = 1
        version = 'etag:"one"'
        pinned_at = "[WHEN]"
    "##]]
    .assert_eq(&web.scene.masked(&web.scene.read("p.lock")).replace(&web.server.url(), "[SERVER]"));
    web.server.asked();
    web.now_has(b"other", "\"two\"");
    web.plumb("run p.toml").exits(0);
    assert_eq!(web.scene.executed(), "count");
    assert!(web.server.asked().is_empty(), "nothing is asked");
}

#[test]
fn the_lock_tells_what_changed_on_the_server_and_accepts_it() {
    let web = locked();
    web.now_has(b"123456", "\"two\"");
    web.plumb("lock p.toml --check").exits(2).says(expect![[r#"
        source  size  digest  from
        data  changed  [SIZE]  file:[DIGEST]  [SERVER]/data.txt (etag:"two")
                was  [SIZE]  file:[DIGEST]  [SERVER]/data.txt (etag:"one")
        ---
        fetched  data  [SIZE] from [SERVER]/data.txt in [TIME]
        p.lock is not what it should be: `plumb lock p.toml` writes it
    "#]]);
    web.plumb("lock p.toml data").exits(0);
    web.plumb("run p.toml").exits(0);
    assert_eq!(web.scene.result("count.size").trim(), "6");
}

#[test]
fn pinned_bytes_that_are_fetched_anew_must_be_the_pinned_ones() {
    let web = locked();
    web.now_has(b"other bytes", "\"two\"");
    std::fs::remove_dir_all(web.scene.path("cache")).unwrap();
    // A plan needs no bytes, a run does.
    web.plumb("plan p.toml").exits(0);
    web.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
        fetched  data  [SIZE] from [SERVER]/data.txt in [TIME]
        error: source `data` is not what `p.lock` pins
          pinned  file:[KEY]  5 bytes  accepted [WHEN]  etag:"one"
          now  file:[KEY]  11 bytes  etag:"two"
        hint: if the change is meant, accept it: `plumb lock p.toml data`; if not, put the pinned bytes back
    "#]]);
    assert_eq!(web.scene.executed(), "");
    web.now_has(b"12345", "\"three\"");
    web.plumb("run p.toml").exits(0);
    assert_eq!(web.scene.executed(), "count");
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let web = web(&bytes);
    web.next(vec![Trouble::Cut(120_000), Trouble::Cut(30_000)]);
    web.plumb("run p.toml").exits(0);
    let asked = web.server.asked();
    assert_eq!(
        asked,
        [
            "GET /data.txt",
            "GET /data.txt range: bytes=120000- if-range: \"one\"",
            "GET /data.txt range: bytes=150000- if-range: \"one\""
        ]
    );
    assert_eq!(web.scene.result("count.size").trim(), "200000");
}

#[test]
fn a_part_of_an_older_file_is_never_completed_with_a_newer_one() {
    let web = web(&[b'a'; 1000]);
    web.next(std::iter::once(Trouble::Cut(300)).chain((0..9).map(|_| Trouble::Status(503))).collect());
    let told = web.plumb("run p.toml").exits(2);
    expect![[r#"
        error: source `data`: `[SERVER]/data.txt` answers 503 Service Unavailable (after 5 attempts)
        hint: the server is in trouble: try again later
    "#]]
    .assert_eq(&told.stderr);
    web.now_has(&[b'b'; 700], "\"two\"");
    web.next(Vec::new());
    web.server.asked();
    web.plumb("run p.toml").exits(0);
    assert_eq!(web.server.asked(), ["GET /data.txt range: bytes=300- if-range: \"one\""]);
    assert_eq!(web.scene.result("count.size").trim(), "700");
}

#[test]
fn a_busy_server_is_asked_again_and_a_refusing_one_is_not() {
    let web = web(b"12345");
    web.next(vec![Trouble::Status(429), Trouble::Status(500)]);
    web.plumb("plan p.toml").exits(0);
    assert_eq!(web.server.asked().len(), 3);
    web.scene.edit("data.txt\"", "data2.txt\"");
    for status in [401, 404] {
        web.next(vec![Trouble::Status(status)]);
        let told = web.plumb("plan p.toml").exits(2).stderr;
        assert!(told.contains(&format!("answers {status}")) && told.contains("hint: "), "{told}");
        assert_eq!(web.server.asked().len(), 1);
    }
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_to_check() {
    let web = web(b"12345");
    let gone = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    web.scene.edit(&web.server.url(), &format!("http://{gone}"));
    let told = web.plumb("plan p.toml").exits(2).stderr.replace(&gone.to_string(), "[GONE]");
    expect![[r#"
        error: source `data`: `http://[GONE]/data.txt` cannot be reached: Connection refused (os error 111) (after 5 attempts)
        hint: check the address and the network; behind a proxy, set `HTTPS_PROXY`, and `NO_PROXY` for hosts of your own
    "#]].assert_eq(&told);
    web.scene.edit(&format!("http://{gone}"), &web.server.url().replace("http:", "https:"));
    let told = web.plumb("plan p.toml").exits(2).stderr;
    assert!(told.contains("cannot be reached"), "TLS is there, and this server has none: {told}");
}

#[test]
fn a_sha256_is_checked_and_then_names_the_bytes_for_ever() {
    let web = web(b"12345");
    let right = crate::servers::hub::sha256(b"12345");
    web.scene.edit("data.txt\"", &format!("data.txt\"\nsha256 = \"{right}\""));
    web.plumb("run p.toml").exits(0);
    web.server.asked();
    web.plumb("run p.toml").exits(0);
    assert!(web.server.asked().is_empty());
    web.now_has(b"54321", "\"two\"");
    let wrong = crate::servers::hub::sha256(b"123456");
    web.scene.edit(&right, &wrong);
    let told = web.plumb("run p.toml").exits(2).stderr;
    assert!(told.contains("has the SHA-256") && told.contains(&web.scene.masked(&wrong)), "{told}");
}

#[test]
fn a_secret_goes_to_its_server_and_to_no_file_or_screen() {
    let web = web(b"12345");
    web.scene.edit("data.txt\"", "data.txt?sig=abc123\"\nsecret = \"DATA_TOKEN\"");
    let told = web.plumb("plan p.toml").exits(2).stderr;
    assert!(told.contains("the variable `DATA_TOKEN` that `secret` names is not set"), "{told}");
    for line in ["lock p.toml", "run p.toml --verbose", "plan p.toml"] {
        let mut command = web.scene.command(line);
        command.env("DATA_TOKEN", "s3cr3t-word").env("PLUMB_LOG", "trace");
        let told = web.scene.ended(line, command.output().unwrap()).exits(0);
        for text in [&told.raw, &told.raw_stderr] {
            assert!(!text.contains("s3cr3t-word") && !text.contains("abc123"), "{text}");
        }
    }
    assert!(web.server.asked().iter().any(|asked| asked.contains("authorization: Bearer s3cr3t-word")));
    let mut folders = vec![web.scene.path("cache")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
            assert!(!text.contains("s3cr3t-word") && !text.contains("abc123"), "{}", entry.path().display());
        }
    }
    assert!(!web.scene.read("p.lock").contains("abc123"));
}

#[test]
fn a_secret_does_not_follow_a_redirect_to_another_host() {
    let elsewhere = Server::start(|request| Answer::file(request, b"elsewhere", "\"e\""));
    let target = elsewhere.url();
    let first = Server::start(move |_| Answer::status(302).with("Location", format!("{target}/x")));
    let web = web(b"");
    web.scene.edit(&web.server.url(), &first.url());
    web.scene.edit("data.txt\"", "data.txt\"\nsecret = \"DATA_TOKEN\"");
    let mut command = web.scene.command("run p.toml");
    command.env("DATA_TOKEN", "word");
    web.scene.ended("run p.toml", command.output().unwrap()).exits(0);
    assert_eq!(
        (first.asked().join("\n"), elsewhere.asked().join("\n")),
        ("GET /data.txt authorization: Bearer word".into(), "GET /x".into())
    );
}

#[test]
fn two_runners_download_an_address_once() {
    let web = web(&[b'x'; 100_000]);
    let runners: Vec<_> = (0..3).map(|_| web.scene.start("plan p.toml")).collect();
    for runner in runners {
        web.scene.wait("plan p.toml", runner).exits(0);
    }
    let asked = web.server.asked();
    let downloads = asked.iter().filter(|asked| !asked.contains("if-none-match")).count();
    assert_eq!(downloads, 1, "{asked:?}");
}
