//! `backstay serve`: metrics, health, what systemd hears.

use crate::endpoint::{ask, get, wait};
use crate::metrics::{values, world};
use crate::port::free_port;
use crate::world::World;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A `serve` that is killed when dropped.
pub struct Serving {
    pub child: Child,
    pub address: String,
}

impl Serving {
    pub fn start(world: &World) -> Self {
        Self::with(world, |_| {})
    }

    pub fn with(world: &World, more: impl FnOnce(&mut Command)) -> Self {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = world.command(&["serve", "--listen", &address]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        more(&mut command);
        let child = command.spawn().unwrap();
        wait("serve listens", || get(&address, "/healthz"));
        Serving { child, address }
    }

    pub fn get(&self, path: &str) -> (u16, String, String) {
        get(&self.address, path).unwrap_or_else(|| panic!("{path} is not answered"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_other_commands_did_is_served_at_once_and_survives_a_restart() {
    let world = world();
    world.file("a.txt", b"x");
    let served = |serving: &Serving| values(&serving.get("/metrics").2);
    let success = "backstay_run_last_success_timestamp_seconds{host=\"test-host\",plan=\"p\",verb=\"backup\"}";
    let serving = Serving::start(&world);
    assert_eq!(served(&serving)[success], 0.0);
    world.backup();
    let first = served(&serving)[success];
    assert!(first > 1.7e9);
    drop(serving);
    let serving = Serving::start(&world);
    assert_eq!(served(&serving)[success], first);
    let (status, head, _) = serving.get("/metrics");
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert_eq!(wait("ready", || Some(serving.get("/readyz").0).filter(|s| *s == 200)), 200);
    assert_eq!(serving.get("/nothing").0, 404);
    assert_eq!(ask(&serving.address, "POST", "/metrics").unwrap().0, 405);
}

#[test]
fn it_is_not_ready_while_the_repository_was_never_seen() {
    let world = World::bare();
    let serving = Serving::start(&world);
    assert_eq!((serving.get("/healthz").0, serving.get("/readyz").0), (200, 503));
    let page = serving.get("/").2;
    assert!(page.contains("the repository was never seen by this host"), "{page}");
}

#[test]
fn what_happens_to_the_repository_elsewhere_is_seen() {
    let mut world = world();
    world.extra.push_str("[serve]\nrefresh = \"1s\"\n");
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.file("a.txt", b"x");
    world.backup();
    let serving = Serving::start(&world);
    let newest = "backstay_repository_newest_complete_timestamp_seconds{host=\"test-host\",plan=\"p\"}";
    assert!(values(&serving.get("/metrics").2)[newest] > 1.7e9);
    std::fs::remove_dir_all(world.path().join("repo/test-host/backups")).unwrap();
    wait("the loss is seen", || (values(&serving.get("/metrics").2)[newest] == 0.0).then_some(()));
    assert!(serving.get("/").2.contains("plan p has no complete backup"));
}

#[test]
fn a_run_that_is_killed_is_noticed() {
    let mut world = world();
    world.extra.push_str(
        "[sources.slow]\nkind = \"command\"\ndump = [\"sleep\", \"60\"]\n[plans.slow]\nsources = [\"slow\"]\n",
    );
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let serving = Serving::start(&world);
    let mut child = world.command(&["backup", "slow"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let value = |metric: &str| values(&serving.get("/metrics").2).get(metric).copied().unwrap_or(-9.0);
    let active = "backstay_run_active{host=\"test-host\",plan=\"slow\",verb=\"backup\"}";
    wait("the run is seen", || (value(active) == 1.0).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = "backstay_runs_total{host=\"test-host\",plan=\"slow\",result=\"killed\",verb=\"backup\"}";
    wait("the end of the run is seen", || (value(killed) == 1.0).then_some(()));
    assert_eq!(value(active), 0.0);
}

#[test]
fn systemd_hears_that_it_is_ready_lives_and_how_things_are_and_a_stop_is_a_success() {
    let world = world();
    let socket = world.path().join("notify");
    let heard = UnixDatagram::bind(&socket).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut serving = Serving::with(&world, |command| {
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000");
    });
    let mut all: Vec<String> = Vec::new();
    let mut hear = |until: &dyn Fn(&[String]) -> bool| {
        while !until(&all) {
            let mut buffer = [0; 4096];
            let n = heard.recv(&mut buffer).unwrap_or_else(|e| panic!("{e}: {all:?}"));
            all.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        all.clone()
    };
    let said = hear(&|all| {
        all.iter().filter(|t| *t == "WATCHDOG=1").count() >= 3 && all.iter().any(|t| t.starts_with("STATUS=1 plan, "))
    });
    assert_eq!(said[0], "READY=1");
    let kill = Command::new("kill").arg(serving.child.id().to_string()).status().unwrap();
    assert!(kill.success());
    hear(&|all| all.iter().any(|t| t == "STOPPING=1"));
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_an_error_with_what_to_do() {
    let world = World::bare();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.run(&["serve", "--listen", &address]).code(3).says(&["cannot be listened on", "--listen", &address]);
    world.run(&["serve", "--listen", "here"]).code(2);
}
