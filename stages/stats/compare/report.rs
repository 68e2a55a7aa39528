//! The comparison as a document, as tables to read and as metrics.

use std::collections::BTreeSet;

use plumb_engine::stage::StageError;
use serde::Serialize;

use super::Params;
use super::contrast::{Difference, pairs};
use super::summary::{Over, Summary};
use crate::stats::arms::{Adaptive, Arm, Group, adaptive_note};
use crate::stats::items::{ItemRow, Metrics};
use crate::stats::markdown::{Table, number, probability, range, signed};
use crate::stats::metric::Metric;
use crate::stats::significance::holm;

/// Everything that `stats.compare` found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of this document.
    pub schema: u32,
    /// Level of the intervals.
    pub interval: f64,
    /// Resamples of the bootstrap.
    pub bootstrap_samples: usize,
    /// Tests in the family that Holm's correction covers, domains apart.
    pub family: usize,
    /// Axes whose replicates were added until a rule said enough.
    #[serde(skip_serializing_if = "Adaptive::is_empty")]
    pub adaptive: Adaptive,
    /// One for each group, and one for each domain of it where asked for.
    pub sections: Vec<Section>,
}

/// The arms of one group, on all items or on one domain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// The stage or named group.
    pub group: String,
    /// The domain, or `null` for all items.
    pub domain: Option<String>,
    /// Each branch by itself.
    pub branches: Vec<Summary>,
    /// Branches against one another.
    pub differences: Vec<Difference>,
}

impl Section {
    fn of(params: &Params, metrics: &[Metric], group: &str, domain: Option<&str>, arms: &[Arm<Vec<ItemRow>>]) -> Self {
        let inside = |rows: &Vec<ItemRow>| -> Vec<ItemRow> {
            rows.iter().filter(|row| domain.is_none_or(|domain| row.domain == domain)).cloned().collect()
        };
        let arms: Vec<_> = arms.iter().map(|arm| arm.map(inside)).collect();
        let rows = || arms.iter().flat_map(|arm| arm.seeds.values()).flatten();
        let metrics: Vec<&Metric> = metrics.iter().filter(|metric| rows().any(|row| metric.in_row(row))).collect();
        let pairs = pairs(&arms, params.contrast.as_ref());
        let summaries = arms.iter().flat_map(|arm| metrics.iter().map(|m| Summary::of(m, arm, params.bootstrap())));
        let difference = |metric: &Metric, (of, against): &(&Arm<_>, &Arm<_>)| {
            let found = Difference::of(params.bootstrap(), metric, of, against);
            if params.contrast.is_some() { found.placed(of, against) } else { found }
        };
        let differences = pairs.iter().flat_map(|pair| metrics.iter().map(|metric| difference(metric, pair)));
        Self {
            group: group.into(),
            domain: domain.map(String::from),
            branches: summaries.collect(),
            differences: differences.collect(),
        }
    }

    fn title(&self) -> String {
        self.domain.as_ref().map_or(self.group.clone(), |domain| format!("{}/{domain}", self.group))
    }
}

impl Comparison {
    /// Compares what there is to compare.
    pub fn of(params: &Params, metrics: &[Metric], groups: &[Group<Vec<ItemRow>>]) -> Result<Self, StageError> {
        let mut sections = Vec::new();
        for group in groups {
            sections.push(Section::of(params, metrics, &group.name, None, &group.arms));
            for domain in domains(group).iter().filter(|_| params.by_domain) {
                sections.push(Section::of(params, metrics, &group.name, Some(domain), &group.arms));
            }
        }
        if let Some(contrast) = &params.contrast
            && sections.iter().all(|section| section.differences.is_empty())
        {
            let message = format!(
                "no two branches differ by `{}` being `{}` and `{}` alone",
                contrast.axis, contrast.of, contrast.against
            );
            return Err(StageError::new(message).hint("the gather must run over that axis and hold both values"));
        }
        let family = correct(&mut sections, |section| section.domain.is_none());
        correct(&mut sections, |section| section.domain.is_some());
        let (interval, bootstrap_samples) = (params.interval, params.bootstrap_samples);
        let adaptive = Adaptive::new();
        Ok(Self { schema: 1, interval, bootstrap_samples, family, adaptive, sections })
    }

    /// The differences by name, with their ends after a slash.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for section in &self.sections {
            // A slash keeps domains out of the short list that people see.
            let title = section.domain.as_ref().map_or(section.group.clone(), |_| format!("/{}", section.title()));
            for row in &section.differences {
                let name = format!("{title}:{}:{}", row.metric, row.name());
                let ends = row.over_seeds.map(|over| over.interval).or(row.bootstrap);
                metrics.insert(format!("{name}/low"), ends.map(|ends| ends.low));
                metrics.insert(format!("{name}/high"), ends.map(|ends| ends.high));
                metrics.insert(name, row.difference);
            }
        }
        metrics
    }

    /// The Markdown that people read.
    pub fn table(&self) -> String {
        let percent = self.interval * 100.0;
        let mut text = format!(
            "# Comparison\n\nDifferences are the first branch minus the second, on the items both have. Intervals are at \
             {percent} %: Student's t over\nthe per-seed differences (the headline), and a bootstrap of seeds and of item \
             clusters within them ({} resamples).\nHolm's correction covers {} tests.\n",
            self.bootstrap_samples, self.family
        );
        text += &adaptive_note(&self.adaptive);
        for section in &self.sections {
            text += &format!("\n## {}\n\n{}", section.title(), branch_table(section));
            if !section.differences.is_empty() {
                text += &format!("\n{}", difference_table(section));
            }
            notes(section).iter().for_each(|note| text += &format!("\n- {note}"));
            if text.ends_with(|end: char| end != '\n') {
                text.push('\n');
            }
        }
        text
    }
}

