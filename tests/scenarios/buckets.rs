//! Sources in S3, from moto's server on loopback.

use expect_test::expect;

use crate::harness::Scene;
use crate::servers::s3::S3;

fn scene(address: &str) -> Scene {
    Scene::new(&format!(
        r#"schema = 1

[source.data]
url = "{address}"

[stage.list]
uses = "command"
inputs.data = "source.data"
with.argv = ["sh", "-c", "echo list >> $HOME/ran; if [ -f {{in:data}} ]; then cat {{in:data}}; else cd {{in:data}}; for f in $(find . -type f | sort); do echo $f $(cat $f); done; fi > {{out:list}}"]
outputs = {{ list = "list.txt" }}
"#
    ))
}

/// A scene whose commands find this S3.
fn at(s3: &S3, address: &str) -> Scene {
    let scene = scene(address);
    let variables = [("AWS_ENDPOINT_URL", s3.url()), ("AWS_REGION", "us-east-1")];
    let secrets = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret-word")];
    variables.iter().chain(&secrets).for_each(|(name, value)| scene.export(name, value));
    scene
}

#[test]
fn objects_and_prefixes_of_a_bucket_are_sources() {
    let s3 = S3::start("bucket");
    s3.put("/bucket/data/a.jsonl", b"one");
    s3.put("/bucket/data/x/b.jsonl", b"two");
    s3.put("/bucket/data/x/c.txt", b"three");
    s3.put("/bucket/database", b"not in the folder");
    let scene = at(&s3, "s3://bucket/data/");
    let told = scene.plumb("run p.toml").exits(0);
    assert!(told.stderr.contains("fetched  data"), "{}", told.stderr);
    assert_eq!(scene.result("list.list"), "./a.jsonl one\n./x/b.jsonl two\n./x/c.txt three\n");
    scene.executed();

    // Nothing new: nothing comes, nothing runs.
    let told = scene.plumb("run p.toml").exits(0);
    assert!(!told.stderr.contains("fetched"), "{}", told.stderr);
    assert_eq!(scene.executed(), "");

    // One object changed: it alone comes.
    s3.put("/bucket/data/a.jsonl", b"eins!");
    let told = scene.plumb("run p.toml").exits(0);
    assert!(told.raw_stderr.contains("fetched  data  5 B from"), "{}", told.raw_stderr);
    assert_eq!(scene.executed(), "list");

    scene.edit("data/\"", "data/\"\ninclude = [\"*.jsonl\"]");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "./a.jsonl eins!\n./x/b.jsonl two\n");

    scene.edit("data/\"\ninclude = [\"*.jsonl\"]", "data/x/c.txt\"");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "three");
}

