//! A real Prometheus scrapes a real agent that has backed up, restored, checked and failed; rules and dashboards name
//! metrics that exist, every query of a dashboard gives data, and so does everything that a rule looks at.

use crate::chromium::laid_out;
use crate::endpoint::wait;
use crate::metrics::world;
use crate::port::free_port;
use crate::render::{Answers, html};
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
        let port = free_port();
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

    /// What it answers at a path of its API.
    fn ask(&self, path: &str) -> Option<serde_json::Value> {
        let (status, head, body) = crate::endpoint::get(&self.address, path)?;
        if status == 503 {
            return None;
        }
        let json = if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
        let answer: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    /// The result of a query: as many series as there are.
    fn query(&self, query: &str) -> Option<Vec<serde_json::Value>> {
        let found = self.ask(&format!("/api/v1/query?query={}", encoded(query)))?;
        Some(found["result"].as_array().unwrap().clone())
    }

    /// The same over the last half minute.
    fn range(&self, query: &str) -> Vec<serde_json::Value> {
        let now = jiff::Timestamp::now().as_second();
        let path = format!("/api/v1/query_range?query={}&start={}&end={now}&step=1", encoded(query), now - 30);
        self.ask(&path).unwrap()["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(query: &str) -> String {
    query.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// The text of a body in chunks.
fn unchunked(body: &str) -> String {
    let (mut out, mut rest) = (String::new(), body);
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        out.push_str(&more[..length]);
        rest = &more[length + 2..];
    }
    out
}

/// A query with the variables of its dashboard as they would be.
fn filled(query: &str) -> String {
    let query = query.replace("$host", "test-host").replace("$plan", ".*");
    query.replace("$__rate_interval", "1m").replace("$__range", "1h")
}

/// Every query of every panel and annotation.
fn queries(dashboard: &serde_json::Value, found: &mut BTreeSet<String>) {
    match dashboard {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::String(query)) = map.get("expr") {
                found.insert(filled(query));
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
    rules_work(&prometheus);
    for (file, text) in files(".", "json") {
        looked_at(file.trim_end_matches(".json"), &serde_json::from_str(&text).unwrap(), &prometheus);
    }
}

/// Every rule was carried out without an error; what is recorded is there, and everything that an alert asks for.
fn rules_work(prometheus: &Prometheus) {
    let groups = prometheus.ask("/api/v1/rules").unwrap();
    let rules: Vec<&serde_json::Value> =
        groups["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 15, "only {} rules were found: the search is broken", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        let query = rule["query"].as_str().unwrap();
        if rule["type"] == "recording" {
            let name = rule["name"].as_str().unwrap();
            wait(name, || prometheus.query(name).filter(|found| !found.is_empty()));
        }
        for selector in selectors(query) {
            wait(&selector, || prometheus.query(&selector).filter(|found| !found.is_empty()));
        }
    }
}

/// Metrics of a query with their labels: `backstay_run_active{verb="backup"}`. An alert that is quiet gives no data; what
/// it looks at has to be there all the same.
fn selectors(query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in query.match_indices("backstay") {
        let rest = &query[at..];
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let braces = rest[name..].starts_with('{').then(|| rest[name..].find('}').unwrap() + 1);
        found.insert(rest[..name + braces.unwrap_or(0)].to_owned());
    }
    found
}

/// Leaves a picture of a dashboard with its data, and looks whether it can be read.
fn looked_at(name: &str, dashboard: &serde_json::Value, prometheus: &Prometheus) {
    let answers = Answers { instant: &|q| prometheus.query(q).unwrap(), range: &|q| prometheus.range(q) };
    let page = html(dashboard, &|target| filled(target["expr"].as_str().unwrap()), &answers);
    let measured = laid_out(&page, 1600, 2500, &format!("dashboard-{name}"));
    assert!(measured["scroll"].as_u64().unwrap() <= 1600, "{measured:#}");
    assert!(!measured["text"].as_str().unwrap().contains("NaN"), "{measured:#}");
}
