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
