//! Units: their order, their families, and everything as it was.

use super::driver::{Drive, Gate};
use super::machine::Machine;

/// A unit that tells when it starts and stops.
pub fn service(machine: &Machine, name: &str, unit: &str, body: &str) {
    let exec = format!(
        "ExecStart=/bin/sh -c 'trap \"echo -{name} >> /var/log/order; exit 0\" TERM; while :; do sleep 10 & wait; done'\n"
    );
    let exec = if body.contains("ExecStart=") { "" } else { &exec };
    machine.write(
        &format!("/etc/systemd/system/{name}.service"),
        &format!(
            "[Unit]\n{unit}\n[Service]\nExecStartPre=/bin/sh -c 'echo +{name} >> /var/log/order'\n\
             {exec}{body}\n[Install]\nWantedBy=multi-user.target\n"
        ),
    );
}

/// What happened since the last look.
pub fn order(machine: &Machine) -> String {
    machine.sh("tr '\\n' ' ' < /var/log/order; : > /var/log/order").trim().to_owned()
}

/// How every unit of the application is. A timer runs or waits, which is the same here.
pub fn states(machine: &Machine) -> String {
    let shown = machine
        .sh("cd /etc/systemd/system; for u in erp-*.*; do [ $u = erp-tick.service ] || echo $(systemctl show \
         --property=Id,ActiveState,SubState,UnitFileState,NeedDaemonReload,DropInPaths $u); done");
    shown.replace("timer ActiveState=active SubState=running", "timer ActiveState=active SubState=waiting")
}

/// An application: a site with a socket, a companion and a timer, a scheduler, a worker, one that is enabled and does not
/// run though the site wants it, one that has failed.
pub fn application() -> Machine {
    let machine = Machine::off("units");
    service(&machine, "erp-web", "Wants=erp-idle.service", "");
    machine.write(
        "/etc/systemd/system/erp-web.socket",
        "[Socket]\nListenStream=127.0.0.1:8000\n[Install]\nWantedBy=sockets.target\n",
    );
    service(&machine, "erp-extra", "Requires=erp-web.service\nAfter=erp-web.service", "");
    service(&machine, "erp-part", "PartOf=erp-web.service", "");
    service(&machine, "erp-beat", "", "");
    service(&machine, "erp-celery", "", "");
    service(&machine, "erp-idle", "", "");
    service(&machine, "erp-broken", "", "ExecStart=/bin/sh -c 'echo no ledger; exit 3'");
    machine.write(
        "/etc/systemd/system/erp-tick.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo tick >> /var/log/ticks'\n",
    );
    machine.write(
        "/etc/systemd/system/erp-tick.timer",
        "[Timer]\nOnActiveSec=100ms\nOnUnitActiveSec=300ms\nAccuracySec=10ms\n[Install]\nWantedBy=timers.target\n",
    );
    let mut machine = machine;
    machine.start();
    machine.sh(
        "systemctl enable --now --quiet erp-web.socket erp-web erp-extra erp-part erp-beat erp-celery erp-tick.timer\n\
         systemctl enable --quiet erp-idle erp-broken; systemctl stop erp-idle; systemctl start erp-broken || true",
    );
    machine.until("systemctl is-failed --quiet erp-broken");
    machine.until("[ $(systemctl is-active erp-idle) = inactive ]");
    order(&machine);
    machine
}

pub fn drive() -> Drive {
    Drive::of(&["erp-beat", "erp-web", "erp-idle", "erp-tick"], &["erp-celery"])
}

fn ticks(machine: &Machine) -> String {
    machine.sh("wc -l < /var/log/ticks")
}

#[test]
fn everything_stops_in_order_stays_down_and_starts_in_reverse_as_it_was() {
    let machine = application();
    let before = states(&machine);
    // A unit runs a moment before it says so; the late one waits for the others.
    let said = Gate { act: "until grep -q -- +erp-beat /var/log/order; do sleep 0.05; done".into(), ..Gate::default() };
    let mut driven = Drive { swap: Gate { waits: true, ..Gate::default() }, check: said, ..drive() }.within(&machine);
    driven.until("WAITING at swap");
    assert_eq!(order(&machine), "-erp-celery -erp-beat -erp-extra -erp-part -erp-web");
    for unit in
        ["erp-web.service", "erp-web.socket", "erp-extra", "erp-part", "erp-beat", "erp-celery", "erp-tick.timer"]
    {
        assert_eq!(machine.try_run(&["systemctl", "is-active", unit]).out.trim(), "inactive", "{unit}");
        // Whoever asks for it.
        machine.run(&["systemctl", "start", unit]);
        assert_eq!(machine.try_run(&["systemctl", "is-active", unit]).out.trim(), "inactive", "{unit}");
    }
    let asked = machine.try_run(&["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000))"]);
    assert!(asked.err.contains("refused"), "{asked:?}");
    let ticked = ticks(&machine);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(ticks(&machine), ticked);
    assert_eq!(order(&machine), "");
    machine.write("/var/lib/backstay/swap.go", "");
    driven.says(&["COMMITTED"]);
    let started = order(&machine);
    assert!(started.starts_with("+erp-web ") && started.ends_with("+erp-beat +erp-celery"), "{started}");
    assert!(!started.contains("idle") && !started.contains("broken"), "{started}");
    assert_eq!(states(&machine), before);
    machine.until(&format!("[ $(wc -l < /var/log/ticks) -gt {ticked} ]"));
    machine.run(&["systemctl", "start", "erp-idle"]);
    assert_eq!(machine.run(&["systemctl", "is-active", "erp-idle"]), "active");
}

