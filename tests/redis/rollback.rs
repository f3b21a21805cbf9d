//! The interface that the restore flow uses: every effect twice, and back again.

use crate::backup::{by_socket, with_server};
use crate::data::everything;
use crate::restore::files;
use crate::server::{Flavour, Server};
use crate::world::World;
use async_trait::async_trait;
use backstay::config::{SourceConfig, load};
use backstay::error::{Kind, Result};
use backstay::host::service::Service;
use backstay::recovery::redis::{RedisResource, Wanted};
use backstay::recovery::resource::{Note, Resource};
use backstay::recovery::select;
use backstay::repository::access;
use backstay::repository::catalog::Catalog;
use backstay::repository::reader::Reader;
use backstay::storage::open::{StorageOptions, open};
use backstay::telemetry::monitor::Silent;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Stops and starts the test's own server.
struct Own(Arc<Server>);

#[async_trait]
impl Service for Own {
    fn label(&self) -> String {
        "the test's server".into()
    }
    async fn is_running(&self) -> Result<bool> {
        Ok(self.0.is_up())
    }
    async fn stop(&self) -> Result<()> {
        self.0.stop();
        Ok(())
    }
    async fn start(&self) -> Result<()> {
        self.0.launch();
        Ok(())
    }
}

/// The newest backup of a world as a resource; without the backup, as after a crash on a sealed host.
async fn resource(w: &World, s: &Arc<Server>, with_backup: bool) -> RedisResource {
    let config = load::load_with(Path::new(&w.at("backstay.toml")), Some(Default::default())).unwrap();
    let Some(SourceConfig::Redis(source)) = config.sources.get(&"cache".parse().unwrap()).cloned() else { panic!() };
    let store = open(&StorageOptions::new(format!("file://{}", w.at("repo"))), None).await.unwrap();
    let unlock = access::read_identity_file(Path::new(&w.at("host.key"))).unwrap();
    let vault = access::open_with(store, &"test-host".parse().unwrap(), &unlock).await.unwrap();
    let catalog = Catalog::new(Arc::new(vault), None);
    let m = select::backup(&catalog, &"p".parse().unwrap(), "latest", None, &[]).await.unwrap();
    let record = select::source(&m, &"cache".parse().unwrap()).unwrap();
    let wanted = Wanted::new(Some(Reader::new(catalog, Arc::new(Silent)).unwrap()), record).unwrap();
    RedisResource::new("cache", m.id.clone(), source, Some(Arc::new(Own(s.clone()))), with_backup.then_some(wanted))
}

