//! The power fails in the middle: what was stopped stays so over the boot, and the restore is gone on with or taken back.

use super::driver::{Drive, Gate};
use super::units::{application, drive, order, states};

fn waits() -> Gate {
    Gate { waits: true, ..Gate::default() }
}

#[test]
fn enabled_units_do_not_start_at_the_boot_and_are_released_by_the_unwinding() {
    let mut machine = application();
    let before = states(&machine);
    let drive = Drive { swap: waits(), ..drive() };
    let mut driven = drive.within(&machine);
    driven.until("WAITING at swap");
    machine.cut_power();
    machine.start();
    order(&machine);
    for unit in
        ["erp-web.service", "erp-web.socket", "erp-extra", "erp-part", "erp-beat", "erp-celery", "erp-tick.timer"]
    {
        let state = machine.run(&["systemctl", "show", "--property=ActiveState,UnitFileState", unit]);
        assert_eq!(state, "ActiveState=inactive\nUnitFileState=enabled", "{unit}");
    }
    drive.then("unwind").within(&machine).says(&["UNWOUND"]);
    assert_eq!(states(&machine), before);
    // What was enabled and did not run is not held any more: it comes with the next boot, like everything.
    machine.power_off();
    machine.start();
    machine.run(&["systemctl", "is-active", "erp-web", "erp-celery", "erp-idle", "erp-tick.timer"]);
}

#[test]
fn the_restore_is_finished_after_the_boot() {
    let mut machine = application();
    let before = states(&machine);
    for (swap, check, running) in [(waits(), Gate::default(), false), (Gate::default(), waits(), true)] {
        let drive = Drive { swap, check, ..drive() };
        let place = if running { "check" } else { "swap" };
        drive.within(&machine).until(&format!("WAITING at {place}"));
        machine.cut_power();
        machine.start();
        // Before the checks, the late ones are still held.
        assert_eq!(machine.try_run(&["systemctl", "is-active", "erp-celery"]).out.trim(), "inactive");
        assert_eq!(machine.try_run(&["systemctl", "is-active", "erp-web"]).code == 0, running);
        drive.then("resume").within(&machine).says(&["COMMITTED"]);
        // One that was enabled and stopped by hand was released before the power failed, so the boot has started it.
        machine.sh("systemctl stop erp-idle");
        machine.until("systemctl is-failed --quiet erp-broken");
        assert_eq!(states(&machine), before);
    }
}

#[test]
fn what_was_held_and_not_yet_stopped_runs_again_after_the_boot() {
    let mut machine = application();
    let before = states(&machine);
    let drive = Drive { held: waits(), ..drive() };
    drive.within(&machine).until("WAITING at held");
    assert_eq!(machine.try_run(&["systemctl", "is-active", "erp-web"]).code, 0, "a hold stops nothing");
    machine.cut_power();
    machine.start();
    assert_eq!(machine.try_run(&["systemctl", "is-active", "erp-web"]).out.trim(), "inactive");
    drive.then("unwind").within(&machine).says(&["UNWOUND"]);
    machine.until("systemctl is-failed --quiet erp-broken");
    assert_eq!(states(&machine), before);
}
