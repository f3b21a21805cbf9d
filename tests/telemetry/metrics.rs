//! Metrics in the textfile, after real commands. Also the documents of them.

use crate::endpoint::Endpoint;
use crate::world::World;
use backstay::telemetry::metrics::table;
use std::collections::BTreeMap;

/// A world that writes its metrics to `metrics/backstay.prom`.
pub fn world() -> World {
    let mut world = World::bare();
    std::fs::create_dir(world.path().join("metrics")).unwrap();
    world.extra = format!("[metrics]\ntextfile = \"{}\"\n", world.at("metrics/backstay.prom"));
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world
}

/// The values of a text, by the metric with its labels as they are written.
pub fn values(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.map(|l| l.rsplit_once(' ').unwrap()).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

pub fn textfile(world: &World) -> BTreeMap<String, f64> {
    values(&std::fs::read_to_string(world.path().join("metrics/backstay.prom")).unwrap())
}

pub fn of_run(metric: &str, verb: &str) -> String {
    let plan = if ["backup", "restore", "rollback"].contains(&verb) { "p" } else { "" };
    format!("backstay_run_{metric}{{host=\"test-host\",plan=\"{plan}\",verb=\"{verb}\"}}")
}

#[test]
fn a_backup_leaves_its_figures_and_a_failed_one_does_not_refresh_them() {
    let world = world();
    world.file("a.txt", crate::world::noise(100_000, 1));
    let manifest = world.backup();
    let good = textfile(&world);
    let plan = "{host=\"test-host\",plan=\"p\"}";
    let source = "{host=\"test-host\",kind=\"files\",plan=\"p\",source=\"tree\"}";
    assert_eq!(good[&of_run("last_exit_code", "backup")], 0.0);
    assert_eq!(
        good[&format!("backstay_backup_last_shipped_bytes{plan}")],
        manifest["stats"]["shipped"].as_f64().unwrap()
    );
    assert_eq!(good[&format!("backstay_source_last_files{source}")], 1.0);
    assert_eq!(good[&format!("backstay_plan_max_age_seconds{plan}")], 93_600.0);
    assert_eq!(good["backstay_repository_backups{host=\"test-host\",plan=\"p\",state=\"complete\"}"], 1.0);
    let success = good[&of_run("last_success_timestamp_seconds", "backup")];
    let newest = good[&format!("backstay_repository_newest_complete_timestamp_seconds{plan}")];
    assert!(success > 1.7e9 && newest > 1.7e9 && (success - newest).abs() < 120.0, "{success} {newest}");

    std::fs::rename(world.path().join("tree"), world.path().join("gone")).unwrap();
    world.run(&["backup"]).code(11);
    let bad = textfile(&world);
    assert_eq!(bad[&of_run("last_exit_code", "backup")], 11.0);
    assert_eq!(bad[&of_run("last_success_timestamp_seconds", "backup")], success);
    assert!(bad[&of_run("last_attempt_timestamp_seconds", "backup")] > success);
    assert_eq!(bad[&format!("backstay_source_failed{source}")], 1.0);
    assert_eq!(bad["backstay_runs_total{host=\"test-host\",plan=\"p\",result=\"failure\",verb=\"backup\"}"], 1.0);
    assert_eq!(
        bad[&format!("backstay_backup_last_shipped_bytes{plan}")],
        good[&format!("backstay_backup_last_shipped_bytes{plan}")]
    );
}

#[test]
fn every_command_has_its_metrics() {
    let world = world();
    world.file("a.txt", crate::world::noise(100_000, 2));
    world.backup();
    world.run(&["check", "--read-data"]).code(0);
    world.run(&["forget"]).code(0);
    world.run(&["prune"]).code(0);
    world.run(&["--identity", &world.at("recovery.key"), "key", "check"]).code(0);
    world.run(&["restore", "--yes"]).code(0);
    let now = textfile(&world);
    for verb in ["backup", "check", "forget", "prune", "key-check", "restore"] {
        assert_eq!(now[&of_run("last_exit_code", verb)], 0.0, "{verb}");
        assert!(now[&of_run("last_success_timestamp_seconds", verb)] > 1.7e9, "{verb}");
        assert!(now[&of_run("last_duration_seconds", verb)] > 0.0, "{verb}");
    }
    assert_eq!(now["backstay_check_last_backups{host=\"test-host\",plan=\"\",state=\"whole\"}"], 1.0);
    assert!(now["backstay_check_last_packs{host=\"test-host\",plan=\"\",state=\"read\"}"] >= 1.0);
    assert_eq!(now["backstay_forget_last_kept_backups{host=\"test-host\",plan=\"p\"}"], 1.0);
    assert!(now["backstay_repository_bytes{host=\"test-host\"}"] > 100_000.0);
    assert!(
        now["backstay_key_proven_timestamp_seconds{host=\"test-host\",key=\"recovery\",role=\"recovery\"}"] > 1.7e9
    );
    assert!(now["backstay_restore_proven_timestamp_seconds{host=\"test-host\",plan=\"p\"}"] > 1.7e9);
    assert_eq!(now["backstay_restore_kept_previous{host=\"test-host\",plan=\"p\"}"], 1.0);
    assert_eq!(now["backstay_restore_open{host=\"test-host\"}"], 0.0);
    let steps: Vec<&String> =
        now.keys().filter(|k| k.starts_with("backstay_restore_last_step_duration_seconds")).collect();
    assert!(steps.len() >= 3 && steps.iter().any(|s| s.contains("step=\"swap ")), "{steps:?}");
    assert!(now["backstay_restore_last_outage_seconds{host=\"test-host\",plan=\"p\",verb=\"restore\"}"] < 60.0);
}

#[test]
fn going_back_and_removing_what_was_kept_are_runs() {
    let world = world();
    world.file("a.txt", b"then");
    world.backup();
    world.file("a.txt", b"now");
    world.run(&["restore", "--yes"]).code(0);
    let restore = world.last_restore();
    world.run(&["rollback", "--yes"]).code(0);
    world.run(&["cleanup", &restore]).code(0);
    let now = textfile(&world);
    for verb in ["rollback", "cleanup"] {
        assert_eq!(now[&of_run("last_exit_code", verb)], 0.0, "{verb}");
        assert!(now[&of_run("last_success_timestamp_seconds", verb)] > 1.7e9, "{verb}");
    }
    let success = now[&of_run("last_success_timestamp_seconds", "rollback")];
    // There is nothing to go back to any more, and somebody is told.
    world.run(&["rollback", "--yes"]).code(4);
    let now = textfile(&world);
    assert_eq!(now[&of_run("last_success_timestamp_seconds", "rollback")], success);
}

#[test]
fn a_pushgateway_gets_one_group_and_one_that_refuses_or_is_silent_fails_nothing() {
    let (taking, refusing, silent) = (Endpoint::answering(&[202]), Endpoint::answering(&[400]), Endpoint::silent());
    let pushing = |to: String| {
        let mut world = World::bare();
        world.extra = format!("[metrics]\npushgateway = \"{to}\"\n");
        world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
        world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
        world.file("a.txt", b"x");
        world
    };
    pushing(taking.url("/push/")).backup();
    let pushes = taking.requests();
    let last = pushes.last().unwrap();
    // A group is replaced as a whole by PUT, so that what is gone is not shown for ever.
    assert_eq!((last.method.as_str(), last.path.as_str()), ("PUT", "/push/metrics/job/backstay/instance/test-host"));
    assert!(last.head.to_lowercase().contains("content-type: text/plain"), "{}", last.head);
    let values = values(&last.body);
    assert_eq!(values[&of_run("last_exit_code", "backup")], 0.0);
    assert!(last.body.contains("# TYPE backstay_run_last_exit_code gauge"), "{}", last.body);

    let world = pushing(refusing.url(""));
    world.run(&["backup"]).code(0).says(&["the metrics could not be pushed", "it answered 400"]);
    let world = pushing(silent.url(""));
    let started = std::time::Instant::now();
    world.run(&["backup"]).code(0).says(&["the metrics could not be pushed"]);
    assert!(started.elapsed().as_secs() < 30);
}

#[test]
fn a_check_that_finds_damage_is_a_failed_run_with_its_figures() {
    let world = world();
    world.file("a.txt", crate::world::noise(100_000, 3));
    world.backup();
    world.run(&["check"]).code(0);
    let before = textfile(&world)[&of_run("last_success_timestamp_seconds", "check")];
    std::fs::remove_file(&world.objects("packs")[0]).unwrap();
    world.run(&["check"]).code(7);
    let now = textfile(&world);
    assert_eq!(now[&of_run("last_exit_code", "check")], 7.0);
    assert_eq!(now[&of_run("last_success_timestamp_seconds", "check")], before);
    assert!(now["backstay_check_last_damaged_objects{host=\"test-host\",plan=\"\"}"] >= 1.0);
    assert!(now["backstay_repository_damaged_marks{host=\"test-host\"}"] >= 1.0);
}

#[test]
fn a_dry_run_is_no_run_and_a_plan_that_nobody_knows_leaves_no_metric() {
    let world = world();
    world.file("a.txt", b"x");
    world.backup();
    world.run(&["forget", "--dry-run"]).code(0);
    world.run(&["prune", "--dry-run"]).code(0);
    world.run(&["backup", "typo"]).code(4);
    let now = textfile(&world);
    assert!(!now.keys().any(|k| k.contains("forget") || k.contains("prune") || k.contains("typo")), "{now:?}");
}

#[test]
fn the_textfile_is_replaced_as_a_whole_and_one_that_cannot_be_written_fails_nothing() {
    let world = world();
    world.file("a.txt", b"x");
    world.backup();
    let left: Vec<_> =
        std::fs::read_dir(world.path().join("metrics")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["backstay.prom"]);
    std::fs::remove_dir_all(world.path().join("metrics")).unwrap();
    world.run(&["backup"]).code(0).says(&["the directory of `metrics.textfile` does not exist"]);
}

#[test]
fn the_document_of_metrics_is_the_table() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("| `backstay_")).collect();
    let row = |m: &&table::Metric| {
        let labels: Vec<String> = m.labels.iter().map(|l| format!("`{l}`")).collect();
        format!("| `{}` | {} | {} | {} |", m.name, m.kind.name(), labels.join(", "), m.help)
    };
    let expected: Vec<String> = table::ALL.iter().map(row).collect();
    assert_eq!(rows, expected, "docs/metrics.md should have these rows:\n{}", expected.join("\n"));
}
