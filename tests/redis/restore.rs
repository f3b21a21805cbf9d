//! The way back: beside the live data, verified, in place after a restart; and back again when it fails.

use crate::backup::{by_socket, configure, stored, with_server};
use crate::data::everything;
use crate::server::{Flavour, Server, words};
use crate::world::{Ran, World, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A source that is stopped and started by what stands for systemd.
pub fn with_unit(s: &Server) -> String {
    format!("{}unit = \"bsr-redis.service\"\nconfig_file = \"{}\"\n", by_socket(s), s.path("redis.conf").display())
}

fn command(w: &World, s: &Server, args: &[&str]) -> Command {
    let mut command = w.command(args);
    command.env("PATH", format!("{}:{}", s.path("bin").display(), std::env::var("PATH").unwrap()));
    command
}

pub fn restore(w: &World, s: &Server) -> Ran {
    run(&mut command(w, s, &["restore", "--yes"]))
}

/// The same without what stands for systemd.
pub fn restore_here(w: &World) -> Ran {
    w.run(&["restore", "--yes"])
}

/// Files of the server's directory, by name.
pub fn files(s: &Server) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(s.path("data")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The digest of what a server holds that starts with this file.
fn digest_of(s: &Server, file: PathBuf) -> String {
    let other = Server::stopped(s.flavour.clone(), "");
    fs::copy(file, other.data("dump.rdb")).unwrap();
    other.launch();
    other.digest()
}

#[test]
fn everything_comes_back_and_what_was_there_is_kept() {
    for flavour in Flavour::all() {
        let name = flavour.name.clone();
        let s = Server::of(flavour, "");
        everything(&s);
        let before = s.digest();
        let w = with_server(&with_unit(&s));
        w.backup();
        s.good(&["FLUSHALL"]);
        s.good(&["SET", "written since", "the backup"]);
        let since = s.digest();
        restore(&w, &s).code(0).says(&["keys of db 0 without expiry", "equal to the facts", "dump.rdb_before_"]);
        let id = w.last_restore();
        assert_eq!(s.digest(), before, "{name}");
        if s.flavour.major >= 7 {
            assert!(s.good(&["FUNCTION", "LIST"]).contains("mylib"), "{name}");
        }
        // Nothing but the data and the previous data; and that is what was there at the stop, though the server
        // was never told to save anything.
        assert_eq!(files(&s), ["dump.rdb".to_owned(), format!("dump.rdb_before_{id}")], "{name}");
        assert_eq!(digest_of(&s, s.data(&format!("dump.rdb_before_{id}"))), since, "{name}");
    }
}

#[test]
fn a_server_with_an_append_only_file_gets_one() {
    for flavour in Flavour::all() {
        let name = flavour.name.clone();
        let s = Server::of(flavour, "appendonly yes\nappendfilename \"my file.aof\"");
        everything(&s);
        let before = s.digest();
        let w = with_server(&with_unit(&s));
        w.backup();
        s.good(&["FLUSHALL"]);
        s.good(&["SET", "written since", "the backup"]);
        let since = s.digest();
        let ran = restore(&w, &s);
        assert_eq!(ran.code, 0, "{name}: {ran:?}\n{}", s.log());
        assert_eq!(s.digest(), before, "{name}");
        // It goes on from there.
        s.good(&["SET", "written", "after the restore"]);
        let after = s.digest();
        s.stop();
        s.launch();
        assert_eq!(s.digest(), after, "{name}");
        // The previous one is whole: put back by hand, it is what was there.
        s.stop();
        let live = if s.flavour.major >= 7 { "appendonlydir" } else { "my file.aof" };
        fs::rename(s.data(live), s.path("aside")).unwrap();
        fs::rename(s.data(&format!("{live}_before_{}", w.last_restore())), s.data(live)).unwrap();
        s.launch();
        assert_eq!(s.digest(), since, "{name}");
    }
}

#[test]
fn other_names_of_files_and_directories_are_used() {
    let s = Server::with("dbfilename other.rdb\nappendonly yes\nappenddirname parts\nappendfilename cache.aof");
    s.good(&["SET", "a", "1"]);
    let before = s.digest();
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["SET", "a", "2"]);
    restore(&w, &s).code(0);
    let id = w.last_restore();
    assert_eq!(s.digest(), before);
    assert_eq!(files(&s), ["other.rdb".to_owned(), "parts".to_owned(), format!("parts_before_{id}")]);
    // With the append-only file switched off, the RDB is the restored one too.
    s.stop();
    let conf = s.path("redis.conf");
    fs::write(&conf, fs::read_to_string(&conf).unwrap() + "appendonly no\n").unwrap();
    s.launch();
    assert_eq!(s.digest(), before);
}

#[test]
fn keys_that_expired_since_are_no_difference() {
    let s = Server::start();
    let mut talk = s.socket().unwrap();
    talk.all((0..200).map(|i| words(&format!("SET short{i} x PX 1500"))));
    talk.all((0..100).map(|i| words(&format!("SET lasting{i} x"))));
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["FLUSHALL"]);
    std::thread::sleep(Duration::from_secs(2));
    restore(&w, &s).code(0).says(&["keys of db 0 without expiry  ", "200 keys", "dropped at load"]);
    assert_eq!(s.good(&["DBSIZE"]), "100");
}

