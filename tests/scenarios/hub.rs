//! Sources on a hub, from one on loopback; and the cache that `huggingface_hub` and plumb share.

use std::process::Command;

use expect_test::expect;

use crate::harness::{Outcome, Scene};
use crate::servers::hub::Hub;
use crate::servers::python;

const MODEL: &str = "models/org/tiny";
const WEIGHTS: &[u8] = &[7; 50_000];

struct Fixture {
    scene: Scene,
    hub: Hub,
    first: String,
}

/// A model of three files; the pipeline lists what it gets of it.
fn fixture(address: &str) -> Fixture {
    let hub = Hub::start();
    let files: [(&str, &[u8]); 3] =
        [("config.json", b"{\"size\": 1}"), ("model.safetensors", WEIGHTS), ("onnx/model.bin", b"onnx")];
    let first = hub.commit(MODEL, &files);
    let scene = Scene::new(&format!(
        r#"schema = 1

[source.model]
url = "{address}"

[stage.list]
uses = "command"
inputs.model = "source.model"
with.argv = ["sh", "-c", "echo list >> $HOME/ran; cd {{in:model}}; for f in $(find . -type f | sort); do wc -c $f; done > {{out:list}}"]
outputs = {{ list = "list.txt" }}
"#
    ));
    scene.export("HF_ENDPOINT", &hub.server.url());
    Fixture { scene, hub, first }
}

impl Fixture {
    fn with(&self, line: &str, variables: &[(&str, &str)]) -> Outcome {
        let mut command = self.scene.command(line);
        command.envs(variables.iter().copied());
        let outcome = self.scene.ended(line, command.output().unwrap());
        let hide = |text: &str| {
            let text = text.replace(&self.hub.server.url(), "[HUB]").replace(&self.hub.store.url(), "[STORE]");
            text.replace(&self.first, "[FIRST]")
        };
        Outcome { stdout: hide(&outcome.stdout), stderr: hide(&outcome.stderr), ..outcome }
    }

    fn plumb(&self, line: &str) -> Outcome {
        self.with(line, &[])
    }

    /// Runs Python with `huggingface_hub` in the scene's home.
    fn python(&self, program: &str, variables: &[(&str, &str)]) -> String {
        let output = Command::new(python::programs().join("python3"))
            .args(["-c", program])
            .env_clear()
            .env("HOME", self.scene.path("home"))
            .env("HF_ENDPOINT", self.hub.server.url())
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn listed(&self) -> String {
        self.scene.result("list.list")
    }
}

const ALL: &str = "11 ./config.json\n50000 ./model.safetensors\n4 ./onnx/model.bin\n";

#[test]
fn a_model_is_fetched_once_and_its_branch_asked_for_at_each_plan() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("run p.toml").exits(0).says(expect![[r#"
        ---
        fetched  model  [SIZE] from hf://org/tiny@main in [TIME]
           plan  1 step  0 in the cache, 1 to run
          start  list  no earlier result of this stage is known
           done  list  [TIME]

          step  time  why
          list  ran  [TIME]  no earlier result of this stage is known

        ran 1 step in [TIME]
    "#]]);
    assert_eq!(f.listed(), ALL);
    assert_eq!(f.scene.executed(), "list");
    f.hub.asked();
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.hub.asked(), ["GET /api/models/org/tiny/revision/main"]);
    assert_eq!(f.scene.executed(), "");
}

#[test]
fn a_list_of_files_is_read_page_by_page_and_only_from_its_hub() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("plan p.toml").exits(0);
    let lists = format!("GET /api/models/org/tiny/tree/{}?recursive=true", f.first);
    let asked: Vec<String> = f.hub.asked().into_iter().filter(|asked| asked.contains("/tree/")).collect();
    assert_eq!(asked, [lists.clone(), format!("{lists}&cursor=2")]);
    let elsewhere = Hub::start();
    f.hub.send_lists_to(elsewhere.server.url().trim_start_matches("http://"));
    f.scene.export("HF_TOKEN", "hf_secret");
    f.scene.edit("@main", "@main/onnx");
    let told = f.plumb("plan p.toml").exits(2).stderr;
    assert!(told.contains("goes on at another host"), "{told}");
    assert_eq!(elsewhere.server.asked(), [] as [&str; 0], "nor does the token go there");
}

#[test]
fn a_commit_that_was_fetched_needs_no_network() {
    let f = fixture("hf://org/tiny@main");
    f.scene.edit("@main", &format!("@{}", f.first));
    f.plumb("run p.toml").exits(0);
    f.hub.asked();
    f.plumb("run p.toml").exits(0);
    assert!(f.hub.asked().is_empty());
}

#[test]
fn a_branch_that_moved_is_fetched_and_what_stayed_is_not() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("run p.toml").exits(0);
    f.hub.commit(MODEL, &[("config.json", b"{\"size\": 22}"), ("model.safetensors", WEIGHTS)]);
    f.hub.asked();
    f.plumb("run p.toml").exits(0);
    let asked = f.hub.asked();
    assert!(asked.iter().any(|asked| asked.ends_with("/config.json")), "{asked:?}");
    assert!(!asked.iter().any(|asked| asked.contains("safetensors")), "the weights are the same blob: {asked:?}");
    assert_eq!(f.listed(), "12 ./config.json\n50000 ./model.safetensors\n");
}

