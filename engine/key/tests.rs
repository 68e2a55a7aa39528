//! Golden bytes of both documents, and what does not enter them.

use std::sync::Arc;

use expect_test::{Expect, expect};
use plumb_cache::{ArtifactKind, Digest};

use super::*;
use crate::graph::{Address, AxisLabel, GatheredBranch, Output, SourceId, StepId};
use crate::settings::RunSettings;
use crate::stage::{Determinism, Kind, ParamError, Runner, Worker};

struct Fake(Declaration);

impl Kind for Fake {
    fn declaration(&self) -> &Declaration {
        &self.0
    }
    fn type_params(&self, _: toml::Spanned<toml::de::DeTable<'_>>) -> Result<Value, Vec<ParamError>> {
        Ok(Value::Null)
    }
    fn schema(&self) -> schemars::Schema {
        schemars::Schema::default()
    }
    fn runner(&self) -> Option<&Runner> {
        None
    }
}

fn fake(open: bool) -> Arc<dyn Kind> {
    Arc::new(Fake(Declaration {
        kind: "test.score",
        version: 3,
        about: "",
        determinism: Determinism::Exact,
        inputs: &[],
        outputs: &[],
        worker: Worker::Own,
        neutral: &[("dropout", "0"), ("reward.bonus", "null")],
        open,
    }))
}

fn step() -> Step {
    let reference = |step, subpath: Option<&str>| Reference::Step {
        step: StepId(step),
        output: "items".into(),
        subpath: subpath.map(Into::into),
    };
    let branch = |step: usize, seed: &str| GatheredBranch {
        stage: "score".into(),
        labels: BTreeMap::from([("seed".into(), seed.into())]),
        baseline: seed == "0",
        reference: reference(step, None),
    };
    let label = AxisLabel { axis: "kl".into(), label: "0.01".into(), baseline: false };
    let reward = Value::Map(BTreeMap::from([("bonus".into(), Value::Null), ("wrong".into(), Value::Float(-0.0))]));
    Step {
        address: Address { stage: "verdict".into(), branch: vec![label] },
        kind: fake(false),
        params: Value::Map(BTreeMap::from([
            ("steps".into(), Value::Int(400)),
            ("dropout".into(), Value::Float(0.0)),
            ("reward".into(), reward),
        ])),
        axes: Arc::default(),
        code: None,
        inputs: BTreeMap::from([
            (
                "all".into(),
                Input::Gathered {
                    branches: vec![branch(0, "0"), branch(1, "1")],
                    mark_missing: true,
                    adaptive: BTreeMap::new(),
                },
            ),
            ("model".into(), Input::One(reference(2, Some("weights/final")))),
            ("raw".into(), Input::One(Reference::Source { source: SourceId(0), subpath: None })),
        ]),
        outputs: vec![
            Output { name: "table".into(), file: "table.md".into(), class: Class::Result },
            Output { name: "log".into(), file: "log.txt".into(), class: Class::Diagnostic },
        ],
        salt: None,
        run: RunSettings::default(),
        span: 0..0,
    }
}

fn artifact(text: &str) -> Artifact {
    Artifact { digest: Digest::of(text.as_bytes()), kind: ArtifactKind::File, size: 1, files: 1 }
}

fn recipe(step: &Step, observed: &BTreeMap<String, String>) -> (RecipeKey, Document) {
    recipe_document(step, &Frame::new(step, observed), |reference| match reference {
        Reference::Step { step, .. } => RecipeReference::Made(RecipeKey::of_document(&step.0.to_string())),
        Reference::Source { .. } => RecipeReference::Source(artifact("raw")),
    })
}

fn action(step: &Step) -> (ActionKey, Document) {
    action_document(step, &Frame::new(step, &BTreeMap::new()), |reference| match reference {
        Reference::Step { step: StepId(1), .. } => None,
        Reference::Step { step, .. } => Some(artifact(&step.0.to_string())),
        Reference::Source { .. } => Some(artifact("raw")),
    })
}

fn check(key: &dyn std::fmt::Display, document: &str, expect: Expect) {
    expect.assert_eq(&format!("{key}\n{document}\n"));
    assert_eq!(Value::parse(document).unwrap().canonical(), document, "the document is canonical");
}

