//! The pipeline's graph as text for Graphviz or Mermaid, or as a picture: a node a stage (or a step) and a node a source, an edge an
//! input. Nodes and edges come in the graph's own order, so that two drawings of one pipeline are equal.

mod svg;

use std::collections::{BTreeMap, BTreeSet};

pub use svg::MOST_NODES;

use plumb_engine::graph::{Graph, Input, Reference, Step};
use serde::Serialize;

use crate::graph::GraphFormat;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// `train`, `train@seed=1` or `source.pairs`.
    pub name: String,
    /// `genrm.train`; absent for a source.
    pub kind: Option<String>,
    /// How many steps it stands for.
    pub steps: usize,
    /// What became of it, as a class of the picture; nothing where nobody asks.
    #[serde(skip)]
    pub state: String,
    /// A line of its own under the kind.
    #[serde(skip)]
    pub note: String,
}

impl Node {
    fn new(name: String, kind: Option<String>) -> Self {
        Self { name, kind, steps: 0, state: String::new(), note: String::new() }
    }
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// The producer's node.
    pub from: String,
    /// The consumer's node.
    pub to: String,
    /// The output that is consumed; empty for a source.
    pub output: String,
    /// Name of the input.
    pub input: String,
    /// Whether it gathers branches.
    pub gathers: bool,
}

/// A pipeline, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drawing {
    /// Name of the pipeline.
    pub name: String,
    /// Sources first, then in topological order.
    pub nodes: Vec<Node>,
    /// Sorted by consumer's place.
    pub edges: Vec<Edge>,
}

impl Drawing {
    /// One node a stage.
    pub fn of_stages(graph: &Graph) -> Self {
        Self::new(graph, |step| step.address.stage.clone())
    }

    /// One node a step.
    pub fn of_steps(graph: &Graph) -> Self {
        Self::new(graph, |step| step.address.to_string())
    }

    fn new(graph: &Graph, name: impl Fn(&Step) -> String) -> Self {
        let source = |name: &str| format!("source.{name}");
        let mut nodes: Vec<Node> = graph.sources.iter().map(|used| Node::new(source(&used.name), None)).collect();
        let mut edges = Vec::new();
        let mut seen = BTreeSet::new();
        let mut places = BTreeMap::new();
        for step in &graph.steps {
            let to = name(step);
            let place = *places.entry(to.clone()).or_insert_with(|| {
                let kind = step.kind.declaration().kind.to_owned();
                nodes.push(Node::new(to.clone(), Some(kind)));
                nodes.len() - 1
            });
            nodes[place].steps += 1;
            for (input, reference, gathers) in references(step) {
                let (from, output) = match reference {
                    Reference::Step { step, output, .. } => (name(graph.step(*step)), output.clone()),
                    Reference::Source { source: id, .. } => (source(&graph.source(*id).name), String::new()),
                };
                let edge = Edge { from, to: to.clone(), output, input: input.to_owned(), gathers };
                if seen.insert(edge.clone()) {
                    edges.push(edge);
                }
            }
        }
        Self { name: graph.name.clone(), nodes, edges }
    }

    /// The text in a language; `None` where a picture would have too many nodes.
    pub fn text(&self, format: GraphFormat) -> Option<String> {
        match format {
            GraphFormat::Dot => Some(self.dot()),
            GraphFormat::Mermaid => Some(self.mermaid()),
            GraphFormat::Svg => self.svg(),
        }
    }

    fn dot(&self) -> String {
        let mut lines = vec![
            format!("digraph {} {{", quoted(&self.name)),
            "  rankdir = LR".into(),
            "  node [shape = box, fontname = \"sans-serif\"]".into(),
            "  edge [fontname = \"sans-serif\", fontsize = 10]".into(),
        ];
        for node in &self.nodes {
            let shape = if node.kind.is_some() { "" } else { ", shape = folder" };
            lines.push(format!("  {} [label = {}{shape}]", quoted(&node.name), quoted(&node.label("\\n"))));
        }
        for edge in &self.edges {
            let line = if edge.gathers { ", style = dashed" } else { "" };
            let label = quoted(edge.label());
            lines.push(format!("  {} -> {} [label = {label}{line}]", quoted(&edge.from), quoted(&edge.to)));
        }
        lines.push("}".into());
        lines.join("\n")
    }

    // Mermaid's own identifiers allow neither `@` nor `=`: nodes are numbered.
    fn mermaid(&self) -> String {
        let places: BTreeMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(place, node)| (node.name.as_str(), place)).collect();
        let mut lines = vec!["graph LR".to_owned()];
        for (index, node) in self.nodes.iter().enumerate() {
            let label = node.label("<br>").replace('"', "#quot;");
            let node = if node.kind.is_some() { format!("[\"{label}\"]") } else { format!("[/\"{label}\"/]") };
            lines.push(format!("  n{index}{node}"));
        }
        for edge in &self.edges {
            let arrow = if edge.gathers { "-.->" } else { "-->" };
            let (from, to) = (places[edge.from.as_str()], places[edge.to.as_str()]);
            lines.push(format!("  n{from} {arrow}|{}| n{to}", edge.label()));
        }
        lines.join("\n")
    }
}

impl Node {
    fn label(&self, newline: &str) -> String {
        let kind = self.kind.as_ref().map_or(String::new(), |kind| format!("{newline}{kind}"));
        let steps = if self.steps > 1 { format!(" ×{}", self.steps) } else { String::new() };
        format!("{}{kind}{steps}", self.name)
    }
}

impl Edge {
    fn label(&self) -> &str {
        if self.output.is_empty() { &self.input } else { &self.output }
    }
}

fn references(step: &Step) -> impl Iterator<Item = (&str, &Reference, bool)> {
    step.inputs.iter().flat_map(|(name, input)| {
        let (one, branches) = match input {
            Input::One(reference) => (Some(reference), [].as_slice()),
            Input::Gathered { branches, .. } => (None, branches.as_slice()),
        };
        let one = one.into_iter().map(|reference| (reference, false));
        let many = branches.iter().map(|branch| (&branch.reference, true));
        one.chain(many).map(move |(reference, gathers)| (name.as_str(), reference, gathers))
    })
}

fn quoted(text: &str) -> String {
    // `\n` is Graphviz's own line break in a label and must stay.
    format!("\"{}\"", text.replace('"', "\\\""))
}
