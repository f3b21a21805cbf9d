//! Webhooks, as a watchdog receives them.

use crate::endpoint::Endpoint;
use crate::world::World;
use std::time::{Duration, Instant};

fn with(hooks: &str) -> World {
    let mut world = World::bare();
    world.extra = format!("[webhooks]\n{hooks}\n");
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world.file("a.txt", b"x");
    world
}

fn pings(hook: &Endpoint) -> String {
    format!(
        "start_url = \"{0}/start\"\nsuccess_url = \"{0}\"\nfailure_url = \"{0}/fail\"\njson_url = \"{1}\"",
        hook.url("/ping/{host}/{plan}"),
        hook.url("/json")
    )
}

#[test]
fn start_and_success_come_in_order_and_only_backups_ping() {
    let hook = Endpoint::answering(&[200]);
    let world = with(&pings(&hook));
    world.backup();
    world.run(&["prune"]).code(0);
    let seen = hook.requests();
    let paths: Vec<&str> = seen.iter().map(|r| r.path.as_str()).collect();
    let expected = ["/ping/test-host/p/start", "/json", "/ping/test-host/p", "/json", "/json", "/json"];
    assert_eq!(paths, expected);
    assert!(seen.iter().all(|r| r.method == "POST"));
    assert!(seen[2].body.contains("backup of plan p on test-host: success in"), "{}", seen[2].body);
    let json: serde_json::Value = serde_json::from_str(&seen[3].body).unwrap();
    assert_eq!(
        (json["event"].as_str(), json["verb"].as_str(), json["exit_code"].as_u64()),
        (Some("success"), Some("backup"), Some(0))
    );
    assert!(json["report"]["shipped"].as_u64().unwrap() > 0 && json["backup"].is_string(), "{json}");
    let json: serde_json::Value = serde_json::from_str(&seen[5].body).unwrap();
    assert_eq!((json["event"].as_str(), json["verb"].as_str()), (Some("success"), Some("prune")));
}

#[test]
fn a_failure_is_told_with_its_reason() {
    let hook = Endpoint::answering(&[200]);
    let world = with(&pings(&hook));
    std::fs::remove_dir_all(world.path().join("tree")).unwrap();
    world.run(&["backup"]).code(11);
    let seen = hook.requests();
    let fail = seen.iter().find(|r| r.path.ends_with("/fail")).unwrap();
    assert!(fail.body.contains("failed (source)"), "{}", fail.body);
    let json: serde_json::Value = serde_json::from_str(&seen.last().unwrap().body).unwrap();
    assert_eq!((json["event"].as_str(), json["error"]["kind"].as_str()), (Some("failure"), Some("source")));
}

#[test]
fn a_hook_that_stumbles_is_called_again_and_one_that_refuses_is_a_warning() {
    let stumbling = Endpoint::answering(&[503, 503, 200]);
    let refusing = Endpoint::answering(&[404]);
    let world = with(&format!(
        "success_url = \"{}\"\njson_url = \"{}\"",
        stumbling.url("/secret-path-1"),
        refusing.url("/secret-path-2")
    ));
    let ran = world.run(&["backup"]).code(0).says(&["`json_url` could not be called: it answered 404"]);
    assert!(!ran.err.contains("secret-path") && !ran.err.contains("success_url"), "{}", ran.err);
    assert_eq!(stumbling.requests().len(), 3);
    // Once when it began, once when it ended: what is refused is not tried again.
    assert_eq!(refusing.requests().len(), 2);
}

#[test]
fn a_hook_that_never_answers_is_given_up() {
    let silent = Endpoint::silent();
    let world = with(&format!("success_url = \"{}\"", silent.url("/x")));
    let started = Instant::now();
    world.run(&["backup"]).code(0).says(&["webhooks did not answer within 15 s"]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