#[test]
fn the_bytes_of_a_recipe_document_never_move() {
    let observed = BTreeMap::from([("file:score.py".into(), "file:00".into())]);
    let (key, document) = recipe(&step(), &observed);
    check(
        &key,
        &document,
        expect![[r#"
        faaa08787f2cc5387cbc288981f53d2a2e55006adf65c03f2095560770a9d1cd
        {"format":1,"inputs":{"all":[{"baseline":true,"from":{"output":"items","recipe":"48ac8d12287153395ea84e64f9931601d217b3494053f35af24e5fb6614e9467"},"labels":{"seed":"0"},"stage":"score"},{"baseline":false,"from":{"output":"items","recipe":"7c270cc7d1d03e208c8b7ff172c9065e5c3961656a3a6747fea64c91f96df878"},"labels":{"seed":"1"},"stage":"score"}],"model":{"output":"items","recipe":"9922eaaf3ae5f53d8d9aa5cc9879299cda1efca1f3cd8c6e6a8528f3246bea47","subpath":"weights/final"},"raw":"file:d4d4d19bd64b6b3374a6c189713eb3188d4ef59f761563da9938c52ca08b13da"},"kind":"test.score@3","observed":{"file:score.py":"file:00"},"outputs":{"log":"diagnostic","table":"result"},"params":{"reward":{"wrong":0.0},"steps":400},"salt":null}
    "#]],
    );
}

#[test]
fn the_bytes_of_an_action_document_never_move() {
    let (key, document) = action(&step());
    check(
        &key,
        &document,
        expect![[r#"
        10cd5e00aed9ed0853ee192224b40775525093644eb29a0964f81f9bb47691a8
        {"format":1,"inputs":{"all":[{"baseline":true,"from":"file:4d067153ac729a4a7e8220c97935ffba67487860d58298ceeb23864369867d9f","labels":{"seed":"0"},"stage":"score"},{"baseline":false,"from":null,"labels":{"seed":"1"},"stage":"score"}],"model":"file:813e9b729141e7f385afa0a2d0df3e6c3789e427ffe4aeef566a565bc8f2fe3d","raw":"file:d4d4d19bd64b6b3374a6c189713eb3188d4ef59f761563da9938c52ca08b13da"},"kind":"test.score@3","observed":{},"outputs":{"log":"diagnostic","table":"result"},"params":{"reward":{"wrong":0.0},"steps":400},"salt":null}
    "#]],
    );
}

#[test]
fn names_and_manner_are_in_no_key() {
    let mut other = step();
    other.address.stage = "renamed".into();
    other.address.branch.clear();
    other.outputs[0].file = "elsewhere.md".into();
    other.outputs.reverse();
    other.run.gpu = crate::settings::Gpus::Exactly(4);
    other.run.manner.threads = 16;
    assert_eq!(recipe(&other, &BTreeMap::new()), recipe(&step(), &BTreeMap::new()));
    assert_eq!(action(&other), action(&step()));
}

#[test]
fn each_thing_that_changes_a_result_is_in_both_keys() {
    let changes: [fn(&mut Step); 9] = [
        |step| step.salt = Some("again".into()),
        |step| step.outputs[1].class = Class::Result,
        |step| step.outputs[1].name = "notes".into(),
        |step| step.kind = fake(true),
        |step| step.params = Value::Map(BTreeMap::new()),
        |step| {
            let Some(Input::Gathered { branches, .. }) = step.inputs.get_mut("all") else { panic!() };
            branches.reverse();
        },
        |step| {
            let Some(Input::Gathered { branches, .. }) = step.inputs.get_mut("all") else { panic!() };
            branches[0].baseline = false;
        },
        |step| {
            let Some(Input::Gathered { adaptive, .. }) = step.inputs.get_mut("all") else { panic!() };
            adaptive.insert("seed".into(), "2 to 4, until width(f_score) < 0.02".into());
        },
        |step| drop(step.inputs.remove("raw")),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut other = step();
        change(&mut other);
        assert_ne!(recipe(&other, &BTreeMap::new()).0, recipe(&step(), &BTreeMap::new()).0, "change {index}");
        assert_ne!(action(&other).0, action(&step()).0, "change {index}");
    }
}

#[test]
fn a_file_name_that_the_program_can_see_is_in_the_key() {
    let mut open = step();
    open.kind = fake(true);
    let before = action(&open).0;
    open.outputs[0].file = "table.html".into();
    assert_ne!(action(&open).0, before);
}

#[test]
fn a_neutral_value_is_left_out_and_any_other_is_not() {
    let mut other = step();
    let Value::Map(params) = &mut other.params else { panic!() };
    params.remove("dropout");
    assert_eq!(action(&other), action(&step()));
    let Value::Map(params) = &mut other.params else { panic!() };
    params.insert("dropout".into(), Value::Float(0.1));
    assert_ne!(action(&other).0, action(&step()).0);
}
