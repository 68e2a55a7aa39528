//! Which steps a command is about: addresses, `--from`, `--until` and `--fresh`. Reads the pipeline for them; runs
//! nothing.

use clap::Args;
use plumb_cache::Store;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::plan::PlanOptions;
use plumb_engine::upstream::Reading;

use crate::args::Pipeline;
use crate::context::Context;
use crate::trouble::Trouble;

/// Which steps.
#[derive(Debug, Clone, Default, Args)]
pub struct Choice {
    /// Steps to build, as `train`, `train@seed=1` or `tr*@reward=label*` [default: the pipeline's goal]
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// Build only what depends on these steps; what stands before them must be in the cache
    #[arg(long, value_name = "STEP", help_heading = "Steps")]
    pub from: Vec<String>,
    /// Build these steps instead of the goals that need them
    #[arg(long, value_name = "STEP", help_heading = "Steps")]
    pub until: Vec<String>,
    /// Run these steps although their results may be there; the new result is the one this cache uses
    #[arg(long, value_name = "STEP", help_heading = "Steps")]
    pub fresh: Vec<String>,
    /// Use what lies in layers whoever signed it; what comes here that way stays
    #[arg(long, help_heading = "Steps")]
    pub trust_any: bool,
}

impl Choice {
    /// The cache, with the layers that it asks.
    pub fn store(&self, context: &Context, pipeline: &Pipeline) -> Result<Store, Trouble> {
        context.store_asking(&pipeline.file, Reading { layer: None, anybody: self.trust_any })
    }

    /// The pipeline with what was chosen as its goals, and how to plan it.
    pub fn load(&self, context: &Context, pipeline: &Pipeline) -> Result<(Graph, PlanOptions), Trouble> {
        let mut graph = context.load_choice(pipeline, self)?;
        let options = PlanOptions { fresh: context.select(&graph, &self.fresh)?, ..PlanOptions::default() };
        // A goal that is present asks for nothing upstream: what is asked for afresh is asked for by itself.
        let more: Vec<StepId> = options.fresh.iter().copied().filter(|id| !graph.goals.contains(id)).collect();
        graph.goals.extend(more);
        Ok((graph, options))
    }
}