/// The stop has a grace time; what is in memory must not depend on it.
#[test]
fn a_server_that_is_killed_while_it_saves_loses_nothing() {
    let s = Server::with("save 3600 1");
    let mut talk = s.socket().unwrap();
    talk.all((0..150_000).map(|i| words(&format!("SET key:{i} value-of-{i}"))));
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["SET", "written since", "the backup"]);
    let since = s.digest();
    // Killed after a hundredth of a second.
    fs::write(s.path("grace"), "1").unwrap();
    restore(&w, &s).code(0);
    assert_eq!(digest_of(&s, s.data(&format!("dump.rdb_before_{}", w.last_restore()))), since);
}

#[test]
fn a_server_that_does_not_start_gets_its_old_data_back() {
    for conf in ["", "appendonly yes"] {
        let s = Server::with(conf);
        s.good(&["SET", "a", "1"]);
        let w = with_server(&with_unit(&s));
        w.backup();
        s.good(&["SET", "a", "2"]);
        fs::write(s.path("broken"), "").unwrap();
        restore(&w, &s).code(16).says(&["it is broken", "could not be taken back", "undo: swap redis cache"]);
        // It could not be started with either; its files are those from before, and nothing else is left.
        assert!(!s.is_up());
        fs::remove_file(s.path("broken")).unwrap();
        s.launch();
        assert_eq!(s.good(&["GET", "a"]), "2", "{conf}");
    }
}

/// The restored data is refused by the server itself, after the swap: it is started again with what it had.
#[test]
fn a_server_that_dies_of_the_restored_data_gets_its_old_data_back() {
    let s = Server::start();
    s.good(&["SET", "a", "1"]);
    s.good(&["SELECT", "0"]);
    let mut talk = s.socket().unwrap();
    talk.select(15);
    talk.all([words("SET b 1")]);
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["SET", "a", "2"]);
    // From the next start on it has four databases, and the backup has data in the sixteenth.
    fs::write(s.path("redis.conf"), fs::read_to_string(s.path("redis.conf")).unwrap() + "databases 4\n").unwrap();
    restore(&w, &s).code(16).says(&["ended while it was starting"]);
    // So has what was there: it does not start either, and that is said; by hand it does.
    fs::write(s.path("redis.conf"), fs::read_to_string(s.path("redis.conf")).unwrap() + "databases 16\n").unwrap();
    if !s.is_up() {
        s.launch();
    }
    assert_eq!(s.good(&["GET", "a"]), "2");
}

