//! Made-up kinds: a source of data, a training stage, a table of branches, and an open kind.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, Value};
use crate::stage::{
    Declaration, Declare, Determinism, InputSpec, Kind, OutputSpec, ParamError, Problem, Registry, Runner, Worker,
};

/// Parameters of `data.make`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeParams {
    /// How many rows.
    #[serde(default = "ten")]
    rows: u32,
    /// Seed of the draw.
    #[serde(default)]
    seed: u64,
}

fn ten() -> u32 {
    10
}

pub struct Make;

impl Declare for Make {
    const KIND: &'static str = "data.make";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "makes rows";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::optional("raw", "rows to start from")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("pairs", "pairs.jsonl", "the rows"),
        OutputSpec::result("dev", "dev.jsonl", "held out"),
        OutputSpec::diagnostic("times", "times.jsonl", "how long it took"),
    ];
    type Params = MakeParams;

    fn check(params: &MakeParams) -> Vec<Problem> {
        if params.rows == 0 { vec![Problem::new("rows", "must be at least 1")] } else { Vec::new() }
    }
}

/// What is rewarded.
#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Reward {
    /// The verdict alone.
    #[default]
    Label,
    /// The verdict and its reason.
    LabelAndRationale,
}

/// A table of its own.
#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Penalty {
    /// For a wrong verdict.
    wrong: f64,
    /// For texts that are too long, by length.
    long: Vec<f64>,
}

/// Parameters of `model.train`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainParams {
    /// Steps of the optimiser.
    steps: u32,
    /// Learning rate.
    learning_rate: f64,
    /// What is rewarded.
    #[serde(default)]
    reward: Reward,
    /// Weight of the KL term.
    #[serde(default)]
    kl: f64,
    /// Seed.
    #[serde(default)]
    seed: u64,
    /// Free name.
    #[serde(default)]
    note: Option<String>,
    /// Penalties.
    #[serde(default)]
    penalty: Penalty,
}

pub struct Train;

impl Declare for Train {
    const KIND: &'static str = "model.train";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "trains";
    const DETERMINISM: Determinism = Determinism::Seeded;
    const INPUTS: &'static [InputSpec] =
        &[InputSpec::required("pairs", "what to learn"), InputSpec::optional("base", "where to start")];
    const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("model", "model", "the weights")];
    type Params = TrainParams;

    fn check(params: &TrainParams) -> Vec<Problem> {
        let mut problems = Vec::new();
        if params.kl < 0.0 {
            problems.push(Problem::new("kl", "must not be negative"));
        }
        if params.penalty.wrong > 0.0 {
            problems.push(Problem::new("penalty.wrong", "must not be positive"));
        }
        problems
    }
}

/// No parameters.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

pub struct Table;

impl Declare for Table {
    const KIND: &'static str = "stats.table";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "compares";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::gather("items", "scores by branch")];
    const OUTPUTS: &'static [OutputSpec] = &[OutputSpec::result("table", "table.md", "the table")];
    type Params = NoParams;
}

struct Command {
    declaration: Declaration,
}

/// Parameters of `command`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommandParams {
    /// Program and arguments.
    argv: Vec<String>,
}

impl Kind for Command {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }
    fn type_params(&self, with: toml::Spanned<toml::de::DeTable<'_>>) -> Result<Value, Vec<ParamError>> {
        let error = |message: String, span| vec![ParamError { message, span, field: None }];
        let typed = CommandParams::deserialize(toml::de::Deserializer::from(with))
            .map_err(|wrong| error(wrong.message().to_string(), wrong.span()))?;
        canonical::to_value(&typed).map_err(|wrong| error(wrong.to_string(), None))
    }
    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(CommandParams)
    }
    fn runner(&self) -> Option<&Runner> {
        None
    }
}

pub fn registry() -> Registry {
    let declaration = Declaration {
        kind: "command",
        version: 1,
        about: "any program",
        determinism: Determinism::Seeded,
        inputs: &[],
        outputs: &[],
        worker: Worker::Own,
        neutral: &[],
        open: true,
    };
    Registry::default()
        .declare::<Make>()
        .declare::<Train>()
        .declare::<Table>()
        .insert(Arc::new(Command { declaration }))
}
