//! Services of a swarm: to nothing and back to what they were.

use super::driver::{Drive, Gate};
use super::stage::{Daemon, Stage, until};
use crate::port::free_port;

struct Swarm {
    stage: Stage,
    folder: tempfile::TempDir,
    daemon: Daemon,
}

const STAYS: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];

impl Swarm {
    fn new() -> Self {
        let daemon = Daemon::start();
        let stage = Stage::on(Some(daemon.host()));
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", &listen]);
        Swarm { stage, folder: tempfile::tempdir().unwrap(), daemon }
    }

    fn create(&self, what: &str, options: &[&str], command: &[&str]) -> String {
        let (name, image) = (self.stage.name(what), self.stage.image());
        let mut args =
            vec!["service", "create", "-q", "-d", "--name", &name, "--no-resolve-image", "--network", "host"];
        args.extend_from_slice(options);
        args.push(&image);
        args.extend_from_slice(command);
        self.stage.docker(&args);
        name
    }

    fn spec(&self, service: &str) -> String {
        self.stage.docker(&["service", "inspect", "-f", "{{json .Spec}}", service])
    }

    fn running(&self, service: &str) -> usize {
        let label = format!("label=com.docker.swarm.service.name={service}");
        self.stage.docker(&["ps", "-q", "--filter", &label]).lines().count()
    }

    fn drive(&self, stop: &[&str], late: &[&str]) -> Drive {
        Drive { folder: self.folder.path().to_owned(), ..Drive::of(stop, late) }
    }
}

#[test]
fn services_go_to_nothing_and_come_back_as_they_were() {
    let s = Swarm::new();
    let stack = "com.docker.stack.namespace=shop";
    let app = s.create(
        "app",
        &["--replicas", "3", "--label", stack, "--constraint", "node.role==manager", "--env", "KEPT=yes"],
        STAYS,
    );
    let agent = s.create("agent", &["--mode", "global", "--label", stack], STAYS);
    let idle = s.create("idle", &["--replicas", "0", "--label", stack], STAYS);
    let db = s.create("db", &["--label", stack], STAYS);
    until("they run", || (s.running(&app), s.running(&agent), s.running(&db)) == (3, 1, 1));
    let all = [&app, &agent, &idle, &db];
    let before = all.map(|name| s.spec(name));
    let spare = format!("service:{db}");
    let drive = || s.drive(&["stack:shop"], &[]).spare(&[&spare]);
    let host = s.daemon.host();

    let mut driven = Drive { swap: Gate { waits: true, ..Gate::default() }, ..drive() }.beside(&host);
    driven.until("WAITING at swap");
    assert_eq!((s.running(&app), s.running(&agent), s.running(&db)), (0, 0, 1));
    std::fs::write(s.folder.path().join("swap.go"), "").unwrap();
    driven.says(&["COMMITTED"]);
    assert_eq!((s.running(&app), s.running(&agent), s.running(&idle), s.running(&db)), (3, 1, 0, 1));
    assert_eq!(all.map(|name| s.spec(name)), before);

    let fails = || Gate { fails: true, ..Gate::default() };
    for (swap, check) in [(fails(), Gate::default()), (Gate::default(), fails())] {
        Drive { swap, check, twice: true, ..drive() }.beside(&host).says(&["UNWOUND the", "fails"]);
        assert_eq!((s.running(&app), s.running(&agent), s.running(&idle), s.running(&db)), (3, 1, 0, 1));
        assert_eq!(all.map(|name| s.spec(name)), before);
    }
    // A container of a service is meant by its service.
    let task = s.stage.docker(&[
        "ps",
        "--format",
        "{{.Names}}",
        "--filter",
        &format!("label=com.docker.swarm.service.name={agent}"),
    ]);
    let target = format!("container:{task}");
    let named = Drive { go: "preflight".into(), users: vec![format!("service:{agent}")], ..s.drive(&[&target], &[]) };
    named.beside(&host).says(&[&format!("service {agent}: one task on each node"), "true"]);
}

#[test]
fn after_the_daemon_went_down_they_stay_at_nothing_until_they_are_released() {
    let mut s = Swarm::new();
    let app = s.create("app", &["--replicas", "2"], STAYS);
    let agent = s.create("agent", &["--mode", "global"], STAYS);
    until("they run", || (s.running(&app), s.running(&agent)) == (2, 1));
    let before = (s.spec(&app), s.spec(&agent));
    let (app_target, agent_target) = (format!("service:{app}"), format!("service:{agent}"));
    let drive = Drive { swap: Gate { waits: true, ..Gate::default() }, ..s.drive(&[&app_target, &agent_target], &[]) };
    drive.beside(&s.daemon.host()).until("WAITING at swap");
    s.daemon.restart();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((s.running(&app), s.running(&agent)), (0, 0));
    s.daemon.stop();
    let driven = drive.then("unwind").beside(&s.daemon.host());
    s.daemon.again();
    driven.says(&["UNWOUND"]);
    assert_eq!((s.running(&app), s.running(&agent)), (2, 1));
    assert_eq!((s.spec(&app), s.spec(&agent)), before);
}

#[test]
fn a_service_that_does_not_come_up_is_taken_back() {
    let s = Swarm::new();
    let told = s.folder.path().display().to_string();
    let mount = format!("type=bind,source={told},target=/told");
    let fails = "[ ! -e /told/broken ] || { echo cannot open the ledger; exit 3; }; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let options = ["--replicas", "2", "--mount", &mount, "--restart-delay", "100ms"];
    let app = s.create("app", &options, &["sh", "-c", fails]);
    until("it runs", || s.running(&app) == 2);
    let before = s.spec(&app);
    let swap = Gate { act: format!("touch {told}/broken"), undo: format!("rm -f {told}/broken"), ..Gate::default() };
    let drive = Drive { swap, ..s.drive(&[&format!("service:{app}")], &[]) };
    drive.beside(&s.daemon.host()).says(&[
        "UNWOUND",
        &format!("service {app} does not start"),
        "cannot open the ledger",
    ]);
    assert_eq!((s.running(&app), s.spec(&app)), (2, before));
    let said = Drive { go: "preflight".into(), ..s.drive(&["service:none"], &[]) }.beside(&s.daemon.host()).end();
    assert!(said.contains("Refused there is no service none") && said.contains(&app), "{said}");
}
