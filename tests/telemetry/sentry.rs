//! Sentry, as a server that takes envelopes receives them.

use crate::endpoint::Endpoint;
use crate::world::World;
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn with(dsn: &str, plan: &str) -> World {
    let mut world = World::bare();
    world.extra = format!("{plan}\n[sentry]\ndsn = \"{dsn}\"\nenvironment = \"staging\"\n");
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world.file("a.txt", b"x");
    world
}

#[test]
fn an_error_comes_with_tags_breadcrumbs_release_and_environment() {
    let sentry = Endpoint::answering(&[200]);
    let world = with(&sentry.dsn(), "");
    std::fs::remove_dir_all(world.path().join("tree")).unwrap();
    world.run(&["backup"]).code(11);
    let events = sentry.of_type("event");
    let [event] = &events[..] else { panic!("{events:#?}") };
    let tag = |name: &str| event["tags"][name].as_str().unwrap_or_default().to_owned();
    let tags = ["verb", "plan", "source", "host", "kind"].map(tag);
    assert_eq!(tags, ["backup", "p", "tree", "test-host", "source"]);
    assert_eq!(event["environment"], "staging");
    assert_eq!(event["release"], format!("backstay@{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(event["server_name"], "test-host");
    let text = event["exception"]["values"][0]["value"].as_str().unwrap();
    assert!(text.contains("tree"), "{text}");
    let crumbs = event["breadcrumbs"]["values"].as_array().unwrap();
    assert!(crumbs.iter().any(|c| c["message"] == "tree begins"), "{crumbs:?}");
    let auth = sentry.requests()[0].head.to_lowercase();
    assert!(auth.contains("x-sentry-auth: sentry sentry_key=0123456789abcdef0123456789abcdef"), "{auth}");
}

#[test]
fn a_failed_restore_has_the_step_and_the_backup() {
    let sentry = Endpoint::answering(&[200]);
    let world = with(&sentry.dsn(), "");
    let backup = world.backup()["id"].as_str().unwrap().to_owned();
    // The pack is there and damaged: it can be planned, and not staged.
    for pack in world.objects("packs") {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(pack, bytes).unwrap();
    }
    let ran = world.run(&["restore", "--yes"]);
    assert_ne!(ran.code, 0);
    let events = sentry.of_type("event");
    let event = events.last().unwrap_or_else(|| panic!("{ran:?}"));
    assert!(event["tags"]["step"].as_str().unwrap().starts_with("stage "), "{event:#}");
    assert_eq!(event["tags"]["backup"], backup.as_str());
}

#[test]
fn a_restore_is_a_transaction_with_a_span_for_each_step() {
    let sentry = Endpoint::answering(&[200]);
    let world = with(&sentry.dsn(), "");
    let backup = world.backup()["id"].as_str().unwrap().to_owned();
    world.run(&["restore", "--yes"]).code(0);
    let transactions = sentry.of_type("transaction");
    let [transaction] = &transactions[..] else { panic!("{transactions:#?}") };
    assert_eq!((&transaction["transaction"], &transaction["tags"]["backup"]), (&"restore p".into(), &backup.into()));
    assert_eq!(transaction["contexts"]["trace"]["status"], "ok");
    let spans = transaction["spans"].as_array().unwrap();
    let names: Vec<&str> = spans.iter().map(|s| s["description"].as_str().unwrap()).collect();
    for step in ["stage ", "verify ", "swap "] {
        assert!(names.iter().any(|n| n.starts_with(step)), "{names:?}");
    }
    for span in spans {
        let ended: jiff::Timestamp = span["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(ended.as_microsecond() as f64 >= span["start_timestamp"].as_f64().unwrap() * 1e6 - 1.0, "{span}");
        assert_eq!(span["trace_id"], transaction["contexts"]["trace"]["trace_id"]);
    }
}

#[test]
fn a_scheduled_plan_checks_in_and_a_part_of_it_does_not() {
    let sentry = Endpoint::answering(&[200]);
    let world = with(&sentry.dsn(), "schedule = \"0 3 * * *\"\nschedule_margin = \"45m\"\nmax_runtime = \"2h\"");
    world.backup();
    let seen = sentry.of_type("check_in");
    let [begun, ended] = &seen[..] else { panic!("{seen:#?}") };
    assert_eq!((&begun["status"], &ended["status"]), (&"in_progress".into(), &"ok".into()));
    assert_eq!(begun["check_in_id"], ended["check_in_id"]);
    assert_eq!(begun["monitor_slug"], "test-host-p");
    let config = &begun["monitor_config"];
    assert_eq!((&config["schedule"]["value"], &config["checkin_margin"]), (&"0 3 * * *".into(), &45.into()));
    assert_eq!(config["max_runtime"], 120);
    assert!(ended["duration"].as_f64().unwrap() > 0.0);
    world.run(&["backup", "--source", "tree"]).code(0);
    // All of its sources are the plan, however they were named; what was picked does not stand for the schedule.
    assert_eq!(sentry.of_type("check_in").len(), 2);
    std::fs::remove_dir_all(world.path().join("tree")).unwrap();
    world.run(&["backup"]).code(11);
    assert_eq!(sentry.of_type("check_in").last().unwrap()["status"], "error");
}

#[test]
fn a_sentry_that_is_silent_or_gone_costs_little_and_changes_nothing() {
    let silent = Endpoint::silent();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let schedule = "schedule = \"0 3 * * *\"";
    let reference = {
        let world = World::new();
        world.file("a.txt", b"x");
        let started = Instant::now();
        world.backup();
        started.elapsed()
    };
    for (dsn, bound) in [(silent.dsn(), 2), (format!("http://key@{gone}/1"), 0)] {
        let world = with(&dsn, schedule);
        let started = Instant::now();
        let ran = world.run(&["backup"]).code(0);
        let took = started.elapsed();
        // The rest is what a machine under load needs for the same work twice.
        assert!(
            took < reference * 3 + Duration::from_secs(bound + 2),
            "{took:?} instead of {reference:?}: {}",
            ran.err
        );
        assert_eq!(ran.err.contains("Sentry does not answer"), bound > 0, "{}", ran.err);
        std::fs::remove_dir_all(world.path().join("tree")).unwrap();
        world.run(&["backup"]).code(11);
    }
}

#[test]
fn a_dsn_that_is_none_is_a_warning_and_not_printed() {
    let world = with("https://sentry.example.org/no-key-here", "");
    let ran = world.run(&["backup"]).code(0).says(&["`sentry.dsn` is no DSN"]);
    assert!(!ran.err.contains("no-key-here"), "{}", ran.err);
}
