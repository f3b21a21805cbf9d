//! Which container is meant, and what is said when none is.

use super::stage::{Daemon, Stage};
use super::world::World;
use backstay::host::docker::Docker;
use std::process::Command;

#[tokio::test]
async fn a_container_is_found_by_name_and_by_compose_service_and_known_well() {
    let stage = Stage::new();
    let (project, volume) = (stage.name("shop"), stage.name("v"));
    let (p, mount) = (format!("com.docker.compose.project={project}"), format!("{volume}:/data:ro"));
    let c = stage.container(
        "c",
        &[
            "--label",
            &p,
            "--label",
            "com.docker.compose.service=db",
            "-v",
            &mount,
            "-v",
            "/tmp:/host",
            "--restart",
            "unless-stopped",
        ],
    );
    let docker = stage.connect().await;
    let found = docker.find(&c).await.unwrap();
    assert_eq!(found, docker.find(&format!("{project}/db")).await.unwrap());
    assert_eq!(
        (found.state.as_str(), found.restart.as_str(), &found.image),
        ("running", "unless-stopped", &stage.image())
    );
    assert_eq!((found.compose(), &found.networks[..]), (Some((project.as_str(), "db")), &["none".to_owned()][..]));
    let data = found.mounts.iter().find(|m| m.destination == "/data").unwrap();
    assert_eq!((data.kind.as_str(), data.volume.as_deref(), data.writable), ("volume", Some(volume.as_str()), false));
    let bind = found.mounts.iter().find(|m| m.destination == "/host").unwrap();
    assert_eq!((bind.kind.as_str(), bind.volume.as_deref(), bind.source.as_str()), ("bind", None, "/tmp"));
}

#[tokio::test]
async fn what_is_not_there_or_does_not_answer_is_said_with_what_to_do() {
    let stage = Stage::new();
    let docker = stage.connect().await;
    let label = format!("com.docker.compose.project={}", stage.name("p"));
    let options = ["--label", &label, "--label", "com.docker.compose.service=web"];
    let (one, two) = (stage.container("one", &options), stage.container("two", &options));
    let e = docker.find(&format!("{}/web", stage.name("p"))).await.unwrap_err().to_string();
    assert!(e.contains("several") && e.contains(&one) && e.contains(&two), "{e}");
    stage.docker(&["stop", &two]);
    assert_eq!(docker.find(&format!("{}/web", stage.name("p"))).await.unwrap().name, one);
    let e = docker.find(&two).await.unwrap_err().to_string();
    assert!(e.contains("exited") && e.contains("docker start"), "{e}");
    stage.docker(&["pause", &one]);
    let e = docker.find(&one).await.unwrap_err().to_string();
    assert!(e.contains("paused") && e.contains("docker unpause"), "{e}");
    // The beginning of an id is no name.
    let id = stage.docker(&["inspect", "-f", "{{.Id}}", &one]);
    for missing in ["bs-no-such", "nobody/home", &id[..5]] {
        let e = docker.find(missing).await.unwrap_err().to_string();
        assert!(e.contains("there is no container or service"), "{missing}: {e}");
    }
    for odd in ["../version", "a/b/c", "", "a?b", "x y", "/", "a\n"] {
        let e = docker.find(odd).await.unwrap_err().to_string();
        assert!(e.contains("cannot be the name"), "{odd:?}: {e}");
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_there_or_not_for_us_is_told() {
    let e = Docker::connect_to(Some("unix:///nowhere/docker.sock")).await.unwrap_err().to_string();
    assert!(e.contains("does not answer") && e.contains("/nowhere/docker.sock"), "{e}");
    let e = Docker::connect_to(Some("tcp://localhost:2375")).await.unwrap_err().to_string();
    assert!(e.contains("DOCKER_HOST") && e.contains("ssh -L"), "{e}");
    // A socket whose daemon is gone.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let e = Docker::connect_to(path.to_str()).await.unwrap_err().to_string();
    assert!(e.contains("does not answer") && e.contains("Connection refused"), "{e}");
}

#[test]
fn a_socket_that_is_not_for_us_is_told_as_such() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let socket = world.at("docker.sock");
    let _daemon = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o660)).unwrap();
    std::fs::set_permissions(world.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(
        world.path().join("nobody.toml"),
        format!(
            "host = \"h\"\nstate_dir = \"/tmp/nobody-{0}\"\n[repository]\nurl = \"file:///tmp/nobody-{0}/repo\"\n\
             [sources.uploads]\nkind = \"volume\"\nvolume = \"uploads\"\n[plans.p]\nsources = [\"uploads\"]\n",
            std::process::id()
        ),
    )
    .unwrap();
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", env!("CARGO_BIN_EXE_backstay")])
        .args(["--config", &world.at("nobody.toml"), "--json", "doctor", "--area", "sources"])
        .env("DOCKER_HOST", format!("unix://{socket}"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("we may not use the Docker daemon") && said.contains("the group of the socket"), "{said}");
    assert_eq!(out.status.code(), Some(17), "{said}");
}

#[tokio::test]
async fn a_swarm_service_is_found_here_and_named_with_its_node_elsewhere() {
    let (manager, worker) = (Daemon::start(), Daemon::start());
    let here = Stage::on(Some(manager.host()));
    let there = Stage::on(Some(worker.host()));
    here.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23771"]);
    let token = here.docker(&["swarm", "join-token", "-q", "worker"]);
    there.docker(&[
        "swarm",
        "join",
        "--token",
        &token,
        "--advertise-addr",
        "127.0.0.2",
        "--listen-addr",
        "127.0.0.2:23772",
        "127.0.0.1:23771",
    ]);
    let node = there.docker(&["info", "-f", "{{.Swarm.NodeID}}"]);
    // The same image on both, so that nobody asks a registry.
    let save =
        Command::new("docker").args(["save", &here.image()]).env("DOCKER_HOST", manager.host()).output().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), save.stdout).unwrap();
    there.docker(&["load", "-i", file.path().to_str().unwrap()]);
    let (image, near, far) = (here.image(), here.name("near"), here.name("far"));
    for (name, constraint) in [(&near, format!("node.id!={node}")), (&far, format!("node.id=={node}"))] {
        here.docker(&[
            "service",
            "create",
            "-q",
            "--name",
            name,
            "--no-resolve-image",
            "--network",
            "host",
            "--constraint",
            &constraint,
            &image,
            "sleep",
            "1000",
        ]);
    }
    let docker = here.connect().await;
    let found = docker.find(&near).await.unwrap();
    assert_eq!((found.swarm_service(), found.label()), (Some(near.as_str()), format!("service {near}")));
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let e = docker.find(&far).await.unwrap_err().to_string();
    assert!(e.contains("runs on another node") && e.contains(hostname.trim()), "{e}");
    there.docker(&["image", "rm", "-f", &image]);
}