// Holm over the headline tests of the sections that belong to the family; their number.
fn correct(sections: &mut [Section], in_family: impl Fn(&Section) -> bool) -> usize {
    let family = sections.iter_mut().filter(|section| in_family(section)).flat_map(|section| &mut section.differences);
    let mut tested: Vec<(&mut Difference, f64)> =
        family.filter_map(|row| row.over_seeds.and_then(|over| over.p).map(|p| (row, p))).collect();
    let adjusted = holm(&tested.iter().map(|(_, p)| *p).collect::<Vec<_>>());
    tested.iter_mut().zip(&adjusted).for_each(|((row, _), p)| row.p_holm = Some(*p));
    adjusted.len()
}

fn domains(group: &Group<Vec<ItemRow>>) -> BTreeSet<String> {
    let rows = group.arms.iter().flat_map(|arm| arm.seeds.values()).flatten();
    rows.map(|row| row.domain.clone()).filter(|domain| !domain.is_empty()).collect()
}

fn branch_table(section: &Section) -> String {
    let mut table = Table::new(["branch", "metric", "seeds", "mean", "interval", "over", "items", "coverage"]);
    for row in &section.branches {
        let interval = row.interval.map_or("–".into(), |ends| format!("[{:.3}, {:.3}]", ends.low, ends.high));
        let over = match row.over {
            None => "–",
            Some(Over::Seeds) => "seeds",
            Some(Over::Rate) => "items (Wilson)",
            Some(Over::Items) => "items (bootstrap)",
        };
        let branch = if row.baseline { format!("{} (baseline)", row.branch) } else { row.branch.clone() };
        let counts = (row.per_seed.len().to_string(), row.items.to_string());
        let (mean, coverage) = (number(row.mean), number(row.coverage));
        table.row([branch, row.metric.clone(), counts.0, mean, interval, over.into(), counts.1, coverage]);
    }
    table.render()
}

fn difference_table(section: &Section) -> String {
    let mut table = Table::new([
        "difference",
        "metric",
        "mean",
        "t over seeds",
        "bootstrap",
        "p (Holm)",
        "smallest detectable",
        "McNemar p",
    ]);
    for row in &section.differences {
        let interval = match row.over_seeds {
            Some(over) => range(Some(over.interval)),
            None => "one seed: items only".into(),
        };
        table.row([
            row.name(),
            row.metric.clone(),
            signed(row.difference),
            interval,
            range(row.bootstrap),
            probability(row.p_holm),
            number(row.over_seeds.map(|over| over.smallest_detectable)),
            probability(row.mcnemar),
        ]);
    }
    table.render()
}

fn notes(section: &Section) -> Vec<String> {
    let failed: BTreeSet<String> = section.branches.iter().filter(|row| !row.failed.is_empty()).map(failed).collect();
    failed.into_iter().chain(section.differences.iter().flat_map(row_notes)).collect()
}

fn failed(row: &Summary) -> String {
    format!("{}: failed for seed {}", row.branch, row.failed.join(", "))
}

fn row_notes(row: &Difference) -> Vec<String> {
    let mut notes = Vec::new();
    let name = format!("{}, {}", row.name(), row.metric);
    if let Some(common) = &row.common_support {
        let interval = range(common.over_seeds.map(|over| over.interval));
        let (difference, items) = (signed(common.difference), common.items);
        let (of, against) = (number(common.of), number(common.against));
        notes.push(format!(
            "{name} on the {items} items that both label right: {of} against {against}, {difference} {interval}"
        ));
    }
    let undefined: Vec<&str> =
        row.per_seed.iter().filter(|(_, value)| value.is_none()).map(|(seed, _)| seed.as_str()).collect();
    if !undefined.is_empty() {
        notes.push(format!("{name}: not defined for seed {}", undefined.join(", ")));
    }
    if !row.unpaired_seeds.is_empty() {
        notes.push(format!("{name}: only one branch has seed {}", row.unpaired_seeds.join(", ")));
    }
    let items = row.items;
    if items.masked + items.only_of + items.only_against > 0 {
        notes.push(format!(
            "{name}: compared on {} items; {} not known to both, {} only in the first, {} only in the second branch",
            items.both, items.masked, items.only_of, items.only_against
        ));
    }
    notes
}