#[test]
fn a_pinned_branch_stays_where_it_was_and_needs_no_network() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("lock p.toml").exits(0);
    let lock = f.scene.masked(&f.scene.read("p.lock")).replace(&f.first, "[FIRST]");
    expect![[r##"
        # What the sources of p.toml held when they were accepted. `plumb lock p.toml` writes it.
        version = 1

        [source.model]
        kind = "hub"
        from = "hf://org/tiny@main"
        digest = "tree:[KEY]"
        size = 50015
        files = 3
        version = "commit:[FIRST]"
        pinned_at = "[WHEN]"
    "##]]
    .assert_eq(&lock);
    f.hub.commit(MODEL, &[("config.json", b"moved")]);
    f.hub.asked();
    f.plumb("run p.toml").exits(0);
    assert_eq!((f.listed().as_str(), f.hub.asked().len()), (ALL, 0));
    f.plumb("lock p.toml --check").exits(2);
    // Another machine has neither cache: it gets the pinned commit, not the branch.
    for folder in ["cache", "home/.cache"] {
        std::fs::remove_dir_all(f.scene.path(folder)).unwrap();
    }
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), ALL);
}

#[test]
fn a_part_of_a_repository_is_taken_by_path_and_by_include() {
    let f = fixture("hf://org/tiny@main/onnx");
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), "4 ./model.bin\n");
    f.scene.edit("@main/onnx\"", "@main\"\ninclude = [\"*.json\"]");
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), "11 ./config.json\n");
    assert!(!f.hub.asked().iter().any(|asked| asked.contains("safetensors")), "what is not wanted does not come");
    f.scene.edit("\"*.json\"", "\"*.gguf\"");
    let told = f.plumb("run p.toml").exits(2);
    expect![[r#"
        error: source `model`: `hf://org/tiny@main` holds no such file at commit [FIRST]
        hint: check the path in the address, and `include` (*.gguf)
    "#]]
    .assert_eq(&told.stderr);
}

#[test]
fn one_file_is_a_file() {
    let f = fixture("hf://org/tiny@main/config.json");
    f.scene.edit("cd {in:model}; for f in $(find . -type f | sort); do wc -c $f; done >", "cat {in:model} >");
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), "{\"size\": 1}");
}

#[test]
fn a_data_set_is_fetched_from_its_own_addresses() {
    let f = fixture("hf://datasets/org/pairs@main");
    f.hub.commit("datasets/org/pairs", &[("train.jsonl", b"{}\n")]);
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), "3 ./train.jsonl\n");
    assert!(f.scene.path("home/.cache/huggingface/hub/datasets--org--pairs/refs/main").exists());
}

