//! Containers: compose projects by their labels, and everything as it was.

use super::driver::{Drive, Gate};
use super::stage::{Daemon, Stage, until};
use std::path::Path;

/// A container that tells when it starts and stops, in a file of the folder.
const TELLS: &str = "echo +$0 >> /told/order; trap 'echo -$0 >> /told/order; exit 0' TERM; \
    [ ! -e /told/broken ] || { echo cannot open the ledger; exit 3; }; while :; do sleep 0.1; done";

/// The same that takes its time to stop.
const TELLS_SLOWLY: &str = "echo +$0 >> /told/order; trap 'echo -$0 >> /told/order; sleep 3; exit 0' TERM; \
    while :; do sleep 0.1; done";

/// A folder, a daemon's host and containers of one project.
struct Project {
    stage: Stage,
    name: String,
    folder: tempfile::TempDir,
    host: String,
}

impl Project {
    fn on(host: Option<String>) -> Self {
        let stage = Stage::on(host.clone());
        let name = stage.name("project");
        let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".into());
        Project { stage, name, folder: tempfile::tempdir().unwrap(), host }
    }

    /// A container as compose would have made it.
    fn add(&self, service: &str, needs: &str, options: &[&str]) -> String {
        self.add_that(TELLS, service, needs, options)
    }

    fn add_that(&self, script: &str, service: &str, needs: &str, options: &[&str]) -> String {
        let told = format!("{}:/told", self.folder.path().display());
        let labels = [
            format!("com.docker.compose.project={}", self.name),
            format!("com.docker.compose.service={service}"),
            format!("com.docker.compose.depends_on={needs}"),
            format!("com.docker.compose.project.working_dir={}", self.folder.path().display()),
            format!("com.docker.compose.project.config_files={}/compose.yml", self.folder.path().display()),
        ];
        let mut all = vec!["-v", &told];
        all.extend(labels.iter().flat_map(|l| ["--label", l]));
        all.extend_from_slice(options);
        self.stage.container_of(service, &all, &["sh", "-c", script, service])
    }

    fn order(&self) -> String {
        let path = self.folder.path().join("order");
        let told = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, "").unwrap();
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// A script that ends when this was told.
    fn until_said(&self, what: &str) -> String {
        format!("until grep -q -- {what} {}/order; do sleep 0.05; done", self.folder.path().display())
    }

    fn show(&self, format: &str, container: &str) -> String {
        self.stage.docker(&["inspect", "-f", format, container])
    }

    fn state(&self, container: &str) -> String {
        self.show(
            "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            container,
        )
    }

    fn states(&self, containers: &[&str]) -> Vec<String> {
        containers.iter().map(|c| self.state(c)).collect()
    }

    fn drive(&self, stop: &[&str], late: &[&str]) -> Drive {
        Drive { folder: self.folder.path().to_owned(), ..Drive::of(stop, late) }
    }

    fn go(&self, gate: &str) {
        std::fs::write(self.folder.path().join(format!("{gate}.go")), "").unwrap();
    }
}

fn waits() -> Gate {
    Gate { waits: true, ..Gate::default() }
}

fn fails() -> Gate {
    Gate { fails: true, ..Gate::default() }
}

