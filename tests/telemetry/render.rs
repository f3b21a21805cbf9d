//! A dashboard with its real data as one HTML page, roughly as Grafana lays it out: to be looked at, and to be measured. It
//! is no Grafana; what it shows is that each panel has something to show, under a name and in a unit that people read.

use crate::dashboards::{COLUMNS, panels, place};
use backstay::model::{size, time};
use jiff::SignedDuration;
use serde_json::Value;
use std::collections::BTreeMap;

const STYLE: &str = "body { margin: 8px; background: #111217; color: #ccccdc; font: 12px sans-serif } \
    .grid { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 30px; gap: 8px } \
    .panel { background: #181b1f; border: 1px solid #2a2d33; padding: 6px 8px; overflow: hidden; min-width: 0 } \
    h2 { font-size: 13px; font-weight: 500; margin: 0 0 6px } .stat { font-size: 28px } \
    table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: 3px 6px; border-bottom: 1px solid #2a2d33 } \
    svg { width: 100%; height: 110px; display: block } .legend { font-size: 11px; line-height: 1.4; overflow-wrap: anywhere }";
const COLOURS: [&str; 8] = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#c4d17a"];

/// Who answers queries: what is now, and what was over the last minute.
pub struct Answers<'a> {
    pub instant: &'a dyn Fn(&str) -> Vec<Value>,
    pub range: &'a dyn Fn(&str) -> Vec<Value>,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A number as a panel shows it.
fn shown(value: f64, unit: &str) -> String {
    match unit {
        "s" => time::words(SignedDuration::try_from_secs_f64(value.max(0.0)).unwrap_or_default()),
        "bytes" => size::human(value as u64),
        "percentunit" => format!("{:.1} %", value * 100.0),
        "bool_yes_no" => (if value == 0.0 { "no" } else { "yes" }).to_owned(),
        _ => format!("{value}"),
    }
}

fn number(sample: &Value) -> f64 {
    sample[1].as_str().unwrap().parse().unwrap()
}

fn labels(series: &Value) -> BTreeMap<String, String> {
    let metric = series["metric"].as_object().unwrap();
    metric.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
}

fn unit_of(panel: &Value, column: &str) -> String {
    let overrides = panel["fieldConfig"]["overrides"].as_array().into_iter().flatten();
    let own = overrides.filter(|o| o["matcher"]["options"] == column).flat_map(|o| o["properties"].as_array().unwrap());
    let own = own.filter(|p| p["id"] == "unit").find_map(|p| p["value"].as_str());
    own.or(panel["fieldConfig"]["defaults"]["unit"].as_str()).unwrap_or_default().to_owned()
}

fn stat(panel: &Value, query: &dyn Fn(&Value) -> String, answers: &Answers<'_>) -> String {
    let unit = unit_of(panel, "");
    let found = (answers.instant)(&query(&panel["targets"][0]));
    let values: Vec<String> = found.iter().map(|s| shown(number(&s["value"]), &unit)).collect();
    format!("<div class=\"stat\">{}</div>", escaped(&values.join(" ")))
}

fn table(panel: &Value, query: &dyn Fn(&Value) -> String, answers: &Answers<'_>) -> String {
    let targets = panel["targets"].as_array().unwrap();
    let names = &panel["transformations"][1]["options"]["renameByName"];
    let renamed = |name: &str| names[name].as_str().unwrap_or(name).to_owned();
    let mut rows: BTreeMap<Vec<(String, String)>, BTreeMap<String, f64>> = BTreeMap::new();
    let mut columns = Vec::new();
    for target in targets {
        let column = match targets.len() {
            1 => renamed("Value"),
            _ => renamed(&format!("Value #{}", target["refId"].as_str().unwrap())),
        };
        assert!(!column.starts_with("Value"), "a column of {} has no name", panel["title"]);
        for series in (answers.instant)(&query(target)) {
            let row = rows.entry(labels(&series).into_iter().collect()).or_default();
            row.insert(column.clone(), number(&series["value"]));
        }
        columns.push(column);
    }
    let heads: Vec<String> = rows.keys().next().into_iter().flatten().map(|(label, _)| renamed(label)).collect();
    let head: String = heads.iter().chain(&columns).map(|h| format!("<th>{}</th>", escaped(h))).collect();
    let cell = |text: String| format!("<td>{}</td>", escaped(&text));
    let row = |(key, values): (&Vec<(String, String)>, &BTreeMap<String, f64>)| {
        let names: String = key.iter().map(|(_, value)| cell(value.clone())).collect();
        let value = |c: &String| cell(values.get(c).map(|v| shown(*v, &unit_of(panel, c))).unwrap_or_default());
        format!("<tr>{names}{}</tr>", columns.iter().map(value).collect::<String>())
    };
    format!("<table><tr>{head}</tr>{}</table>", rows.iter().map(row).collect::<String>())
}

fn lines(panel: &Value, query: &dyn Fn(&Value) -> String, answers: &Answers<'_>) -> String {
    let unit = unit_of(panel, "");
    let mut all: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for target in panel["targets"].as_array().unwrap() {
        for series in (answers.range)(&query(target)) {
            let legend = labels(&series)
                .iter()
                .fold(target["legendFormat"].as_str().unwrap().to_owned(), |text, (label, value)| {
                    text.replace(&format!("{{{{{label}}}}}"), value)
                });
            assert!(!legend.contains("{{"), "{}: {legend} names what its series do not have", panel["title"]);
            let points = series["values"].as_array().unwrap().iter();
            all.push((legend, points.map(|p| (p[0].as_f64().unwrap(), number(p))).collect()));
        }
    }
    let points = || all.iter().flat_map(|(_, points)| points);
    let (first, last) = points().fold((f64::MAX, f64::MIN), |(a, b), p| (a.min(p.0), b.max(p.0)));
    let highest = points().map(|p| p.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let (mut drawn, mut legend) = (String::new(), Vec::new());
    for (n, (name, points)) in all.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let at = |p: &(f64, f64)| {
            format!("{:.1},{:.1}", (p.0 - first) / (last - first).max(1.0) * 600.0, 98.0 - p.1 / highest * 92.0)
        };
        let path: Vec<String> = points.iter().map(at).collect();
        drawn.push_str(&format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        ));
        let now = points.last().map(|p| shown(p.1, &unit)).unwrap_or_default();
        legend.push(format!("<span style=\"color:{colour}\">{}</span> {}", escaped(name), escaped(&now)));
    }
    format!(
        "<svg viewBox=\"0 0 600 100\" preserveAspectRatio=\"none\">{drawn}</svg><div class=\"legend\">{}</div>",
        legend.join(" · ")
    )
}

/// The whole dashboard; `query` fills the variables of a target's query in.
pub fn html(dashboard: &Value, query: &dyn Fn(&Value) -> String, answers: &Answers<'_>) -> String {
    let mut page = format!("<!doctype html><meta charset=\"utf-8\"><style>{STYLE}</style><div class=\"grid\">");
    for panel in panels(dashboard) {
        let (x, y, w, h) = place(panel);
        assert!(x + w <= COLUMNS);
        let inside = match panel["type"].as_str().unwrap() {
            "stat" => stat(panel, query, answers),
            "table" => table(panel, query, answers),
            _ => lines(panel, query, answers),
        };
        page.push_str(&format!(
            "<div class=\"panel\" style=\"grid-column:{}/span {w};grid-row:{}/span {h}\"><h2>{}</h2>{inside}</div>",
            x + 1,
            y + 1,
            escaped(panel["title"].as_str().unwrap())
        ));
    }
    page + "</div>"
}
