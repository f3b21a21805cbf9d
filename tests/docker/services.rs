//! Images of swarm services, whose names are digests that only a registry can give.

use super::registry::Registry;
use super::stage::{Daemon, Stage, until};
use super::world::World;

const SLEEP: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"];

fn running(stage: &Stage, service: &str) -> usize {
    let filter = format!("label=com.docker.swarm.service.name={service}");
    stage.docker(&["ps", "-q", "--filter", &filter]).lines().count()
}

fn create(stage: &Stage, service: &str, more: &[&str], image: &str) {
    let begin = ["service", "create", "-d", "-q", "--name", service, "--network", "host"];
    stage.docker(&[&begin[..], more, &[image], SLEEP].concat());
}

#[test]
fn an_image_that_a_node_pulled_by_digest_comes_back_under_its_name_and_the_digest_is_told_as_lost() {
    let daemon = Daemon::start();
    let stage = Stage::on(Some(daemon.host()));
    stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23792"]);
    let registry = Registry::of(&stage, &stage.image());
    let (image, service) = (registry.image(), stage.name("web"));
    stage.docker(&["rmi", &stage.image()]);
    create(&stage, &service, &[], &image);
    until("the task runs", || running(&stage, &service) == 1);
    let asked = stage.docker(&["service", "inspect", "-f", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", &service]);
    assert!(asked.starts_with(&image) && asked.contains("@sha256:"), "{asked}");
    let id = stage.docker(&["image", "inspect", "-f", "{{.Id}}", &asked]);

    let world = World::bare();
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.i]\nkind = \"image\"\nservices = [\"{service}\"]\n[plans.p]\nsources = [\"i\"]\n",
        d = world.path().display(),
    ));
    let run = |args: &[&str]| super::world::run(world.command(args).env("DOCKER_HOST", daemon.host()));
    run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    let manifest = run(&["--json", "backup"]).code(0).json();
    let facts = &manifest["sources"][0]["facts"]["images"][&id];
    assert_eq!(facts["asked_as"][&asked], serde_json::json!([format!("service {service}")]), "{manifest}");

    // The registry is gone with the machine.
    drop(registry);
    stage.docker(&["service", "rm", &service]);
    until("no task runs", || running(&stage, &service) == 0);
    until("the image is gone", || {
        stage.docker(&["container", "prune", "-f"]);
        stage.docker(&["image", "prune", "-af"]);
        stage.docker(&["images", "-aq"]).is_empty()
    });
    let update = format!("docker service update --no-resolve-image --image {image} {service}");
    run(&["restore", "--yes"]).code(0).says(&[&asked, "--resolve-image never", &update]);
    assert_eq!(stage.docker(&["image", "inspect", "-f", "{{.Id}}", &image]), id);
    // By its digest nobody can have it any more; by its name everybody.
    create(&stage, &service, &["--no-resolve-image"], &asked);
    until("the task is refused", || {
        stage.docker(&["service", "ps", "--no-trunc", "--format", "{{.Error}}", &service]).contains("No such image")
    });
    assert_eq!(running(&stage, &service), 0);
    stage.docker(&["service", "update", "-d", "-q", "--no-resolve-image", "--image", &image, &service]);
    until("the task runs", || running(&stage, &service) == 1);
    stage.docker(&["service", "rm", &service]);
    until("no task runs", || running(&stage, &service) == 0);
}

#[test]
fn a_service_without_a_container_here_is_an_error_that_says_where_to_look() {
    let stage = Stage::new();
    let world = World::bare();
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.i]\nkind = \"image\"\nservices = [\"{service}\"]\n[plans.p]\nsources = [\"i\"]\n",
        d = world.path().display(),
        service = stage.name("none"),
    ));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world.run(&["backup"]).code(11).says(&["has no container on this machine", "`images`"]);
}
