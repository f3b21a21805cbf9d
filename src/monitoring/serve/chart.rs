//! Small charts as SVG within the page: bars, with what each says as its title.

use super::page::escape;

/// Height of a chart in its own units; a bar is as wide as there is room.
const HEIGHT: f64 = 48.0;
const WIDTH: f64 = 300.0;
/// A chart of fewer bars has room behind them: one backup is no wall.
const FEWEST: usize = 12;

/// One bar.
pub struct Bar {
    /// How high.
    pub value: f64,
    /// What it says.
    pub title: String,
    /// Whether it stands for something that is not whole.
    pub faulty: bool,
}

/// A chart of these bars; `label` is for those who do not see it.
pub fn bars(label: &str, bars: &[Bar]) -> String {
    let highest = bars.iter().map(|b| b.value).fold(0.0, f64::max);
    let step = WIDTH / bars.len().max(FEWEST) as f64;
    let mut svg = format!(
        "<svg class=\"chart\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\">",
        escape(label)
    );
    for (n, bar) in bars.iter().enumerate() {
        let share = if highest > 0.0 { bar.value / highest } else { 0.0 };
        // Nothing is shown as a line, so that it is seen that there is something.
        let height = (share * HEIGHT).max(1.0);
        let (x, y, width) = (n as f64 * step, HEIGHT - height, (step * 0.8).max(0.5));
        let class = if bar.faulty { " class=\"faulty\"" } else { "" };
        let title = escape(&bar.title);
        svg.push_str(&format!(
            "<rect{class} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{title}</title></rect>"
        ));
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_is_as_high_as_the_chart_and_titles_are_escaped() {
        let bar = |value| Bar { value, title: "<b>".into(), faulty: value == 0.0 };
        let svg = bars("a \"chart\"", &[bar(0.0), bar(2.0), bar(4.0)]);
        assert!(
            svg.contains("height=\"48.0\"") && svg.contains("height=\"24.0\"") && svg.contains("height=\"1.0\""),
            "{svg}"
        );
        assert!(svg.contains("&lt;b&gt;") && svg.contains("a &quot;chart&quot;") && !svg.contains("<b>"), "{svg}");
        assert!(!bars("none", &[]).contains("<rect"));
    }
}
