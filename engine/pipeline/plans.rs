//! `[[plan]]`: which combinations of axis values are wanted. Plans are united: a combination that two plans name is
//! one. Replicates are no part of a combination: they are always crossed with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::DeValue;

use super::axes::{self, Axis, AxisSet};
use super::reference::scalar;
use super::table::{self, Complaints, Fields, Item, Text};
use crate::diagnostic::Diagnostic;
use crate::graph::Skip;

/// More combinations than this are a slip.
const MOST_COMBINATIONS: usize = 200_000;
const MOST_PLANS: usize = 64;
/// More steps than this are a slip.
pub const MOST_STEPS: usize = 1_000_000;

/// One value (by index) of each axis of some set, in the order of the axes' declaration.
pub type Row = Vec<u16>;

/// The united plans.
pub struct Plans {
    names: Vec<Option<String>>,
    /// A whole row (replicates at 0), and the plans that name it as bits.
    combinations: BTreeMap<Row, u64>,
    replicates: AxisSet,
    /// How many values each axis has.
    sizes: Vec<u16>,
    projections: BTreeMap<(AxisSet, Option<usize>), Rc<Vec<Row>>>,
    is_too_large: bool,
    /// What the plans leave out, for whoever asks for it.
    pub skips: Vec<Skip>,
}

impl Plans {
    /// The index of a plan's name, or a complaint.
    pub fn expect(&self, name: &Text<'_>, complaints: &mut Complaints) -> Option<usize> {
        let wanted = name.get_ref().as_ref();
        let found = self.names.iter().position(|known| known.as_deref() == Some(wanted));
        if found.is_none() {
            complaints.unknown(name.span(), "plan", wanted, self.names.iter().flatten().map(String::as_str));
        }
        found
    }

    /// What to look at where the plans, or one of them, give a gather no branch.
    pub fn why_empty(&self, plan: Option<usize>) -> String {
        let name = plan.and_then(|plan| self.names[plan].as_ref());
        match name.filter(|name| self.skips.iter().any(|skip| skip.plan.as_ref() == Some(name))) {
            Some(name) => format!("plan `{name}` skips every branch that fits: check its `skip`"),
            None => "no plan names a branch that fits: check `over` and `plan`".to_string(),
        }
    }

    /// Whether some projection was not made because it has more than [`MOST_STEPS`] rows.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// The rows over a set of axes that occur in the united plans, or in one of them; sorted, each once.
    pub fn project(&mut self, visible: AxisSet, plan: Option<usize>) -> Rc<Vec<Row>> {
        if let Some(known) = self.projections.get(&(visible, plan)) {
            return Rc::clone(known);
        }
        let axes: Vec<usize> = visible.iter().take_while(|axis| *axis < self.sizes.len()).collect();
        let wanted = |plans: &u64| plan.is_none_or(|plan| plans & (1 << plan) != 0);
        let chosen = self.combinations.iter().filter(|(_, plans)| wanted(plans));
        let mut rows: BTreeSet<Row> = chosen.map(|(row, _)| axes.iter().map(|axis| row[*axis]).collect()).collect();
        for (position, axis) in axes.iter().enumerate().filter(|(_, axis)| self.replicates.holds(**axis)) {
            if rows.len().saturating_mul(self.sizes[*axis].into()) > MOST_STEPS {
                self.is_too_large = true;
                break;
            }
            rows = rows.into_iter().flat_map(|row| replicated(&row, position, self.sizes[*axis])).collect();
        }
        let rows = Rc::new(rows.into_iter().collect::<Vec<Row>>());
        self.projections.insert((visible, plan), Rc::clone(&rows));
        rows
    }
}

fn replicated(row: &Row, position: usize, size: u16) -> Vec<Row> {
    let at = |value| {
        let mut row = row.clone();
        row[position] = value;
        row
    };
    (0..size).map(at).collect()
}

/// Reads `[[plan]]`; without any, the plan is one-off.
pub fn read(item: Option<Item<'_>>, axes: &[Axis<'_>], complaints: &mut Complaints) -> Plans {
    let sizes = axes.iter().map(|axis| u16::try_from(axis.choices.len()).unwrap_or(u16::MAX)).collect();
    let replicates = (0..axes.len())
        .filter(|axis| axes[*axis].replicate)
        .fold(AxisSet::default(), |set, axis| set.and(AxisSet::one(axis)));
    let mut reader = PlanReader {
        axes,
        complaints,
        plans: Plans {
            names: Vec::new(),
            combinations: BTreeMap::new(),
            replicates,
            sizes,
            projections: BTreeMap::new(),
            is_too_large: false,
            skips: Vec::new(),
        },
        skip: Vec::new(),
    };
    match item {
        None => reader.one_off(None),
        Some(item) => {
            let span = item.span();
            let tables = table::list(item, "`plan`", reader.complaints).unwrap_or_default();
            if tables.len() > MOST_PLANS {
                reader.complaints.error(span.clone(), format!("more than {MOST_PLANS} plans"));
            }
            tables.into_iter().take(MOST_PLANS).for_each(|table| reader.plan(table));
            if reader.plans.combinations.is_empty() && !reader.complaints.any_errors() {
                let message = "every combination of every plan is skipped: no stage has a branch";
                reader.complaints.add(Diagnostic::at(span, message).hint("make `skip` name more axes".to_string()));
            }
        }
    }
    reader.plans
}

