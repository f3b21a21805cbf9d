//! Jobs as units: what the sandbox lets through, who waits for whom, and who hears of a failure.

use crate::host::Host;

const BACKUP: &str = "backstay-backup@shop.service";

/// Counts and facts of the newest backup, without what differs from run to run.
fn facts(host: &Host) -> serde_json::Value {
    let manifest = host.json(&["show"]);
    let sources = manifest["sources"].as_array().unwrap().iter();
    let of = |s: &serde_json::Value| {
        let mut facts = s["facts"].clone();
        facts.as_object_mut().map(|f| f.remove("unchanged"));
        serde_json::json!([s["name"], s["state"], facts, s["warnings"], bytes(s)])
    };
    sources.map(of).collect()
}

fn bytes(source: &serde_json::Value) -> Vec<&serde_json::Value> {
    source["artifacts"].as_array().unwrap().iter().map(|a| &a["bytes"]).collect()
}

#[test]
fn the_sandbox_hides_nothing_from_a_backup() {
    let more = "[sources.everything]\nkind = \"files\"\npaths = [\"/root\", \"/home\", \"/usr/lib/modules\", \"/usr/lib/systemd\", \"/boot\", \"/tmp/kept\", \"/opt\"]\n\
        [sources.shopdb]\nkind = \"postgres\"\nurl = \"postgresql:///shop\"\nos_user = \"postgres\"\n\
        [sources.dump]\nkind = \"command\"\ndump = [\"sh\", \"-c\", \"id -un; cat /home/worker/own; cat /proc/1/comm; touch /var/tmp/was-here\"]\nos_user = \"worker\"\n";
    let host = Host::new("sandbox", more, &["everything", "shopdb", "dump"]);
    host.machine.sh(
        "useradd --create-home worker
         echo own > /home/worker/own; chown worker /home/worker/own; chmod 400 /home/worker/own
         mkdir -p /usr/lib/modules/6.1 /tmp/kept /opt/devices; echo module > /usr/lib/modules/6.1/x.ko; echo temporary > /tmp/kept/x
         mknod /opt/devices/null c 1 3; mkfifo /opt/devices/pipe; cp /bin/true /opt/setuid; chmod 4755 /opt/setuid
         python3 -c 'import os; os.setxattr(\"/opt/setuid\", \"trusted.kept\", b\"1\"); os.setxattr(\"/opt/setuid\", \"user.kept\", b\"2\")'
         chmod 000 /opt/backstay.deb
         systemctl start postgresql
         su postgres -c 'createdb shop && psql -qd shop -c \"create table orders as select generate_series(1, 1000) as id\"'",
    );
    // The unit first: what was read once is not read again.
    host.job(BACKUP);
    let by_unit = facts(&host);
    host.backstay(&["backup"]);
    let by_hand = facts(&host);
    assert_eq!(by_unit, by_hand, "{}", host.log(BACKUP));
    assert_eq!(host.backups(), 2);
    assert!(by_unit.to_string().contains("1000"), "{by_unit}");
    // And what came through the sandbox comes back.
    host.backstay(&["restore", "--source", "shopdb", "--to", "shop_again", "--yes"]);
    let count = "su postgres -c 'psql -qtAd shop_again -c \"select count(*) from orders\"'";
    assert_eq!(host.machine.sh(count), "1000");
    host.backstay(&["restore", "--source", "everything", "--to", "/srv/again"]);
    let attributes =
        "import os; print({a: os.getxattr('/srv/again/opt/setuid', a) for a in ('trusted.kept', 'user.kept')})";
    assert_eq!(host.machine.run(&["python3", "-c", attributes]), "{'trusted.kept': b'1', 'user.kept': b'2'}");
    let dumped = host.backstay(&["cat", "--source", "dump"]);
    assert_eq!(dumped, "worker\nown\nsystemd");
    // The other jobs in theirs. Damage is marked, which writes into the repository.
    for unit in ["backstay-check.service", "backstay-prune.service", "backstay-resume.service"] {
        host.job(unit);
    }
    assert!(host.log("backstay-prune.service").contains("pruned"), "{}", host.log("backstay-prune.service"));
    host.machine
        .sh("for pack in $(find /srv/repository/shop-1/packs -type f | head -1); do echo damaged > $pack; done");
    assert_ne!(host.machine.try_run(&["systemctl", "start", "backstay-check.service"]).code, 0);
    assert_eq!(host.property("backstay-check.service", "ExecMainStatus"), "7");
    let said = host.log("backstay-check.service");
    assert!(said.contains("marked: the next backup stores again"), "{said}");
}

