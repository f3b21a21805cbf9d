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

#[test]
fn an_undo_that_fails_leaves_the_page_and_both_copies_and_says_what_is_left_to_do() {
    let hook = "after_swap = [{ command = [\"sh\", \"-c\", \"touch /run/broken; exit 1\"] }]\n";
    let metrics = "[metrics]\ntextfile = \"/srv/metrics/backstay.prom\"\n";
    let host = Host::with(
        "stuck",
        |machine| {
            machine.write("/srv/metrics/other.prom", "");
            machine.write(
                "/etc/systemd/system/app.service.d/only.conf",
                "[Service]\nExecStartPre=/bin/sh -c 'test ! -e /run/broken || { echo it is broken; exit 1; }'\n",
            );
        },
        |config| {
            let config = config.replace("start_after_checks = ", &format!("{hook}start_after_checks = "));
            config.replace("[maintenance]\n", &format!("{metrics}[maintenance]\n"))
        },
    );
    let before = host.state();
    let stuck = host.backstay(&["restore", "--yes"]);
    assert_eq!(stuck.code, 16, "{}\n{}", stuck.out, stuck.err);
    let said = format!("{}\n{}", stuck.out, stuck.err);
    for word in [" 1. ", " 2. ", "could not be taken back", "app", "it is broken", "--unwind"] {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
    }
    let code = || host.machine.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/");
    assert_eq!(code(), "503");
    let databases = "SELECT count(*) FROM pg_database WHERE datname = 'app' OR datname LIKE 'app\\_staged\\_%'";
    assert_eq!(host.psql("postgres", databases), "2");
    assert_eq!(host.machine.sh("cat /srv/app/data/value; cat /srv/app/.data*/data/value"), "second\nfirst");
    let metrics = host.machine.sh("cat /srv/metrics/backstay.prom");
    for metric in [
        "backstay_restore_open{host=\"flow\"} 1",
        "backstay_run_last_exit_code{host=\"flow\",plan=\"app\",verb=\"restore\"} 16",
    ] {
        assert!(metrics.contains(metric), "{metric} is not in\n{metrics}");
    }
    // Every command says so until it is mended.
    let list = host.backstay(&["list"]);
    assert!(list.err.contains("is still open"), "{}", list.err);
    // It goes on being stuck while the reason is there, and ends when it is not.
    assert_eq!(host.backstay(&["restore", "--unwind"]).code, 16);
    assert_eq!(code(), "503");
    host.machine.sh("rm /run/broken; systemctl reset-failed app");
    ok(&host.backstay(&["restore", "--unwind"]));
    assert_eq!(host.shows(), NOW);
    host.clean();
    assert_eq!(host.state(), before);
}
