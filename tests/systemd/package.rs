//! The Debian package: what it brings, and what it leaves alone.

use crate::host::{Host, VERSION, make, package, program, project};
use std::process::Command;

/// The next version, for upgrades.
const NEXT: &str = "0.0.2";

/// Units of ours that are enabled, or run.
fn at_work(host: &Host) -> String {
    host.machine.sh("systemctl list-units --all --plain --no-legend 'backstay-*' | grep -v not-found || :
         systemctl list-unit-files --no-legend --state=enabled 'backstay-*' || :")
}

/// A unit of a later version, or one that would need much more around it: it sleeps.
fn sleeps(host: &Host, unit: &str) {
    let text = "[Unit]\nAssertPathExists=\n[Service]\nType=exec\nWatchdogSec=0\nEnvironmentFile=\nExecStart=\nExecStart=/bin/sleep infinity\n";
    host.drop_in(unit, text);
    host.machine.run(&["systemctl", "start", "--", unit]);
}

#[test]
fn a_new_installation_brings_everything_and_starts_nothing() {
    let host = Host::bare("install");
    assert_eq!(at_work(&host), "");
    for file in [
        "/usr/share/man/man1/backstay.1.gz",
        "/usr/share/man/man1/backstay-timer-enable.1.gz",
        "/usr/share/bash-completion/completions/backstay",
        "/usr/share/zsh/vendor-completions/_backstay",
        "/usr/share/fish/vendor_completions.d/backstay.fish",
        "/usr/share/backstay/recover.sh",
        "/usr/share/backstay/policies/s3-append-only.json",
        "/usr/share/backstay/dashboards/overview.json",
        "/usr/share/backstay/dashboards/host.json",
        "/usr/share/doc/backstay/docs/systemd.md",
        "/usr/share/doc/backstay/changelog.gz",
    ] {
        host.machine.run(&["test", "-s", file]);
    }
    let pages = host.machine.sh("ls /usr/share/man/man1 | grep backstay");
    assert!(!pages.contains("managed") && !pages.contains("backstay-man."), "{pages}");
    assert_eq!(host.machine.sh("stat -c %a /etc/backstay"), "700");
    let conffiles = host.machine.run(&["dpkg-query", "--show", "--showformat=${Conffiles}", "backstay"]);
    assert!(conffiles.contains("/etc/backstay/backstay.toml.sample"), "{conffiles}");
    // The sample is no configuration: nothing can run by accident.
    let unconfigured = host.try_backstay(&["backup"]);
    assert_eq!(unconfigured.code, 3, "{unconfigured:?}");
    assert!(unconfigured.err.contains("backstay.toml.sample"), "{}", unconfigured.err);
    // The dependencies are those of the program.
    let needs = host.machine.run(&["dpkg-query", "--show", "--showformat=${Depends}", "backstay"]);
    for package in ["libc6 (>= ", "libssl3 (>= ", "ca-certificates"] {
        assert!(needs.contains(package), "{needs}");
    }
    assert_eq!(host.machine.run(&["dpkg", "--verify", "backstay"]), "");
}

#[test]
fn an_upgrade_keeps_state_and_restarts_what_serves() {
    let host = Host::new("upgrade", "", &[]);
    host.backstay(&["backup"]);
    host.backstay(&["timer", "enable", "--at", "03:30"]);
    host.machine.sh("echo '# mine' >> /etc/backstay/backstay.toml");
    sleeps(&host, "backstay-serve.service");
    let before = host.property("backstay-serve.service", "MainPID");
    host.install(NEXT);
    assert_ne!(host.property("backstay-serve.service", "MainPID"), before);
    assert_eq!(host.property("backstay-serve.service", "ActiveState"), "active");
    assert_eq!(host.property("backstay-backup@shop.timer", "ActiveState"), "active");
    assert!(host.property("backstay-backup@shop.timer", "TimersCalendar").contains("03:30:00"));
    assert!(host.machine.run(&["cat", "/etc/backstay/backstay.toml"]).ends_with("# mine"));
    assert_eq!(host.backups(), 1);
    // A service that did not run is not started.
    host.machine.run(&["systemctl", "stop", "backstay-serve.service"]);
    host.install(VERSION);
    assert_eq!(host.property("backstay-serve.service", "ActiveState"), "inactive");
}

#[test]
fn removed_it_stops_and_comes_back_and_a_purge_keeps_the_keys() {
    let host = Host::new("purge", "", &[]);
    host.backstay(&["backup"]);
    host.backstay(&["timer", "enable", "--at", "03:30"]);
    host.machine.run(&["dpkg", "--remove", "backstay"]);
    assert_eq!(host.property("backstay-backup@shop.timer", "ActiveState"), "inactive");
    host.machine.run(&["test", "!", "-e", "/usr/bin/backstay"]);
    host.install(VERSION);
    assert_eq!(host.property("backstay-backup@shop.timer", "ActiveState"), "active");
    assert_eq!(host.backups(), 1);

    let purged = host.machine.try_run(&["dpkg", "--purge", "backstay"]);
    assert_eq!(purged.code, 0, "{purged:?}");
    assert!(purged.err.contains("/etc/backstay is kept") && purged.err.contains("BACKSTAY_PURGE_KEYS=1"), "{purged:?}");
    host.machine
        .sh("test -s /etc/backstay/host.key && test -s /etc/backstay/backstay.toml && test -d /var/lib/backstay/trust");
    host.machine.sh("test ! -e /var/lib/backstay/cache && test ! -e /etc/backstay/backstay.toml.sample");
    assert_eq!(host.machine.sh("find /etc/systemd/system /var/lib/systemd/timers -name '*backstay*'"), "");
    // With what was kept everything goes on.
    host.install(VERSION);
    assert_eq!(at_work(&host), "");
    assert_eq!(host.backups(), 1);
    host.machine.sh("BACKSTAY_PURGE_KEYS=1 dpkg --purge backstay");
    host.machine.sh("test ! -e /etc/backstay && test ! -e /var/lib/backstay");
}

#[test]
fn it_is_not_removed_under_a_running_restore() {
    let host = Host::bare("remove");
    sleeps(&host, "backstay-restore@x.service");
    let refused = host.machine.try_run(&["dpkg", "--remove", "backstay"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("a restore is running"), "{refused:?}");
    host.backstay(&["--version"]);
    assert_eq!(host.property("backstay-restore@x.service", "ActiveState"), "active");
    host.machine.run(&["systemctl", "stop", "backstay-restore@x.service"]);
    host.machine.run(&["dpkg", "--remove", "backstay"]);
}

#[test]
fn package_and_tarball_are_the_same_bytes_twice() {
    package(VERSION);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Another place, another time, other rights on what is made.
    std::fs::copy(program(), two.path().join("backstay")).unwrap();
    for script in ["packaging/deb.sh", "packaging/tarball.sh"] {
        let first = make(script, program().parent().unwrap(), VERSION, one.path());
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let again = Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" \"$@\""])
            .arg(project().join(script))
            .args([two.path().join("backstay"), two.path().join("out")])
            .envs([
                ("BACKSTAY_VERSION", VERSION),
                ("BACKSTAY_COMPRESSION", "none"),
                ("SOURCE_DATE_EPOCH", "1780000000"),
            ])
            .envs([("TZ", "Asia/Tokyo"), ("TMPDIR", two.path().to_str().unwrap())])
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        let again = String::from_utf8(again.stdout).unwrap();
        let same = Command::new("cmp").args([first.as_str(), again.trim()]).output().unwrap();
        assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    }
}
