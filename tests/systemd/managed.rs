//! Restores that systemd looks after.

use crate::host::Host;
use std::process::Stdio;

/// A host whose data takes a while to come back, and is damaged.
fn damaged(what: &str) -> Host {
    let host = Host::new(what, "", &[]);
    host.machine.sh("head -c 4000000 /dev/urandom > /srv/data/large; sha256sum /srv/data/large > /root/sum");
    host.backstay(&["backup"]);
    host.machine
        .sh("echo damaged > /srv/data/large; sed -i '/^url/a limit_download = \"500KiB\"' /etc/backstay/backstay.toml");
    host
}

/// The unit that runs.
fn running(host: &Host) -> String {
    let units = "systemctl list-units --plain --no-legend --state=active 'backstay-restore@*' | cut -d' ' -f1";
    host.machine.until(&format!("{units} | grep ."));
    host.machine.sh(units)
}

#[test]
fn a_managed_restore_outlives_the_session_that_asked_for_it() {
    let host = damaged("managed");
    let ask = ["/usr/bin/backstay", "restore", "--yes", "--managed"];
    let mut session = host.machine.command(&ask).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let unit = running(&host);
    host.machine.until(&format!("systemctl show -P StatusText {unit} | grep 'restore shop: '"));
    host.machine.run(&["pkill", "-KILL", "-f", "restore --yes --managed"]);
    session.wait().unwrap();
    assert_eq!(host.property(&unit, "ActiveState"), "active");
    // It sees the host's mounts, none of its own: else it could not exchange what it restores.
    let pid = host.property(&unit, "MainPID");
    assert_eq!(
        host.machine.run(&["readlink", &format!("/proc/{pid}/ns/mnt")]),
        host.machine.run(&["readlink", "/proc/1/ns/mnt"])
    );
    // The order is gone as soon as it was read.
    assert_eq!(host.machine.sh("ls /run/backstay"), "");
    host.machine.until("sha256sum --quiet --check /root/sum");
    host.machine.until(&format!("systemctl show -P ActiveState {unit} | grep inactive"));
    assert!(host.log(&unit).contains("restored"), "{}", host.log(&unit));
}

#[test]
fn whoever_follows_sees_what_it_says_and_gets_its_exit_code() {
    let host = damaged("follow");
    host.machine.sh("mkdir /root/here; cp /root/recovery.key /root/here/");
    // Relative paths and the environment are those of whoever asks.
    let ask = "cd /root/here; BACKSTAY__REPOSITORY__LIMIT_DOWNLOAD=5MiB /usr/bin/backstay --identity recovery.key restore --yes --managed";
    let ended = host.machine.try_run(&["sh", "-c", ask]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("restored"), "{ended:?}");
    assert!(ended.err.contains("journalctl -fu backstay-restore@"), "{ended:?}");
    host.machine.run(&["sha256sum", "--quiet", "--check", "/root/sum"]);
    let failed = host.try_backstay(&["restore", "nosuch", "--yes", "--managed"]);
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(failed.out.contains("nosuch"), "{failed:?}");
    // Asked for by hand, the unit has no order.
    assert_ne!(host.machine.try_run(&["systemctl", "start", "backstay-restore@none.service"]).code, 0);
    assert_eq!(host.try_backstay(&["restore", "--managed"]).code, 2);
}

#[test]
fn the_watchdog_lets_a_slow_restore_run_and_ends_one_that_hangs() {
    let host = damaged("watchdog");
    host.drop_in("backstay-restore@.service", "[Service]\nWatchdogSec=2s\n");
    let ask = ["/usr/bin/backstay", "restore", "--yes", "--managed"];
    let mut session = host.machine.command(&ask).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let unit = running(&host);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(host.property(&unit, "ActiveState"), "active", "{}", host.log(&unit));
    host.machine.run(&["kill", "-STOP", &host.property(&unit, "MainPID")]);
    host.machine.until(&format!("systemctl show -P Result {unit} | grep watchdog"));
    assert!(!session.wait().unwrap().success());
    // What it left is told, and can be taken back.
    host.backstay(&["restore", "--unwind"]);
    assert_eq!(host.machine.run(&["cat", "/srv/data/large"]), "damaged");
}