async fn staged(r: &RedisResource) -> (Note, Note) {
    r.preflight().await.unwrap();
    let staging = r.plan_staging().await.unwrap();
    // An earlier try left something.
    r.stage(&staging).await.unwrap();
    let staged = r.stage(&staging).await.unwrap();
    let lines = r.verify(&staged).await.unwrap();
    assert!(lines.iter().all(|l| l.good), "{lines:?}");
    assert!(lines.iter().any(|l| l.what.contains("keys of db 0 without expiry, loaded by")), "{lines:?}");
    (staging, staged)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_effect_can_be_repeated_and_taken_back() {
    for conf in ["", "save 3600 1", "appendonly yes", "appendonly yes\nsave 3600 1"] {
        let s = Arc::new(Server::with(conf));
        everything(&s);
        let new = s.digest();
        let w = with_server(&by_socket(&s));
        w.backup();
        s.good(&["FLUSHALL"]);
        s.good(&["SET", "old", "data"]);
        let before = files(&s);
        let r = resource(&w, &s, true).await;
        let (staging, staged) = staged(&r).await;
        // While it was staged the server went on.
        s.good(&["SET", "old", "data, later"]);
        let old = s.digest();
        let swap = r.plan_swap(&staged).await.unwrap();
        // Notes go through the journal, and later calls come from another process without the backup.
        let swap: Note = serde_json::from_str(&swap.to_string()).unwrap();
        let r = resource(&w, &s, false).await;
        assert!(r.previous(&swap).await.unwrap().is_empty());
        for _ in 0..2 {
            r.swap(&swap).await.unwrap();
            assert_eq!(s.digest(), new, "{conf}");
        }
        let previous = r.previous(&swap).await.unwrap().remove(0);
        assert!(previous.name.contains("_before_") && previous.bytes.unwrap() > 0, "{previous:?}");
        // It is used; then somebody wants to go back.
        s.good(&["SET", "written", "after the swap"]);
        for _ in 0..2 {
            r.unswap(&swap).await.unwrap();
            assert_eq!(s.digest(), old, "{conf}");
        }
        assert!(r.previous(&swap).await.unwrap().is_empty());
        // And forth once more: what was written after the first swap is there again, as far as it was saved.
        r.swap(&swap).await.unwrap();
        assert_eq!(s.good(&["GET", "written"]), "after the swap", "{conf}");
        r.unswap(&swap).await.unwrap();
        assert_eq!(s.digest(), old, "{conf}");
        for note in [&staged, &staging] {
            r.unstage(note).await.unwrap();
            r.unstage(note).await.unwrap();
        }
        // What the server itself made at its stops may be there besides.
        let mut after = files(&s);
        after.retain(|f| before.contains(f) || f != "dump.rdb");
        assert_eq!(after, before, "{conf}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_dropped_only_when_told_and_then_there_is_no_way_back() {
    let s = Arc::new(Server::with("appendonly yes"));
    s.good(&["SET", "a", "1"]);
    let w = with_server(&by_socket(&s));
    w.backup();
    let r = resource(&w, &s, true).await;
    let (_, staged) = staged(&r).await;
    let swap = r.plan_swap(&staged).await.unwrap();
    r.swap(&swap).await.unwrap();
    for _ in 0..2 {
        r.drop_previous(&swap).await.unwrap();
    }
    assert!(!files(&s).iter().any(|f| f.contains("_before_")), "{:?}", files(&s));
    assert_eq!(r.unswap(&swap).await.unwrap_err().kind, Kind::Refused);
    if !s.is_up() {
        s.launch();
    }
    assert_eq!(s.good(&["GET", "a"]), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_that_rots_before_the_swap_is_seen() {
    let s = Arc::new(Server::start());
    everything(&s);
    let w = with_server(&by_socket(&s));
    w.backup();
    let r = resource(&w, &s, true).await;
    let staging = r.plan_staging().await.unwrap();
    let staged = r.stage(&staging).await.unwrap();
    let file = files(&s).into_iter().find(|f| f.starts_with(".backstay-")).unwrap();
    let mut bytes = fs::read(s.data(&file)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(s.data(&file), bytes).unwrap();
    let e = r.verify(&staged).await.unwrap_err();
    assert_eq!(e.kind, Kind::Mismatch, "{e}");
    r.unstage(&staged).await.unwrap();
    assert!(files(&s).is_empty());
    // Owner, mode: those of the server's own files.
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    s.good(&["SAVE"]);
    fs::set_permissions(s.data("dump.rdb"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(s.data("dump.rdb"), Some(1234), Some(2345)).unwrap();
    r.stage(&staging).await.unwrap();
    let m = fs::metadata(s.data(&file)).unwrap();
    assert_eq!((m.uid(), m.gid(), m.mode() & 0o777), (1234, 2345, 0o640));
}

/// A server of another release: its data comes from one and goes to the other, where that can be.
#[test]
fn data_goes_to_newer_servers_and_is_refused_by_older_ones() {
    let all = Flavour::all();
    for from in &all {
        let source = Server::of(from.clone(), "");
        everything(&source);
        let w = with_server(&crate::restore::with_unit(&source));
        w.backup();
        for to in all.iter().filter(|to| *to != from) {
            let target = Server::of(to.clone(), "");
            target.good(&["SET", "a", "1"]);
            crate::backup::configure(&w, &crate::restore::with_unit(&target));
            let ran = crate::restore::restore(&w, &target);
            let newer = from.name.starts_with("redis 8")
                || (from.major >= 7 && to.major == 6)
                || (from.major == 8 && to.major == 7);
            // Valkey 8 writes what Redis 7.2 does.
            let refused = newer && !(from.name.starts_with("valkey") && to.major == 8);
            if refused {
                ran.code(10).says(&["cannot read", &from.name.replace("redis ", ""), &to.name]);
                assert_eq!(target.good(&["GET", "a"]), "1");
            } else {
                ran.code(0);
                assert_eq!(target.digest(), source.digest(), "{} to {}", from.name, to.name);
            }
        }
    }
}
