//! What can never run here, told before anything runs: steps that ask for more than there is, secrets that nobody
//! has, a sandbox that cannot be made. Looks only at steps that run or may run.

use std::collections::BTreeMap;
use std::path::Path;

use super::machine::Machine;
use super::{sandbox, secrets::Secrets};
use crate::error::EngineError;
use crate::graph::{Graph, Step};
use crate::plan::facts::pipeline_folder;
use crate::plan::{Plan, State};
use crate::settings::RunSettings;

use super::machine::Limits;

/// The steps of a plan that are not there yet.
fn to_run<'a>(graph: &'a Graph, plan: &'a Plan) -> impl Iterator<Item = &'a Step> + Clone {
    let runs = |state: &State| matches!(state, State::Run { .. } | State::MayRun { .. });
    plan.steps.iter().filter(move |step| runs(&step.state)).map(|step| graph.step(step.id))
}

/// What there is for the steps of a plan; an error where one of them can never run.
pub fn fit(graph: &Graph, plan: &Plan, limits: &Limits, cache: &Path) -> Result<Machine, EngineError> {
    let steps = to_run(graph, plan);
    let machine = Machine::find(limits, cache, steps.clone().map(|step| &step.run));
    refuse_big(&machine, steps.clone())?;
    refuse_secretless(steps.clone(), pipeline_folder(graph))?;
    refuse_unsandboxed(steps)?;
    Ok(machine)
}

fn refuse_big<'a>(machine: &Machine, steps: impl Iterator<Item = &'a Step>) -> Result<(), EngineError> {
    let lacks =
        |step: &'a Step| Some((&step.address.stage, machine.lacks(&step.run))).filter(|(_, lacks)| !lacks.is_empty());
    // Steps of one stage ask for the same.
    let lacking: BTreeMap<&String, Vec<String>> = steps.filter_map(lacks).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let tell = |(stage, lacks): (&String, &Vec<String>)| format!("`{stage}` asks for {}", lacks.join(", "));
    let told: Vec<String> = lacking.iter().map(|(stage, lacks)| tell((stage, lacks))).collect();
    let message = format!("what a stage asks for is more than all there is here: {}", told.join("; "));
    let hint = "lower its `run` table, or say what there is: `--cpus N`, `--gpus 0,1`, `--mem 64GiB`, `--disk 1TiB`";
    Err(EngineError::Pipeline { message, hint: Some(hint.into()) })
}

fn refuse_secretless<'a>(steps: impl Iterator<Item = &'a Step>, folder: &Path) -> Result<(), EngineError> {
    let with_secrets = steps.filter(|step| !step.run.secrets.is_empty());
    let by_stage: BTreeMap<&String, &RunSettings> = with_secrets.map(|step| (&step.address.stage, &step.run)).collect();
    for (stage, run) in by_stage {
        Secrets::read(&run.secrets, folder).map_err(|error| refusal(stage, error))?;
    }
    Ok(())
}

fn refuse_unsandboxed<'a>(steps: impl Iterator<Item = &'a Step>) -> Result<(), EngineError> {
    let mut sandboxed = steps.filter(|step| step.run.sandbox.is_some()).peekable();
    let Some(first) = sandboxed.peek().copied() else { return Ok(()) };
    if let Some(step) = sandboxed.find(|step| !step.kind.declaration().open) {
        let kind = step.kind.declaration().kind;
        let message = format!("stage `{}` is a `{kind}`: `run.sandbox` is for `command` stages", step.address.stage);
        let hint = "take `run.sandbox` away: a kind of the house reads only its inputs";
        return Err(EngineError::Pipeline { message, hint: Some(hint.into()) });
    }
    sandbox::check().map_err(|error| refusal(&first.address.stage, error))
}

fn refusal(stage: &str, error: crate::stage::StageError) -> EngineError {
    EngineError::Pipeline { message: format!("stage `{stage}`: {}", error.message), hint: error.hint }
}
