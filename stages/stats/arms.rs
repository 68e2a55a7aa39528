//! Gathered branches as statistics see them: groups of comparable arms, each with its seeds. Knows labels and places,
//! never what the files mean.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_engine::io::Branch;
use plumb_engine::stage::StageError;

/// Axis -> label.
pub type Labels = BTreeMap<String, String>;

/// The axis of replicates where a pipeline names none.
pub(super) fn seed_axis() -> String {
    "seed".into()
}

/// A branch with its replicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm<T> {
    /// Its labels, the replicate axis left out.
    pub labels: Labels,
    /// Whether every label is its axis's baseline.
    pub baseline: bool,
    /// What each seed holds; a stage that does not see the replicate axis has one seed with an empty name.
    pub seeds: BTreeMap<String, T>,
    /// Seeds whose branch failed.
    pub failed: Vec<String>,
}

impl<T> Arm<T> {
    /// The labels as `reward=label, kl=0.01`.
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
        if labels.is_empty() { "(no axis)".into() } else { labels.join(", ") }
    }

    /// The seed of that name, or the only one of an arm without replicates.
    pub fn seed(&self, name: &str) -> Option<&T> {
        self.seeds.get(name).or_else(|| self.seeds.get(""))
    }

    /// The same arm with something made of each seed.
    pub fn map<U>(&self, make: impl Fn(&T) -> U) -> Arm<U> {
        let seeds = self.seeds.iter().map(|(seed, value)| (seed.clone(), make(value))).collect();
        Arm { labels: self.labels.clone(), baseline: self.baseline, seeds, failed: self.failed.clone() }
    }
}

/// Arms that may be compared with one another: the branches of one stage, or of several that were named together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<T> {
    /// Name of the stage or of the named group.
    pub name: String,
    /// In the order of the gather.
    pub arms: Vec<Arm<T>>,
}

/// Axes whose replicates were added until a rule said enough, with the rule.
pub type Adaptive = BTreeMap<String, String>;

/// The rules under which the branches came about.
pub fn adaptive<'b>(branches: impl IntoIterator<Item = &'b Branch>) -> Adaptive {
    branches.into_iter().flat_map(|branch| branch.adaptive.clone()).collect()
}

/// What a table must say of an adaptive stopping; empty where there was none.
pub fn adaptive_note(adaptive: &Adaptive) -> String {
    let note = |(axis, rule): (&String, &String)| {
        format!(
            "\n**The stopping was adaptive**: replicates of `{axis}` were added while intervals were wide ({rule}). \
             Intervals and p values\ndo not account for that: they tend to be narrower and smaller than they should be.\n"
        )
    };
    adaptive.iter().map(note).collect()
}

/// Sorts branches into groups and arms and loads each file. `named` maps a group to its stages; any other stage is a
/// group of its own.
pub fn groups<T>(
    branches: &[Branch],
    replicate_axis: &str,
    named: &BTreeMap<String, Vec<String>>,
    load: impl Fn(&Path) -> Result<T, StageError>,
) -> Result<Vec<Group<T>>, StageError> {
    known_stages(branches, named)?;
    let mut groups: Vec<Group<T>> = Vec::new();
    for branch in branches {
        let name = group_of(&branch.stage, named);
        let place = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            groups.push(Group { name: name.into(), arms: Vec::new() });
            groups.len() - 1
        });
        let mut labels = branch.labels.clone();
        let seed = labels.remove(replicate_axis).unwrap_or_default();
        let arm = arm(&mut groups[place], labels, branch.baseline);
        match &branch.path {
            None => arm.failed.push(seed),
            Some(path) => {
                let value = load(path)?;
                if arm.seeds.insert(seed, value).is_some() {
                    return Err(twice(name, &branch.labels));
                }
            }
        }
    }
    Ok(groups)
}

fn arm<T>(group: &mut Group<T>, labels: Labels, baseline: bool) -> &mut Arm<T> {
    let place = group.arms.iter().position(|arm| arm.labels == labels).unwrap_or_else(|| {
        group.arms.push(Arm { labels, baseline, seeds: BTreeMap::new(), failed: Vec::new() });
        group.arms.len() - 1
    });
    &mut group.arms[place]
}

fn group_of<'a>(stage: &'a str, named: &'a BTreeMap<String, Vec<String>>) -> &'a str {
    named.iter().find(|(_, stages)| stages.iter().any(|name| name == stage)).map_or(stage, |(group, _)| group)
}

fn known_stages(branches: &[Branch], named: &BTreeMap<String, Vec<String>>) -> Result<(), StageError> {
    for stage in named.values().flatten() {
        if !branches.iter().any(|branch| branch.stage == *stage) {
            let message = format!("`groups` names stage `{stage}`, which the gather does not hold");
            return Err(StageError::new(message).hint("add it to the gather's `all`, or leave it out of `groups`"));
        }
    }
    Ok(())
}

fn twice(group: &str, labels: &Labels) -> StageError {
    StageError::new(format!("group `{group}` holds two branches at {labels:?}"))
        .hint("stages that are grouped together must stand at different addresses")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(stage: &str, labels: &[(&str, &str)], failed: bool) -> Branch {
        let labels = labels.iter().map(|(axis, label)| (axis.to_string(), label.to_string())).collect();
        Branch {
            stage: stage.into(),
            labels,
            baseline: false,
            path: (!failed).then(|| stage.into()),
            adaptive: BTreeMap::new(),
        }
    }

    fn shown(branches: &[Branch], named: &[(&str, &[&str])]) -> Result<String, String> {
        let named =
            named.iter().map(|(name, stages)| (name.to_string(), stages.iter().map(|s| s.to_string()).collect()));
        let groups = groups(branches, "seed", &named.collect(), |_| Ok(())).map_err(|error| error.message)?;
        let arm = |arm: &Arm<()>| format!("{} {:?} failed {:?}", arm.name(), arm.seeds.keys(), arm.failed);
        let lines = groups.iter().flat_map(|group| group.arms.iter().map(|a| format!("{}: {}\n", group.name, arm(a))));
        Ok(lines.collect())
    }

    #[test]
    fn stages_are_groups_and_seeds_are_replicates() {
        let branches = [
            branch("id", &[("reward", "label"), ("seed", "0")], false),
            branch("id", &[("reward", "label"), ("seed", "1")], true),
            branch("bal", &[("reward", "label"), ("seed", "0")], false),
            branch("warm", &[("seed", "0")], false),
        ];
        expect_test::expect![[r#"
            id: reward=label ["0"] failed ["1"]
            bal: reward=label ["0"] failed []
            warm: (no axis) ["0"] failed []
        "#]]
        .assert_eq(&shown(&branches, &[]).unwrap());
        let joined = shown(&branches, &[("main", &["id", "warm"])]).unwrap();
        assert!(joined.starts_with("main: reward=label [\"0\"] failed [\"1\"]\nmain: (no axis)"), "{joined}");
    }

    #[test]
    fn a_group_that_cannot_be_is_told() {
        let branches = [branch("id", &[("seed", "0")], false), branch("bal", &[("seed", "0")], false)];
        let told = |named: &[(&str, &[&str])]| shown(&branches, named).unwrap_err();
        assert_eq!(told(&[("all", &["id", "bal"])]), r#"group `all` holds two branches at {"seed": "0"}"#);
        assert_eq!(told(&[("all", &["ood"])]), "`groups` names stage `ood`, which the gather does not hold");
    }
}