#[test]
fn a_pinned_bucket_needs_no_network_and_its_drift_is_told() {
    let s3 = S3::start("bucket");
    s3.put("/bucket/data.txt", b"one");
    let scene = at(&s3, "s3://bucket/data.txt");
    scene.plumb("lock p.toml").exits(0);
    let lock = scene.masked(&scene.read("p.lock"));
    expect![[r##"
        # What the sources of p.toml held when they were accepted. `plumb lock p.toml` writes it.
        version = 1

        [source.data]
        kind = "s3"
        from = "s3://bucket/data.txt"
        digest = "file:[KEY]"
        size = 3
        files = 1
        version = 'etag:"f97c5d29941bfb1b2fdab0874906ab82"'
        pinned_at = "[WHEN]"
    "##]]
    .assert_eq(&lock);
    s3.put("/bucket/data.txt", b"other");
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "one", "the pinned bytes are used, and nobody is asked");
    scene.plumb("lock p.toml --check").exits(2);
    std::fs::remove_dir_all(scene.path("cache")).unwrap();
    scene.plumb("run p.toml").exits(2).says(expect![[r#"
        ---
           plan  1 step  0 in the cache, 1 to run
        fetched  data  [SIZE] from s3://bucket/data.txt in [TIME]
        error: source `data` is not what `p.lock` pins
          pinned  file:[KEY]  3 bytes  accepted [WHEN]  etag:"f97c5d29941bfb1b2fdab0874906ab82"
          now  file:[KEY]  5 bytes  changed [WHEN]  etag:"795f3202b17cb6bc3d4b771d8c6c9eaf"
        hint: if the change is meant, accept it: `plumb lock p.toml data`; if not, put the pinned bytes back
    "#]]);
    scene.plumb("lock p.toml data").exits(0);
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list"), "other");
}

#[test]
fn an_object_that_is_cut_goes_on_where_it_was() {
    let s3 = S3::start("bucket");
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    s3.put("/bucket/data.txt", &bytes);
    let line = s3.bad_line(100_000);
    let scene = at(&s3, "s3://bucket/data.txt");
    scene.export("AWS_ENDPOINT_URL", &line.url());
    scene.plumb("run p.toml").exits(0);
    let asked = line.asked();
    assert!(asked.iter().any(|asked| asked.contains(" range: bytes=1000")), "{asked:?}");
    assert_eq!(scene.result("list.list").into_bytes(), bytes);
}

#[test]
fn an_object_whose_bytes_are_not_those_of_its_etag_is_refused_and_not_kept() {
    let s3 = S3::start("bucket");
    let bytes = vec![b'a'; 100_000];
    s3.put("/bucket/data.txt", &bytes);
    let line = s3.lying_line(50_000);
    let scene = at(&s3, "s3://bucket/data.txt");
    scene.export("AWS_ENDPOINT_URL", &line.url());
    expect![[r#"
        error: source `data`: `s3://bucket/data.txt` came with bytes that are not those of its ETag "1af6d6f2f682f76f80e606aeaaee1680"
        hint: a proxy may have changed it: check `AWS_ENDPOINT_URL` and `HTTPS_PROXY`
    "#]]
    .assert_eq(&scene.plumb("run p.toml").exits(2).stderr);
    scene.export("AWS_ENDPOINT_URL", s3.url());
    scene.plumb("run p.toml").exits(0);
    assert_eq!(scene.result("list.list").into_bytes(), bytes);
    // The ETag of an encrypted object is no digest of its bytes.
    s3.put_encrypted("/bucket/data.txt", &vec![b'b'; 100_000]);
    scene.export("AWS_ENDPOINT_URL", &line.url());
    scene.plumb("run p.toml").exits(0);
    assert!(scene.result("list.list").ends_with("bbc"));
}

#[test]
fn what_is_not_in_the_bucket_is_told() {
    let s3 = S3::start("bucket");
    let scene = at(&s3, "s3://bucket/none/");
    scene.plumb("plan p.toml").exits(2).says(expect![[r#"
        ---
        error: source `data`: nothing is at `s3://bucket/none/`
        hint: see what is there: `aws s3 ls s3://bucket/none/`
    "#]]);
    scene.edit("bucket/none/", "nobucket/none/");
    let told = scene.plumb("plan p.toml").exits(2).stderr;
    assert!(told.contains("s3://nobucket/none/") && told.contains("hint: "), "{told}");
}

#[test]
fn credentials_of_the_aws_tools_are_used_and_shown_nowhere() {
    let s3 = S3::start("bucket");
    s3.put("/bucket/data.txt", b"one");
    let scene = scene("s3://bucket/data.txt");
    scene.write("home/.aws/credentials", "[lab]\naws_access_key_id = id-of-lab\naws_secret_access_key = secret-word\n");
    scene.export("AWS_ENDPOINT_URL", s3.url());
    scene.export("AWS_PROFILE", "lab");
    let mut command = scene.command("run p.toml");
    command.env("PLUMB_LOG", "trace");
    let told = scene.ended("run p.toml", command.output().unwrap()).exits(0);
    assert!(!told.raw_stderr.contains("secret-word") && !told.raw.contains("secret-word"));
    assert_eq!(scene.result("list.list"), "one");
}
