//! Whatever happens in the middle: the same command goes on.

use crate::fault::{self, Fault, What};
use crate::machine::Machine;
use crate::shop::{SHOWN, Shape, Shop, Store, URL, ended, exists, fresh, recover, says, tree};
use crate::wire::Wire;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const JOURNAL: &str = "/var/lib/backstay/recover.journal";

fn start(machine: &Machine, store: &Store) -> Child {
    let argv = ["backstay", "recover", "--repository", URL, "--identity", "/root/recovery.key", "--yes"];
    machine.command(&argv).envs(store.environment()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until a phase is begun and has carried some data.
fn within(machine: &Machine, wire: &Wire, phase: &str, bytes: u64) {
    let started = Instant::now();
    let begun = format!("\"doing\":{phase}");
    loop {
        let text = std::fs::read_to_string(machine.path(JOURNAL)).unwrap_or_default();
        if text.contains(&begun) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{phase} never begins:\n{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = wire.carried();
    while wire.carried() < before + bytes {
        assert!(started.elapsed() < Duration::from_secs(150), "nothing is carried in {phase}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn killed_cut_off_from_the_store_and_without_power_it_goes_on_by_the_same_command() {
    let store = Store::new();
    let mut lost = Shop::new("cut-a", &store, &Shape { docker: false, file: 2_000_000 });
    lost.machine.run(&["backstay", "backup"]);
    let (identity, files) = (lost.identity(), tree(&lost.machine, "/srv/shop"));
    lost.machine.cut_power();

    let mut machine = fresh("cut-b", &identity);
    machine.start();
    let wire = store.wire(&machine);
    wire.slow(Duration::from_millis(20));
    // Killed while files are on their way.
    let mut child = start(&machine, &store);
    within(&machine, &wire, "{\"trees\":\"shop\"}", 3_000_000);
    machine.sh("kill -KILL $(pidof backstay)");
    child.wait().unwrap();
    assert!(exists(&machine, JOURNAL) && exists(&machine, "/var/lib/backstay/restore.journal"));
    // Another host, or an exercise, is not to be begun in the middle.
    says(&recover(&machine, &store, &["--yes", "--exercise"]), 9, &["was interrupted", "--start-over"]);
    // Nor are other options given to it.
    let otherwise = recover(&machine, &store, &["--yes", "--keep-identity"]);
    says(&otherwise, 2, &["begun otherwise: --keep-identity", "--start-over"]);

    // The power goes, in the same phase.
    let mut child = start(&machine, &store);
    within(&machine, &wire, "{\"trees\":\"shop\"}", 3_000_000);
    machine.cut_power();
    let _ = child.wait();
    assert!(exists(&machine, JOURNAL));
    machine.start();
    // Nothing of the application has started meanwhile.
    assert_eq!(machine.try_run(&["systemctl", "is-active", "shop.service"]).out.trim(), "inactive");
    let wire = store.wire(&machine);
    wire.slow(Duration::from_millis(20));

    // The network is away for a while: it is waited for.
    let child = machine
        .command(&["backstay", "--json", "recover", "--repository", URL, "--identity", "/root/recovery.key", "--yes"])
        .envs(store.environment())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    within(&machine, &wire, "{\"trees\":\"shop\"}", 1_000_000);
    wire.cut();
    std::thread::sleep(Duration::from_secs(12));
    wire.mend();
    wire.slow(Duration::ZERO);
    let out = child.wait_with_output().unwrap();
    let (told, remarks) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{told}{remarks}");
    let report: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}\n{remarks}"));
    assert!(remarks.contains("goes on with the recovery of host shop-1"), "{remarks}");
    let phases = report["phases"].as_array().unwrap();
    assert!(phases.iter().all(|p| p["done"] == true), "{report:#}");
    let trees = phases.iter().find(|p| p["phase"] == "images, volumes and files of shop").unwrap();
    assert!(trees["tries"].as_u64().unwrap() >= 3, "{trees}");
    assert!(report["seconds"].as_f64().unwrap() > 10.0);

    machine.until(&format!("test \"$(curl -sf http://127.0.0.1/)\" = '{SHOWN}'"));
    assert_eq!(tree(&machine, "/srv/shop"), files);
    assert!(!exists(&machine, JOURNAL) && !exists(&machine, "/var/lib/backstay/restore.journal"));
    machine.run(&["backstay", "backup"]);
}

/// Before the record that a phase is done, and the next time before the one that the next phase begins: each phase is done
/// twice, as far as it does anything the second time.
#[test]
fn killed_before_every_record_it_is_finished_by_the_same_command_again_and_again() {
    let store = Store::new();
    let mut lost = Shop::new("kill-a", &store, &Shape { docker: true, file: 20_000 });
    lost.machine.run(&["backstay", "backup"]);
    let (identity, files) = (lost.identity(), tree(&lost.machine, "/srv/shop"));
    lost.machine.cut_power();

    let mut machine = fresh("kill-b", &identity);
    fault::library(&machine.path(fault::WITHIN));
    machine.start();
    let _wire = store.wire(&machine);
    let recover =
        ["backstay", "recover", "--repository", URL, "--identity", "/root/recovery.key", "--install", "--yes"];
    let mut runs = 0;
    loop {
        let fault = Fault { file: JOURNAL, call: "write", when: 2 + runs % 2, what: What::Kill };
        let faulty = fault.environment(fault::WITHIN);
        let out = ended(machine.command(&recover).envs(faulty).envs(store.environment()));
        runs += 1;
        if out.code == 0 {
            break;
        }
        assert!(runs < 80 && exists(&machine, JOURNAL), "run {runs}: {}\n{}", out.out, out.err);
    }
    assert!(runs > 20, "only {runs} runs: nothing was killed");
    machine.until(&format!("test \"$(curl -sf http://127.0.0.1/)\" = '{SHOWN}'"));
    assert_eq!(machine.sh("curl -sf http://127.0.0.1/documents/a.txt"), "contract");
    assert_eq!(tree(&machine, "/srv/shop"), files);
    assert_eq!(machine.sh("systemctl is-active shop shop-worker nginx redis-server docker | sort -u"), "active");
    assert!(!exists(&machine, JOURNAL) && !exists(&machine, "/usr/sbin/policy-rc.d"));
    machine.run(&["backstay", "backup"]);
}
