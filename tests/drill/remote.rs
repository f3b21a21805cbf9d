//! Drills of hosts that cannot do them: on another machine, without any configuration.

use crate::port::free_port;
use crate::setup::{Host, of_drill, values};
use crate::world::{Ran, run};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A host without an identity of its own.
fn sealed() -> Host {
    let host = Host::without_vault();
    host.configure();
    host.world.run(&["init", "--recovery-out", &host.world.at("recovery.key")]).code(0);
    std::fs::remove_file(host.world.at("host.key")).unwrap();
    host.configure_with("");
    host
}

/// A drill as on a machine that has nothing but the program, the repository and the identity.
fn elsewhere(host: &Host, repository: &str, args: &[&str]) -> Ran {
    let w = &host.world;
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command
        .args(["--config", &w.at("not/there.toml"), "--repository", &format!("file://{}", w.at(repository))])
        .args(["--host", "test-host", "--identity", &w.at("recovery.key")])
        .args(args)
        .env("NO_COLOR", "1")
        .env("BACKSTAY__STATE_DIR", w.at("elsewhere"))
        .stdin(Stdio::null());
    run(&mut command)
}

#[test]
fn a_sealed_host_is_proven_on_a_machine_without_a_configuration() {
    let host = sealed();
    let w = &host.world;
    let id = host.backup("p");
    w.run(&["drill", "p"]).code(5).says(&["this host is sealed", "backstay drill --repository"]);
    let before = host.live();
    let drills = w.at("drills");
    let drilled = elsewhere(&host, "repo", &["--json", "drill", "--plan", "p", "--dir", &drills]).code(0).json();
    assert_eq!((drilled["outcome"].as_str().unwrap(), drilled["backup"].as_str().unwrap()), ("proven", id.as_str()));
    // The query was in the backup.
    assert_eq!((drilled["checks"][0]["name"].as_str().unwrap(), drilled["rows"].as_u64()), ("orders", Some(5000)));
    assert_eq!(host.live(), before);
    host.is_clean();
    // The host knows of it, and so does its retention.
    w.run(&["list", "--plan", "p"]).code(0).says(&["proven"]);
    let newest = [host.backup("p"), host.backup("p")];
    w.run(&["forget", "--plan", "p"]).code(0).says(&["proven by a drill"]);
    let listed = w.run(&["list", "--plan", "p"]).code(0);
    assert!(
        listed.out.contains(&id) && !listed.out.contains(&newest[0]) && listed.out.contains(&newest[1]),
        "{}",
        listed.out
    );
    // A query that fails there fails the drill.
    host.cluster.psql("erp", "DELETE FROM shop.orders WHERE id = 1");
    host.backup("p");
    elsewhere(&host, "repo", &["drill", "--plan", "p", "--dir", &drills]).code(13).says(&["the check orders failed"]);
    host.is_clean();
}

#[test]
fn a_machine_that_may_only_read_drills_and_records_nothing() {
    let host = sealed();
    let w = &host.world;
    host.backup("f");
    std::fs::create_dir(w.at("readable")).unwrap();
    let mounted =
        format!("mount --bind {0}/repo {0}/readable && mount -o remount,ro,bind {0}/readable", w.path().display());
    assert!(Command::new("sh").args(["-c", &mounted]).status().unwrap().success());
    let drilled = elsewhere(&host, "readable", &["--json", "drill", "--plan", "f", "--dir", &w.at("drills")]);
    assert!(Command::new("umount").arg(w.at("readable")).status().unwrap().success());
    let drilled = drilled.code(0).says(&["does not record this drill"]).json();
    assert_eq!((drilled["outcome"].as_str().unwrap(), drilled["recorded"].as_bool()), ("proven", Some(false)));
    host.is_clean();
}

#[test]
fn it_is_never_the_live_server_of_another_machine() {
    let host = sealed();
    host.backup("p");
    let drills = host.world.at("drills");
    let live = ["drill", "--plan", "p", "--scratch", "live", "--dir", &drills];
    elsewhere(&host, "repo", &live).code(10).says(&["known to the host itself only"]);
    host.is_clean();
}

/// What is served at a path.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn serve_speaks_for_other_hosts_of_the_repository() {
    let host = sealed();
    let w = &host.world;
    host.backup("f");
    elsewhere(&host, "repo", &["drill", "--plan", "f", "--dir", &w.at("drills")]).code(0);
    // Another machine, with a host's name of its own, that opened the vault once.
    let watcher = w.at("watcher.toml");
    let text = format!(
        "host = \"watcher\"\nstate_dir = \"{0}/watching\"\n[repository]\nurl = \"file://{0}/repo\"\n[metrics]\ntextfile = \"{0}/metrics/watcher.prom\"\n[serve]\nhosts = [\"test-host\"]\nrefresh = \"1s\"\n",
        w.path().display()
    );
    std::fs::write(&watcher, text).unwrap();
    let opened = ["--config", &watcher, "--host", "test-host", "--identity", &w.at("recovery.key"), "list"];
    w.run(&opened).code(0);
    assert!(Path::new(&w.at("watching/trust/test-host.json")).exists());
    // Its drills of other hosts are in its own metrics, under their names.
    let (key, drills) = (w.at("recovery.key"), w.at("drills"));
    let drill =
        ["--config", &watcher, "--host", "test-host", "--identity", &key, "drill", "--plan", "f", "--dir", &drills];
    w.run(&drill).code(0);
    let own = values(&std::fs::read_to_string(w.at("metrics/watcher.prom")).unwrap());
    assert_eq!(own[&of_drill("last_exit_code", "f")], 0.0);
    assert!(own.contains_key("backstay_metrics_timestamp_seconds{host=\"watcher\"}"), "{own:?}");
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut serve = w.command(&["--config", &watcher, "serve", "--listen", &address]);
    let mut serve = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    let newest = "backstay_repository_newest_complete_timestamp_seconds{host=\"test-host\",plan=\"f\"}";
    let metrics = loop {
        let metrics = get(&address, "/metrics").map(|text| values(&text)).unwrap_or_default();
        if metrics.contains_key(newest) || started.elapsed() > Duration::from_secs(30) {
            break metrics;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let page = get(&address, "/").unwrap_or_default();
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert!(metrics[newest] > 1.7e9, "{metrics:?}");
    for name in ["backstay_repository_proven_timestamp_seconds", "backstay_restore_proven_timestamp_seconds"] {
        assert!(metrics[&format!("{name}{{host=\"test-host\",plan=\"f\"}}")] > 1.7e9, "{name}: {metrics:?}");
    }
    assert!(metrics["backstay_repository_seen_timestamp_seconds{host=\"test-host\"}"] > 1.7e9);
    assert!(page.contains("Other hosts") && page.contains("test-host"), "{page}");
}
