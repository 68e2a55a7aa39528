//! What a step's program sees, and what of that is in the key.

use expect_test::expect;

use crate::house::House;

const HEAD: &str = "schema = 1\n[pipeline]\nname = \"demo\"\n";

#[test]
fn a_program_sees_its_files_and_a_closed_environment_only() {
    let house = House::new();
    house.write("tool.sh", "env | cut -d= -f1 | grep -v -e PWD -e SHLVL -e '^_$' | sort > $1; ls >> $1\n");
    house.write("secret.txt", "not listed");
    let text = format!(
        "{HEAD}[stage.see]\nuses = \"command\"\noutputs.seen = \"seen.txt\"\n\
         with.argv = [\"sh\", \"tool.sh\", \"{{out:seen}}\"]\nwith.files = [\"tool.sh\"]\nwith.env = {{ COLOUR = \"red\" }}\n"
    );
    house.run(&text);
    expect![[r#"
        COLOUR
        CUDA_VISIBLE_DEVICES
        HOME
        PATH
        PLUMB_EVENTS
        PLUMB_STATE
        PLUMB_STEP
        tool.sh
    "#]]
    .assert_eq(&house.output(&text, "see", "seen"));
    assert!(house.run(&text).summary.ran.is_empty());
    house.write("tool.sh", "echo changed > $1\n");
    expect!["see: run (`tool.sh` gives other content)"].assert_eq(&house.planned(&text));
}

#[test]
fn an_upgraded_library_is_no_stale_hit() {
    let house = House::new();
    house.write("version", "1.0");
    let text = format!(
        "{HEAD}[stage.train]\nuses = \"command\"\noutputs.model = \"model.txt\"\n\
         with.argv = [\"touch\", \"{{out:model}}\"]\nwith.probe = [[\"cat\", \"version\"]]\n"
    );
    house.run(&text);
    assert!(house.run(&text).summary.ran.is_empty());
    house.write("version", "1.1");
    expect!["train: run (`cat version` gives other content)"].assert_eq(&house.planned(&text));
}

#[test]
fn a_program_may_spoil_its_inputs_and_the_cache_stays_whole() {
    let house = House::new();
    let text = format!(
        "{HEAD}[stage.make]\nuses = \"command\"\noutputs.text = \"text.txt\"\n\
         with.argv = [\"sh\", \"-c\", \"echo good > {{out:text}}\"]\n\
         [stage.spoil]\nuses = \"command\"\ninputs.text = \"make.text\"\noutputs.copy = \"copy.txt\"\n\
         with.argv = [\"sh\", \"-c\", \"cp {{in:text}} {{out:copy}}; echo bad > {{in:text}}\"]\n"
    );
    assert_eq!(house.run(&text).summary.ran.len(), 2);
    assert_eq!(house.output(&text, "make", "text"), "good\n");
}

const UPPER: &str = r#"
schema = 1
[pipeline]
name = "demo"
publish = { "out/table.txt" = "upper.text" }
[source.raw]
path = "raw.txt"
[stage.upper]
uses = "test.upper"
inputs.text = "source.raw"
"#;

#[test]
fn a_kind_of_the_house_runs_in_a_process_of_its_own_and_is_published() {
    let house = House::new();
    house.write("raw.txt", "text");
    let ran = house.run(UPPER);
    expect![[r#"
        planned 1: 0 hit, 1 run, 0 may run
        start upper: no earlier result of this stage is known
        done upper
        published upper.text
        ran 1, 0 hits, 0 failed, 0 skipped"#]]
    .assert_eq(&ran.told());
    assert_eq!(house.read("out/table.txt"), "TEXT");
    let said = ran.events.iter().filter(|event| matches!(event, plumb_engine::event::Event::Step { .. })).count();
    assert_eq!(said, 2, "progress and metric");
    assert!(house.run(UPPER).told().contains("planned 1: 1 hit"), "and is not copied again");
}

#[test]
fn a_panic_in_a_stage_is_a_failed_step() {
    let house = House::new();
    house.write("raw.txt", "text");
    let ran = house.run(&format!("{UPPER}with.prefix = \"panic\"\n"));
    assert!(ran.error("upper").starts_with("this is a bug of the stage: it panicked"), "{}", ran.told());
}

#[test]
fn a_placeholder_that_names_nothing_is_an_error_of_the_pipeline() {
    let house = House::new();
    let text = format!(
        "{HEAD}[stage.a]\nuses = \"command\"\noutputs.x = \"x\"\nwith.argv = [\"cp\", \"{{in:nobody}}\", \"{{out:x}}\"]\n"
    );
    let graph = house.graph(&text, &[]);
    let error = plumb_engine::plan::plan(&graph, &house.store, &Default::default()).unwrap_err();
    expect!["stage `a`, `with.argv[1]`: `{in:nobody}` names nothing of this step"].assert_eq(&error.to_string());
    assert_eq!(error.class().code(), 2);
}
