//! Which steps a good pipeline becomes.

use expect_test::expect;

use super::{Selection, check, check_with, parse};

#[test]
fn a_plain_pipeline_becomes_one_step_a_stage() {
    check(
        r#"
        [params]
        steps = 4
        [stage.train]
        uses = "model.train"
        inputs.pairs = "prep.pairs"
        with.steps = { param = "steps" }
        with.learning_rate = 1
        with.penalty = { wrong = -1, long = [1, 2.5] }
        [stage.prep]
        uses = "data.make@2"
        with.rows = 20
        "#,
        expect![[r#"
            prep {"rows":20,"seed":0}
            train {"kl":0.0,"learning_rate":1.0,"note":null,"penalty":{"long":[1.0,2.5],"wrong":-1.0},"reward":"label","seed":0,"steps":4} pairs<-prep.pairs
            goals: train
        "#]],
    );
}

const AXES: &str = r#"
    [axes]
    reward = ["label", "label-and-rationale"]
    kl = [0.0, 0.01]
    seed = { replicate = 2 }
    [[axes.data]]
    name = "full"
    rows = 20
    [[axes.data]]
    name = "quarter"
    rows = 5
    [stage.prep]
    uses = "data.make"
    with.rows = { axis = "data.rows" }
    [stage.train]
    uses = "model.train"
    inputs.pairs = "prep.pairs"
    with = { steps = 1, learning_rate = 0.1, kl = { axis = "kl" }, reward = { axis = "reward" }, seed = { axis = "seed" } }
    [stage.verdict]
    uses = "stats.table"
"#;

#[test]
fn one_off_is_the_baseline_and_one_change_at_a_time() {
    check(
        &format!("{AXES}inputs.items = {{ all = \"train.model\", over = [\"reward\", \"kl\", \"data\", \"seed\"] }}"),
        expect![[r#"
            prep@data=full {"rows":20,"seed":0}
            prep@data=quarter {"rows":5,"seed":0}
            train@reward=label,kl=0.0,seed=0,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label,kl=0.0,seed=0,data=quarter {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=quarter.pairs
            train@reward=label,kl=0.0,seed=1,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label,kl=0.0,seed=1,data=quarter {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=quarter.pairs
            train@reward=label,kl=0.01,seed=0,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label,kl=0.01,seed=1,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label-and-rationale,kl=0.0,seed=0,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label-and-rationale","seed":0,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label-and-rationale,kl=0.0,seed=1,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label-and-rationale","seed":1,"steps":1} pairs<-prep@data=full.pairs
            verdict {} items<-[full/0.0/label/0*=train@reward=label,kl=0.0,seed=0,data=full.model quarter/0.0/label/0=train@reward=label,kl=0.0,seed=0,data=quarter.model full/0.0/label/1*=train@reward=label,kl=0.0,seed=1,data=full.model quarter/0.0/label/1=train@reward=label,kl=0.0,seed=1,data=quarter.model full/0.01/label/0=train@reward=label,kl=0.01,seed=0,data=full.model full/0.01/label/1=train@reward=label,kl=0.01,seed=1,data=full.model full/0.0/label-and-rationale/0=train@reward=label-and-rationale,kl=0.0,seed=0,data=full.model full/0.0/label-and-rationale/1=train@reward=label-and-rationale,kl=0.0,seed=1,data=full.model]
            goals: verdict
        "#]],
    );
}

#[test]
fn a_gather_leaves_the_axes_that_it_does_not_run_over() {
    check(
        &format!(
            "{AXES}inputs.items = {{ all = [\"train.model\", \"prep.dev\"], over = [\"kl\", \"seed\", \"data\"], missing = \"mark\" }}"
        ),
        expect![[r#"
            prep@data=full {"rows":20,"seed":0}
            prep@data=quarter {"rows":5,"seed":0}
            train@reward=label,kl=0.0,seed=0,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label,kl=0.0,seed=0,data=quarter {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=quarter.pairs
            train@reward=label,kl=0.0,seed=1,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label,kl=0.0,seed=1,data=quarter {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=quarter.pairs
            train@reward=label,kl=0.01,seed=0,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label,kl=0.01,seed=1,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label-and-rationale,kl=0.0,seed=0,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label-and-rationale","seed":0,"steps":1} pairs<-prep@data=full.pairs
            train@reward=label-and-rationale,kl=0.0,seed=1,data=full {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label-and-rationale","seed":1,"steps":1} pairs<-prep@data=full.pairs
            verdict@reward=label {} items<-[full/0.0/0*=train@reward=label,kl=0.0,seed=0,data=full.model quarter/0.0/0=train@reward=label,kl=0.0,seed=0,data=quarter.model full/0.0/1*=train@reward=label,kl=0.0,seed=1,data=full.model quarter/0.0/1=train@reward=label,kl=0.0,seed=1,data=quarter.model full/0.01/0=train@reward=label,kl=0.01,seed=0,data=full.model full/0.01/1=train@reward=label,kl=0.01,seed=1,data=full.model full*=prep@data=full.dev quarter=prep@data=quarter.dev] marked
            verdict@reward=label-and-rationale {} items<-[full/0.0/0*=train@reward=label-and-rationale,kl=0.0,seed=0,data=full.model full/0.0/1*=train@reward=label-and-rationale,kl=0.0,seed=1,data=full.model full*=prep@data=full.dev quarter=prep@data=quarter.dev] marked
            goals: verdict@reward=label verdict@reward=label-and-rationale
        "#]],
    );
}

#[test]
fn plans_are_united_and_a_gather_may_hold_only_one_of_them() {
    let plans = r#"
    [[plan]]
    name = "interaction"
    mode = "cross"
    over = { reward = "*", kl = [0.01] }
    [[plan]]
    name = "final"
    mode = "list"
    runs = [ { reward = "label-and-rationale", kl = 0.01 }, { data = "quarter" } ]
    "#;
    let gather =
        "inputs.items = { all = \"train.model\", over = [\"reward\", \"kl\", \"data\", \"seed\"], plan = \"final\" }";
    check(
        &format!("{AXES}{gather}{plans}"),
        expect![[r#"
        prep@data=full {"rows":20,"seed":0}
        prep@data=quarter {"rows":5,"seed":0}
        train@reward=label,kl=0.0,seed=0,data=quarter {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=quarter.pairs
        train@reward=label,kl=0.0,seed=1,data=quarter {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=quarter.pairs
        train@reward=label,kl=0.01,seed=0,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@data=full.pairs
        train@reward=label,kl=0.01,seed=1,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@data=full.pairs
        train@reward=label-and-rationale,kl=0.01,seed=0,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label-and-rationale","seed":0,"steps":1} pairs<-prep@data=full.pairs
        train@reward=label-and-rationale,kl=0.01,seed=1,data=full {"kl":0.01,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label-and-rationale","seed":1,"steps":1} pairs<-prep@data=full.pairs
        verdict {} items<-[quarter/0.0/label/0=train@reward=label,kl=0.0,seed=0,data=quarter.model quarter/0.0/label/1=train@reward=label,kl=0.0,seed=1,data=quarter.model full/0.01/label-and-rationale/0=train@reward=label-and-rationale,kl=0.01,seed=0,data=full.model full/0.01/label-and-rationale/1=train@reward=label-and-rationale,kl=0.01,seed=1,data=full.model]
        goals: train@reward=label,kl=0.01,seed=0,data=full train@reward=label,kl=0.01,seed=1,data=full verdict
    "#]],
    );
}

#[test]
fn a_graft_pins_an_axis_and_makes_the_branch_that_it_needs() {
    check(
        r#"
        [axes]
        seed = [1, 2]
        rows = [10, 5]
        [stage.prep]
        uses = "data.make"
        with = { seed = { axis = "seed" }, rows = { axis = "rows" } }
        [stage.train]
        uses = "model.train"
        inputs.pairs = { from = "prep.pairs", at = { rows = 5 } }
        with = { steps = 1, learning_rate = 0.1 }
        "#,
        expect![[r#"
            prep@seed=1,rows=10 {"rows":10,"seed":1}
            prep@seed=1,rows=5 {"rows":5,"seed":1}
            prep@seed=2,rows=10 {"rows":10,"seed":2}
            prep@seed=2,rows=5 {"rows":5,"seed":2}
            train@seed=1 {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@seed=1,rows=5.pairs
            train@seed=2 {"kl":0.0,"learning_rate":0.1,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@seed=2,rows=5.pairs
            goals: prep@seed=1,rows=10 prep@seed=2,rows=10 train@seed=1 train@seed=2
        "#]],
    );
}

#[test]
fn replicates_alone_are_crossed_and_no_ablation() {
    check(
        r#"
        [axes]
        a = { replicate = 2 }
        b = { replicate = 2 }
        [stage.prep]
        uses = "data.make"
        with.seed = { axis = "a" }
        [stage.train]
        uses = "model.train"
        inputs.pairs = "prep.pairs"
        with = { steps = 1, learning_rate = 1, seed = { axis = "b" } }
        "#,
        expect![[r#"
            prep@a=0 {"rows":10,"seed":0}
            prep@a=1 {"rows":10,"seed":1}
            train@a=0,b=0 {"kl":0.0,"learning_rate":1.0,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@a=0.pairs
            train@a=0,b=1 {"kl":0.0,"learning_rate":1.0,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@a=0.pairs
            train@a=1,b=0 {"kl":0.0,"learning_rate":1.0,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@a=1.pairs
            train@a=1,b=1 {"kl":0.0,"learning_rate":1.0,"note":null,"penalty":{"long":[],"wrong":0.0},"reward":"label","seed":1,"steps":1} pairs<-prep@a=1.pairs
            goals: train@a=0,b=0 train@a=0,b=1 train@a=1,b=0 train@a=1,b=1
        "#]],
    );
}

#[test]
fn an_open_kind_takes_the_names_that_the_pipeline_gives() {
    check(
        r#"
        [axes]
        seed = [0, 1]
        [stage.prep]
        uses = "data.make"
        with.seed = { axis = "seed" }
        [stage.plot]
        uses = "command"
        inputs.all_pairs = { all = "prep.pairs", over = ["seed"] }
        inputs.first = { from = "prep.dev", at = { seed = 0 } }
        outputs = { figure = "figure.png", table = "out/table.md" }
        with.argv = ["python", "plot.py"]
        [stage.next]
        uses = "command"
        inputs.figure = "plot.figure/part/a"
        outputs = ["copy"]
        with.argv = ["cp"]
        "#,
        expect![[r#"
            prep@seed=0 {"rows":10,"seed":0}
            prep@seed=1 {"rows":10,"seed":1}
            plot {"argv":["python","plot.py"]} all_pairs<-[0*=prep@seed=0.pairs 1=prep@seed=1.pairs] first<-prep@seed=0.dev
            next {"argv":["cp"]} figure<-plot.figure/part/a
            goals: next
        "#]],
    );
}

#[test]
fn a_profile_and_set_override_parameters_and_axes() {
    let text = r#"
        [params]
        rows = 100
        note = "plain"
        [axes]
        seed = { replicate = 3 }
        [stage.prep]
        uses = "data.make"
        with = { rows = { param = "rows" }, seed = { axis = "seed" } }
        [stage.train]
        uses = "model.train"
        inputs.pairs = "prep.pairs"
        with = { steps = 1, learning_rate = 0.1, note = { param = "note" } }
        [profile.smoke]
        params = { rows = 3 }
        axes = { seed = { replicate = 1 } }
    "#;
    let smoke = Selection { profile: Some("smoke".into()), ..Selection::default() };
    check_with(
        text,
        &smoke,
        expect![[r#"
        prep@seed=0 {"rows":3,"seed":0}
        train@seed=0 {"kl":0.0,"learning_rate":0.1,"note":"plain","penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@seed=0.pairs
        goals: train@seed=0
    "#]],
    );
    let set = vec![("rows".to_string(), "7".to_string()), ("note".to_string(), "two words".to_string())];
    check_with(
        text,
        &Selection { set, ..smoke },
        expect![[r#"
        prep@seed=0 {"rows":7,"seed":0}
        train@seed=0 {"kl":0.0,"learning_rate":0.1,"note":"two words","penalty":{"long":[],"wrong":0.0},"reward":"label","seed":0,"steps":1} pairs<-prep@seed=0.pairs
        goals: train@seed=0
    "#]],
    );
}

#[test]
fn comments_order_and_quoting_change_no_step() {
    let first = "[stage.a]\nuses = \"data.make\"\nwith.rows = 3\nwith.seed = 1\n";
    let second = "# a comment\n[stage.'a']\nwith = { seed = 0x1, rows = 3 } # another\nuses = 'data.make'\n";
    let shown = |text: &str| super::shown(&parse(text, &Selection::default()).unwrap());
    assert_eq!(shown(first), shown(second));
}

#[test]
fn what_nobody_uses_is_a_warning() {
    check(
        r#"
        [params]
        unused = 1
        [axes]
        idle = [1, 2]
        [source.gone]
        path = "nowhere.jsonl"
        [stage.prep]
        uses = "data.make"
        "#,
        expect![[r#"
            prep {"rows":10,"seed":0}
            goals: prep
            warning: no stage uses the parameter `unused`
            warning: no stage uses the axis `idle`
            warning: no stage uses the source `gone`
        "#]],
    );
}

#[test]
fn a_missing_source_that_no_goal_needs_is_only_a_warning() {
    check(
        r#"
        [pipeline]
        goal = ["prep"]
        [source.gone]
        path = "nowhere.jsonl"
        [stage.prep]
        uses = "data.make"
        [stage.other]
        uses = "data.make"
        inputs.raw = "source.gone"
        "#,
        expect![[r#"
            prep {"rows":10,"seed":0}
            other {"rows":10,"seed":0} raw<-source.gone
            goals: prep
            warning: source `gone` does not exist: `nowhere.jsonl`
        "#]],
    );
}

#[test]
fn replicates_may_start_elsewhere() {
    check(
        r#"
        [axes]
        seed = { replicate = 2, first = 100 }
        [stage.prep]
        uses = "data.make"
        with.seed = { axis = "seed" }
        "#,
        expect![[r#"
            prep@seed=100 {"rows":10,"seed":100}
            prep@seed=101 {"rows":10,"seed":101}
            goals: prep@seed=100 prep@seed=101
        "#]],
    );
}

#[test]
fn a_source_takes_its_path_from_a_parameter() {
    let text = r#"
        [params]
        data = "nowhere"
        [source.raw]
        path = { param = "data" }
        [stage.prep]
        uses = "data.make"
        [stage.other]
        uses = "data.make"
        inputs.raw = "source.raw/rows.jsonl"
        [pipeline]
        goal = ["prep"]
    "#;
    let set = vec![("data".to_string(), "elsewhere".to_string())];
    check_with(
        text,
        &Selection { set, ..Selection::default() },
        expect![[r#"
        prep {"rows":10,"seed":0}
        other {"rows":10,"seed":0} raw<-source.raw/rows.jsonl
        goals: prep
        warning: source `raw` does not exist: `elsewhere`
    "#]],
    );
}
