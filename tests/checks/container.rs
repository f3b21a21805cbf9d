//! Containers, compose projects and swarm services.

use crate::port::free_port;
use crate::stage::{Daemon, Stage};
use crate::{bad, brief, check, good, now};
use backstay::recovery::checks::Outcome;
use std::time::{Duration, Instant};

fn keys(reference: &str) -> String {
    format!("container = \"{reference}\"\nsettle = \"100ms\"")
}

/// A run with a deadline that starts and health checks can keep.
async fn run(keys: &str) -> Outcome {
    let mut check = check(keys);
    check.within = Duration::from_secs(15);
    check.run(&now()).await
}

#[tokio::test]
async fn a_running_container_is_well_and_one_that_ended_is_not() {
    let stage = Stage::new();
    let app = stage.container("app", &[]);
    let outcome = run(&keys(&app)).await;
    good(&outcome);
    assert_eq!(outcome.found, format!("{app} running"));
    stage.docker(&["pause", &app]);
    bad(&brief(&keys(&app)).await, &[&format!("found {app} paused")]);
    stage.docker(&["unpause", &app]);
    stage.docker(&["kill", &app]);
    bad(&brief(&keys(&app)).await, &[&format!("{app} exited with status 137")]);
    bad(&brief(&keys("bs-no-such")).await, &["there is no container or service bs-no-such"]);
    let e = check(&keys("bs-no-such")).preflight().await.unwrap_err().to_string();
    assert!(e.contains("cannot work") && e.contains("bs-no-such"), "{e}");
    check(&keys(&app)).preflight().await.unwrap();
}

#[tokio::test]
async fn a_health_check_is_waited_for_and_its_words_are_told() {
    let stage = Stage::new();
    let health = "test -f /tmp/ok || { echo no database yet; false; }";
    let options = ["--health-cmd", health, "--health-interval", "300ms", "--health-retries", "2"];
    let app = stage.container("app", &options);
    let outcome = {
        let mut check = check(&keys(&app));
        check.within = Duration::from_secs(3);
        check.run(&now()).await
    };
    bad(&outcome, &[&format!("{app} unhealthy: no database yet")]);
    assert!(outcome.tries > 1, "{outcome:?}");
    let well = tokio::spawn(async move { run(&keys(&app)).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.docker(&["exec", &stage.name("app"), "touch", "/tmp/ok"]);
    let outcome = well.await.unwrap();
    good(&outcome);
    assert!(outcome.found.ends_with("healthy"), "{outcome:?}");
}

#[tokio::test]
async fn a_container_that_starts_over_and_over_is_not_well() {
    let stage = Stage::new();
    let app = stage.container_of("app", &["--restart", "always"], &["sh", "-c", "sleep 0.6; exit 1"]);
    let mut check = check(&format!("container = \"{app}\"\nsettle = \"1500ms\""));
    check.within = Duration::from_secs(6);
    let outcome = check.run(&now()).await;
    assert!(!outcome.good, "{outcome:?}");
    let why = &outcome.found;
    assert!(why.contains("started again within") || why.contains("restarting"), "{why}");
}

#[tokio::test]
async fn a_compose_project_is_well_when_all_of_its_services_are() {
    let stage = Stage::new();
    let project = stage.name("p");
    let label = |service: &str| {
        [format!("com.docker.compose.project={project}"), format!("com.docker.compose.service={service}")]
    };
    let service = |what: &str, service: &str, options: &[&str]| {
        let [p, s] = label(service);
        stage.container(what, &[&["--label", &p, "--label", &s, "--restart", "unless-stopped"], options].concat())
    };
    let (web1, web2) = (service("web1", "web", &[]), service("web2", "web", &[]));
    let worker = service("worker", "worker", &[]);
    let [p, s] = label("migrate");
    let migrate = stage.container_of("migrate", &["--label", &p, "--label", &s], &["true"]);
    crate::stage::until("it has ended", || stage.docker(&["inspect", "-f", "{{.State.Status}}", &migrate]) == "exited");
    let all = keys(&format!("{project}/*"));
    let outcome = run(&all).await;
    good(&outcome);
    assert_eq!(outcome.found, format!("{web1} running, {web2} running, {worker} running"));
    good(&run(&keys(&format!("{project}/web"))).await);
    stage.docker(&["stop", "-t", "0", &worker]);
    bad(&brief(&all).await, &[&format!("{worker} exited with status")]);
    good(&run(&keys(&format!("{project}/web"))).await);
    bad(&brief(&keys(&format!("{project}/none"))).await, &["there is no container or service"]);
}

#[tokio::test]
async fn a_swarm_service_is_well_when_all_of_its_tasks_run() {
    let daemon = Daemon::start();
    let stage = Stage::on(Some(daemon.host()));
    let port = free_port();
    stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", &format!("127.0.0.1:{port}")]);
    let (name, image) = (stage.name("svc"), stage.image());
    let create =
        ["service", "create", "-q", "--name", &name, "--no-resolve-image", "--network", "host", "--replicas", "2"];
    stage.docker(
        &[&create[..], &[&image, "sh", "-c", "trap 'exit 0' TERM; while :; do echo all well; sleep 0.2; done"]]
            .concat(),
    );
    let docker = stage.connect().await;
    let started = Instant::now();
    loop {
        use backstay::host::docker::watch::Watched;
        match docker.watch(&name).await.unwrap() {
            Watched::Service(2, 2) => break,
            other => assert!(started.elapsed() < Duration::from_secs(30), "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A task's own name means its service: the task may be another one by the next look.
    let task = stage.docker(&["ps", "--format", "{{.Names}}", "--filter", &format!("name={name}")]);
    let task = task.lines().next().unwrap().to_owned();
    assert!(matches!(docker.watch(&task).await.unwrap(), backstay::host::docker::watch::Watched::Service(..)));
    let mut lines = 0;
    docker
        .service_log(&name, jiff::Timestamp::UNIX_EPOCH, &mut |line| lines += u32::from(line == "all well"))
        .await
        .unwrap();
    assert!(lines > 1, "{lines} lines");
    stage.docker(&["service", "scale", "-d", &format!("{name}=0")]);
    assert!(matches!(docker.watch(&name).await.unwrap(), backstay::host::docker::watch::Watched::Service(_, 0)));
    let e = docker.watch("bs-none").await.unwrap_err().to_string();
    assert!(e.contains("there is no container or service bs-none"), "{e}");
}
