//! A rehearsal, while the host lives.

use crate::shop::{HOST, Shape, Shop, Store, exists, fresh, recover, says, tree};

/// Checks that would reach the living host: by its name, by an address, and by a program.
const OF_THE_LIVING: &str = r#"
[[plans.shop.restore.checks]]
name = "page"
http = "http://shop.example/"
contains = "green"
[[plans.shop.restore.checks]]
name = "old-page"
http = "http://203.0.113.7/"
[[plans.shop.restore.checks]]
name = "order"
command = ["/usr/bin/touch", "/var/tmp/ordered"]
"#;

#[test]
fn an_exercise_takes_nothing_over_and_starts_only_what_is_named() {
    let store = Store::new();
    let host = Shop::new("live", &store, &Shape { docker: false, file: 100_000 });
    host.machine.sh("backstay timer enable shop --at 02:00 >&2");
    host.machine.sh(&format!("cat >> /etc/backstay/backstay.toml <<'END'\n{OF_THE_LIVING}END"));
    host.machine.run(&["backstay", "backup"]);
    let mut machine = fresh("rehearsal", &host.identity());
    machine.start();
    let _wire = store.wire(&machine);
    let done =
        recover(&machine, &store, &["--yes", "--exercise", "--start", "nginx.service", "--start", "shop.service"]);
    says(&done, 0, &["rehearsed the recovery of host shop-1", "destroy it"]);
    // What is asked is this machine, by whatever name.
    says(&done, 0, &["order is not asked in an exercise", "old-page is not asked in an exercise", "3 checks passed"]);
    assert!(!exists(&machine, "/var/tmp/ordered"));
    assert!(!done.err.contains("take over the name") && !done.err.contains("timers"), "{}", done.err);
    machine.until("curl -sf http://127.0.0.1/ | grep -q '^green 500 125250 42 12$'");
    assert_eq!(tree(&machine, "/srv/shop"), tree(&host.machine, "/srv/shop"));
    // Nothing but what was named runs, now or after a reboot.
    assert_eq!(machine.try_run(&["systemctl", "is-active", "shop-worker"]).out.trim(), "inactive");
    for path in [
        "/etc/cron.d/shop",
        "/etc/systemd/system/multi-user.target.wants/shop.service",
        "/etc/systemd/system/timers.target.wants/backstay-backup@shop.timer",
        &format!("/var/lib/backstay/trust/{HOST}.json"),
    ] {
        assert!(!exists(&machine, path), "{path}");
    }
    // It has a name of its own, and cannot write under the host's.
    assert!(machine.sh("cat /etc/backstay/conf.d/zz-recovered.toml").contains("shop-1-exercise"));
    let argv = ["backstay", "--host", HOST, "--identity", "/root/recovery.key", "backup"];
    says(&machine.try_run(&argv), 10, &["another machine has written"]);
    // The host goes on.
    host.machine.run(&["backstay", "backup"]);
    assert_eq!(store.backups(), 2);
}
