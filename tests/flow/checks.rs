//! What happens when the application is not well afterwards.

use crate::host::{Host, NOW, THEN, ok};

fn with_check(host: &Host, check: &str) {
    let config = std::fs::read_to_string(host.machine.path("/etc/backstay/backstay.toml")).unwrap();
    host.machine.write("/etc/backstay/backstay.toml", &format!("{config}\n[[plans.app.restore.checks]]\n{check}\n"));
}

#[test]
fn a_failed_check_takes_everything_back_and_keeps_what_the_application_may_have_written() {
    let host = Host::new("check");
    with_check(
        &host,
        "name = \"many\"\nsource = \"db\"\nsql = \"SELECT count(*) FROM entry\"\nmin = 1000\nwithin = \"1s\"",
    );
    let before = host.state();
    let failed = host.backstay(&["restore", "--yes"]);
    assert_eq!(failed.code, 13, "{}\n{}", failed.out, failed.err);
    assert!(failed.err.contains("the check many failed"), "{}", failed.err);
    assert_eq!(host.shows(), NOW);
    // The restored copy is not thrown away: the application ran on it.
    let staged = host.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'app\\_staged\\_%'");
    assert_eq!(staged, "1");
    host.clean();
    assert_eq!(host.state(), before);

    let kept = host.backstay(&["restore", "--yes", "--keep-on-failed-check"]);
    ok(&kept);
    assert!(
        kept.err.contains("the check many failed") || kept.out.contains("the check many failed"),
        "{}\n{}",
        kept.out,
        kept.err
    );
    assert_eq!(host.shows(), THEN);
}

#[test]
fn an_application_that_does_not_start_takes_everything_back() {
    let host = Host::new("start");
    // It starts on the data of today only.
    host.machine.write(
        "/etc/systemd/system/app.service.d/only.conf",
        "[Service]\nExecStartPre=/bin/sh -c 'grep -q second /srv/app/data/value || { echo not mine; exit 1; }'\n",
    );
    host.machine.run(&["systemctl", "daemon-reload"]);
    let before = host.state();
    let failed = host.backstay(&["restore", "--yes"]);
    assert_eq!(failed.code, 12, "{}\n{}", failed.out, failed.err);
    assert!(failed.err.contains("not mine"), "the last lines of its journal are told: {}", failed.err);
    assert_eq!(host.shows(), NOW);
    host.clean();
    assert_eq!(host.state(), before);
}

#[test]
fn a_check_that_cannot_work_is_told_before_anything_is_stopped() {
    let host = Host::new("wrong");
    with_check(&host, "unit = \"no-such-unit\"");
    let before = host.state();
    let refused = host.backstay(&["restore", "--yes"]);
    assert_eq!(refused.code, 10, "{}\n{}", refused.out, refused.err);
    assert_eq!(host.state(), before);
}