/// For each axis that a plan varies, the values that it takes.
type Over = Vec<(usize, Vec<u16>)>;

/// One table of `skip` while its plan is read.
struct Skipping {
    over: Over,
    span: Range<usize>,
    /// Combinations that it left out.
    left_out: usize,
}

impl Skipping {
    /// Whether every axis that it names has one of the values that it names.
    fn covers(&self, row: &Row) -> bool {
        self.over.iter().all(|(axis, values)| values.contains(&row[*axis]))
    }
}

struct PlanReader<'a, 't> {
    axes: &'a [Axis<'t>],
    complaints: &'a mut Complaints,
    plans: Plans,
    /// Of the plan that is being read.
    skip: Vec<Skipping>,
}

impl<'t> PlanReader<'_, 't> {
    fn plan(&mut self, item: Item<'t>) {
        let Some(mut fields) = Fields::of(item, "a plan", self.complaints) else { return };
        let span = fields.span.clone();
        let name = fields.text("name", self.complaints);
        let mode = fields.text("mode", self.complaints);
        let over = fields.take("over");
        let runs = fields.take("runs");
        let skip = fields.take("skip");
        fields.finish("plan", self.complaints);
        self.name(name);
        let over = over.and_then(|over| self.over(over, "`over`"));
        self.skip = skip.map(|skip| self.skips(skip)).unwrap_or_default();
        let before = self.complaints.all.len();
        match mode.as_ref().map_or("one-off", |mode| mode.get_ref().as_ref()) {
            "one-off" => self.one_off(over),
            "cross" => self.cross(over, span),
            "list" => self.list(runs, span),
            other => {
                let span = mode.as_ref().map_or(span, Spanned::span);
                self.complaints.unknown(span, "plan mode", other, ["one-off", "cross", "list"]);
            }
        }
        if self.complaints.all.len() == before {
            self.warn_idle_skips();
        }
        self.note_skips();
    }

    /// `skip = { AXIS = VALUE }`, or a list of such tables.
    fn skips(&mut self, item: Item<'t>) -> Vec<Skipping> {
        let tables = match item.get_ref() {
            DeValue::Array(_) => table::list(item, "`skip`", self.complaints).unwrap_or_default(),
            _ => vec![item],
        };
        let mut skips = Vec::new();
        for table in tables {
            let span = table.span();
            let before = self.complaints.all.len();
            let over = self.over(table, "`skip`").unwrap_or_default();
            if self.complaints.all.len() > before {
                continue;
            }
            if over.is_empty() {
                let hint = "write `skip = { AXIS = VALUE }`: what has all of these values is left out".to_string();
                self.complaints.add(Diagnostic::at(span, "this `skip` names no axis").hint(hint));
                continue;
            }
            skips.push(Skipping { over, span, left_out: 0 });
        }
        skips
    }

    fn warn_idle_skips(&mut self) {
        for skip in self.skip.iter().filter(|skip| skip.left_out == 0) {
            let message = "this `skip` leaves nothing out: the plan has no such combination";
            self.complaints.add(Diagnostic::at(skip.span.clone(), message).warning());
        }
    }

    fn note_skips(&mut self) {
        let plan = self.plans.names.last().cloned().flatten();
        for Skipping { over, .. } in std::mem::take(&mut self.skip) {
            let label = |axis: usize, value: u16| self.axes[axis].choices[usize::from(value)].label.to_string();
            let term = |(axis, values): (usize, Vec<u16>)| {
                let labels = values.into_iter().map(|value| label(axis, value)).collect();
                (self.axes[axis].name.get_ref().to_string(), labels)
            };
            self.plans.skips.push(Skip { plan: plan.clone(), terms: over.into_iter().map(term).collect() });
        }
    }

    fn name(&mut self, name: Option<Text<'t>>) {
        if let Some(name) = &name {
            table::check_name(name, "plan", self.complaints);
            if self.plans.names.iter().flatten().any(|known| known == name.get_ref()) {
                self.complaints.error(name.span(), format!("two plans are named `{}`", name.get_ref()));
            }
        }
        self.plans.names.push(name.map(|name| name.into_inner().into_owned()));
    }

    /// Takes a combination in, unless it is skipped.
    fn add(&mut self, row: Row) {
        if let Some(skip) = self.skip.iter_mut().find(|skip| skip.covers(&row)) {
            skip.left_out += 1;
            return;
        }
        let plan = self.plans.names.len().saturating_sub(1);
        *self.plans.combinations.entry(row).or_default() |= 1 << plan;
    }

    fn baseline(&self) -> Row {
        vec![0; self.axes.len()]
    }

    /// Every value of every axis but the replicates.
    fn everything(&self) -> Over {
        let varies = (0..self.axes.len()).filter(|axis| !self.axes[*axis].replicate);
        varies.map(|axis| (axis, (0..self.plans.sizes[axis]).collect())).collect()
    }

    fn one_off(&mut self, over: Option<Over>) {
        if self.plans.names.is_empty() {
            self.plans.names.push(None);
        }
        self.add(self.baseline());
        for (axis, values) in over.unwrap_or_else(|| self.everything()) {
            for value in values {
                let mut row = self.baseline();
                row[axis] = value;
                self.add(row);
            }
        }
    }

    fn cross(&mut self, over: Option<Over>, span: Range<usize>) {
        let over = over.unwrap_or_else(|| self.everything());
        let count = over.iter().try_fold(1_usize, |count, (_, values)| count.checked_mul(values.len()));
        if count.is_none_or(|count| count > MOST_COMBINATIONS) {
            let hint = "cross fewer axes: `over = { AXIS = \"*\" }`".to_string();
            let message = format!("this plan crosses to more than {MOST_COMBINATIONS} combinations");
            return self.complaints.add(Diagnostic::at(span, message).hint(hint));
        }
        let mut rows = vec![self.baseline()];
        for (axis, values) in over {
            rows = rows.iter().flat_map(|row| values.iter().map(move |value| with(row, axis, *value))).collect();
        }
        rows.into_iter().for_each(|row| self.add(row));
    }

    fn list(&mut self, runs: Option<Item<'t>>, span: Range<usize>) {
        let Some(runs) = runs else {
            let hint = "add `runs = [ { AXIS = … } ]`".to_string();
            return self.complaints.add(Diagnostic::at(span, "a plan of mode `list` needs `runs`").hint(hint));
        };
        for run in table::list(runs, "`runs`", self.complaints).unwrap_or_default() {
            let Some(fields) = table::table(run, "each of `runs`", self.complaints) else { continue };
            let mut row = self.baseline();
            for (name, item) in table::in_file_order(fields) {
                if let Some((axis, value)) = self.pick(&name, &item) {
                    row[axis] = value;
                }
            }
            self.add(row);
        }
    }

    fn over(&mut self, item: Item<'t>, what: &str) -> Option<Over> {
        let fields = table::table(item, what, self.complaints)?;
        let mut over = Over::new();
        for (name, item) in table::in_file_order(fields) {
            let Some(axis) = self.varying(&name) else { continue };
            match item.get_ref() {
                DeValue::String(text) if text == "*" => over.push((axis, (0..self.plans.sizes[axis]).collect())),
                DeValue::Array(items) => {
                    let values = items.iter().filter_map(|item| self.value(axis, item)).collect();
                    over.push((axis, values));
                }
                _ => over.extend(self.value(axis, &item).map(|value| (axis, vec![value]))),
            }
        }
        Some(over)
    }

    fn pick(&mut self, name: &Text<'t>, item: &Item<'t>) -> Option<(usize, u16)> {
        let axis = self.varying(name)?;
        Some((axis, self.value(axis, item)?))
    }

    /// An axis that a plan may name.
    fn varying(&mut self, name: &Text<'t>) -> Option<usize> {
        let axis = axes::expect(self.axes, name.get_ref(), name.span(), self.complaints)?;
        if self.axes[axis].replicate {
            let message = format!("`{}` is a replicate: every plan crosses it already", name.get_ref());
            let hint = format!("leave `{}` out of the plan", name.get_ref());
            self.complaints.add(Diagnostic::at(name.span(), message).hint(hint));
            return None;
        }
        Some(axis)
    }

    fn value(&mut self, axis: usize, item: &Item<'t>) -> Option<u16> {
        let label = scalar(item, self.complaints)?;
        let value = self.axes[axis].expect(label.get_ref(), label.span(), self.complaints)?;
        u16::try_from(value).ok()
    }
}

fn with(row: &Row, axis: usize, value: u16) -> Row {
    let mut row = row.clone();
    row[axis] = value;
    row
}
