//! What the scheduler gives out: CPUs, GPUs by name, memory and disk. A GPU is one step's alone unless every step on
//! it says with `gpu_share` how many it bears. Knows no step; reserves, and enforces nothing.

use std::collections::BTreeMap;

use super::executor::Launch;
use super::machine::Machine;
use crate::settings::{Gpus, RunSettings};

/// What is free.
#[derive(Debug, Clone)]
pub struct Slots {
    machine: Machine,
    cpus: usize,
    /// By their order in `machine`: how many steps each holder of the GPU bears on it, one entry a holder.
    gpus: Vec<Vec<usize>>,
    mem: u64,
    disk: u64,
}

/// What a running step holds; given back by [`Slots::give_back`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    cpus: usize,
    /// Places in the machine's list, and how many steps this one bears there.
    gpus: Vec<usize>,
    share: usize,
    mem: u64,
    disk: u64,
}

impl Held {
    /// How many GPUs.
    pub fn gpus(&self) -> usize {
        self.gpus.len()
    }
}

impl Slots {
    /// All of a machine.
    pub fn new(machine: Machine) -> Self {
        let gpus = vec![Vec::new(); machine.gpus.len()];
        Self { cpus: machine.cpus, gpus, mem: machine.mem, disk: machine.disk, machine }
    }

    /// Whether no step can start, since each takes a CPU.
    pub fn none_left(&self) -> bool {
        self.cpus == 0
    }

    /// Takes what a step asks for, or nothing.
    pub fn take(&mut self, run: &RunSettings) -> Option<Held> {
        let (mem, disk) = (run.mem.unwrap_or(0), run.disk.unwrap_or(0));
        if run.cpu > self.cpus || mem > self.mem || disk > self.disk {
            return None;
        }
        let gpus = self.free_gpus(run)?;
        for gpu in &gpus {
            self.gpus[*gpu].push(run.gpu_share);
        }
        (self.cpus, self.mem, self.disk) = (self.cpus - run.cpu, self.mem - mem, self.disk - disk);
        Some(Held { cpus: run.cpu, gpus, share: run.gpu_share, mem, disk })
    }

    /// Books what a step that runs already has, CPUs apart, be it more than is free. GPUs that are not ours to give out
    /// do not count.
    pub fn book(&mut self, launch: &Launch) -> Held {
        let place = |name: &String| self.machine.gpus.iter().position(|one| one == name);
        let gpus: Vec<usize> = launch.gpus.iter().filter_map(place).collect();
        let share = launch.gpu_share.max(1);
        for gpu in &gpus {
            self.gpus[*gpu].push(share);
        }
        let (mem, disk) = (launch.mem.unwrap_or(0).min(self.mem), launch.disk.unwrap_or(0).min(self.disk));
        (self.mem, self.disk) = (self.mem - mem, self.disk - disk);
        Held { cpus: 0, gpus, share, mem, disk }
    }

    /// Books CPUs beside what a step holds already, as far as there are any.
    pub fn book_cpus(&mut self, held: Held, cpus: usize) -> Held {
        let more = cpus.min(self.cpus);
        self.cpus -= more;
        Held { cpus: held.cpus + more, ..held }
    }

    /// The fullest that bear one step more: sharers crowd together, so that whole GPUs stay free.
    fn free_gpus(&self, run: &RunSettings) -> Option<Vec<usize>> {
        let wanted = self.machine.gpus_for(run);
        let bears = |holders: &Vec<usize>| holders.iter().chain([&run.gpu_share]).all(|most| holders.len() < *most);
        let mut free: Vec<usize> = (0..self.gpus.len()).filter(|gpu| bears(&self.gpus[*gpu])).collect();
        free.sort_by_key(|gpu| std::cmp::Reverse(self.gpus[*gpu].len()));
        free.truncate(wanted);
        free.sort_unstable();
        (free.len() == wanted).then_some(free)
    }

    /// What `CUDA_VISIBLE_DEVICES` shall say to a holder.
    pub fn visible_gpus(&self, held: &Held) -> Vec<String> {
        held.gpus.iter().map(|gpu| self.machine.gpus[*gpu].clone()).collect()
    }

    /// Takes slots back.
    pub fn give_back(&mut self, held: Held) {
        for gpu in held.gpus {
            if let Some(at) = self.gpus[gpu].iter().position(|share| *share == held.share) {
                self.gpus[gpu].swap_remove(at);
            }
        }
        (self.cpus, self.mem, self.disk) = (self.cpus + held.cpus, self.mem + held.mem, self.disk + held.disk);
    }
}

impl Machine {
    /// How many GPUs a step gets here.
    pub fn gpus_for(&self, run: &RunSettings) -> usize {
        match run.gpu {
            Gpus::Exactly(count) => count,
            Gpus::IfAny => self.gpus.len().min(1),
        }
    }