#[test]
fn a_project_stops_but_for_its_database_and_comes_back_as_it_was() {
    let p = Project::on(None);
    let db = p.add("db", "", &["--restart", "always"]);
    let api = p.add("api", "db:service_started:true", &["--restart", "unless-stopped"]);
    let web = p.add("web", "api:service_started:true", &["--restart", "on-failure:5"]);
    let worker = p.add("worker", "api:service_started:true", &["--restart", "always"]);
    let frozen = p.add("frozen", "", &[]);
    let down = p.add("down", "", &["--restart", "always"]);
    p.stage.docker(&["pause", &frozen]);
    p.stage.docker(&["stop", &down]);
    until("everybody has begun", || p.folder.path().join("order").exists() && p.order().is_empty());
    let all = [&db, &api, &web, &worker, &frozen, &down].map(String::as_str);
    let before = p.states(&all);
    assert_eq!(before[2], "running on-failure:5");
    let since = p.show("{{.State.StartedAt}}", &db);
    let (compose, late) = (format!("compose:{}", p.folder.path().display()), format!("container:{worker}"));
    let spare = format!("container:{db}");
    let drive = || p.drive(&[&compose], &[&late]).spare(&[&spare]);

    // A container runs a moment before it says so; the late one waits for the others.
    let said = Gate { act: p.until_said("+web"), ..Gate::default() };
    let mut driven = Drive { swap: waits(), check: said, ..drive() }.beside(&p.host);
    driven.until("WAITING at swap");
    let middle = p.states(&all);
    assert_eq!(middle[0], "running always:0");
    assert!(middle[1..].iter().all(|s| s == "exited no:0"), "{middle:?}");
    p.go("swap");
    driven.says(&["COMMITTED"]);
    assert_eq!(p.states(&all), before);
    let happened = p.order();
    assert!(happened.starts_with("-worker "), "{happened}");
    let place = |what: &str| happened.find(what).unwrap_or_else(|| panic!("{what} in {happened}"));
    assert!(
        place("-web") < place("-api") && place("+api") < place("+web") && happened.ends_with("+worker"),
        "{happened}"
    );
    assert!(!happened.contains("db") && !happened.contains("down"), "{happened}");

    for (swap, check) in [(fails(), Gate::default()), (Gate::default(), fails())] {
        Drive { swap, check, twice: true, ..drive() }.beside(&p.host).says(&["UNWOUND the", "fails"]);
        assert_eq!(p.states(&all), before);
    }
    let by_name =
        Drive { go: "preflight".into(), ..p.drive(&[&format!("compose-project:{}", p.name)], &[]).spare(&[&spare]) };
    by_name.beside(&p.host).says(&[
        &format!("container {web}: running, restart policy on-failure:5"),
        &format!("container {down}: exited, restart policy always; it is kept from starting"),
        &format!("SPARED {{\"{spare}\"}}"),
    ]);
    assert_eq!(p.show("{{.State.StartedAt}}", &db), since);
}

/// The daemon goes on stopping by itself when whoever asked for it is gone.
#[test]
fn a_stop_that_is_given_up_half_way_ends_before_everything_runs_again() {
    let p = Project::on(None);
    let slow = p.add_that(TELLS_SLOWLY, "slow", "", &["--restart", "always"]);
    let web = p.add("web", "slow:service_started:true", &[]);
    let both = [slow.as_str(), web.as_str()];
    let told = || std::fs::read_to_string(p.folder.path().join("order")).unwrap_or_default();
    until("both have begun", || told().matches('+').count() == 2);
    let before = p.states(&both);
    let drive = p.drive(&[&format!("compose-project:{}", p.name)], &[]);
    let driven = drive.beside(&p.host);
    until("the slow one is told to stop", || told().contains("-slow"));
    driven.kill();
    assert!(p.state(&slow).starts_with("running"), "it has stopped already");
    drive.then("unwind").beside(&p.host).says(&["UNWOUND"]);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(p.states(&both), before);
}

#[test]
fn the_daemon_may_restart_meanwhile_and_is_waited_for() {
    let mut daemon = Daemon::start();
    let p = Project::on(Some(daemon.host()));
    let web = p.add("web", "", &["--restart", "always"]);
    let worker = p.add("worker", "", &["--restart", "unless-stopped"]);
    let both = [web.as_str(), worker.as_str()];
    let before = p.states(&both);
    let project = format!("compose-project:{}", p.name);
    let drive = Drive { swap: waits(), ..p.drive(&[&project], &[]) };
    drive.beside(&p.host).until("WAITING at swap");
    daemon.restart();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(p.states(&both), ["exited no:0", "exited no:0"]);
    // At boot the restore is taken back, and the daemon comes later.
    daemon.stop();
    let driven = drive.then("unwind").beside(&p.host);
    std::thread::sleep(std::time::Duration::from_secs(2));
    daemon.again();
    driven.says(&["UNWOUND"]);
    assert_eq!(p.states(&both), before);
    daemon.restart();
    until("the policies hold again", || p.states(&both) == before);
}

