//! What is read and recorded.

use super::server::Server;
use serde_json::Value;

fn has(list: &Value, name: &str) -> bool {
    list.as_array().unwrap().iter().any(|v| v == name)
}

#[test]
fn the_setup_of_a_machine_is_one_tree_and_facts() {
    let server = Server::new("facts");
    // A server that listens, and a cluster of PostgreSQL.
    server.machine.sh("systemctl start nginx; systemctl start postgresql; hostname > /dev/null");
    server.machine.until("pg_lsclusters --no-header | grep -q online");
    server.configure("compose = [\"/opt/stack\"]");
    let record = server.backup();
    assert_eq!((record["kind"].as_str(), record["artifacts"][0]["name"].as_str()), (Some("host"), Some("tree")));
    let host = &record["facts"]["host"];
    let inventory = &host["inventory"];
    assert_eq!(inventory["unknown"], Value::Null, "{inventory}");
    let system = &inventory["system"];
    assert_eq!((system["id"].as_str(), system["version_id"].as_str()), (Some("debian"), Some("12")));
    assert!(system["kernel"].as_str().unwrap().contains('.') && !system["architecture"].as_str().unwrap().is_empty());
    let packages = &inventory["packages"];
    assert!(packages["installed"]["nginx-light"].as_str().unwrap().starts_with("1."), "{packages}");
    assert!(
        has(&packages["by_hand"], "postgresql") && !packages["sources"].as_array().unwrap().is_empty(),
        "{packages}"
    );
    let units = &inventory["units"];
    for unit in ["shop.service", "shop.timer"] {
        assert_eq!(units["files"][unit], "enabled", "{units}");
        assert!(has(&units["active"], unit), "{units}");
    }
    assert_eq!(units["files"]["redis-server.service"], "disabled");
    let users = &inventory["accounts"]["users"];
    assert_eq!((users["ann"]["system"].as_bool(), users["shop"]["system"].as_bool()), (Some(false), Some(true)));
    assert!(has(&inventory["accounts"]["groups"]["shop"]["members"], "ann"));
    let port = inventory["ports"].as_array().unwrap().iter().find(|p| p["port"] == 8099).expect("nginx listens");
    assert_eq!(
        (port["process"].as_str(), port["unit"].as_str(), port["address"].as_str()),
        (Some("nginx"), Some("nginx.service"), Some("127.0.0.1"))
    );
    let cluster = &inventory["postgres_clusters"][0];
    assert_eq!(
        (cluster["version"].as_str(), cluster["name"].as_str(), cluster["status"].as_str()),
        (Some("15"), Some("main"), Some("online"))
    );
    assert!(inventory["disks"]["memory"].as_u64().unwrap() > 1 << 20);
    let bound: Vec<&str> = host["bound"].as_array().unwrap().iter().map(|b| b["path"].as_str().unwrap()).collect();
    for path in ["/etc/machine-id", "/etc/fstab", "/etc/ssh/ssh_host_rsa_key", "/etc/passwd", "/etc/apt/sources.list"] {
        assert!(bound.contains(&path), "{path}: {bound:?}");
    }
    assert!(!bound.contains(&"/etc/ssh/sshd_config") && !bound.iter().any(|p| p.starts_with("/etc/alternatives/")));
    // Everything that was put there is in the tree, and no private key of a user.
    let list = server.run(&["ls", "latest", "--source", "machine"]);
    for path in [
        "/etc/cron.d/shop",
        "/var/spool/cron/crontabs/root",
        "/usr/local/bin/nightly",
        "/etc/systemd/system/multi-user.target.wants/shop.service",
        "/etc/systemd/system/shop.service.d/limits.conf",
        "/etc/nginx/sites-enabled/shop",
        "/root/.ssh/authorized_keys",
        "/opt/stack/.env",
    ] {
        assert!(list.contains(path), "{path} is not in:\n{list}");
    }
    assert!(!list.contains("id_ed25519") && !list.contains("/usr/local/bin/backstay"), "{list}");
    assert_eq!(server.run(&["cat", "--source", "machine", "--path", "/opt/stack/.env"]).trim(), "COLOUR=green");
    server.says(&["find", "shop.service"], 0, &["/etc/systemd/system/shop.service"]);
    server.says(
        &["show"],
        0,
        &[
            "Debian GNU/Linux 12",
            "packages (",
            "units enabled",
            "PostgreSQL cluster 15/main on port 5432",
            "of this machine alone",
        ],
    );
}

#[test]
fn an_unchanged_machine_is_not_read_again() {
    let server = Server::new("again");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    server.backup();
    let ended = server.try_run(&["--json", "backup"]);
    let manifest: Value = serde_json::from_str(&ended.out).unwrap();
    // The configuration is compared by its hash.
    assert!(manifest["stats"]["read"].as_u64().unwrap() < 10_000, "{}", manifest["stats"]);
}

#[test]
fn what_is_configured_and_is_not_there_fails_the_source() {
    let server = Server::new("missing");
    for more in ["extra = [\"/opt/nothing\"]", "compose = [\"/opt/nothing\"]"] {
        server.configure(more);
        server.says(&["backup", "--source", "machine"], 11, &["/opt/nothing", "does not exist", "compose"]);
    }
    server.configure("extra = [\"opt\"]");
    server.says(&["backup"], 3, &["not absolute"]);
    // A database that is written meanwhile is not stored as if it were whole.
    server.machine.sh("mkdir -p /opt/stack/data/global && touch /opt/stack/data/global/pg_control");
    server.configure("compose = [\"/opt/stack\"]");
    server.says(&["backup", "--source", "machine"], 11, &["PostgreSQL", "torn", "/opt/stack/data"]);
}
