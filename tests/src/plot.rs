//! Figures over time as an SVG page, for reports: panels above each other with one axis of seconds.

use std::fmt::Write as _;

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 90.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 34.0;
const TOP: f64 = 40.0;

/// One panel: a figure over time.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// What is drawn, with its unit.
    pub title: String,
    /// Seconds and value; `None` where there was no answer, which leaves a hole.
    pub points: Vec<(f64, Option<f64>)>,
    /// A line that must not be crossed.
    pub bound: Option<f64>,
}

/// Draws panels, with a line through all of them at each mark.
pub fn svg(title: &str, panels: &[Panel], marks: &[(f64, String)]) -> String {
    let end = panels
        .iter()
        .flat_map(|panel| &panel.points)
        .map(|(at, _)| *at)
        .fold(1.0, f64::max);
    let x = |at: f64| LEFT + at / end * (WIDTH - LEFT - 20.0);
    let rows = u32::try_from(panels.len()).unwrap_or(u32::MAX);
    let bottom = TOP + f64::from(rows) * (PANEL + GAP);
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>",
        bottom + 30.0,
        escaped(title)
    );
    for (at, what) in marks {
        let _ = writeln!(
            page,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\" stroke=\"#e8b0a0\" stroke-width=\"0.7\"><title>{1:.0} s: {2}</title></line>",
            x(*at),
            at,
            escaped(what)
        );
    }
    let mut top = TOP;
    for panel in panels {
        draw(&mut page, panel, top + GAP / 2.0, &x);
        top += PANEL + GAP;
    }
    for tenth in 0..=10 {
        let at = end * f64::from(tenth) / 10.0;
        let _ = writeln!(
            page,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0} s</text>",
            x(at),
            bottom + 16.0
        );
    }
    page.push_str("</svg>\n");
    page
}

fn draw(page: &mut String, panel: &Panel, top: f64, x: &impl Fn(f64) -> f64) {
    let values = panel.points.iter().filter_map(|(_, value)| *value);
    let highest = values.chain(panel.bound).fold(1.0, f64::max) * 1.05;
    let y = |value: f64| top + PANEL - value / highest * PANEL;
    let (title, width, foot) = (escaped(&panel.title), WIDTH - LEFT - 20.0, top + PANEL);
    let (above, left, high) = (top - 4.0, LEFT - 6.0, top + 10.0);
    let _ = writeln!(
        page,
        "<text x=\"{LEFT}\" y=\"{above:.1}\">{title}</text>\n\
         <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{PANEL}\" fill=\"none\" stroke=\"#999\"/>\n\
         <text x=\"{left:.1}\" y=\"{high:.1}\" text-anchor=\"end\">{highest:.0}</text>\n\
         <text x=\"{left:.1}\" y=\"{foot:.1}\" text-anchor=\"end\">0</text>"
    );
    if let Some(bound) = panel.bound {
        let _ = writeln!(
            page,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"red\" stroke-dasharray=\"6 4\"/>",
            WIDTH - 20.0,
            y(bound)
        );
    }
    for run in panel.points.split(|(_, value)| value.is_none()) {
        let line: Vec<String> = run
            .iter()
            .filter_map(|(at, value)| Some(format!("{:.1},{:.1}", x(*at), y((*value)?))))
            .collect();
        if !line.is_empty() {
            let _ = writeln!(
                page,
                "<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.2\" points=\"{}\"/>",
                line.join(" ")
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_parts_the_line_and_text_is_escaped() {
        let panel = Panel {
            title: "a < b".to_owned(),
            points: vec![
                (0.0, Some(1.0)),
                (1.0, None),
                (2.0, Some(3.0)),
                (3.0, Some(2.0)),
            ],
            bound: Some(4.0),
        };
        let page = svg("t", &[panel], &[(1.0, "x & y".to_owned())]);
        assert_eq!(page.matches("<polyline").count(), 2, "{page}");
        assert!(page.contains("a &lt; b") && page.contains("x &amp; y"));
        assert_eq!(page.matches("stroke-dasharray").count(), 1);
    }
}