    /// What a step asks for beyond all there is, with the numbers: `4 GPUs of 2`. Empty: it fits.
    pub fn lacks(&self, run: &RunSettings) -> Vec<String> {
        let amounts = BTreeMap::from([("memory", (run.mem, self.mem)), ("disk", (run.disk, self.disk))]);
        let counts = [("CPUs", run.cpu, self.cpus), ("GPUs", self.gpus_for(run), self.gpus.len())];
        let counts = counts.into_iter().filter(|(_, asked, there)| asked > there);
        let counts = counts.map(|(what, asked, there)| format!("{asked} {what} of {there}"));
        let amounts = amounts.into_iter().filter(|(_, (asked, there))| asked.is_some_and(|asked| asked > *there));
        let amounts = amounts
            .map(|(what, (asked, there))| format!("{} of {what} of {}", bytes(asked.unwrap_or(0)), bytes(there)));
        counts.chain(amounts).collect()
    }
}

/// An amount as people write it: `64.0 GiB`.
pub fn bytes(amount: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, power)| amount >= 1 << power);
    // Only for eyes.
    unit.map_or(format!("{amount} B"), |(name, power)| format!("{:.1} {name}", amount as f64 / (1_u64 << power) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn machine(cpus: usize, gpus: &[&str]) -> Machine {
        Machine { cpus, gpus: gpus.iter().map(ToString::to_string).collect(), mem: 8 * GIB, disk: 100 * GIB }
    }

    fn asks(cpu: usize, gpu: usize) -> RunSettings {
        RunSettings { cpu, gpu: Gpus::Exactly(gpu), ..RunSettings::default() }
    }

    #[test]
    fn slots_are_given_once_and_come_back() {
        let mut slots = Slots::new(machine(3, &["2", "5"]));
        let one = slots.take(&asks(1, 1)).unwrap();
        let two = slots.take(&asks(1, 1)).unwrap();
        assert_eq!((slots.visible_gpus(&one), slots.visible_gpus(&two)), (vec!["2".into()], vec!["5".into()]));
        assert_eq!(slots.take(&asks(1, 1)), None, "no GPU is left");
        assert_eq!(slots.take(&asks(2, 0)), None, "one CPU is left");
        slots.give_back(one);
        let again = slots.take(&asks(2, 1)).unwrap();
        assert_eq!(slots.visible_gpus(&again), ["2"]);
    }

    #[test]
    fn a_gpu_is_shared_only_among_steps_that_all_bear_it() {
        let mut slots = Slots::new(machine(9, &["0", "1"]));
        let shares = |share: usize| RunSettings { gpu_share: share, ..asks(1, 1) };
        let two = slots.take(&shares(2)).unwrap();
        let three = slots.take(&shares(3)).unwrap();
        assert_eq!((slots.visible_gpus(&two), slots.visible_gpus(&three)), (vec!["0".into()], vec!["0".into()]));
        let alone = slots.take(&asks(1, 1)).unwrap();
        assert_eq!(slots.visible_gpus(&alone), ["1"], "who bears nobody gets a GPU that nobody has");
        assert_eq!(slots.take(&shares(3)), None, "GPU 0 holds two, and one of them bears no third; GPU 1 is taken");
        slots.give_back(two);
        let third = slots.take(&shares(3)).unwrap();
        assert_eq!(slots.visible_gpus(&third), ["0"]);
    }

    #[test]
    fn memory_and_disk_are_reserved() {
        let mut slots = Slots::new(machine(9, &[]));
        let mem = |gib: u64| RunSettings { mem: Some(gib * GIB), ..RunSettings::default() };
        let disk = |gib: u64| RunSettings { disk: Some(gib * GIB), ..RunSettings::default() };
        let held = slots.take(&mem(6)).unwrap();
        assert_eq!((slots.take(&mem(3)), slots.take(&mem(2)).is_some()), (None, true));
        assert_eq!((slots.take(&disk(101)), slots.take(&disk(100)).is_some()), (None, true));
        slots.give_back(held);
        assert!(slots.take(&mem(6)).is_some());
    }

    #[test]
    fn what_a_machine_lacks_is_told_with_the_numbers() {
        let run = RunSettings { mem: Some(64 * GIB), disk: Some(200 * GIB), ..asks(16, 4) };
        let lacks = machine(2, &["0"]).lacks(&run);
        assert_eq!(
            lacks,
            ["16 CPUs of 2", "4 GPUs of 1", "200.0 GiB of disk of 100.0 GiB", "64.0 GiB of memory of 8.0 GiB"]
        );
        let any = RunSettings { gpu: Gpus::IfAny, ..RunSettings::default() };
        assert!(machine(1, &[]).lacks(&any).is_empty());
        assert_eq!([machine(1, &[]).gpus_for(&any), machine(1, &["0", "1"]).gpus_for(&any)], [0, 1]);
    }
}