#[test]
fn a_container_that_does_not_start_tells_its_log_and_is_taken_back() {
    let p = Project::on(None);
    let web = p.add("web", "", &[]);
    let loops = p.add("loops", "", &["--restart", "always"]);
    let (project, before) = (format!("compose-project:{}", p.name), p.states(&[&web, &loops]));
    let broken = p.folder.path().join("broken").display().to_string();
    let swap = Gate { act: format!("touch {broken}"), undo: format!("rm -f {broken}"), ..Gate::default() };
    for one in [&web, &loops] {
        let drive = Drive { swap: swap.clone(), ..p.drive(&[&format!("container:{one}")], &[]) };
        drive.beside(&p.host).says(&["UNWOUND", &format!("container {one} does not start"), "cannot open the ledger"]);
        assert_eq!(p.states(&[&web, &loops]), before);
    }
    // One that somebody removes meanwhile cannot be put back: that is told, and the others are.
    let mut driven = Drive { swap: Gate { waits: true, fails: true, ..Gate::default() }, ..p.drive(&[&project], &[]) }
        .beside(&p.host);
    driven.until("WAITING at swap");
    p.stage.docker(&["rm", &web]);
    p.go("swap");
    driven.says(&[
        "STUCK at stop the application",
        &format!("container {web} is gone"),
        &format!("docker start {web}"),
    ]);
    assert_eq!(p.state(&loops), before[1]);
}

#[test]
fn health_is_waited_for_and_a_sick_one_is_a_failure() {
    let p = Project::on(None);
    let health = ["--health-cmd", "[ -e /told/well ]", "--health-interval", "200ms", "--health-retries", "3"];
    let well = p.folder.path().join("well");
    std::fs::write(&well, "").unwrap();
    let db = p.add("db", "", &health);
    let web = p.add("web", "db:service_healthy:true", &[]);
    until("it is healthy", || p.show("{{.State.Health.Status}}", &db) == "healthy");
    let before = p.states(&[&db, &web]);
    let project = format!("compose-project:{}", p.name);
    p.order();
    p.drive(&[&project], &[]).beside(&p.host).says(&["COMMITTED"]);
    assert_eq!(p.order(), "-web -db +db +web");
    assert_eq!(p.show("{{.State.Health.Status}}", &db), "healthy");
    let file = well.display();
    let swap = Gate { act: format!("rm -f {file}"), undo: format!("touch {file}"), ..Gate::default() };
    Drive { swap, ..p.drive(&[&project], &[]) }.beside(&p.host).says(&["UNWOUND", "its health check fails"]);
    assert_eq!(p.states(&[&db, &web]), before);
}

#[test]
fn what_there_is_not_and_what_would_vanish_is_refused() {
    let p = Project::on(None);
    let web = p.add("web", "", &["--label", "tier=web"]);
    let vanishes = p.add("vanishes", "", &["--rm", "--label", "tier=rm"]);
    let refuses = |target: &str, words: &[&str]| {
        let said = Drive { go: "preflight".into(), ..p.drive(&[target], &[]) }.beside(&p.host).end();
        assert!(said.contains("Refused "), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not said in:\n{said}");
        }
    };
    refuses(&format!("container:{vanishes}"), &["is removed when it stops (--rm)", &vanishes]);
    refuses(&format!("compose-project:{}", p.name), &["--rm"]);
    refuses("label:tier=rm", &["--rm"]);
    refuses("container:no-such", &["there is no container no-such", "There are:"]);
    refuses("compose-project:no-such", &["there is no container of a compose project no-such", "There are:"]);
    refuses("compose:/no/such", &["no compose project of /no/such", &p.folder.path().display().to_string()]);
    refuses("label:tier=none", &["no container with the label tier=none"]);
    refuses("service:no-such", &["swarm"]);
    refuses("stack:no-such", &["no service of a stack no-such"]);
    assert_eq!(p.states(&[&web, &vanishes]), ["running no:0", "running no:0"]);
    let one = Drive { go: "preflight".into(), ..p.drive(&["label:tier=web"], &[]) };
    one.beside(&p.host).says(&[&format!("container {web}: running")]);
}

#[test]
fn a_process_counts_with_its_container() {
    let p = Project::on(None);
    let web = p.add("web", "", &[]);
    let other = p.add("other", "", &[]);
    let pid = |c: &str| p.show("{{.State.Pid}}", c);
    assert!(Path::new(&format!("/proc/{}", pid(&web))).exists());
    let users =
        vec![format!("process:{} sh", pid(&web)), format!("process:{} sh", pid(&other)), format!("container:{web}")];
    let drive = Drive { go: "preflight".into(), users, ..p.drive(&[&format!("container:{web}")], &[]) };
    drive.beside(&p.host).says(&[
        &format!("COVERS process:{} sh true", pid(&web)),
        &format!("COVERS process:{} sh false", pid(&other)),
        &format!("COVERS container:{web} true"),
    ]);
}