#[test]
fn taken_back_everything_is_as_it_was_and_each_effect_may_happen_twice() {
    let machine = application();
    let before = states(&machine);
    let fails = || Gate { fails: true, ..Gate::default() };
    for (swap, check, order_expected) in [
        // Before anything was started.
        (fails(), Gate::default(), "-erp-celery -erp-beat -erp-extra -erp-part -erp-web +"),
        (Gate::default(), fails(), "-erp-celery -erp-beat -erp-extra -erp-part -erp-web +erp-web"),
    ] {
        for twice in [false, true] {
            Drive { swap: swap.clone(), check: check.clone(), twice, ..drive() }
                .within(&machine)
                .says(&["UNWOUND the", "fails"]);
            let happened = order(&machine);
            assert!(happened.starts_with(order_expected), "{happened}");
            assert_eq!(happened.matches("+erp-celery").count(), 1, "the late one starts only at the end: {happened}");
            // Nobody waits for what fails again.
            machine.until("systemctl is-failed --quiet erp-broken");
            assert_eq!(states(&machine), before);
        }
    }
    Drive { twice: true, ..drive() }.within(&machine).says(&["COMMITTED"]);
    assert_eq!(states(&machine), before);
}

#[test]
fn a_start_that_fails_tells_what_the_unit_said_and_is_taken_back() {
    let machine = Machine::boot("fails");
    let run = |how: &str| format!("ExecStart=/bin/sh -c 'if [ -e /broken ]; then {how}; fi; exec sleep infinity'");
    let broken = Gate { act: "touch /broken".into(), undo: "rm -f /broken".into(), ..Gate::default() };
    for (name, body, said) in [
        ("erp-exits", run("echo cannot open the ledger; exit 3") + "\nType=notify", "exit"),
        ("erp-dies", run("echo cannot open the ledger; exit 3"), "it is "),
        (
            "erp-loops",
            run("echo cannot open the ledger; sleep 0.2; exit 3") + "\nRestart=always\nRestartSec=100ms",
            "started again",
        ),
    ] {
        // One that notifies needs somebody to do so.
        let body = body.replace("exec sleep infinity", "systemd-notify --ready; exec sleep infinity");
        let body = if body.contains("Type=notify") { body + "\nNotifyAccess=all" } else { body };
        service(&machine, name, "", &body);
        service(&machine, "erp-other", "", "");
        machine.sh(&format!("systemctl daemon-reload; systemctl start {name} erp-other"));
        let before = states(&machine);
        Drive { swap: broken.clone(), ..Drive::of(&["erp-other", name], &[]) }.within(&machine).says(&[
            "UNWOUND",
            &format!("unit {name}.service does not start"),
            "cannot open the ledger",
            said,
        ]);
        assert_eq!(states(&machine), before);
        machine.sh(&format!("systemctl stop {name} erp-other; rm /etc/systemd/system/erp-*; systemctl daemon-reload"));
    }
}

#[test]
fn what_had_failed_is_tried_with_the_restored_data_and_told_when_it_fails_again() {
    let machine = Machine::boot("failed");
    service(&machine, "erp-web", "", "ExecStart=/bin/sh -c '[ -e /data ] || exit 3; exec sleep infinity'");
    machine.sh("systemctl daemon-reload; systemctl start erp-web || true");
    machine.until("systemctl is-failed --quiet erp-web");
    let before = states(&machine);
    Drive::of(&["erp-web"], &[])
        .within(&machine)
        .says(&["COMMITTED", "WARNING unit erp-web.service did not run before"]);
    assert!(states(&machine).contains("ActiveState=failed"));
    let data = Gate { act: "touch /data".into(), undo: "rm -f /data".into(), ..Gate::default() };
    let failing =
        Drive { swap: data.clone(), check: Gate { fails: true, ..Gate::default() }, ..Drive::of(&["erp-web"], &[]) };
    failing.within(&machine).says(&["UNWOUND"]);
    machine.until("systemctl is-failed --quiet erp-web");
    assert_eq!(states(&machine), before);
    Drive { swap: data, ..Drive::of(&["erp-web"], &[]) }.within(&machine).says(&["COMMITTED"]);
    assert_eq!(machine.run(&["systemctl", "is-active", "erp-web"]), "active");
}

#[test]
fn one_that_does_not_stop_in_its_time_is_killed_and_told() {
    let machine = Machine::boot("slow");
    let ignores = "ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\nTimeoutStopSec=1";
    service(&machine, "erp-web", "", ignores);
    machine.sh("systemctl daemon-reload; systemctl start erp-web");
    Drive::of(&["erp-web"], &[])
        .within(&machine)
        .says(&["COMMITTED", "WARNING unit erp-web.service did not stop in its time and was killed"]);
    assert_eq!(machine.run(&["systemctl", "is-active", "erp-web"]), "active");
}

#[test]
fn processes_count_with_their_unit() {
    let machine = application();
    let pid = |unit: &str| machine.run(&["systemctl", "show", "--property=MainPID", "--value", unit]);
    let (web, dbus) = (pid("erp-web"), pid("dbus"));
    let users = vec![format!("process:{web} sleep"), format!("process:{dbus} dbus-daemon"), "unit:erp-beat".into()];
    Drive { go: "preflight".into(), users, ..drive() }.within(&machine).says(&[
        &format!("COVERS process:{web} sleep true"),
        &format!("COVERS process:{dbus} dbus-daemon false"),
        "COVERS unit:erp-beat true",
        "unit erp-web.socket: active (running); it starts erp-web.service",
        "unit erp-extra.service: active (running); it is stopped along with erp-web.service",
        "unit erp-idle.service: inactive (dead); it is kept from starting",
        "unit erp-celery.service: active (running); it starts again only after the checks",
    ]);
}
