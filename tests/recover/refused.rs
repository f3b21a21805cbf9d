//! What is not touched, and what is said about it.

use crate::shop::{HOST, SHOWN, Shape, Shop, Store, URL, ended, exists, fresh, recover, says, tree};

#[test]
fn a_machine_that_is_not_fresh_or_too_small_or_lacks_its_servers_is_left_as_it_is() {
    let store = Store::new();
    let mut lost = Shop::new("no-a", &store, &Shape { docker: false, file: 2_000_000 });
    lost.machine.run(&["backstay", "backup"]);
    // The machine that was backed up is the last one to be made anew.
    says(&recover(&lost.machine, &store, &["--yes"]), 10, &["not fresh", "very machine", "configured as a host"]);
    let identity = lost.identity();
    lost.machine.cut_power();

    let mut machine = fresh("no-b", &identity);
    machine.write("/srv/shop/mine", "mine\n");
    machine.start();
    let _wire = store.wire(&machine);
    // A cluster in use, and not where packages put them; two logs stand behind its directory in the list.
    machine.sh("pg_createcluster --datadir '/srv/pg data' 15 main >&2
                echo \"log_destination = 'stderr, csvlog'\" >> /etc/postgresql/15/main/postgresql.conf
                mkdir '/srv/pg data/base/16384'");
    says(
        &recover(&machine, &store, &["--yes"]),
        10,
        &["not fresh", "/srv/pg data: the cluster has 1 database of somebody's"],
    );
    machine.sh("pg_dropcluster 15 main >&2");
    let before = tree(&machine, "/etc");
    says(
        &recover(&machine, &store, &["--yes"]),
        10,
        &["not fresh", "/srv/shop: there is something", "--onto-existing"],
    );
    assert_eq!(tree(&machine, "/etc"), before);
    assert!(!exists(&machine, "/var/lib/backstay/recover.journal"));
    machine.sh("rm -r /srv/shop");

    // A disk that is too small is told before anything is written.
    machine.sh("mkdir -p /srv/shop; mount -t tmpfs -o size=16m none /srv/shop");
    let short = recover(&machine, &store, &["--yes"]);
    says(&short, 10, &["no room", "/srv/shop", "source files", "are free"]);
    assert_eq!(tree(&machine, "/etc"), before);
    machine.sh("umount /srv/shop; rmdir /srv/shop");

    // A look, and a question that nobody answers.
    let look = recover(&machine, &store, &["--dry-run"]);
    says(
        &look,
        0,
        &[HOST, "Debian GNU/Linux 12", "not installed here (1): shop-tools", "databases of shop", "take over the name"],
    );
    says(&recover(&machine, &store, &[]), 2, &["nobody is here to confirm"]);
    // The wrong host, and no identity.
    says(&recover(&machine, &store, &["--host", "other", "--yes"]), 4, &["no vault of host other", HOST]);
    assert_eq!(tree(&machine, "/etc"), before);

    // Packages are installed by apt or not at all.
    machine.sh("mv /usr/bin/apt-get /usr/bin/apt-got");
    let without = recover(&machine, &store, &["--yes", "--install"]);
    says(&without, 10, &["no apt", "/usr/bin/apt-get"]);
    machine.sh("mv /usr/bin/apt-got /usr/bin/apt-get");
    assert_eq!(tree(&machine, "/etc"), before);

    // Without its servers there is nothing to restore into.
    machine.sh("dpkg --force-depends --purge redis-server >&2");
    let before = tree(&machine, "/etc");
    says(&recover(&machine, &store, &["--yes"]), 10, &["servers that hold the data", "redis-server", "--install"]);
    assert_eq!(tree(&machine, "/etc"), before);
}

#[test]
fn onto_existing_what_is_in_the_way_is_kept() {
    let store = Store::new();
    let mut lost = Shop::new("over-a", &store, &Shape { docker: false, file: 10_000 });
    // The next server would wait with each commit for a standby that nobody has made by then.
    lost.machine.sh("echo \"synchronous_standby_names = 'berlin'\" >> /etc/postgresql/15/main/postgresql.conf");
    lost.machine.run(&["backstay", "backup"]);
    let identity = lost.identity();
    lost.machine.cut_power();
    let mut machine = fresh("over-b", &identity);
    machine.write("/srv/shop/mine", "mine\n");
    machine.write("/etc/shop/shop.env", "COLOUR=mine\n");
    machine.start();
    let _wire = store.wire(&machine);
    let done = recover(&machine, &store, &["--yes", "--onto-existing"]);
    says(&done, 0, &["recovered", "kept below", "wait for the standby `berlin`", "SELECT pg_reload_conf()"]);
    machine.until(&format!("test \"$(curl -sf http://127.0.0.1/)\" = '{SHOWN}'"));
    assert_eq!(machine.sh("cat /srv/.shop_before_*/mine || cat /srv/shop_before_*/mine"), "mine");
    assert_eq!(machine.sh("cat /var/lib/backstay/recover.d/before/etc/shop/shop.env"), "COLOUR=mine");
}

#[test]
fn of_several_hosts_each_is_shown_with_its_plans_and_the_lost_one_is_named() {
    let store = Store::new();
    let mut machine = fresh("several", "");
    machine.start();
    let _wire = store.wire(&machine);
    for (host, plans) in [("ledger-9", &["books"][..]), (HOST, &["shop", "stock"])] {
        let of_plans: String = plans.iter().map(|p| format!("[plans.{p}]\nsources = [\"tree\"]\n")).collect();
        let text = format!(
            "host = \"{host}\"\nstate_dir = \"/srv/{host}\"\n[repository]\nurl = \"{URL}\"\n\
             [keys]\nidentity_file = \"/srv/{host}/host.key\"\n\
             [sources.tree]\nkind = \"files\"\npaths = [\"/etc/ssl\"]\n{of_plans}"
        );
        machine.write(&format!("/srv/{host}/backstay.toml"), &text);
        let config = format!("/srv/{host}/backstay.toml");
        let on = |args: &[&str]| {
            let argv = [&["backstay", "--config", &config][..], args].concat();
            says(&ended(machine.command(&argv).envs(store.environment())), 0, &[]);
        };
        on(&["init", "--recovery-out", &format!("/srv/{host}/recovery.key")]);
        plans.iter().for_each(|plan| on(&["backup", plan]));
    }
    machine.sh(&format!("cp /srv/{HOST}/recovery.key /root/recovery.key"));
    let before = tree(&machine, "/etc");
    let several = recover(&machine, &store, &["--yes"]);
    says(
        &several,
        2,
        &[
            "holds these hosts",
            "ledger-9: plan books, newest backup 20",
            "shop-1: plan shop, newest backup 20",
            "plan stock, newest backup 20",
            "Name the lost one with --host: ledger-9, shop-1",
        ],
    );
    // What opens one host opens no other.
    says(&recover(&machine, &store, &["--host", "ledger-9", "--yes"]), 5, &["this identity opens none", "ledger-9"]);
    assert_eq!(tree(&machine, "/etc"), before);
}
