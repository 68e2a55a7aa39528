//! The commands that only read: `status`, `log`, `show`, `completions`, help.

use std::fs::OpenOptions;
use std::process::Stdio;

use expect_test::expect;

use crate::harness::Scene;
use crate::scenarios::reruns;

#[test]
fn status_tells_per_stage_what_is_done_and_what_is_missing() {
    let scene = reruns::chain();
    scene.plumb("status p.toml").exits(0).prints(expect![[r#"
        stage   done  missing  took
        prep       -        1     -
        count      -        1     -
        report     -        1     -

        never run on this cache
    "#]]);
    scene.plumb("run p.toml count").exits(0);
    scene.plumb("status p.toml").exits(0).prints(expect![[r#"
        stage  done  missing  took
        prep  1  -  [TIME]  complete
        count  1  -  [TIME]  complete
        report  -  1  -

        last run: [WHEN] (ran 2, failed 0)
    "#]]);
    let status = scene.plumb("status p.toml --json").exits(0).json();
    assert_eq!(status["stages"][2]["stage"], "report");
    assert_eq!(status["stages"][2]["missing"], 1);
}

#[test]
fn log_lists_the_runs_and_prints_the_last_log_of_a_step() {
    let scene = reruns::chain();
    scene.plumb("log p.toml").exits(0).says(expect![[r#"
        ---
        no runs yet
    "#]]);
    scene.edit("sort {in:raw}", "echo sorting; echo loudly >&2; sort {in:raw}");
    scene.plumb("run p.toml").exits(0);
    scene.plumb("run p.toml").exits(0);
    scene.plumb("log p.toml").exits(0).prints(expect![[r#"
        run  started  pipeline  ended  took  ran  hits  failed  command
        [RUN]  [WHEN]  p  done  [TIME]  0  3  0  run p.toml
        [RUN]  [WHEN]  p  done  [TIME]  3  0  0  run p.toml
    "#]]);
    scene.plumb("log p.toml prep").exits(0).prints(expect![[r#"
        sorting
        loudly
    "#]]);
    scene.plumb("log p.toml nothing").exits(2);
    let runs = scene.plumb("log --json").exits(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 2);
}

#[test]
fn log_tells_what_each_step_of_a_run_took() {
    let scene = reruns::chain();
    scene.edit("echo report >> $HOME/ran;", "echo tried; [ -e $HOME/again ] || { touch $HOME/again; exit 1; };");
    scene.plumb("run p.toml count").exits(0);
    scene.edit("[stage.report]", "[stage.report]\nrun = { gpu = 1, retry = { max = 1 } }");
    scene.plumb("run p.toml --gpus 0").exits(0);
    let runs = scene.plumb("log --json").exits(0).json();
    let ids: Vec<&str> = runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    scene.plumb(&format!("log {}", ids[1])).exits(0).prints(expect![[r#"
        run  started  pipeline  ended  took  ran  hits  failed  command
        [RUN]  [WHEN]  p  done  [TIME]  2  0  0  run p.toml count

        step  kind  took  CPU  memory  output  on
        prep  ran  command  [TIME]  [TIME]  [SIZE]  [SIZE]  local
        count  ran  command  [TIME]  [TIME]  [SIZE]  [SIZE]  local
        in all  [TIME]  [TIME]  [SIZE]  [SIZE]
    "#]]);
    scene.plumb(&format!("log {}", ids[0])).exits(0).prints(expect![[r#"
        run  started  pipeline  ended  took  ran  hits  failed  command
        [RUN]  [WHEN]  p  done  [TIME]  1  2  0  run p.toml --gpus 0

        step  kind  took  CPU  GPU  memory  output  attempts  on
        report  ran  command  [TIME]  [TIME]  [TIME]  [SIZE]  [SIZE]  2  local
        in all  [TIME]  [TIME]  [TIME]  [SIZE]  [SIZE]

        2 hits saved [TIME]
    "#]]);
    let told = scene.plumb(&format!("log {} --json", ids[0])).exits(0).json();
    let report = told["steps"].as_array().unwrap().iter().find(|step| step["step"] == "report").unwrap();
    let kept = ["outcome", "kind", "executor"].map(|name| report[name].as_str().unwrap());
    assert_eq!((kept, report["attempts"].as_u64()), (["ran", "command", "local"], Some(2)));
    assert_eq!(report["spent"]["output_bytes"], scene.result("report.text").len());
    let spent = |name: &str| report["spent"][name].as_f64().unwrap();
    assert!(spent("wall_seconds") > 0.0 && spent("peak_memory_bytes") > 0.0, "{report}");
    assert!((spent("gpu_seconds") - spent("wall_seconds")).abs() < 1e-9, "one GPU: {report}");
    assert_eq!(told["total"]["output_bytes"], report["spent"]["output_bytes"]);
    scene.plumb(&format!("log {} report", ids[0])).exits(0).prints(expect![[r#"
        tried
        tried
    "#]]);
    scene.plumb(&format!("log {} prep", ids[0])).exits(1);
    scene.plumb("log 19991231T").exits(2).says(expect![[r#"
        ---
        error: no one run has an id that begins with `19991231T`
        hint: `plumb log` lists them
    "#]]);
}

#[test]
fn show_lists_the_kinds_and_explains_one() {
    let scene = Scene::new("schema = 1\n");
    let kinds = scene.plumb("show").exits(0).stdout;
    for kind in ["command", "data.pairs", "genrm.train", "stats.compare"] {
        assert!(kinds.lines().any(|line| line.starts_with(kind)), "{kind} is missing:\n{kinds}");
    }
    scene.plumb("show command").exits(0).prints(expect![[r#"
        command@1  Runs any program; the pipeline names its inputs and outputs
        seeded: the same bytes on one machine, a draw elsewhere

        The pipeline names the inputs, and the outputs: outputs = { NAME = "FILE" }

        with
          argv: list of text, required
              The program and its arguments. `{in:NAME}`, `{out:NAME}` and `{state}` become paths when the
              step runs; for a gathered input the path is that of a JSON table of the branches. `{{state}}`
              stands for the text `{state}`. A number or a truth is passed as written.
          env: table
              The program's environment. Beside it only `PATH` and `HOME` are passed on.
          files: list of text, default []
              Files and folders of the pipeline's folder that the program reads, such as its script. Their
              contents are in the key, and the working folder holds a copy of them and nothing else.
          probe: list of list of text, default []
              Programs whose output is in the key, such as `["pip", "freeze"]`: an upgraded library is not a
              stale hit.
    "#]]);
    let schema = scene.plumb("show command --schema").exits(0).json();
    assert_eq!(schema["properties"]["argv"]["type"], "array");
    let told = scene.plumb("show --json").exits(0).json();
    assert!(told.as_array().unwrap().len() > 5);
}

#[test]
fn completions_are_printed_for_each_shell() {
    let scene = Scene::new("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scene.plumb(&format!("completions {shell}")).exits(0).raw;
        assert!(script.contains("keep-going"), "{shell}");
        assert!(!script.contains("__step "), "{shell} offers a hidden command");
    }
}

#[test]
fn help_teaches_with_examples() {
    let scene = Scene::new("");
    scene.plumb("--help").exits(0).prints(expect![[r#"
        Runs reward-model experiments that are written down in TOML, and re-runs only what a change
        invalidates

        Usage: plumb [OPTIONS] <COMMAND>

        Commands:
          run          Run what is missing
          watch        Run what is missing whenever the pipeline file or a source changes
          stop         End runs that go on, detached ones too, and steps that outlived theirs
          plan         Say what would run, and why, without running it
          why          Explain why a step runs, or what its result came from
          verify       Run a step again and compare it with its result in the cache
          compare      Set two branches, or all against the baseline, side by side: parameters, metrics,
                       intervals
          report       Write what a pipeline found as one HTML page: scores, curves, every judgment
          status       Show per stage what is done and what is missing, and the metrics so far
          show         List the stage kinds, or show one kind's inputs, outputs and parameters
          graph        Print the pipeline's graph as a picture (SVG), or for Graphviz or Mermaid
          log          List past runs, tell what each step of one took, or print the log of a step
          lock         Pin what the sources hold, or accept that they changed
          open         Print the path of an artifact in the cache
          export       Write a result with its provenance as a Workflow Run RO-Crate
          get          Copy an artifact out of the cache
          bundle       Write results with their lineage into one file, check such a file, bring it in
          cache        List, check, pin and collect what the cache holds
          key          Your key, and whose results you use
          setup        Fetch libtorch and build the worker that trains; says what and how much first
          init         Write a commented pipeline that runs as it is, to start from
          demo         Run the miniature: the whole mission on a tiny world, without a GPU or a download of
                       data
          completions  Print the completions of a shell
          help         Print this message or the help of the given subcommand(s)

        Options:
              --cache <DIR>     Folder of the cache [default: $XDG_CACHE_HOME/plumb or ~/.cache/plumb] [env:
                                PLUMB_CACHE]
              --paranoid        Read every source again instead of trusting unchanged size and times
              --durable <BOOL>  Wait until results are on the disk; without, a power cut may lose results,
                                but never gives wrong ones [env: PLUMB_DURABLE] [default: true] [possible
                                values: true, false]
          -h, --help            Print help
          -V, --version         Print version

        Examples:
          plumb demo                              the whole mission in miniature, in minutes, without a GPU
          plumb plan r-align.toml                 what would run, what is in the cache, and why
          plumb run r-align.toml                  run what is missing
          plumb run r-align.toml verdict --set steps=20
          plumb why r-align.toml train@seed=1     why this step runs
          plumb get r-align.toml verdict.table table.md

        A pipeline file comes first, then steps: `train` is the stage at every branch, `train@seed=1` the
        branches
        with that seed.
        Exit codes: 0 done, 1 a step failed, 2 the pipeline or the command line is wrong, 3 the cache cannot
        be
        used, 130 stopped. `PLUMB_LOG=debug` tells on stderr what plumb itself does.
    "#]]);
    scene.plumb("run --help").exits(0).prints(expect![[r#"
        Run what is missing

        Usage: plumb run [OPTIONS] <FILE> [STEP]...

        Arguments:
          <FILE>     The pipeline file
          [STEP]...  Steps to build, as `train`, `train@seed=1` or `tr*@reward=label*` [default: the
                     pipeline's goal]

        Options:
              --budget <AMOUNT>  Refuse what would cost more: `5gpu-h`, `8cpu-h`, or time as `2h`, `30m`
              --trim             Keep what fits the budget, in the plan's order, and say what is left out
          -k, --keep-going       When a step fails, go on with the steps that do not need it
              --detach           Return at once: run and steps go on without this terminal, and the next
                                 `plumb run` re-attaches to them
          -v, --verbose          Tell every step, hits included
              --json             Print JSON for machines
              --cache <DIR>      Folder of the cache [default: $XDG_CACHE_HOME/plumb or ~/.cache/plumb]
                                 [env: PLUMB_CACHE]
              --paranoid         Read every source again instead of trusting unchanged size and times
              --durable <BOOL>   Wait until results are on the disk; without, a power cut may lose results,
                                 but never gives wrong ones [env: PLUMB_DURABLE] [default: true] [possible
                                 values: true, false]
          -h, --help             Print help

        Pipeline:
              --set <NAME=VALUE>    Give a parameter of `[params]` another value
              --axis <AXIS=VALUES>  Keep only these values of an axis: `seed=0..2`, `reward=label,graded`,
                                    `seed=*`
              --profile <NAME>      Apply `[profile.NAME]`
              --strict-code         Put the fingerprint of each kind's source into its keys: only results of
                                    this very code count

        Steps:
              --from <STEP>   Build only what depends on these steps; what stands before them must be in the
                              cache
              --until <STEP>  Build these steps instead of the goals that need them
              --fresh <STEP>  Run these steps although their results may be there; the new result is the one
                              this cache uses
              --trust-any     Use what lies in layers whoever signed it; what comes here that way stays

        Resources:
          -j, --jobs <N>     CPU slots: how much runs at once [default: the cores that this process may use]
                             [alias: --cpus]
              --gpus <LIST>  GPUs to give out, by index or UUID: `0,1`; `none` [default:
                             CUDA_VISIBLE_DEVICES, else all]
              --mem <SIZE>   Memory to give out: `64GiB` [default: the machine's, or its control group's]
              --disk <SIZE>  Disk space to give out [default: what is free where the cache is]

        Examples:
          plumb run r-align.toml                          everything under `[pipeline] goal`
          plumb run r-align.toml train score              these stages, at every branch, and what they need
          plumb run r-align.toml train@reward=label       one branch
          plumb run r-align.toml 'tr*@seed=0..2'          quoted, `*` is any text and `0..2` holds both ends
          plumb run r-align.toml --axis seed=0..2         the goals at these seeds; a gather keeps all its
          branches
          plumb run r-align.toml --from score             what depends on `score`; nothing before it runs
          plumb run r-align.toml --until train            what the goals need, up to `train`
          plumb run r-align.toml --fresh 'train@seed=1'   once more, although its result is there
          plumb run r-align.toml --profile smoke -j 2 --keep-going
          plumb run r-align.toml --json                   one event a line
          plumb run r-align.toml --detach                 in the background; says how to follow it
          plumb run r-align.toml --gpus 0,1 --mem 64GiB   of this machine, use only so much

        Ctrl-C ends the running steps and keeps what is done; checkpoints stay, so the next run continues
        from them.
    "#]]);
}

#[test]
fn a_run_tells_its_events_as_json_lines() {
    let scene = reruns::chain();
    let run = scene.plumb("run p.toml -j 1 --json").exits(0);
    let events = run.json_lines();
    let what: Vec<&str> = events.iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["planned", "started", "finished", "started", "finished", "started", "finished", "done"]);
    assert_eq!(run.stderr, "");
}

#[test]
fn there_is_no_colour_outside_a_terminal() {
    let scene = reruns::chain();
    let run = scene.plumb("run p.toml").exits(0);
    assert!(!run.stderr.contains('\u{1b}') && !run.raw.contains('\u{1b}'));
}

#[test]
fn data_that_could_not_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let scene = reruns::chain();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let lost = scene.command("plan p.toml").stdout(full).output().unwrap();
    scene.ended("plan p.toml > /dev/full", lost).exits(1).says(expect![[r#"
        ---
        error: cannot write to stdout: No space left on device (os error 28)
    "#]]);
    let mut closed = scene.command("plan p.toml").stdout(Stdio::piped()).spawn().unwrap();
    drop(closed.stdout.take());
    scene.wait("plan p.toml | true", closed).exits(0);
}

#[test]
fn without_a_setting_the_cache_is_in_the_home_folder() {
    let scene = reruns::chain();
    let run = |line: &str, xdg: Option<&str>| {
        let mut command = scene.command(line);
        command.env_remove("PLUMB_CACHE").envs(xdg.map(|folder| ("XDG_CACHE_HOME", scene.path(folder))));
        scene.ended(line, command.output().unwrap()).exits(0);
        scene.executed()
    };
    assert_eq!(run("run p.toml", None), "count prep report");
    assert!(scene.path("home/.cache/plumb/v1").is_dir());
    assert_eq!(run("run p.toml", Some("xdg")), "count prep report");
    assert!(scene.path("xdg/plumb/v1").is_dir());
    assert_eq!(run("run p.toml --cache nearby", Some("xdg")), "count prep report");
    assert!(scene.path("nearby/v1").is_dir());
    assert_eq!(run("run p.toml --cache nearby", None), "");
}
