//! Grafana's dashboards as Grafana reads them: panels in their places, each with a title, a unit and names of its series.
//! What their queries give is in the tests with a real Prometheus.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Columns of Grafana's grid.
pub const COLUMNS: u64 = 24;

/// A panel's place: column, row, width, height.
pub type Place = (u64, u64, u64, u64);

pub fn all() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<(String, Value)> = files
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            (name, value)
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all.iter().map(|d| d.0.as_str()).collect::<Vec<_>>(), ["host", "overview"]);
    all
}

pub fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

pub fn place(panel: &Value) -> Place {
    let at = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{panel:#}"));
    (at("x"), at("y"), at("w"), at("h"))
}

fn overlap(a: Place, b: Place) -> bool {
    a.0 < b.0 + b.2 && b.0 < a.0 + a.2 && a.1 < b.1 + b.3 && b.1 < a.1 + a.3
}

#[test]
fn panels_lie_beside_each_other_and_leave_no_holes() {
    for (name, dashboard) in all() {
        let places: Vec<(u64, Place)> =
            panels(&dashboard).iter().map(|p| (p["id"].as_u64().unwrap(), place(p))).collect();
        for (n, (id, a)) in places.iter().enumerate() {
            assert!(a.0 + a.2 <= COLUMNS && a.2 >= 4 && a.3 >= 3, "{name}: panel {id} does not fit: {a:?}");
            for (other, b) in &places[n + 1..] {
                assert!(!overlap(*a, *b), "{name}: panels {id} and {other} overlap");
            }
        }
        // Each row is full: Grafana would move panels up into holes.
        let rows = places.iter().map(|(_, p)| p.1 + p.3).max().unwrap();
        for row in 0..rows {
            let filled: u64 = places.iter().filter(|(_, p)| p.1 <= row && row < p.1 + p.3).map(|(_, p)| p.2).sum();
            assert_eq!(filled, COLUMNS, "{name}: row {row} is not full");
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_whose_lines_they_are() {
    for (name, dashboard) in all() {
        let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or_default();
            let kind = panel["type"].as_str().unwrap();
            let at = format!("{name}: panel {title:?}");
            assert!(ids.insert(panel["id"].as_u64().unwrap()) && titles.insert(title), "{at} is there twice");
            assert!(!title.is_empty() && title.len() <= 60, "{at}");
            assert!(["stat", "table", "timeseries"].contains(&kind), "{at}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{at} has no unit");
            let targets = panel["targets"].as_array().unwrap();
            let refs: BTreeSet<&str> = targets.iter().map(|t| t["refId"].as_str().unwrap()).collect();
            assert!(!targets.is_empty() && refs.len() == targets.len(), "{at}: its queries cannot be told apart");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{at} has a data source of its own");
                assert!(!target["expr"].as_str().unwrap().trim().is_empty(), "{at}");
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                match kind {
                    "timeseries" => assert!(!legend.is_empty() && legend != "__auto", "{at}: its lines have no names"),
                    "table" => assert!(target["format"] == "table" && target["instant"] == true, "{at}"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_dashboard_is_chosen_by_data_source_and_host_and_shows_restores() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in all() {
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}");
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39, "{name}");
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let of = |wanted: &str| {
            variables.iter().find(|v| v["name"] == wanted).unwrap_or_else(|| panic!("{name} has no {wanted}"))
        };
        assert_eq!((&of("datasource")["type"], &of("host")["type"]), (&"datasource".into(), &"query".into()));
        // A variable that is used and not there would leave panels empty.
        let text = dashboard.to_string();
        for used in text.split('$').skip(1) {
            let used = used.trim_start_matches('{').chars();
            let word: String = used.take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let known = variables.iter().any(|v| v["name"] == word.as_str()) || word.starts_with("__");
            assert!(known, "{name}: there is no variable ${word}");
        }
        let annotations = dashboard["annotations"]["list"].as_array().unwrap();
        assert!(annotations.iter().any(|a| a["expr"].as_str().is_some_and(|e| e.contains("restore"))), "{name}");
    }
    let provisioning = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/provisioning/backstay.yml");
    let text = std::fs::read_to_string(provisioning).unwrap();
    for part in ["apiVersion: 1", "providers:", "type: file", "path:"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
