//! What is proven, who says so, and what is left as it was.

use crate::setup::{Host, of_drill};

#[test]
fn a_plan_is_proven_and_nothing_live_has_changed() {
    let host = Host::new();
    let w = &host.world;
    let id = host.backup("p");
    let before = host.live();
    let drilled = w.run(&["--json", "drill", "p"]).code(0).json();
    assert_eq!((drilled["backup"].as_str().unwrap(), drilled["outcome"].as_str().unwrap()), (id.as_str(), "proven"));
    assert_eq!(drilled["scratch"], serde_json::json!(["PostgreSQL 15 for db"]));
    assert_eq!((drilled["rows"].as_u64().unwrap(), drilled["recorded"].as_bool()), (5000, Some(true)));
    let found = |what: &str| {
        let lines = drilled["verified"].as_array().unwrap();
        let line = lines.iter().find(|l| l["what"].as_str().unwrap().contains(what));
        line.unwrap_or_else(|| panic!("{what}: {lines:?}"))["found"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (found("table shop.orders"), found("roles"), found("files of")),
        ("5,000 rows".into(), "2".into(), "2".into())
    );
    // Without the settings of the database the query would not find its table.
    assert_eq!(drilled["checks"][0]["name"], "orders");
    assert_eq!(host.live(), before);
    host.is_clean();

    w.run(&["list", "--plan", "p"]).code(0).says(&["complete, proven"]);
    w.run(&["show", &id, "--plan", "p"]).code(0).says(&["drill       proven", "5,000 rows compared"]);
    let shown = w.run(&["--json", "list", "--plan", "p"]).code(0).json();
    assert_eq!(shown[0]["drill"]["outcome"], "proven");
    let metrics = host.metrics();
    assert_eq!(metrics[&of_drill("last_exit_code", "p")], 0.0);
    assert!(metrics[&of_drill("last_duration_seconds", "p")] > 0.0);
    for name in ["backstay_restore_proven_timestamp_seconds", "backstay_repository_proven_timestamp_seconds"] {
        assert!(metrics[&format!("{name}{{host=\"test-host\",plan=\"p\"}}")] > 1.7e9, "{name}");
        assert_eq!(metrics[&format!("{name}{{host=\"test-host\",plan=\"f\"}}")], 0.0, "{name}");
    }
    assert_eq!(metrics["backstay_restore_last_verified_rows{host=\"test-host\",plan=\"p\",verb=\"drill\"}"], 5000.0);
    let step = "backstay_restore_last_step_duration_seconds{host=\"test-host\",plan=\"p\",step=\"start PostgreSQL 15 for db\",verb=\"drill\"}";
    assert!(metrics.contains_key(step), "{metrics:?}");

    // For people: a table that lines up.
    let told = w.run(&["drill", "--plan", "p"]).code(0).says(&["proven backup", "all", "nothing live was touched"]);
    let columns: Vec<usize> = told.out.lines().skip(1).take(4).map(|l| l.trim_end().chars().count()).collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{}", told.out);
}

#[test]
fn what_a_drill_took_is_the_forecast_of_a_restore() {
    let host = Host::new();
    host.backup("p");
    let forecast = || {
        let outline = host.world.run(&["--json", "restore", "--plan", "p", "--dry-run"]).code(0).json();
        let steps = outline["steps"].as_array().unwrap().clone();
        let known = steps.iter().filter(|s| s["expected"].is_number()).map(|s| s["step"].as_str().unwrap().to_owned());
        known.collect::<Vec<_>>()
    };
    assert_eq!(forecast(), Vec::<String>::new());
    host.world.run(&["drill", "p"]).code(0);
    assert_eq!(forecast(), ["stage files tree", "stage database erp", "verify files tree", "verify database erp"]);
    host.world.run(&["restore", "--plan", "p", "--dry-run"]).code(0).says(&["the last time"]);
}

#[test]
fn the_newest_the_oldest_any_and_a_named_backup_can_be_drilled() {
    let host = Host::new();
    let w = &host.world;
    let ids: Vec<String> = (0..3)
        .map(|n| {
            w.file("a/one.txt", format!("generation {n}"));
            host.backup("f")
        })
        .collect();
    let drilled = |which: &[&str]| {
        let out = w.run(&[&["--json", "drill", "f"], which].concat()).code(0).json();
        out["backup"].as_str().unwrap().to_owned()
    };
    assert_eq!(drilled(&[]), ids[2]);
    assert_eq!(drilled(&["--backup", "oldest"]), ids[0]);
    assert_eq!(drilled(&["--backup", &ids[1]]), ids[1]);
    let any: std::collections::BTreeSet<String> =
        (0..12).map(|_| drilled(&["--backup", "random", "--no-record"])).collect();
    assert!(any.len() > 1 && any.iter().all(|id| ids.contains(id)), "{any:?}");
    w.run(&["drill", "f", "--backup", "20010101T000000Z-000000"]).code(4);
    w.run(&["drill", "g"]).code(4);
    host.is_clean();
}

#[test]
fn some_sources_are_no_proof_of_the_plan() {
    let host = Host::new();
    let w = &host.world;
    host.backup("p");
    let drilled = w.run(&["--json", "drill", "p", "--source", "tree"]).code(0).json();
    assert_eq!(drilled["outcome"], "partly");
    assert_eq!(host.metrics()["backstay_restore_proven_timestamp_seconds{host=\"test-host\",plan=\"p\"}"], 0.0);
    let listed = w.run(&["list", "--plan", "p"]).code(0);
    assert!(!listed.out.contains("proven"), "{}", listed.out);
}

#[test]
fn forget_keeps_the_last_proven_backup_whatever_the_rules_say() {
    let host = Host::new();
    let w = &host.world;
    let ids: Vec<String> = (0..4).map(|_| host.backup("f")).collect();
    w.run(&["drill", "f", "--backup", &ids[0]]).code(0);
    w.run(&["drill", "f", "--backup", &ids[1]]).code(0);
    let there = || -> Vec<String> {
        let listed = w.run(&["--json", "list", "--plan", "f"]).code(0).json();
        listed.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
    };
    w.run(&["forget", "--plan", "f"]).code(0).says(&["proven by a drill"]);
    assert_eq!(there(), [ids[1].clone(), ids[3].clone()]);
    // What is recorded of a backup goes with it.
    assert_eq!(w.objects("drills").len(), 1);
    w.run(&["drill", "f"]).code(0);
    w.run(&["forget", "--plan", "f"]).code(0);
    assert_eq!(there(), [ids[3].clone()]);
}
