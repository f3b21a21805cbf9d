//! What cannot be stopped, or could not be put back, is refused before anything is touched.

use super::driver::{Drive, Gate};
use super::machine::Machine;
use super::units::{order, service, states};

fn preflight(machine: &Machine, drive: Drive) -> String {
    Drive { go: "preflight".into(), ..drive }.within(machine).end()
}

#[track_caller]
fn refuses(machine: &Machine, stop: &[&str], words: &[&str]) {
    let said = preflight(machine, Drive::of(stop, &[]));
    assert!(said.contains("Refused "), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not said in:\n{said}");
    }
}

#[test]
fn units() {
    let machine = Machine::boot("refusals");
    service(&machine, "erp-web", "", "");
    service(&machine, "erp-celery-beat", "", "");
    service(&machine, "erp-masked", "", "");
    service(&machine, "erp-bad", "", "Type=dbus");
    service(&machine, "erp-db", "PartOf=erp-data.service", "");
    service(&machine, "erp-data", "", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true");
    machine.sh("systemctl daemon-reload; systemctl start erp-web erp-masked erp-data erp-db\n\
         systemd-run --quiet --unit=erp-transient sleep infinity");
    std::fs::rename(machine.path("/etc/systemd/system/erp-masked.service"), machine.path("/root/kept")).unwrap();
    machine.sh("systemctl mask --quiet erp-masked; systemctl daemon-reload");
    let before = states(&machine);
    order(&machine);

    refuses(&machine, &["erp-celry-beat"], &["there is no unit erp-celry-beat.service", "erp-celery-beat.service"]);
    refuses(&machine, &["qwxyz"], &["there is no unit qwxyz.service", "systemctl list-units"]);
    refuses(&machine, &["erp-masked"], &["runs and is masked", "systemctl unmask erp-masked.service"]);
    refuses(&machine, &["erp-bad"], &["erp-bad.service could not be started again", "bad-setting"]);
    refuses(&machine, &["erp-transient"], &["has no file and is gone once it has stopped"]);
    refuses(&machine, &["docker"], &["every container of this machine"]);
    refuses(&machine, &["nothing-1", "erp-web", "nothing-2"], &["2 entries", "nothing-1.service", "nothing-2.service"]);
    refuses(&machine, &["container:web"], &["the Docker daemon does not answer"]);

    let spare = ["unit:erp-db"];
    let said = preflight(&machine, Drive::of(&["erp-data"], &[]).spare(&spare));
    assert!(said.contains("Refused stopping erp-data.service would stop erp-db.service"), "{said}");
    let said = preflight(&machine, Drive::of(&["erp-db", "erp-web"], &[]).spare(&spare));
    assert!(said.contains("SPARED {\"unit:erp-db.service\"}") && !said.contains("unit erp-db.service:"), "{said}");

    // And so does the step itself, since things change between the preflight and the stop.
    Drive::of(&["erp-web", "nothing"], &[]).within(&machine).says(&["UNWOUND", "there is no unit nothing.service"]);
    assert_eq!(order(&machine), "");
    assert_eq!(states(&machine), before);
    Drive { swap: Gate { waits: true, ..Gate::default() }, ..Drive::of(&["erp-web"], &[]) }
        .within(&machine)
        .until("WAITING at swap");
    // The process was left behind; the hold of a restore that nobody finished is seen by the next one.
    refuses(&machine, &["erp-web"], &["still kept from starting by an earlier restore", "rm /usr/local/lib"]);
}
