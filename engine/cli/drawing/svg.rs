//! A drawing as SVG, laid out in layers from left to right by dagre's method. Text in the fonts of whoever looks.

use std::collections::BTreeMap;

use dagre::graph::{Graph as Layers, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, RankDir, layout};

use super::{Drawing, Node};

/// Width of a letter of a node's name and of an edge's label, on average.
const LETTER: (f64, f64) = (7.4, 5.8);
const LINE: f64 = 17.0;
const MARGIN: f64 = 16.0;
/// More nodes than a picture can show.
pub const MOST_NODES: usize = 600;

/// What one arrow stands for: the outputs from one node to another, and whether all of them gather branches.
type Arrows<'d> = BTreeMap<(&'d str, &'d str), (Vec<&'d str>, bool)>;

impl Drawing {
    /// The picture; `None` where it would have too many nodes.
    pub fn svg(&self) -> Option<String> {
        if self.nodes.len() > MOST_NODES {
            return None;
        }
        let arrows = self.arrows();
        let mut layers = Layers::with_options(GraphOptions { directed: true, multigraph: false, compound: false });
        for node in &self.nodes {
            let (width, height) = node.size();
            layers.set_node(node.name.as_str(), Some(NodeLabel { width, height, ..NodeLabel::default() }));
        }
        for ((from, to), (outputs, _)) in &arrows {
            let width = outputs.join(", ").chars().count() as f64 * LETTER.1 + 8.0;
            let label = EdgeLabel { width, height: 14.0, ..EdgeLabel::default() };
            layers.set_edge(*from, *to, Some(label), None);
        }
        let spacing = LayoutOptions { rankdir: RankDir::LR, nodesep: 22.0, ranksep: 26.0, ..LayoutOptions::default() };
        layout(&mut layers, Some(LayoutOptions { marginx: MARGIN, marginy: MARGIN, ..spacing }));
        Some(self.picture(&layers, &arrows))
    }

    fn arrows(&self) -> Arrows<'_> {
        let mut arrows = Arrows::new();
        for edge in &self.edges {
            let (outputs, gathers) = arrows.entry((&edge.from, &edge.to)).or_insert((Vec::new(), true));
            *gathers &= edge.gathers;
            if !outputs.contains(&edge.label()) {
                outputs.push(edge.label());
            }
        }
        arrows
    }

    fn picture(&self, layers: &Layers<NodeLabel, EdgeLabel>, arrows: &Arrows<'_>) -> String {
        let mut body = Vec::new();
        let (mut right, mut bottom) = (0.0_f64, 0.0_f64);
        for edge in layers.edges() {
            let Some(label) = layers.edge_by_obj(&edge) else { continue };
            let Some((outputs, gathers)) = arrows.get(&(edge.v.as_str(), edge.w.as_str())) else { continue };
            for point in &label.points {
                (right, bottom) = (right.max(point.x), bottom.max(point.y));
            }
            body.push(arrow(label, &outputs.join(", "), *gathers));
        }
        for node in &self.nodes {
            let Some((x, y)) = layers.node(&node.name).and_then(|place| Some((place.x?, place.y?))) else { continue };
            let (width, height) = node.size();
            (right, bottom) = (right.max(x + width / 2.0), bottom.max(y + height / 2.0));
            body.push(node.shape(x, y));
        }
        let (width, height) = ((right + MARGIN).ceil(), (bottom + MARGIN).ceil());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{}</title>\n<defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" \
             markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L10 5L0 10z\" fill=\"#556\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}\n</svg>",
            escaped(&self.name),
            body.join("\n")
        )
    }
}

impl Node {
    fn lines(&self) -> Vec<String> {
        let steps = if self.steps > 1 { format!(" ×{}", self.steps) } else { String::new() };
        let kind = self.kind.as_ref().map(|kind| format!("{kind}{steps}"));
        let note = (!self.note.is_empty()).then(|| self.note.clone());
        std::iter::once(self.name.clone()).chain(kind).chain(note).collect()
    }

    fn size(&self) -> (f64, f64) {
        let lines = self.lines();
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
        (longest as f64 * LETTER.0 + 20.0, lines.len() as f64 * LINE + 12.0)
    }

    fn shape(&self, x: f64, y: f64) -> String {
        let (width, height) = self.size();
        let (left, top) = (x - width / 2.0, y - height / 2.0);
        let (fill, round) = if self.kind.is_some() { ("#eef3fb", 5) } else { ("#f6f2e4", 0) };
        let mut text = format!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round}\" \
             fill=\"{fill}\" stroke=\"#778\"/>"
        );
        for (index, line) in self.lines().iter().enumerate() {
            let (weight, colour) = if index == 0 { ("600", "#112") } else { ("400", "#556") };
            let base = top + 6.0 + LINE * (index as f64 + 0.75);
            let line = escaped(line);
            text += &format!(
                "<text x=\"{x:.1}\" y=\"{base:.1}\" text-anchor=\"middle\" font-weight=\"{weight}\" \
                 fill=\"{colour}\">{line}</text>"
            );
        }
        if self.state.is_empty() { text } else { format!("<g class=\"{}\">{text}</g>", escaped(&self.state)) }
    }
}

fn arrow(label: &EdgeLabel, outputs: &str, gathers: bool) -> String {
    let path: Vec<String> = label.points.iter().map(|point| format!("{:.1} {:.1}", point.x, point.y)).collect();
    let dashes = if gathers { " stroke-dasharray=\"5 4\"" } else { "" };
    let line =
        format!("<path d=\"M{}\" fill=\"none\" stroke=\"#778\"{dashes} marker-end=\"url(#tip)\"/>", path.join("L"));
    let (Some(x), Some(y)) = (label.x, label.y) else { return line };
    let outputs = escaped(outputs);
    let halo = "paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"4\"";
    let place = format!("x=\"{x:.1}\" y=\"{:.1}\"", y + 3.5);
    format!("{line}<text {place} text-anchor=\"middle\" font-size=\"10\" fill=\"#445\" {halo}>{outputs}</text>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
