//! Charts as inline SVG. Colours, widths and dashes are the page's (classes `s0` … `s7`), so that one drawing serves
//! light, dark and print; series differ in dash and mark too, for readers who cannot tell colours apart.

use std::fmt::Write as _;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 240.0;
/// Left, top, right and bottom.
const MARGIN: [f64; 4] = [52.0, 12.0, 14.0, 36.0];
/// More points than these show nothing more.
const POINTS: usize = 240;
/// Styles there are; further series begin again.
pub const STYLES: usize = 8;

/// One line, or one cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Which of the styles.
    pub style: usize,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
}

/// Where values fall.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn around(series: &[Series]) -> Option<Self> {
        let points = || series.iter().flat_map(|one| &one.points);
        let span = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            let room = if high > low { 0.04 * (high - low) } else { 0.5_f64.max(high.abs() * 0.05) };
            (low <= high).then_some((low - room, high + room))
        };
        Some(Self { x: span(&mut points().map(|point| point.0))?, y: span(&mut points().map(|point| point.1))? })
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let [left, top, right, bottom] = MARGIN;
        let (width, height) = (WIDTH - left - right, HEIGHT - top - bottom);
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (left + share(x, self.x) * width, HEIGHT - bottom - share(y, self.y) * height)
    }

    fn axes(&self, x: &str, y: &str) -> String {
        let [left, top, right, bottom] = MARGIN;
        let (end, base) = (WIDTH - right, HEIGHT - bottom);
        let mut svg = String::new();
        for tick in ticks(self.y) {
            let at = self.place((self.x.0, tick)).1;
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{left:.1} {at:.1}H{end:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                left - 6.0,
                at + 3.5,
                number(tick)
            );
        }
        for tick in ticks(self.x) {
            let at = self.place((tick, self.y.0)).0;
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                base + 14.0,
                number(tick)
            );
        }
        let middle = (left + end) / 2.0;
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{left:.1} {base:.1}H{end:.1}\"/><text class=\"label\" x=\"{middle:.1}\" \
             y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 4.0,
            escaped(x)
        );
        if !y.is_empty() {
            let across = (top + base) / 2.0;
            let _ = write!(
                svg,
                "<text class=\"label\" transform=\"translate(11 {across:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                escaped(y)
            );
        }
        svg
    }
}

/// Lines over a common axis; `None` where there is nothing to draw.
pub fn lines(name: &str, x: &str, series: &[Series]) -> Option<String> {
    let frame = Frame::around(series)?;
    let mut svg = opened(name);
    svg += &frame.axes(x, "");
    for one in series {
        let points: Vec<(f64, f64)> = thinned(&one.points).into_iter().map(|point| frame.place(point)).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let style = one.style % STYLES;
        let _ = write!(svg, "<g class=\"s{style}\"><title>{}</title>", escaped(&one.name));
        let _ = write!(svg, "<path class=\"line\" d=\"M{}\"/>", path.join("L"));
        if let Some(last) = points.last() {
            svg += &mark(style, *last);
        }
        svg += "</g>";
    }
    Some(svg + "</svg>")
}

/// Points with their names; `None` where there are none.
pub fn scatter(name: &str, (x, y): (&str, &str), series: &[Series]) -> Option<String> {
    let frame = Frame::around(series)?;
    let mut svg = opened(name);
    svg += &frame.axes(x, y);
    for one in series {
        let style = one.style % STYLES;
        for point in &one.points {
            let place = frame.place(*point);
            let told = format!("{}: {} {}, {} {}", one.name, x, number(point.0), y, number(point.1));
            let _ = write!(svg, "<g class=\"s{style}\"><title>{}</title>{}</g>", escaped(&told), mark(style, place));
        }
    }
    Some(svg + "</svg>")
}

fn opened(name: &str) -> String {
    format!("<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escaped(name))
}

/// A mark of a series' own shape.
pub fn mark(style: usize, (x, y): (f64, f64)) -> String {
    let shape = match style % 4 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"),
        1 => format!("<path d=\"M{:.1} {:.1}h7v7h-7z\"/>", x - 3.5, y - 3.5),
        2 => format!("<path d=\"M{x:.1} {:.1}l4.6 8h-9.2z\"/>", y - 5.0),
        _ => format!("<path d=\"M{x:.1} {:.1}l5 5-5 5-5-5z\"/>", y - 5.0),
    };
    shape.replacen(' ', " class=\"mark\" ", 1)
}

/// Averages of neighbours, where there are more than can be seen.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(each).map(mean).collect()
}

/// About four round numbers.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil();
    let count = ((high / step).floor() - first).clamp(0.0, 20.0) as usize;
    (0..=count).map(|place| (first + place as f64) * step).collect()
}

/// As short as it can be told.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// Text that is only text in HTML and SVG.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(f64, f64)]) -> [Series; 1] {
        [Series { name: "<a & b>".into(), style: 9, points: points.to_vec() }]
    }

    #[test]
    fn a_line_is_drawn_inside_its_frame_and_its_name_is_text() {
        let svg = lines("reward", "step", &series(&[(0.0, 0.0), (10.0, 1.0)])).unwrap();
        assert!(svg.contains("<title>&lt;a &amp; b&gt;</title>") && svg.contains("class=\"s1\""), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn nothing_and_one_point_are_drawn_without_a_division_by_zero() {
        assert_eq!(lines("reward", "step", &series(&[])), None);
        let svg = scatter("one", ("x", "y"), &series(&[(0.5, 0.5)])).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn ticks_are_round_and_points_too_many_to_see_are_averaged() {
        assert_eq!(ticks((0.0, 1.0)), [0.0, 0.5, 1.0]);
        let many: Vec<(f64, f64)> = (0..1000).map(|place| (f64::from(place), 1.0)).collect();
        assert_eq!(thinned(&many).len(), 200);
    }
}
