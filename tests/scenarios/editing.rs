//! Writing a pipeline: `plumb init` gives one that runs, `plumb show --schema` what an editor checks it by. A validator
//! that others wrote reads the schema.

use expect_test::expect;
use serde_json::Value;

use crate::harness::Scene;

fn schema(scene: &Scene) -> jsonschema::Validator {
    let schema = scene.plumb("show --schema").exits(0).json();
    jsonschema::draft7::meta::validate(&schema).expect("the schema is one");
    jsonschema::draft7::new(&schema).expect("the schema can be compiled")
}

fn read(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

#[test]
fn init_writes_a_pipeline_that_runs_as_it_is_and_overwrites_nothing() {
    let scene = Scene::new("schema = 1\n");
    scene.plumb("init study").exits(0).says(expect![[r#"
        ---
        wrote `study/starter.toml`
        wrote `study/judge.sh`
        wrote `study/pairs.tsv`
        wrote `study/plumb.schema.json`
        hint: `plumb run study/starter.toml` runs it
    "#]]);
    scene.plumb("run study/starter.toml").exits(0);
    assert!(scene.read("study/results/verdict.md").contains("rule=polite minus longer"));
    let again = scene.plumb("run study/starter.toml").exits(0);
    assert!(again.stderr.contains("nothing to run"), "{}", again.stderr);
    scene.plumb("compare study/starter.toml rule=polite baseline").exits(0);
    scene.plumb("run study/starter.toml --profile smoke").exits(0);
    scene.plumb("init study").exits(2).says(expect![[r#"
        ---
        error: `study/starter.toml` is there already
        hint: name another folder: `plumb init FOLDER`
    "#]]);
    let schema = scene.plumb("show --schema").exits(0).raw;
    assert_eq!(scene.read("study/plumb.schema.json"), schema);
}

#[test]
fn shipped_pipelines_are_valid_by_the_schema() {
    let scene = Scene::new("schema = 1\n");
    let schema = schema(&scene);
    scene.plumb("init .").exits(0);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = ["miniature", "small"].map(|name| root.join(format!("pipelines/{name}.toml")));
    for file in shipped.into_iter().chain([scene.path("starter.toml")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        let wrong: Vec<String> =
            schema.iter_errors(&read(&text)).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
    }
}

#[test]
fn mistakes_are_invalid_by_the_schema() {
    let scene = Scene::new("schema = 1\n");
    let schema = schema(&scene);
    scene.plumb("init .").exits(0);
    let starter = scene.read("starter.toml");
    assert!(schema.is_valid(&read(&starter)));
    for (from, to) in [
        ("schema = 1", "schema = 2"),
        ("[params]", "[parameters]"),
        ("goal = [\"verdict\"]", "goal = \"verdict\""),
        ("rule = [\"longer\", \"polite\", \"first\"]", "rule = \"longer\""),
        ("seed = { replicate = 3 }", "seed = { replicates = 3 }"),
        ("seed = { replicate = 3 }", "seed = { replicate = 3, max = 8 }"),
        ("seed = { replicate = 3 }", "seed = { replicate = 3, until = \"narrow\", max = 8 }"),
        ("mode = \"cross\"", "mode = \"crossed\""),
        ("mode = \"cross\"", "mode = \"list\""),
        ("# skip = { rule = \"first\" }", "skip = \"first\""),
        ("path = \"pairs.tsv\"", "file = \"pairs.tsv\""),
        ("uses = \"stats.compare\"", "uses = \"stats.comapre\""),
        ("inputs.pairs = \"source.pairs\"", "inputs.pairs = \"pairs\""),
        ("inputs.items = { all = \"judge.items\", over = [\"rule\", \"seed\"] }", "inputs.items = \"judge.items\""),
        ("inputs.items =", "inputs.item ="),
        ("with.metrics = [\"l_acc\"]", "with.metrics = \"l_acc\""),
        ("with.metrics = [\"l_acc\"]", "with.metric = [\"l_acc\"]"),
        ("with.metrics = [\"l_acc\"]", "outputs = [\"table\"]"),
        ("run = { cpu = 1, time = \"5m\" }", "run = { cpus = 1 }"),
        ("with.argv = [", "with.args = ["),
    ] {
        assert!(starter.contains(from), "the starter has no `{from}`");
        let text = starter.replace(from, to);
        assert!(!schema.is_valid(&read(&text)), "`{to}` passes");
        scene.write("starter.toml", &text);
        scene.plumb("plan starter.toml").exits(2);
    }
    for (from, to) in [
        ("seed = { replicate = 3 }", "seed = { replicate = 3, until = \"width(judge.l_acc) < 0.2\", max = 8 }"),
        ("# skip = { rule = \"first\" }", "skip = [{ rule = [\"first\"] }]"),
        ("with.metrics = [\"l_acc\"]", "with = { metrics = [\"l_acc\"], bootstrap_samples = { param = \"margin\" } }"),
        ("run = { cpu = 1, time = \"5m\" }", "run = { cpu = { param = \"margin\" } }"),
        ("uses = \"command\"", "uses = \"command@1\""),
    ] {
        let text = starter.replace(from, to);
        let wrong: Vec<String> = schema.iter_errors(&read(&text)).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "`{to}`: {wrong:?}");
    }
}

/// The fenced blocks of README in a language.
fn readme(language: &str) -> Vec<String> {
    let text = include_str!("../../README.md");
    let blocks = text.split("\n```").skip(1).step_by(2);
    let body = |block: &str| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_string() + "\n");
    blocks.filter_map(body).collect()
}

#[test]
fn the_pipeline_of_the_readme_is_valid_and_can_be_planned() {
    let blocks = readme("toml");
    let [pipeline, stages @ ..] = &blocks[..] else { panic!("README shows no pipeline") };
    let scene = Scene::new(pipeline);
    scene.write("helpsteer3.jsonl", "");
    assert!(schema(&scene).is_valid(&read(pipeline)));
    let plan = scene.plumb("plan p.toml --json").exits(0).json();
    let steps: Vec<&str> = plan["steps"].as_array().unwrap().iter().filter_map(|one| one["step"].as_str()).collect();
    assert_eq!(steps, ["pairs", "pairs@near=0.7", "words", "words@near=0.7"]);
    // What stands further down are stages to add to it.
    scene.export("JUDGE_KEY", "a key");
    for stage in stages {
        let longer = format!("{pipeline}{stage}");
        assert!(schema(&scene).is_valid(&read(&longer)), "{stage}");
        scene.write("longer.toml", &longer);
        scene.plumb("plan longer.toml").exits(0);
    }
}

#[test]
fn the_commands_that_the_starter_names_run() {
    let scene = Scene::new("schema = 1\n");
    scene.plumb("init .").exits(0);
    let starter = scene.read("starter.toml");
    let named = starter.lines().filter_map(|line| line.strip_prefix("#   plumb "));
    let lines: Vec<&str> = named.map(|line| line.split("   ").next().unwrap_or(line)).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        scene.plumb(line).exits(0);
    }
    assert!(starter.contains("plumb show --schema"), "the header says where the schema comes from");
}

#[test]
fn commands_and_options_that_the_readme_names_are_there() {
    let scene = Scene::new("");
    let command = regex::Regex::new(r"`plumb ((?:cache )?[a-z]+)([^`]*)`").unwrap();
    let option = regex::Regex::new(r"--[a-z-]+").unwrap();
    let text = include_str!("../../README.md").replace('\n', " ");
    let mut seen = 0;
    for found in command.captures_iter(&text) {
        let help = scene.plumb(&format!("{} --help", &found[1])).exits(0).stdout;
        for option in option.find_iter(&found[2]) {
            assert!(help.contains(option.as_str()), "`plumb {}` has no `{}`", &found[1], option.as_str());
        }
        seen += 1;
    }
    assert!(seen > 15, "README names {seen} commands");
}