#[test]
fn what_a_restore_kept_goes_by_its_timer_when_its_time_is_over() {
    let more = "[sources.files]\nkind = \"files\"\npaths = [\"/opt/shop\"]\n\
        [sources.shopdb]\nkind = \"postgres\"\nurl = \"postgresql:///shop\"\nos_user = \"postgres\"\n";
    let host = Host::new("kept", more, &["files", "shopdb"]);
    host.machine.sh("mkdir /opt/shop; echo then > /opt/shop/state; systemctl start postgresql
         su postgres -c 'createdb shop && psql -qd shop -c \"create table orders as select 1 as id\"'");
    host.backstay(&["backup"]);
    host.machine.sh("echo now > /opt/shop/state");
    host.backstay(&["restore", "--yes"]);
    let kept = "su postgres -c \"psql -qtAc \\\"select count(*) from pg_database where datname like 'shop_before_%'\\\"\"; ls -d /opt/*_before_* 2> /dev/null | wc -l";
    assert_eq!(host.machine.sh(kept), "1\n1");
    let cleanup = "backstay-cleanup.service";
    host.job(cleanup);
    assert!(host.log(cleanup).contains("nothing is kept that need not be"), "{}", host.log(cleanup));
    assert_eq!(host.machine.sh(kept), "1\n1");
    host.machine.sh("printf '[plans.shop.restore]\\nkeep_previous = \"1ms\"\\n' >> /etc/backstay/backstay.toml");
    host.job(cleanup);
    assert_eq!(host.machine.sh(kept), "0\n0", "{}", host.log(cleanup));
    assert_eq!(host.machine.sh("cat /opt/shop/state; su postgres -c 'psql -qtAd shop -c \"table orders\"'"), "then\n1");
}

#[test]
fn jobs_wait_for_each_other_and_people_are_told() {
    let slow = "[sources.slow]\nkind = \"command\"\ndump = [\"sh\", \"-c\", \"while ! test -e /srv/go-on; do sleep 0.1; done; echo done\"]\n";
    let host = Host::new("waiting", slow, &["slow"]);
    host.machine.run(&["touch", "/srv/go-on"]);
    host.backstay(&["backup"]);
    host.machine.run(&["rm", "/srv/go-on"]);
    host.machine.run(&["systemctl", "start", "--no-block", BACKUP]);
    host.machine.until("pgrep -f '[s]rv/go-on'");
    let pid = host.property(BACKUP, "MainPID");
    let busy = host.try_backstay(&["backup"]);
    assert_eq!(busy.code, 9, "{busy:?}");
    assert!(busy.err.contains(&format!("another backup is running (process {pid})")), "{busy:?}");
    let busy = host.try_backstay(&["restore", "--yes"]);
    assert_eq!(busy.code, 9, "{busy:?}");
    assert!(busy.err.contains("a backup is running") && busy.err.contains("--wait"), "{busy:?}");
    // A look, and a restore to a place of its own, are in nobody's way.
    host.backstay(&["restore", "--dry-run"]);
    host.backstay(&["restore", "--source", "data", "--to", "/srv/elsewhere"]);
    // The timer's other job waits.
    host.machine.run(&["systemctl", "start", "--no-block", "backstay-prune.service"]);
    host.machine.until("journalctl --quiet --unit backstay-prune.service | grep 'waiting: a backup is running'");
    assert_eq!(host.property("backstay-prune.service", "ActiveState"), "activating");
    let status = host.property(BACKUP, "StatusText");
    assert!(status.starts_with("backup shop: "), "{status}");
    host.machine.run(&["touch", "/srv/go-on"]);
    host.machine.until("systemctl show -P ActiveState backstay-prune.service | grep inactive");
    for unit in [BACKUP, "backstay-prune.service"] {
        assert_eq!(host.property(unit, "Result"), "success", "{}", host.log(unit));
    }
    assert_eq!(host.backups(), 2);
}

#[test]
fn a_job_that_waits_in_vain_or_fails_calls_the_operators_program() {
    let odd = "[sources.odd]\nkind = \"command\"\ndump = [\"sh\", \"-c\", \"test -e /srv/works && echo works\"]\n";
    let host = Host::new("failing", odd, &["odd"]);
    host.machine.write(
        "/etc/backstay/on-failure",
        "#!/bin/sh\necho \"$1 $MONITOR_SERVICE_RESULT $MONITOR_EXIT_STATUS\" >> /srv/told\n",
    );
    host.machine.run(&["chmod", "755", "/etc/backstay/on-failure"]);
    host.drop_in(BACKUP, "[Service]\nExecStart=\nExecStart=/usr/bin/backstay --wait 1s backup shop\n");
    let told = |line: &str| host.machine.until(&format!("grep -qxF '{line}' /srv/told"));
    // Committed, but not with everything.
    assert_ne!(host.machine.try_run(&["systemctl", "start", BACKUP]).code, 0);
    told(&format!("{BACKUP} exit-code 8"));
    // Somebody else has the lock for good.
    let mut other = host.machine.command(&["flock", "/var/lib/backstay/work.lock", "sleep", "300"]).spawn().unwrap();
    host.machine.until("! flock --nonblock /var/lib/backstay/work.lock true");
    assert_ne!(host.machine.try_run(&["systemctl", "start", BACKUP]).code, 0);
    told(&format!("{BACKUP} exit-code 9"));
    host.machine.run(&["pkill", "-x", "sleep"]);
    other.wait().unwrap();
    // What works tells nobody, and without a program nobody is told and nothing breaks.
    host.machine.sh("touch /srv/works; rm /srv/told");
    host.job(BACKUP);
    host.machine.sh("rm /srv/works /etc/backstay/on-failure");
    assert_ne!(host.machine.try_run(&["systemctl", "start", BACKUP]).code, 0);
    host.machine.run(&["test", "!", "-e", "/srv/told"]);
}
