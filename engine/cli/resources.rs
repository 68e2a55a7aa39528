//! `--jobs`, `--gpus`, `--mem` and `--disk`: how much of the machine a run may use.

use clap::Args;
use plumb_engine::execute::machine::Limits;
use plumb_engine::pipeline;

use crate::trouble::Trouble;

/// How much of the machine a run may use; what is not said is found out.
#[derive(Debug, Clone, Args)]
pub struct ResourceArgs {
    /// CPU slots: how much runs at once [default: the cores that this process may use]
    #[arg(short, long, visible_alias = "cpus", help_heading = "Resources", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// GPUs to give out, by index or UUID: `0,1`; `none` [default: CUDA_VISIBLE_DEVICES, else all]
    #[arg(long, value_name = "LIST", help_heading = "Resources")]
    pub gpus: Option<String>,
    /// Memory to give out: `64GiB` [default: the machine's, or its control group's]
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub mem: Option<String>,
    /// Disk space to give out [default: what is free where the cache is]
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub disk: Option<String>,
}

impl ResourceArgs {
    /// As the engine takes them.
    pub fn limits(&self) -> Result<Limits, Trouble> {
        Ok(Limits {
            cpus: self.jobs.map(usize::from),
            gpus: self.gpus.as_deref().map(gpus),
            mem: self.mem.as_deref().map(|text| amount("--mem", text)).transpose()?,
            disk: self.disk.as_deref().map(|text| amount("--disk", text)).transpose()?,
        })
    }
}

fn gpus(listed: &str) -> Vec<String> {
    let names = listed.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "none");
    names.map(String::from).collect()
}

fn amount(option: &str, text: &str) -> Result<u64, Trouble> {
    let unknown = || Trouble::usage(format!("`{option} {text}` is no amount"), format!("as `{option} 64GiB`"));
    pipeline::bytes(text).ok_or_else(unknown)
}
