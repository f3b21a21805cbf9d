//! A real Prometheus scrapes a real agent that has backed up, restored, checked and failed; rules and dashboards name
//! metrics that exist, and every query of a dashboard gives data.

use crate::endpoint::wait;
use crate::metrics::world;
use crate::serve::Serving;
use crate::world::World;
use backstay::telemetry::metrics::table;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const INSTALL: &str = "run tests/setup.sh test (Debian package prometheus)";

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::fs::read_dir(dashboards().join(folder))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in dashboards/{folder}");
    found
}

#[test]
fn rules_and_dashboards_name_metrics_that_exist() {
    let known: BTreeSet<&str> = table::ALL.iter().map(|m| m.name).collect();
    let mut named = BTreeSet::new();
    for (file, text) in files("rules", "yml").into_iter().chain(files(".", "json")) {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|w| w.starts_with("backstay_")) {
            assert!(known.contains(word), "{file}: there is no metric {word}");
            named.insert(word.to_owned());
        }
    }
    assert!(named.len() > 30, "only {} metrics were found: the search is broken", named.len());
}

fn promtool(args: &[&str]) {
    let out = Command::new("promtool").args(args).current_dir(dashboards().join("rules")).output();
    let out = out.unwrap_or_else(|e| panic!("promtool: {e}: {INSTALL}"));
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    promtool(&["check", "rules", "backstay.rules.yml"]);
    promtool(&["test", "rules", "backstay.test.yml"]);
    let rules = &files("rules", "yml")[0].1;
    let tests = &files("rules", "yml")[1].1;
    for alert in rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} has no test");
    }
}

#[test]
fn prometheus_takes_what_is_served_without_complaint() {
    let world = world();
    world.file("a.txt", b"x");
    world.backup();
    let text = std::fs::File::open(world.path().join("metrics/backstay.prom")).unwrap();
    let out = Command::new("promtool").args(["check", "metrics"]).stdin(text).output();
    let out = out.unwrap_or_else(|e| panic!("promtool: {e}: {INSTALL}"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.trim().is_empty(), "{said}");
}

/// A Prometheus that is killed when dropped.
struct Prometheus {
    child: Child,
    address: String,
}

impl Prometheus {
    fn scraping(world: &World, target: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = world.path().join("prometheus.yml");
        let rules = dashboards().join("rules/backstay.rules.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\n\
                 scrape_configs: [{{ job_name: backstay, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n",
                rules.display()
            ),
        )
        .unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", world.at("tsdb")))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus: {e}: {INSTALL}"));
        Prometheus { child, address }
    }

    /// The result of a query: as many series as there are.
    fn query(&self, query: &str) -> Option<Vec<serde_json::Value>> {
        let encoded: String = query.bytes().map(|b| format!("%{b:02X}")).collect();
        let (status, _, body) = crate::endpoint::get(&self.address, &format!("/api/v1/query?query={encoded}"))?;
        if status == 503 {
            return None;
        }
        // Chunks have their lengths between them; the answer is one line of JSON.
        let json = &body[body.find('{')?..=body.rfind('}')?];
        let answer: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {body}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        Some(answer["data"]["result"].as_array().unwrap().clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every query of every panel and annotation, with the variables as they would be.
fn queries(dashboard: &serde_json::Value, found: &mut BTreeSet<String>) {
    match dashboard {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::String(query)) = map.get("expr") {
                let query = query.replace("$host", "test-host").replace("$plan", ".*");
                found.insert(query.replace("$__rate_interval", "1m").replace("$__range", "1h"));
            }
            map.values().for_each(|v| queries(v, found));
        }
        serde_json::Value::Array(all) => all.iter().for_each(|v| queries(v, found)),
        _ => {}
    }
}

#[test]
fn every_query_of_every_dashboard_gives_data_and_alerts_come() {
    let world = world();
    for n in 0..2 {
        world.file(&format!("{n}.txt"), crate::world::noise(20_000, n));
        world.backup();
    }
    world.run(&["check"]).code(0);
    world.run(&["forget"]).code(0);
    world.run(&["prune"]).code(0);
    world.run(&["restore", "--yes"]).code(0);
    world.run(&["drill"]).code(0);
    std::fs::rename(world.path().join("tree"), world.path().join("gone")).unwrap();
    world.run(&["backup"]).code(11);

    let serving = Serving::start(&world);
    let prometheus = Prometheus::scraping(&world, &serving.address);
    wait("the first scrape", || prometheus.query("backstay_build_info").filter(|found| !found.is_empty()));
    let firing = "ALERTS{alertname=\"BackstayRunFailed\", alertstate=\"firing\", host=\"test-host\", verb=\"backup\"}";
    wait("the alert of the failed backup", || prometheus.query(firing).filter(|found| !found.is_empty()));
    let mut all = BTreeSet::new();
    for (file, text) in files(".", "json") {
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        queries(&dashboard, &mut all);
    }
    assert!(all.len() > 20, "only {} queries were found: the search is broken", all.len());
    for query in &all {
        wait(query, || prometheus.query(query).filter(|found| !found.is_empty()));
    }
}
