//! The loss of a whole host, by the page that lies in the safe.

use crate::host::{VERSION, package};
use crate::machine::Machine;
use crate::shop::{HOST, SHOWN, Shape, Shop, Store, URL, ended, exists, fresh, says, tree};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The commands of the page, in order, each with the lines that go on with it.
fn commands() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md")).unwrap();
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    let text = blocks.join("").replace("\\\n", " ");
    let commands: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    assert!(commands.len() > 4, "{commands:?}");
    commands
}

/// Types what the page says on a fresh machine.
fn by_the_page(machine: &Machine, store: &Store) -> String {
    let mut said = String::new();
    let access = store.access();
    let mut exports = String::from("cd /root; ");
    for command in commands() {
        let command = command
            .replace("s3://acme-backups/production", URL)
            .replace("AKIA…", &access.key)
            .replace("wJalr…", &access.secret)
            .replace("https://s3.example.org", "http://127.0.0.1:9000")
            .replace("eu-central-1", &access.region);
        if command.starts_with("export ") {
            exports.push_str(&format!("{command}; "));
            continue;
        }
        let line = match command.contains("recover ") && !command.contains("--dry-run") {
            // On a terminal, where the name is typed when it is asked for. Who types goes away when the program has ended.
            true => format!(
                "{exports} mkfifo /tmp/keys; (sleep 2; echo {HOST}; exec sleep 3600) > /tmp/keys & typing=$!
                 script -qec '{command}' /dev/null < /tmp/keys; code=$?
                 kill $typing; rm /tmp/keys; exit $code"
            ),
            false => format!("{exports} {command}"),
        };
        let out = ended(&mut machine.command(&["sh", "-uc", &line]));
        assert_eq!(out.code, 0, "{command}:\n{}{}", out.out, out.err);
        said.push_str(&format!("$ {command}\n{}{}", out.out, out.err));
    }
    said
}

#[test]
fn a_lost_host_comes_back_on_a_fresh_machine_by_the_page_in_the_safe() {
    let store = Store::new();
    let mut lost = Shop::new("lost", &store, &Shape { docker: true, file: 700_000 });
    let m = &lost.machine;
    assert_eq!(m.sh("curl -sf http://127.0.0.1/documents/a.txt"), "contract");
    m.sh("backstay timer enable shop --calendar '*:*:0/20' --spread 0s >&2");
    m.until("backstay --json list | grep -q '\"id\"'");
    let (identity, files) = (lost.identity(), tree(m, "/srv/shop"));
    lost.machine.cut_power();
    let before = store.backups();
    assert!(before > 0);

    let mut machine = fresh("fresh", &identity);
    std::fs::copy(package(VERSION), machine.path(&format!("/root/backstay_{VERSION}_amd64.deb"))).unwrap();
    machine.start();
    let _wire = store.wire(&machine);
    let said = by_the_page(&machine, &store);
    for word in [
        "shop-tools",
        "PostgreSQL cluster 15/main",
        "recovered host shop-1",
        "databases of shop",
        "generation 1",
        "plan shop: 2 checks passed",
    ] {
        assert!(said.contains(word), "{word} is not said in:\n{said}");
    }

    // The application answers, with everything.
    assert_eq!(machine.sh("curl -sf http://127.0.0.1/"), SHOWN, "{said}");
    assert_eq!(machine.sh("curl -sf http://127.0.0.1/documents/a.txt"), "contract");
    assert_eq!(tree(&machine, "/srv/shop"), files);
    assert_eq!(machine.sh("systemctl is-active shop shop-worker nginx redis-server docker | sort -u"), "active");
    assert_eq!(machine.sh("systemctl is-enabled shop shop-worker nginx postgresql | sort -u"), "enabled");
    // The machine is what the first was, but for what belonged to it alone.
    assert_eq!(machine.sh("id -u shop; id -u ann"), "555\n1234");
    assert_eq!(machine.sh("stat -c %U /home/ann/.ssh/authorized_keys"), "ann");
    assert!(machine.sh("getent shadow ann").starts_with("ann:$"));
    assert_eq!(machine.sh("cat /etc/fstab /etc/ssl/certs/shop.pem"), "# of the second\ncertificate");
    assert!(!exists(&machine, "/etc/nginx/sites-enabled/default"));
    assert_eq!(machine.sh("cat /etc/cron.d/shop"), "0 3 * * * root /usr/bin/true");
    // The package is there, what it would have started did not start, and it did not take the operator's file away.
    assert_eq!(
        machine.sh("shop-tools; cat /var/lib/shop-tools.policy /etc/shop/tools.conf"),
        "tools\n101\nof the operator"
    );
    assert!(!exists(&machine, "/usr/sbin/policy-rc.d"));
    // Nothing that only the recovery needed is left: hashes of passwords were in it.
    assert!(
        !exists(&machine, "/var/lib/backstay/recover.d/files")
            && !exists(&machine, "/var/lib/backstay/recover.journal")
    );

    // Its own timer makes the next backup, which ships almost nothing.
    let there = store.backups();
    let came = format!("test \"$(backstay --json list | grep -c '\"predecessor\"')\" -gt {there}");
    let began = Instant::now();
    while machine.try_run(&["sh", "-c", &came]).code != 0 {
        let look = "systemctl list-timers --all 'backstay*'; journalctl --no-pager -n 60 -u 'backstay-backup@shop*'";
        assert!(began.elapsed() < Duration::from_secs(90), "no backup by the timer:\n{}", machine.sh(look));
        std::thread::sleep(Duration::from_millis(500));
    }
    let listed: Value = serde_json::from_str(&machine.run(&["backstay", "--json", "list"])).unwrap();
    let newest = listed.as_array().unwrap().last().unwrap();
    let (bytes, shipped) = (newest["stats"]["bytes"].as_u64().unwrap(), newest["stats"]["shipped"].as_u64().unwrap());
    assert!(bytes > 8_000_000 && shipped < bytes / 20, "{shipped} of {bytes} were shipped");
    assert!(newest["sources"].as_array().unwrap().iter().all(|s| s["state"] == "complete"), "{newest}");

    // The lost machine comes back, and is told that it was replaced.
    lost.machine.start();
    let _wire = store.wire(&lost.machine);
    let survivor = &lost.machine;
    survivor.until("systemctl is-active docker postgresql redis-server");
    says(
        &survivor.try_run(&["backstay", "--wait", "2m", "backup"]),
        10,
        &["was replaced", "generation 1", "--take-over", "disable"],
    );
    says(&survivor.try_run(&["backstay", "--wait", "2m", "prune"]), 10, &["was replaced"]);
    survivor.until("test \"$(systemctl show -P ExecMainStatus backstay-backup@shop.service)\" = 10");
}
