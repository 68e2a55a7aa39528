//! What the loops ask of adapters, over the table of words.

use plumb_engine::stage::Declare as _;
use serde_json::json;

use super::table::Bench;
use super::{genrm_params, pair};
use crate::jsonl;
use crate::model::Target;
use crate::rows::Side;
use crate::train::parameters::Trained as _;
use crate::train::{dpo, genrm, sft};

#[test]
fn parameters_of_adapters_leave_old_keys_alone_until_they_are_used() {
    let named = |params: serde_json::Value| -> Vec<String> {
        let names = params.as_object().expect("a table").keys().cloned();
        names.filter(|name| name.contains("lora") || name.contains("peft")).collect()
    };
    assert_eq!(named(json!(sft::Params::default())), [] as [&str; 0]);
    let params = sft::Params {
        use_peft: true,
        lora_r: 8,
        lora_alpha: 16.0,
        lora_target_modules: vec![Target::AllLinear],
        seed: 3,
        ..sft::Params::default()
    };
    assert_eq!(named(json!(params)), ["lora_alpha", "lora_r", "lora_target_modules", "use_peft"]);
    assert_eq!(json!(params)["lora_target_modules"], json!(["all-linear"]));
    let lora = params.training().lora.expect("adapters are asked for");
    assert_eq!((lora.rank, lora.alpha, lora.seed), (8, 16.0, 3));
    assert_eq!(sft::Params { use_peft: false, ..params }.training().lora, None);
}

#[test]
fn what_no_adapter_can_be_is_told_at_the_field() {
    let fields = |problems: Vec<plumb_engine::stage::Problem>| -> Vec<String> {
        problems.into_iter().map(|problem| problem.field).collect()
    };
    let params = dpo::Params { lora_r: 0, lora_dropout: 0.05, ..dpo::Params::default() };
    assert_eq!(fields(dpo::Dpo::check(&params)), ["lora_r", "lora_dropout"]);
    let params = genrm::Params { use_peft: true, beta: 0.1, sync_ref_model: true, ..genrm_params() };
    assert_eq!(fields(genrm::GenrmTrain::check(&params)), ["sync_ref_model"]);
}

#[test]
fn a_policy_with_adapters_is_its_own_reference_without_them() {
    let losses = [false, true].map(|use_peft| {
        let bench = Bench::new();
        jsonl::write(&bench.path("pairs"), [pair("one", Side::B, None)]).expect("writes");
        let params = genrm::Params { use_peft, beta: 0.1, max_steps: 1, ..genrm_params() };
        genrm::run(&bench.backend, &params, &bench.io(&["model", "pairs"])).expect("runs");
        bench.steps()[0].metrics["loss"]
    });
    assert_eq!(losses[0], losses[1]);
    assert_ne!(losses[0], 0.0, "the table's loss tells what the reference said");
}