/// It starts with options that neither it nor its file told: what was restored would lie there unread.
#[test]
fn a_server_that_starts_without_the_restored_data_is_noticed() {
    let s = Server::start();
    s.good(&["SET", "a", "1"]);
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["SET", "a", "2"]);
    fs::write(s.path("args"), "--dbfilename elsewhere.rdb").unwrap();
    restore(&w, &s).code(13).says(&["started without the restored data", "it holds no keys, and the backup 1"]);
    s.stop();
    fs::remove_file(s.path("args")).unwrap();
    s.launch();
    assert_eq!(s.good(&["GET", "a"]), "2");
}

#[test]
fn a_test_load_that_fails_stops_the_restore_before_the_server_is_touched() {
    let s = Server::start();
    s.good(&["SET", "a", "1"]);
    let w = with_server(&with_unit(&s));
    w.backup();
    let version = s.flavour.name.replace("redis ", "");
    let put = |then: &str| {
        let script =
            format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Redis server v={version} sha' && exit 0\n{then}\n");
        fs::write(s.path("bin/redis-server"), script).unwrap();
        fs::set_permissions(s.path("bin/redis-server"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    put("echo 'Bad file format reading the RDB'; exit 1");
    restore(&w, &s).code(13).says(&["redis-server does not load the restored data", "Bad file format"]);
    // One that loads and has lost a key.
    put(&format!("sed -i 's|^dbfilename.*|dbfilename none.rdb|' $1; exec {} $1", s.flavour.command[0]));
    restore(&w, &s).code(13).says(&["keys of db 0 without expiry, loaded by redis", "0 instead of 1"]);
    let log = fs::read_to_string(s.path("systemctl.log")).unwrap();
    assert!(!log.contains("stop") && files(&s).is_empty(), "{log}");
    fs::remove_file(s.path("bin/redis-server")).unwrap();
    restore(&w, &s).code(0);
}

#[test]
fn a_full_disk_stops_the_restore_before_the_server_is_touched() {
    let s = Server::stopped(Flavour::system(), "");
    let data = s.path("data");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&data).status().unwrap();
    assert!(mounted.success());
    s.launch();
    let value = "x".repeat(1000);
    let mut random = crate::data::Random::new(7);
    let mut talk = s.socket().unwrap();
    talk.all(
        (0..1200)
            .map(|i| vec![b"SET".to_vec(), format!("k{i}").into_bytes(), crate::world::noise(1000, random.next())]),
    );
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["FLUSHALL"]);
    s.good(&["SET", "a", &value]);
    // Too little from the start.
    fs::write(s.data("filler"), vec![1; 2_500_000]).unwrap();
    restore(&w, &s).code(10).says(&["there is no room", "are needed and"]);
    // Too little in the middle: somebody else was faster.
    let filling = std::thread::spawn({
        let (data, log) = (data.clone(), s.path("systemctl.log"));
        let _ = fs::remove_file(s.data("filler"));
        let _ = fs::remove_file(&log);
        move || {
            // As soon as preflight has looked at the unit.
            while !log.exists() {
                std::thread::yield_now();
            }
            while fs::metadata(data.join("filler")).map_or(0, |m| m.len()) < 2_900_000 {
                let mut file = fs::File::options().create(true).append(true).open(data.join("filler")).unwrap();
                if std::io::Write::write_all(&mut file, &[1; 100_000]).is_err() {
                    break;
                }
            }
        }
    });
    let ran = restore(&w, &s);
    filling.join().unwrap();
    assert!(ran.code == 12 || ran.code == 10, "{ran:?}");
    assert_eq!(s.good(&["GET", "a"]), value);
    assert_eq!(files(&s), ["filler"]);
    fs::remove_file(s.data("filler")).unwrap();
    restore(&w, &s).code(0);
    assert_eq!(s.good(&["DBSIZE"]), "1200");
    s.kill();
    assert!(Command::new("umount").arg(&data).status().unwrap().success());
}

/// Whether a server for a test load of a restore runs whose parent is gone.
fn test_servers_run() -> bool {
    let out = Command::new("ps").args(["-eo", "ppid,args"]).output().unwrap();
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    out.lines().any(|l| l.trim_start().starts_with("1 ") && l.contains("/.backstay-"))
}

/// Killed at any time, the server has the old data or the new, whole, and a second restore works.
#[test]
fn a_killed_restore_leaves_the_old_data_or_the_new() {
    for conf in ["", "appendonly yes"] {
        let s = Server::with(conf);
        let mut talk = s.socket().unwrap();
        talk.all((0..50_000).map(|i| words(&format!("SET key:{i} value-of-{i}"))));
        let new = s.digest();
        let w = with_server(&with_unit(&s));
        w.backup();
        s.good(&["FLUSHALL"]);
        s.good(&["SET", "old", "data"]);
        let old = s.digest();
        let mut seen = Vec::new();
        for delay in [60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 700] {
            let mut child = command(&w, &s, &["restore", "--yes"]).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            child.kill().unwrap();
            child.wait().unwrap();
            // What systemd would do after the next boot.
            std::thread::sleep(Duration::from_millis(100));
            assert!(!test_servers_run(), "a server for a test load outlived the restore");
            s.launch();
            let now = s.digest();
            assert!(now == old || now == new, "{conf} after {delay} ms: {:?}", files(&s));
            if w.path().join("state/restore.journal").exists() {
                // Taken back or finished, whichever is asked for.
                let (way, wanted) = if delay % 120 == 0 { ("--unwind", &old) } else { ("--resume", &new) };
                let ran = run(&mut command(&w, &s, &["restore", way]));
                // Killed behind its last record, and before its journal was put away.
                let complete = way == "--unwind" && ran.err.contains("the restore was complete already");
                let wanted = if complete { &new } else { wanted };
                ran.code(if complete { 10 } else { 0 });
                assert_eq!(s.digest(), *wanted, "{conf} {way} after {delay} ms");
            }
            let now = s.digest();
            seen.push(now == new);
            if now == new {
                s.good(&["FLUSHALL"]);
                s.good(&["SET", "old", "data"]);
            }
        }
        restore(&w, &s).code(0);
        assert_eq!(s.digest(), new, "{conf}");
        assert!(!files(&s).iter().any(|f| f.starts_with(".backstay")), "{:?} {seen:?}", files(&s));
    }
}

#[test]
fn who_may_not_be_restored_to_is_named() {
    let s = Server::start();
    s.good(&["SET", "a", "1"]);
    let w = with_server(&with_unit(&s));
    w.backup();
    // Nothing says how to stop it.
    configure(&w, &by_socket(&s));
    restore(&w, &s).code(10).says(&["not known how to stop", "`unit` or `container`"]);
    configure(&w, &with_unit(&s));
    // Its file says something else than it.
    s.good(&["CONFIG", "SET", "dbfilename", "changed.rdb"]);
    restore(&w, &s).code(10).says(&["dbfilename", "\"changed.rdb\"", "\"dump.rdb\"", "CONFIG REWRITE"]);
    s.good(&["CONFIG", "SET", "dbfilename", "dump.rdb"]);
    // A replica.
    let primary = Server::start();
    s.good(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    restore(&w, &s).code(10).says(&["replica", "Restore to the primary"]);
    s.good(&["REPLICAOF", "NO", "ONE"]);
    s.good(&["SET", "a", "1"]);
    // A Sentinel watches.
    let mut watch = s.socket().unwrap();
    watch.ask(&[b"SUBSCRIBE", b"__sentinel__:hello"]).unwrap();
    restore(&w, &s).code(10).says(&["Sentinels watch", "SENTINEL REMOVE"]);
    drop(watch);
    // A second server in its directory.
    let second = Server::stopped(s.flavour.clone(), &format!("dir {}", s.path("data").display()));
    second.launch();
    restore(&w, &s).code(10).says(&["several servers work in one directory"]);
    second.kill();
    // Files elsewhere.
    configure(&w, &format!("{}data_dir = \"/nowhere/redis\"\n", with_unit(&s)));
    restore(&w, &s).code(10).says(&["/nowhere/redis", "not on this host", "data_dir"]);
    configure(&w, &format!("{}data_dir = \"{}\"\n", with_unit(&s), w.path().display()));
    restore(&w, &s).code(10).says(&["no running server works in this directory"]);
    // Through all this it was neither stopped nor changed.
    assert_eq!((s.good(&["GET", "a"]).as_str(), files(&s)), ("1", vec!["dump.rdb".to_owned()]));
    let log = fs::read_to_string(s.path("systemctl.log")).unwrap();
    assert!(!log.contains("stop"), "{log}");
}

#[test]
fn a_node_of_a_cluster_is_refused_both_ways() {
    let s = Server::with("cluster-enabled yes");
    let w = with_server(&with_unit(&s));
    w.run(&["backup"]).code(11).says(&["node of a cluster"]);
    let alone = Server::start();
    configure(&w, &with_unit(&alone));
    w.backup();
    configure(&w, &with_unit(&s));
    restore(&w, &s).code(10).says(&["cluster", "standalone"]);
}

#[test]
fn a_server_that_is_down_is_restored_by_its_configuration_file() {
    let s = Server::with("dbfilename lost.rdb");
    s.good(&["SET", "a", "1"]);
    let w = with_server(&with_unit(&s));
    w.backup();
    s.kill();
    fs::write(s.data("lost.rdb"), b"REDIS0010 this is rot").unwrap();
    // With a unit it is started, without one the operator does that.
    restore(&w, &s).code(0).says(&["does not run", "redis.conf"]);
    assert_eq!(s.good(&["GET", "a"]), "1");
    s.kill();
    fs::remove_file(s.data("lost.rdb")).unwrap();
    configure(&w, &with_unit(&s).replace("unit = \"bsr-redis.service\"\n", ""));
    restore(&w, &s).code(0).says(&["start it by hand"]);
    assert!(!s.is_up());
    s.launch();
    assert_eq!(s.good(&["GET", "a"]), "1");
    // A replica by its file.
    s.kill();
    fs::write(s.path("redis.conf"), "replicaof 10.0.0.1 6379\ndir /\n").unwrap();
    restore(&w, &s).code(10).says(&["configured as a replica"]);
}

#[test]
fn the_rdb_alone_is_written_into_a_directory() {
    let s = Server::start();
    everything(&s);
    let w = with_server(&by_socket(&s));
    w.backup();
    w.run(&["restore", "--to", &w.at("out")]).code(0).says(&["out/dump.rdb", "equal to the facts"]);
    assert_eq!(fs::read(w.at("out/dump.rdb")).unwrap(), stored(&w));
    w.run(&["restore", "--to", &w.at("out")]).code(10).says(&["the file exists"]);
    assert_eq!(digest_of(&s, PathBuf::from(w.at("out/dump.rdb"))), s.digest());
}

#[test]
fn a_pack_that_is_gone_stops_the_restore_before_the_server_is_touched() {
    let s = Server::start();
    everything(&s);
    let before = s.digest();
    let w = with_server(&with_unit(&s));
    w.backup();
    let pack = w.objects("packs").into_iter().max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    fs::remove_file(pack).unwrap();
    restore(&w, &s).code(7).says(&["pack"]);
    assert_eq!((s.digest(), files(&s)), (before, vec![]));
    let log = fs::read_to_string(s.path("systemctl.log")).unwrap();
    assert!(!log.contains("stop"), "{log}");
}

/// A backup of a newer server is refused by both names before anything is touched.
#[test]
fn a_newer_rdb_is_refused_by_both_names() {
    let fake = crate::fake::Fake::start(crate::fake::Manner::Whole);
    let w = with_server(&fake.body());
    w.backup();
    let s = Server::start();
    s.good(&["SET", "a", "1"]);
    configure(&w, &with_unit(&s));
    let version = s.flavour.name.replace("redis ", "redis, ").replace("redis, ", "redis ");
    restore(&w, &s).code(10).says(&["redis 99.1.0", "RDB version 77", &version, "version of the backup or newer"]);
    assert!(s.is_up() && files(&s).is_empty());
}
