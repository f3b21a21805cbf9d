//! From the plan to the report, with a client that asks all the time.

use crate::host::{Host, NOW, THEN, ok};
use std::process::Stdio;

#[test]
fn clients_see_the_old_data_a_page_and_the_restored_data_and_nothing_else() {
    let host = Host::new("whole");
    let m = &host.machine;
    let plan = host.backstay(&["restore", "--dry-run"]);
    ok(&plan);
    for word in
        ["unit worker.service", "unit app.service", "maintenance on", "check rows", "What was written since then"]
    {
        assert!(plan.out.contains(word), "{word} is not in\n{}", plan.out);
    }
    assert_eq!(host.shows(), NOW);
    // A line for each answer.
    let script = "for i in $(seq 5000); do curl -s -m 20 -w ' %{http_code} %header{x-backstay-maintenance}\\n' -o /tmp/answer http://127.0.0.1/ | tr -d '\\n'; echo \" $(head -c 20 /tmp/answer | tr '\\n' ' ')\"; [ -e /tmp/enough ] && exit; sleep 0.02; done";
    let client = m.command(&["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let restored = host.backstay(&["restore", "--yes"]);
    ok(&restored);
    m.until("grep -q '^first' /tmp/answer");
    m.sh("touch /tmp/enough");
    let seen = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    let mut kinds: Vec<String> = Vec::new();
    for line in seen.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let kind = match words[..] {
            ["200", "second", "3"] => "before",
            ["503", id, ..] if id.starts_with("20") => "page",
            ["200", "first", "2"] => "after",
            _ => panic!("a client saw {line:?} in\n{seen}\n{}", restored.out),
        };
        if kinds.last().is_none_or(|k| k != kind) {
            kinds.push(kind.to_owned());
        }
    }
    assert_eq!(kinds, ["before", "page", "after"], "{seen}");
    assert_eq!(host.psql("app", "SELECT DISTINCT note FROM entry"), "staged", "the hook ran on what was staged");
    assert_eq!(m.sh("cat /srv/app/data/cache/x"), "warm", "what is left out moved along");
    assert_eq!(m.sh("systemctl is-active app worker"), "active\nactive");
    assert_eq!(m.sh("find /etc/systemd/system -name '*backstay*'"), "", "no hold is left");

    // The report says for how long, and what is kept.
    let reported = host.backstay(&["--json", "restores"]);
    let restores: serde_json::Value = serde_json::from_str(&reported.out).unwrap();
    let report = &restores[0]["report"];
    assert_eq!(report["outcome"], "restored");
    let outage = report["outage"]["seconds"].as_f64().unwrap();
    assert!(outage > 0.0 && outage < report["whole"]["seconds"].as_f64().unwrap(), "{report:#}");
    assert!(report["lost"]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(report["checks"].as_array().unwrap().len(), 3, "{report:#}");
    let id = restores[0]["id"].as_str().unwrap();
    let told = host.backstay(&["restores", id]);
    for word in ["outage", "stop the application", "entry", "maintenance off", "by       ", " UTC ("] {
        assert!(told.out.contains(word), "{word} is not in\n{}", told.out);
    }

    // Back again, by the same flow.
    m.sh("curl -sf http://127.0.0.1/write/since");
    ok(&host.backstay(&["rollback", "--yes"]));
    assert_eq!(host.shows(), NOW);
    assert_eq!(m.sh("systemctl is-active app worker"), "active\nactive");
    assert_eq!(m.sh("cat /srv/app/data/cache/x"), "warm");
    let known = host.backstay(&["restore", "--dry-run"]);
    assert!(known.out.contains("the last time"), "{}", known.out);
}

#[test]
fn a_part_stops_only_what_belongs_to_it() {
    let host = Host::new("part");
    let before =
        host.machine.sh("systemctl show worker -p ActiveEnterTimestampMonotonic; systemctl show app -p InvocationID");
    ok(&host.backstay(&["restore", "--yes", "--source", "data"]));
    let after =
        host.machine.sh("systemctl show worker -p ActiveEnterTimestampMonotonic; systemctl show app -p InvocationID");
    assert_eq!(before.lines().next(), after.lines().next(), "the worker went on");
    assert_ne!(before.lines().last(), after.lines().last(), "the application was started anew");
    assert_eq!(host.shows(), "first 3");
    assert_ne!(host.shows(), THEN);
}
