//! What the scheduler has to give: CPU slots and GPUs by index. Knows no step.

use std::collections::BTreeSet;

use crate::settings::RunSettings;

/// Free slots.
#[derive(Debug, Clone)]
pub struct Slots {
    cpus: usize,
    free_cpus: usize,
    gpus: usize,
    free_gpus: BTreeSet<u32>,
}

/// Slots that a running step holds; given back by [`Slots::give_back`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    cpus: usize,
    /// Indices for `CUDA_VISIBLE_DEVICES`.
    pub gpus: Vec<u32>,
}

impl Slots {
    /// `jobs` CPU slots and these GPUs.
    pub fn new(jobs: usize, gpus: &[u32]) -> Self {
        let cpus = jobs.max(1);
        Self { cpus, free_cpus: cpus, gpus: gpus.len(), free_gpus: gpus.iter().copied().collect() }
    }

    /// Why a step can never run here.
    pub fn never(&self, run: &RunSettings) -> Option<String> {
        (run.gpu > self.gpus).then(|| format!("the step asks for {} GPUs, this machine offers {}", run.gpu, self.gpus))
    }

    /// Whether no step can start, since each takes a CPU.
    pub fn none_left(&self) -> bool {
        self.free_cpus == 0
    }

    /// Takes what a step asks for. One that asks for more CPUs than there are gets all of them.
    pub fn take(&mut self, run: &RunSettings) -> Option<Held> {
        let cpus = run.cpu.clamp(1, self.cpus);
        if cpus > self.free_cpus || run.gpu > self.free_gpus.len() {
            return None;
        }
        self.free_cpus -= cpus;
        let gpus: Vec<u32> = self.free_gpus.iter().copied().take(run.gpu).collect();
        self.free_gpus.retain(|gpu| !gpus.contains(gpu));
        Some(Held { cpus, gpus })
    }

    /// Takes slots back.
    pub fn give_back(&mut self, held: Held) {
        self.free_cpus += held.cpus;
        self.free_gpus.extend(held.gpus);
    }
}

/// The GPUs that this process may use: `CUDA_VISIBLE_DEVICES` where it is set, else those of the driver.
pub fn visible_gpus() -> Vec<u32> {
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(listed) => listed.split(',').map_while(|index| index.trim().parse().ok()).collect(),
        Err(_) => (0..64).take_while(|index| std::path::Path::new(&format!("/dev/nvidia{index}")).exists()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(cpu: usize, gpu: usize) -> RunSettings {
        RunSettings { cpu, gpu, ..RunSettings::default() }
    }

    #[test]
    fn slots_are_given_once_and_come_back() {
        let mut slots = Slots::new(3, &[2, 5]);
        let one = slots.take(&asks(1, 1)).unwrap();
        let two = slots.take(&asks(1, 1)).unwrap();
        assert_eq!((&one.gpus[..], &two.gpus[..]), (&[2][..], &[5][..]));
        assert_eq!(slots.take(&asks(1, 1)), None, "no GPU is left");
        assert_eq!(slots.take(&asks(2, 0)), None, "one CPU is left");
        slots.give_back(one);
        assert_eq!(slots.take(&asks(2, 1)).unwrap().gpus, [2]);
    }

    #[test]
    fn a_step_that_wants_every_cpu_and_more_runs_alone() {
        let mut slots = Slots::new(2, &[]);
        let small = slots.take(&asks(1, 0)).unwrap();
        assert_eq!(slots.take(&asks(64, 0)), None);
        slots.give_back(small);
        assert!(slots.take(&asks(64, 0)).is_some());
        assert!(slots.never(&asks(1, 1)).is_some());
    }
}
