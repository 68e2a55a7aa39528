//! The registry of the worker: plumb-stages' kinds, with functions for those that need a model.

use plumb_engine::stage::Registry;
use plumb_stages::train::bench_reward::BenchReward;
use plumb_stages::train::choose::BenchChoose;
use plumb_stages::train::dpo::Dpo;
use plumb_stages::train::generate::EvalGenerate;
use plumb_stages::train::genrm::GenrmTrain;
use plumb_stages::train::judge::BenchJudge;
use plumb_stages::train::ppo::ActorPpo;
use plumb_stages::train::reward::RmTrain;
use plumb_stages::train::rlhf::ActorRlhf;
use plumb_stages::train::sft::Sft;
use plumb_stages::train::source::{ModelImport, ModelInit};
use plumb_stages::train::{bench_reward, choose, dpo, generate, genrm, judge, ppo, reward, rlhf, sft};

use crate::language_model::Torch;
use crate::{import, init};

/// Every kind that plumb-stages declares, run over libtorch where it needs a model.
pub fn registry() -> Registry {
    plumb_stages::registry()
        .run_with::<ModelInit>(|params, io| init::run(&params, io))
        .run_with::<ModelImport>(|_, io| import::run(io))
        .run_with::<Sft>(|params, io| sft::run(&Torch, &params, io))
        .run_with::<Dpo>(|params, io| dpo::run(&Torch, &params, io))
        .run_with::<RmTrain>(|params, io| reward::run(&Torch, &params, io))
        .run_with::<BenchReward>(|params, io| bench_reward::run(&Torch, &params, io))
        .run_with::<GenrmTrain>(|params, io| genrm::run(&Torch, &params, io))
        .run_with::<ActorPpo>(|params, io| ppo::run(&Torch, &params, io))
        .run_with::<ActorRlhf>(|params, io| rlhf::run(&Torch, &params, io))
        .run_with::<BenchJudge>(|params, io| judge::run(&Torch, &params, io))
        .run_with::<BenchChoose>(|params, io| choose::run(&Torch, &params, io))
        .run_with::<EvalGenerate>(|params, io| generate::run(&Torch, &params, io))
}
