//! Jobs that are stopped, and machines that lose their power, with the application standing still.

use crate::host::Host;
use std::time::{Duration, Instant};

const BACKUP: &str = "backstay-backup@shop.service";
const NAP: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

/// A host whose plan stops or pauses the container `app` while a dump takes its time.
fn host(what: &str, how: &str) -> Host {
    let more = format!(
        "[sources.documents]\nkind = \"volume\"\nvolume = \"documents\"\nwhile_reading = \"{how}\"\ngroup = \"night\"\n\
         [sources.slow]\nkind = \"command\"\ndump = [\"sh\", \"-c\", \"while ! test -e /srv/go-on; do sleep 0.1; done; echo done\"]\ngroup = \"night\"\n"
    );
    let host = Host::new(what, &more, &["documents", "slow"]);
    host.machine.run(&["systemctl", "enable", "--now", "docker.service"]);
    host.machine.sh(&format!(
        "mkdir -p /opt/image/bin; cp /bin/busybox /opt/image/bin/
         for a in sh sleep cat true; do ln -s busybox /opt/image/bin/$a; done
         tar -C /opt/image -c . | docker import - app > /dev/null
         docker run -d --name app --network none -v documents:/data app sh -c \"{NAP}\""
    ));
    host.machine.sh("echo kept > $(docker volume inspect -f '{{.Mountpoint}}' documents)/document");
    host
}

fn state(host: &Host) -> String {
    host.machine.run(&["docker", "inspect", "-f", "{{.State.Status}}", "app"])
}

/// Starts the backup and waits until the application stands still.
fn begin(host: &Host, still: &str) {
    host.machine.run(&["systemctl", "start", "--no-block", BACKUP]);
    host.machine.until(&format!("docker inspect -f '{{{{.State.Status}}}}' app | grep -x {still}"));
    host.machine.until("pgrep -f '[s]rv/go-on'");
}

#[test]
fn a_stopped_unit_ends_at_once_and_puts_the_application_back() {
    let host = host("stopped", "pause");
    begin(&host, "paused");
    let started = Instant::now();
    host.machine.run(&["systemctl", "stop", BACKUP]);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(state(&host), "running", "{}", host.log(BACKUP));
    // Nothing of it runs on, nothing is left to put back, and it is no failure.
    assert_ne!(host.machine.try_run(&["pgrep", "-f", "srv/go-on"]).code, 0);
    assert_eq!(host.machine.sh("find /var/lib/backstay/quiesce -name '*.journal'"), "");
    assert_eq!(host.property(BACKUP, "ActiveState"), "inactive", "{}", host.log(BACKUP));
    assert!(host.log(BACKUP).contains("stopped by SIGTERM"), "{}", host.log(BACKUP));
    host.machine.run(&["touch", "/srv/go-on"]);
    host.job(BACKUP);
    assert_eq!((state(&host).as_str(), host.backups()), ("running", 1));
}

#[test]
fn after_a_power_cut_the_boot_unit_starts_the_application_again() {
    let mut host = host("power", "stop");
    host.backstay(&["timer", "enable", "--at", "02:00"]);
    begin(&host, "exited");
    host.machine.cut_power();
    host.machine.start();
    host.machine.until("systemctl show -P ActiveState backstay-resume.service | grep inactive");
    assert_eq!(
        host.property("backstay-resume.service", "Result"),
        "success",
        "{}",
        host.log("backstay-resume.service")
    );
    assert_eq!(state(&host), "running", "{}", host.log("backstay-resume.service"));
    assert!(host.log("backstay-resume.service").contains("app was stopped"), "{}", host.log("backstay-resume.service"));
    // It came after Docker, and before what timers start.
    let after = host.property("backstay-resume.service", "After");
    assert!(after.contains("docker.service") && after.contains("postgresql.service"), "{after}");
    assert!(host.property(BACKUP, "After").contains("backstay-resume.service"));
    host.machine.run(&["touch", "/srv/go-on"]);
    host.job(BACKUP);
}

#[test]
fn a_shutdown_in_the_middle_is_like_a_stop() {
    let mut host = host("shutdown", "pause");
    begin(&host, "paused");
    host.machine.power_off();
    host.machine.start();
    assert_eq!(host.machine.sh("find /var/lib/backstay/quiesce -name '*.journal'"), "");
    assert!(host.log(BACKUP).contains("stopped by SIGTERM"), "{}", host.log(BACKUP));
}
