//! Images out of the daemon and back in.

use super::stage::Stage;
use super::world::{World, noise};

fn world(body: &str) -> World {
    let world = World::bare();
    configure(&world, body);
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world
}

fn configure(world: &World, body: &str) {
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.i]\nkind = \"image\"\n{body}\n[plans.p]\nsources = [\"i\"]\n",
        d = world.path().display(),
    ));
}

/// An image of one layer of noise on top of the stage's own.
fn layered(stage: &Stage, what: &str, seed: u64) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), noise(4_000_000, seed)).unwrap();
    let (c, name) = (stage.name(&format!("build-{what}")), stage.name(what));
    stage.docker(&["create", "--name", &c, &stage.image(), "true"]);
    stage.docker(&["cp", &dir.path().join("data").display().to_string(), &format!("{c}:/data")]);
    stage.docker(&["commit", "--change", &format!("LABEL {}", stage.label()), &c, &name]);
    stage.docker(&["rm", &c]);
    name
}

fn id(stage: &Stage, name: &str) -> String {
    stage.docker(&["image", "inspect", "-f", "{{.Id}}", name])
}

#[test]
fn images_of_containers_and_projects_are_backed_up_once_and_shared_layers_too() {
    let stage = Stage::new();
    let (one, two) = (layered(&stage, "one", 1), layered(&stage, "two", 2));
    let project = stage.name("shop");
    stage.docker(&["create", "--name", &stage.name("a"), &one, "true"]);
    stage.docker(&[
        "create",
        "--name",
        &stage.name("b"),
        "--label",
        &format!("com.docker.compose.project={project}"),
        &two,
        "true",
    ]);
    let world = world(&format!("containers = [\"{}\"]", stage.name("a")));
    let first = world.backup();
    let images = first["sources"][0]["facts"]["images"].as_object().unwrap();
    let facts = &images[&id(&stage, &one)];
    assert_eq!(facts["tags"][0].as_str(), Some(format!("{one}:latest").as_str()));
    assert_eq!(facts["used_by"][0].as_str(), Some(format!("container {}", stage.name("a")).as_str()));
    let before = first["stats"]["shipped"].as_u64().unwrap();
    // The same again costs next to nothing, another image only its own layer.
    assert!(world.shipped() < 30_000);
    configure(
        &world,
        &format!("images = [\"{one}\"]\ncontainers = [\"{}\"]\ncompose_project = \"{project}\"", stage.name("a")),
    );
    let third = world.backup();
    assert_eq!(third["sources"][0]["artifacts"].as_array().unwrap().len(), 2);
    let more = third["stats"]["shipped"].as_u64().unwrap();
    assert!(more > 4_000_000 && more < before, "{more} after {before}");
    for (body, said) in [
        ("images = [\"bs-none\"]".to_owned(), "there is no image bs-none"),
        ("containers = [\"bs-none\"]".to_owned(), "there is no container bs-none"),
        ("services = [\"bs-none\"]".to_owned(), "bs-none has no container"),
        ("images = [\"../x\"]".to_owned(), "cannot be the name of an image"),
    ] {
        configure(&world, &body);
        world.run(&["backup"]).code(11).says(&[said]);
    }
    configure(&world, "");
    world.run(&["backup"]).code(3);
}

#[test]
fn a_name_that_moved_is_told_and_the_image_that_runs_is_backed_up() {
    let stage = Stage::new();
    let name = layered(&stage, "app", 1);
    let old = id(&stage, &name);
    stage.docker(&["create", "--name", &stage.name("a"), &name, "true"]);
    let newer = layered(&stage, "app", 2);
    assert_eq!(newer, name);
    let world = world(&format!("containers = [\"{}\"]", stage.name("a")));
    let manifest = world.backup();
    assert!(manifest["sources"][0]["facts"]["images"].get(&old).is_some(), "{manifest}");
    assert!(manifest["sources"][0]["warnings"].to_string().contains("no longer means"), "{manifest}");
}

#[test]
fn only_missing_images_are_loaded_and_named_as_they_were_without_taking_a_name_away() {
    let stage = Stage::new();
    let (one, two) = (layered(&stage, "one", 1), layered(&stage, "two", 2));
    let extra = format!("{}:v1.2", stage.name("extra"));
    stage.docker(&["tag", &one, &extra]);
    let ids = (id(&stage, &one), id(&stage, &two));
    let world = world(&format!("images = [\"{one}\", \"{two}\"]"));
    world.backup();
    // All there: nothing is loaded.
    world.run(&["restore", "--yes"]).code(0);
    // Gone, and one of its names means another image by now.
    stage.docker(&["rmi", &one, &extra]);
    stage.docker(&["tag", &two, &extra]);
    world.run(&["restore", "--yes"]).code(0).says(&["means another image by now", &ids.0]);
    assert_eq!((id(&stage, &one), id(&stage, &extra)), (ids.0.clone(), ids.1.clone()));
    let out = stage.docker(&["run", "--rm", "--network", "none", &one, "wc", "-c", "/data"]);
    assert_eq!(out, "4000000 /data");
    // A damaged pack: what was loaded goes again, what was there stays.
    stage.docker(&["rmi", &one]);
    for pack in world.objects("packs") {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).unwrap();
    }
    assert!(world.run(&["restore", "--yes"]).code != 0);
    assert_eq!(stage.docker(&["images", "-q", &one]), "");
    assert_eq!(id(&stage, &two), ids.1);
}