#[test]
fn what_the_hubs_own_client_fetched_is_found() {
    let f = fixture("hf://org/tiny@main");
    f.python("from huggingface_hub import snapshot_download; print(snapshot_download('org/tiny'))", &[]);
    f.hub.asked();
    f.plumb("run p.toml").exits(0);
    let asked = f.hub.asked();
    assert!(asked.iter().all(|asked| asked.starts_with("GET /api/")), "the lists alone are asked for: {asked:?}");
    assert_eq!(f.listed(), ALL);
    f.hub.asked();
    // And without a hub at all: on a machine that has only the client's cache.
    std::fs::remove_dir_all(f.scene.path("cache")).unwrap();
    let told = f.with("run p.toml", &[("HF_HUB_OFFLINE", "1")]).exits(0);
    assert!(told.stderr.contains("warning: the hub was not asked"), "{}", told.stderr);
    assert!(f.hub.asked().is_empty());
    assert_eq!(f.listed(), ALL);
}

#[test]
fn what_plumb_fetched_is_found_by_the_hubs_own_client() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("plan p.toml").exits(0);
    f.hub.asked();
    let program = "
from huggingface_hub import snapshot_download, hf_hub_download, scan_cache_dir
import os
folder = snapshot_download('org/tiny', local_files_only=True)
assert open(hf_hub_download('org/tiny', 'config.json', local_files_only=True)).read() == '{\"size\": 1}'
scan = scan_cache_dir()
assert not scan.warnings, scan.warnings
[repo] = scan.repos
print(repo.repo_id, repo.size_on_disk, os.path.basename(folder))";
    assert_eq!(f.python(program, &[]), format!("org/tiny 50015 {}", f.first));
    assert!(f.hub.asked().is_empty());
    // With the hub at hand, nothing comes again.
    f.python("from huggingface_hub import snapshot_download; snapshot_download('org/tiny')", &[]);
    assert!(!f.hub.asked().iter().any(|asked| asked.starts_with("GET") && !asked.contains("/api/")));
}

