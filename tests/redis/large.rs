//! Much data: memory, what an unchanged server ships, and what is of one moment.

use crate::backup::{by_socket, stored, with_server};
use crate::restore::{restore, with_unit};
use crate::server::{Server, words};
use crate::world::noise;
use backstay::sources::redis::rdb;
use std::sync::atomic::{AtomicBool, Ordering};

/// A million keys with values of forty bytes, made by the server itself.
fn million(s: &Server) {
    let script = "for i = 1, 1000000 do redis.call('SET', 'key:' .. i, 'value-' .. i .. '-' .. redis.sha1hex(i)) end";
    s.good(&["EVAL", script, "0"]);
}

#[test]
fn a_million_keys_come_back_and_an_unchanged_server_ships_next_to_nothing() {
    let s = Server::start();
    million(&s);
    let before = s.digest();
    let w = with_server(&with_unit(&s));
    let first = w.backup()["stats"].clone();
    let second = w.backup()["stats"].clone();
    let n = |stats: &serde_json::Value, key: &str| stats[key].as_u64().unwrap();
    assert!(n(&second, "new") < n(&first, "new") / 20, "{first} {second}");
    // A few keys changed: the chunks around them are new, the others are not.
    for i in [1, 300_000, 999_999] {
        s.good(&["SETRANGE", &format!("key:{i}"), "0", "V"]);
    }
    let third = w.backup()["stats"].clone();
    assert!(n(&third, "new") < n(&first, "new") / 5, "{first} {third}");
    for i in [1, 300_000, 999_999] {
        s.good(&["SETRANGE", &format!("key:{i}"), "0", "v"]);
    }
    assert_eq!(s.digest(), before);
    w.run(&["backup"]).code(0);
    s.good(&["FLUSHALL"]);
    restore(&w, &s).code(0).says(&["1000000"]);
    assert_eq!(s.digest(), before);
}

#[test]
fn a_value_of_64_megabytes_passes_through() {
    let s = Server::start();
    let mut talk = s.socket().unwrap();
    talk.all([vec![b"SET".to_vec(), b"big".to_vec(), noise(64 << 20, 1)]]);
    talk.all([vec![b"RPUSH".to_vec(), b"list".to_vec(), vec![b'a'; 64 << 20], noise(1 << 20, 2)]]);
    let before = s.digest();
    let w = with_server(&with_unit(&s));
    w.backup();
    s.good(&["FLUSHALL"]);
    restore(&w, &s).code(0);
    assert_eq!(s.digest(), before);
}

/// Two keys are always written together; in a snapshot of one moment they are equal.
#[test]
fn a_snapshot_is_of_one_moment_while_others_write() {
    let s = Server::start();
    let mut talk = s.socket().unwrap();
    talk.all((0..200_000).map(|i| words(&format!("SET filler:{i} {i}"))));
    let w = with_server(&by_socket(&s));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut talk = s.socket().unwrap();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                talk.all([words(&format!("MSET first {n} last {n}")), words(&format!("SET new:{n} x"))]);
            }
        });
        for _ in 0..3 {
            let m = w.backup();
            let bytes = stored(&w);
            let other = Server::stopped(s.flavour.clone(), "");
            std::fs::write(other.data("dump.rdb"), &bytes).unwrap();
            other.launch();
            assert_eq!(other.good(&["GET", "first"]), other.good(&["GET", "last"]));
            let counted = rdb::read(&bytes[..]).unwrap().databases[0].keys;
            assert_eq!(m["sources"][0]["facts"]["redis"]["keyspaces"][0]["keys"], counted);
            assert_eq!(other.good(&["DBSIZE"]), counted.to_string());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
