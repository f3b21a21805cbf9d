//! The way out: what is stored is whole, counted, and of one moment.

use crate::data::{everything, random};
use crate::server::{Flavour, Server};
use crate::world::World;
use backstay::sources::redis::rdb;
use std::collections::BTreeMap;
use std::fs;

/// A world whose plan is one server.
pub fn with_server(body: &str) -> World {
    let w = World::bare();
    configure(&w, body);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

pub fn configure(w: &World, body: &str) {
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{0}/state\"\n[repository]\nurl = \"file://{0}/repo\"\n[keys]\nidentity_file = \"{0}/host.key\"\n\
         [sources.cache]\nkind = \"redis\"\n{body}\n[plans.p]\nsources = [\"cache\"]\n",
        w.path().display(),
    ));
}

/// The body of a source that uses the socket.
pub fn by_socket(s: &Server) -> String {
    format!("url = \"unix://{}\"\n", s.path("s").display())
}

/// The stored RDB, written out by hand.
pub fn stored(w: &World) -> Vec<u8> {
    let file = fs::File::create(w.at("out.rdb")).unwrap();
    let mut command = w.command(&["cat", "--source", "cache", "--artifact", "rdb"]);
    assert!(command.stdout(file).status().unwrap().success());
    fs::read(w.at("out.rdb")).unwrap()
}

/// Keys and keys with expiry of each database, as the server says.
pub fn keyspace(s: &Server) -> BTreeMap<u64, (u64, u64)> {
    let text = s.good(&["INFO", "keyspace"]);
    let of = |line: &str| {
        let (db, rest) = line.trim().strip_prefix("db")?.split_once(':')?;
        let n = |key: &str| rest.split(',').find_map(|p| p.strip_prefix(key)).unwrap().parse().unwrap();
        Some((db.parse().ok()?, (n("keys="), n("expires="))))
    };
    text.lines().filter_map(of).collect()
}

#[test]
fn every_type_in_every_database_is_stored_and_counted() {
    for flavour in Flavour::all() {
        let name = flavour.name.clone();
        let s = Server::of(flavour, "");
        everything(&s);
        let w = with_server(&by_socket(&s));
        let m = w.backup();
        let facts = &m["sources"][0]["facts"]["redis"];
        assert_eq!(
            format!("{} {}", facts["product"].as_str().unwrap(), facts["server_version"].as_str().unwrap()),
            name
        );
        let counted: BTreeMap<u64, (u64, u64)> = facts["keyspaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                let n = |key: &str| c[key].as_u64().unwrap();
                (n("db"), (n("keys"), n("expiring")))
            })
            .collect();
        assert_eq!(counted, keyspace(&s), "{name}");
        assert_eq!(counted.len(), 16);
        let functions = if s.flavour.major >= 7 { vec!["mylib"] } else { vec![] };
        assert_eq!(facts["functions"], serde_json::json!(functions), "{name}");
        assert_eq!(facts["settings"]["dir"], s.path("data").display().to_string());
        assert_eq!((facts["checksum"].as_bool(), facts["role"].as_str()), (Some(true), Some("primary")));
        // A server loads the stored bytes, and holds the same.
        let stored = stored(&w);
        let other = Server::stopped(s.flavour.clone(), "");
        fs::write(other.data("dump.rdb"), &stored).unwrap();
        other.launch();
        assert_eq!(other.digest(), s.digest(), "{name}");
        // Nothing was written on the server's own disk.
        assert_eq!(fs::read_dir(s.path("data")).unwrap().count(), 0, "{name}");
        let keys: u64 = counted.values().map(|c| c.0).sum();
        let lasting = keys - counted.values().map(|c| c.1).sum::<u64>() - u64::from(s.has_field_expiry());
        w.run(&["show"]).code(0).says(&[&format!("{keys} keys, {lasting} keys without expiry")]);
    }
}

/// The parser agrees with the server about data that nobody chose.
#[test]
fn random_data_is_counted_as_the_server_counts_it() {
    for flavour in Flavour::all() {
        for seed in 0..4 {
            let name = format!("{} seed {seed}", flavour.name);
            let conf = [
                "",
                "rdbcompression no",
                "maxmemory 1gb\nmaxmemory-policy allkeys-lru",
                "maxmemory 1gb\nmaxmemory-policy allkeys-lfu",
            ];
            let s = Server::of(flavour.clone(), conf[seed as usize]);
            random(&s, seed, 3000);
            s.good(&["SAVE"]);
            let file = fs::read(s.data("dump.rdb")).unwrap();
            let summary = rdb::read(&file[..]).unwrap_or_else(|e| panic!("{name}: {e}"));
            let counted: BTreeMap<u64, (u64, u64)> =
                summary.databases.iter().map(|c| (c.db, (c.keys, c.expiring))).collect();
            assert_eq!(counted, keyspace(&s), "{name}");
            assert!(summary.unknown.is_none() && summary.checksum && summary.bytes == file.len() as u64, "{name}");
            // One flipped bit anywhere is noticed, and so is any cut.
            for step in 0..60 {
                let at = file.len() * step / 60;
                let mut bad = file.clone();
                bad[at] ^= 1 << (step % 8);
                assert!(rdb::read(&bad[..]).is_err(), "{name}: bit {} of byte {at}", step % 8);
                assert!(rdb::read(&file[..at]).is_err(), "{name}: cut at {at}");
            }
        }
    }
}