#[test]
fn without_network_an_unknown_model_is_told_with_the_command_that_fetches_it() {
    let f = fixture("hf://org/tiny@main");
    let told = f.with("plan p.toml", &[("HF_HUB_OFFLINE", "1")]).exits(2);
    expect![[r#"
        error: source `model`: `HF_HUB_OFFLINE` is set, so `hf://org/tiny@main` is not asked for
        hint: unset it to ask the hub
              or fetch it where there is a network, `hf download org/tiny`: plumb finds what that leaves
    "#]]
    .assert_eq(&told.stderr);
}

#[test]
fn large_files_that_are_cut_go_on_where_they_were() {
    let f = fixture("hf://org/tiny@main");
    f.hub.cut(20_000);
    f.plumb("run p.toml").exits(0);
    let store: Vec<String> = f.hub.store.asked().into_iter().filter(|asked| asked.contains("range")).collect();
    assert_eq!(store.len(), 1);
    assert!(store[0].ends_with("range: bytes=20000-"), "{store:?}");
    assert_eq!(f.listed(), ALL);
}

#[test]
fn a_file_whose_bytes_are_not_those_of_its_etag_is_refused_and_not_kept() {
    let f = fixture("hf://org/tiny@main");
    f.hub.damage(true);
    let told = f.plumb("run p.toml").exits(2);
    expect![[r#"
        error: source `model`: `model.safetensors` of `models--org--tiny` came with bytes that are not those of its ETag [KEY]
        hint: a proxy or mirror may have changed it: check `HF_ENDPOINT` and `HTTPS_PROXY`
              or fetch it where there is a network, `hf download org/tiny --revision [FIRST]`: plumb finds what that leaves
    "#]].assert_eq(&told.stderr);
    f.hub.damage(false);
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), ALL);
}

#[test]
fn a_busy_hub_is_asked_again() {
    let f = fixture("hf://org/tiny@main");
    f.hub.trouble(&[429, 503]);
    f.plumb("plan p.toml").exits(0);
    assert!(f.hub.asked().len() > 3);
}

#[test]
fn what_the_hub_refuses_is_told_in_its_terms() {
    let f = fixture("hf://org/none@main");
    expect![[r#"
        error: source `model`: the hub shows no `org/none` to somebody unknown (`[HUB]/api/models/org/none/revision/main` answers 404 Not Found)
        hint: check the name; if it is private or gated, set `HF_TOKEN` or type `hf auth login`
    "#]].assert_eq(&f.plumb("plan p.toml").exits(2).stderr);
    f.scene.edit("org/none@main", "org/tiny@v9");
    expect![[r#"
        error: source `model`: `org/tiny` has no revision `v9`
        hint: see its branches, tags and commits on the hub's page of the repository
    "#]]
    .assert_eq(&f.plumb("plan p.toml").exits(2).stderr);
    f.scene.edit("@v9", "@main/none.json");
    expect![[r#"
        error: source `model`: `hf://org/tiny@main/none.json` holds no such file at commit [FIRST]
        hint: check the path in the address
    "#]]
    .assert_eq(&f.plumb("plan p.toml").exits(2).stderr);
}

#[test]
fn a_private_model_needs_a_token_which_goes_nowhere_else() {
    let f = fixture("hf://org/tiny@main");
    f.hub.ask_for("hf_secret");
    let told = f.plumb("plan p.toml").exits(2).stderr;
    assert!(told.contains("set `HF_TOKEN`"), "{told}");
    f.scene.export("HF_TOKEN", "hf_secret");
    let told = f.with("run p.toml", &[("PLUMB_LOG", "trace")]).exits(0);
    assert!(!told.raw_stderr.contains("hf_secret") && !told.raw.contains("hf_secret"));
    assert!(f.hub.store.asked().iter().all(|asked| !asked.contains("authorization")));
    assert_eq!(f.listed(), ALL);
    // `hf auth login` leaves it in a file.
    f.scene.export("HF_TOKEN", "");
    std::fs::remove_dir_all(f.scene.path("home/.cache")).unwrap();
    std::fs::remove_dir_all(f.scene.path("cache")).unwrap();
    f.scene.write("home/.cache/huggingface/token", "hf_secret\n");
    f.plumb("plan p.toml").exits(0);
}

#[test]
fn another_choice_of_files_is_a_drift_of_a_pinned_model() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("lock p.toml").exits(0);
    f.scene.edit("@main\"", "@main\"\ninclude = [\"*.json\"]");
    let told = f.plumb("run p.toml").exits(2).stderr;
    assert!(told.contains("source `model` is another one than `p.lock` pins"), "{told}");
    f.plumb("lock p.toml model").exits(0);
    f.plumb("run p.toml").exits(0);
    assert_eq!(f.listed(), "11 ./config.json\n");
}

#[test]
fn a_pinned_model_that_the_hubs_own_client_left_needs_no_network() {
    let f = fixture("hf://org/tiny@main");
    f.plumb("lock p.toml").exits(0);
    std::fs::remove_dir_all(f.scene.path("cache")).unwrap();
    f.hub.commit(MODEL, &[("config.json", b"moved")]);
    f.hub.asked();
    let told = f.plumb("run p.toml").exits(0);
    assert!(!told.stderr.contains("warning"), "what is pinned is known to be whole: {}", told.stderr);
    assert_eq!((f.listed().as_str(), f.hub.asked().len()), (ALL, 0));
}

#[test]
fn a_parameter_may_name_a_path_or_an_address() {
    let f = fixture("unused");
    f.scene.edit(
        "[source.model]\nurl = \"unused\"",
        "[params]\nmodel = \"none\"\n\n[source.model]\npath = { param = \"model\" }",
    );
    f.scene.write("here/config.json", "{}");
    f.plumb("run p.toml --set model=here").exits(0);
    f.plumb("run p.toml --set model=hf://org/tiny@main").exits(0);
    assert_eq!(f.scene.executed(), "list list");
}
