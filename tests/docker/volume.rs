//! Volumes on their way out.

use super::stage::{Daemon, Stage};
use super::world::{World, noise};
use std::path::PathBuf;

/// A world whose only source `v` is of kind `volume`.
pub fn world(body: &str) -> World {
    let world = World::bare();
    configure(&world, body);
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world
}

pub fn configure(world: &World, body: &str) {
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.v]\nkind = \"volume\"\n{body}\n[plans.p]\nsources = [\"v\"]\n",
        d = world.path().display(),
    ));
}

/// A volume and where it lies.
pub fn volume(stage: &Stage, what: &str, options: &[&str]) -> (String, PathBuf) {
    let name = stage.name(what);
    stage.docker(&[&["volume", "create"], options, &[&name]].concat());
    let place = stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &name]);
    (name, place.into())
}

fn entries(world: &World, artifact: &str) -> Vec<String> {
    let out = world.run(&["cat", "latest", "--source", "v", "--artifact", artifact]);
    drop(out);
    let list = world.run(&["ls", "latest", "--source", "v"]).code(0).out;
    list.lines().map(str::to_owned).collect()
}

#[test]
fn a_volume_becomes_a_tar_with_facts_and_its_second_backup_reads_nothing() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &["--label", "tier=gold", "--label", "com.docker.compose.project=shop"]);
    let mount = format!("{name}:/data");
    let c = stage.container(
        "c",
        &["-v", &mount, "--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web"],
    );
    std::fs::create_dir(place.join("a")).unwrap();
    std::fs::write(place.join("a/one"), noise(300_000, 1)).unwrap();
    std::fs::write(place.join("a/skip.tmp"), "x").unwrap();
    std::fs::create_dir(place.join("cache")).unwrap();
    std::fs::write(place.join("cache/x"), "x").unwrap();
    let world = world(&format!("volume = \"{name}\"\nexclude = [\"*.tmp\", \"/cache\"]"));
    world.settle();
    let first = world.backup();
    let record = &first["sources"][0];
    assert_eq!(
        (record["kind"].as_str(), record["artifacts"][0]["name"].as_str()),
        (Some("volume"), Some(format!("volume:{name}").as_str()))
    );
    let facts = &record["facts"]["volumes"][&name];
    assert_eq!((facts["driver"].as_str(), facts["way"].as_str()), (Some("local"), Some("direct")));
    assert_eq!(
        (facts["files"].as_u64(), facts["bytes"].as_u64(), facts["directories"].as_u64()),
        (Some(1), Some(300_000), Some(2))
    );
    assert_eq!((facts["labels"]["tier"].as_str(), facts["compose_project"].as_str()), (Some("gold"), Some("shop")));
    let user = &facts["used_by"][0];
    assert_eq!((user["container"].as_str(), user["service"].as_str()), (Some(c.as_str()), Some("shop/web")));
    assert_eq!(
        (user["destination"].as_str(), user["image"].as_str(), user["state"].as_str()),
        (Some("/data"), Some(stage.image().as_str()), Some("running"))
    );
    let list = entries(&world, &format!("volume:{name}"));
    assert!(list.iter().any(|l| l.contains("a/one")) && !list.iter().any(|l| l.contains("/var/lib")), "{list:?}");
    let second = world.backup();
    assert_eq!(second["stats"]["read"].as_u64(), Some(0), "{second}");
    assert_eq!(second["sources"][0]["facts"]["volumes"][&name]["unchanged"].as_u64(), Some(3));
}

#[test]
fn volumes_are_chosen_by_name_label_project_or_what_is_left() {
    let stage = Stage::new();
    let label = stage.name("label");
    let (one, _) = volume(&stage, "one", &["--label", &format!("{label}=a")]);
    let (two, _) = volume(&stage, "two", &["--label", &format!("{label}=b")]);
    let (three, _) = volume(&stage, "three", &["--label", &format!("com.docker.compose.project={label}")]);
    let world = world(&format!("volume = [\"{one}\", \"{three}\"]"));
    let chosen = |body: &str| -> Vec<String> {
        configure(&world, body);
        let manifest = world.backup();
        manifest["sources"][0]["facts"]["volumes"].as_object().unwrap().keys().cloned().collect()
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(chosen(&format!("volume = [\"{one}\", \"{three}\"]")), sorted(vec![one.clone(), three.clone()]));
    assert_eq!(chosen(&format!("label = \"{label}\"")), sorted(vec![one.clone(), two.clone()]));
    assert_eq!(chosen(&format!("label = \"{label}=b\"")), std::slice::from_ref(&two));
    assert_eq!(chosen(&format!("compose_project = \"{label}\"")), std::slice::from_ref(&three));
    for (body, said) in [
        ("volume = \"bs-none\"".to_owned(), "there is no volume bs-none"),
        ("label = \"bs-none\"".to_owned(), "no volume has the label bs-none"),
        ("compose_project = \"bs-none\"".to_owned(), "the compose project bs-none has no volume"),
        ("all_but = [\"bs-none\"]".to_owned(), "there is no volume bs-none"),
    ] {
        configure(&world, &body);
        world.run(&["backup"]).code(11).says(&[said]);
    }
    for body in ["", &format!("volume = \"{one}\"\nlabel = \"x\""), "volume = []"] {
        configure(&world, body);
        world.run(&["backup"]).code(3);
    }
}

#[test]
fn all_volumes_but_those_named_are_chosen() {
    // On a daemon of its own: nobody else's volumes come into it.
    let daemon = Daemon::start();
    let stage = Stage::on(Some(daemon.host()));
    let volumes = ["one", "two", "three"].map(|what| volume(&stage, what, &[]).0);
    let world = World::bare();
    configure(&world, &format!("all_but = [\"{}\"]", volumes[1]));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    let ran = super::world::run(world.command(&["--json", "backup"]).env("DOCKER_HOST", daemon.host())).code(0);
    let manifest = ran.json();
    let mut chosen: Vec<&String> = manifest["sources"][0]["facts"]["volumes"].as_object().unwrap().keys().collect();
    chosen.sort();
    let mut wanted = vec![&volumes[0], &volumes[2]];
    wanted.sort();
    assert_eq!(chosen, wanted);
}

#[test]
fn live_databases_are_refused_by_name_and_dead_ones_are_read() {
    let stage = Stage::new();
    for (what, files, said, instead) in [
        (
            "pg",
            vec![("pgdata/PG_VERSION", "15\n"), ("pgdata/global/pg_control", "x")],
            "PostgreSQL",
            "kind \"postgres\"",
        ),
        ("my", vec![("ibdata1", "x")], "MariaDB", "kind \"command\""),
        ("prom", vec![("wal/0", "x"), ("chunks_head/0", "x")], "Prometheus", "while_reading"),
        ("lite", vec![("app.db", "SQLite format 3\0..."), ("app.db-wal", "x")], "SQLite", ".backup"),
    ] {
        let (name, place) = volume(&stage, what, &[]);
        for (file, content) in files {
            std::fs::create_dir_all(place.join(file).parent().unwrap()).unwrap();
            std::fs::write(place.join(file), content).unwrap();
        }
        let world = world(&format!("volume = \"{name}\""));
        let c = stage.container(&format!("{what}-c"), &["-v", &format!("{name}:/data")]);
        world.run(&["backup"]).code(11).says(&[said, &name, instead, "torn"]);
        // Read-only, stopped, frozen or left out it is not live.
        configure(&world, &format!("volume = \"{name}\"\nwhile_reading = \"pause\""));
        world.run(&["backup"]).code(0);
        configure(
            &world,
            &format!("volume = \"{name}\"\nexclude = [\"pgdata\", \"ibdata1\", \"chunks_head\", \"app.db*\"]"),
        );
        world.run(&["backup"]).code(0);
        stage.docker(&["rm", "-f", &c]);
        configure(&world, &format!("volume = \"{name}\""));
        world.run(&["backup"]).code(0);
        // A bind mount of the volume's directory is as live as the volume.
        let bind = format!("{}:/data", place.display());
        stage.container(&format!("{what}-b"), &["-v", &bind]);
        world.run(&["backup"]).code(11).says(&[said]);
    }
}

#[test]
fn a_volume_that_is_mounted_by_its_driver_is_read_through_the_daemon_and_never_as_empty() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let device = format!("device={}", dir.path().display());
    let (name, place) = volume(&stage, "v", &["--driver", "local", "-o", "type=none", "-o", "o=bind", "-o", &device]);
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/file"), "content").unwrap();
    std::fs::write(dir.path().join("big"), noise(3_000_000, 5)).unwrap();
    std::fs::hard_link(dir.path().join("sub/file"), dir.path().join("sub/twin")).unwrap();
    std::os::unix::fs::symlink("sub/file", dir.path().join("link")).unwrap();
    std::fs::write(dir.path().join("skip.tmp"), "x").unwrap();
    assert!(std::fs::read_dir(&place).unwrap().next().is_none());
    let world = world(&format!("volume = \"{name}\"\nexclude = [\"*.tmp\"]"));
    let manifest = world.backup();
    let facts = &manifest["sources"][0]["facts"]["volumes"][&name];
    assert_eq!(
        (facts["way"].as_str(), facts["files"].as_u64(), facts["links"].as_u64()),
        (Some("archive"), Some(2), Some(2))
    );
    assert!(facts["loses"].as_array().unwrap().iter().any(|l| l == "ACLs"), "{facts}");
    // The helper is gone again.
    assert_eq!(stage.docker(&["ps", "-aq", "--filter", &format!("volume={name}")]), "");
    let tar = world.at("out.tar");
    let out = world
        .command(&["cat", "latest", "--source", "v"])
        .stdout(std::fs::File::create(&tar).unwrap())
        .status()
        .unwrap();
    assert!(out.success());
    let target = tempfile::tempdir().unwrap();
    assert!(std::process::Command::new("tar").args(["-xf", &tar, "-C"]).arg(target.path()).status().unwrap().success());
    assert_eq!(std::fs::read(target.path().join("big")).unwrap(), noise(3_000_000, 5));
    assert_eq!(std::fs::read(target.path().join("sub/twin")).unwrap(), b"content");
    assert!(!target.path().join("skip.tmp").exists());
    // Through a container that has it, stopped or not; equal bytes.
    let before = world.shipped();
    stage.container("c", &["-v", &format!("{name}:/data:ro")]);
    let mounted = world.backup();
    assert_eq!(mounted["sources"][0]["facts"]["volumes"][&name]["way"].as_str(), Some("direct"));
    stage.docker(&["stop", "-t", "1", &stage.name("c")]);
    let again = world.backup();
    assert_eq!(again["sources"][0]["facts"]["volumes"][&name]["way"].as_str(), Some("archive"));
    assert!(again["stats"]["shipped"].as_u64().unwrap() < before + 20_000, "{again}");
}

#[test]
fn a_volume_that_grows_while_it_is_read_is_told_and_never_torn() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    for n in 0..200 {
        std::fs::write(place.join(format!("f{n:03}")), noise(200_000, n)).unwrap();
    }
    let writes = "i=0; while :; do i=$((i+1)); echo line >> /data/growing.log; echo $i > /data/new$i; sleep 0.01; done";
    stage.container_of("writer", &["-v", &format!("{name}:/data")], &["sh", "-c", writes]);
    let world = world(&format!("volume = \"{name}\""));
    let manifest = world.backup();
    let copy = stage.name("copy");
    world.run(&["restore", "--volume", &name, "--to", &copy]).code(0);
    let restored: PathBuf = stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &copy]).into();
    for n in 0..200 {
        assert_eq!(std::fs::read(restored.join(format!("f{n:03}"))).unwrap(), noise(200_000, n), "{n}");
    }
    let log = std::fs::read_to_string(restored.join("growing.log")).unwrap_or_default();
    assert!(log.lines().all(|line| line == "line"), "{log:?}");
    assert!(manifest["sources"][0]["facts"]["volumes"][&name]["files"].as_u64().unwrap() >= 200, "{manifest}");
    world.run(&["check", "--read-data"]).code(0);
    stage.docker(&["volume", "rm", &copy]);
}

#[test]
fn a_volume_that_is_removed_while_it_is_read_fails_the_source() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    for n in 0..60_000 {
        std::fs::write(place.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let world = world(&format!("volume = \"{name}\""));
    let child = world.command(&["backup"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    stage.docker(&["volume", "rm", &name]);
    let out = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(11), "{err}");
    assert!(err.contains("removed") || err.contains("there is no volume") || err.contains("cannot be read"), "{err}");
}

#[test]
fn odd_content_is_read_whole() {
    let stage = Stage::new();
    let (empty, _) = volume(&stage, "empty.-_", &[]);
    let (odd, place) = volume(&stage, "odd", &[]);
    use std::os::unix::ffi::OsStrExt;
    for name in [&b"-rf"[..], b"new\nline", b"\xff\xfe", b".hidden", b"...", b"a b"] {
        std::fs::write(place.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::File::create(place.join("sparse")).unwrap().set_len(1 << 34).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.join("socket")).unwrap();
    std::fs::hard_link(place.join(".hidden"), place.join("zz")).unwrap();
    let world = world(&format!("volume = [\"{odd}\", \"{empty}\"]"));
    let manifest = world.backup();
    let volumes = &manifest["sources"][0]["facts"]["volumes"];
    assert_eq!((volumes[&odd]["files"].as_u64(), volumes[&odd]["links"].as_u64()), (Some(7), Some(1)), "{volumes}");
    assert_eq!((volumes[&empty]["files"].as_u64(), volumes[&empty]["directories"].as_u64()), (Some(0), Some(1)));
    assert!(manifest["sources"][0]["warnings"].to_string().contains("1 socket"), "{manifest}");
    assert!(manifest["stats"]["read"].as_u64().unwrap() < 1 << 20);
}

#[test]
fn without_a_daemon_the_source_fails_and_says_so() {
    let world = world("volume = \"x\"");
    let out = world.command(&["backup"]).env("DOCKER_HOST", "unix:///nowhere/sock").output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(11), "{err}");
    assert!(err.contains("the Docker daemon does not answer") && err.contains("systemctl start docker"), "{err}");
}

#[test]
fn a_hundred_thousand_files_in_one_directory_are_read_once() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    for n in 0..100_000 {
        std::fs::write(place.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let world = world(&format!("volume = \"{name}\""));
    world.settle();
    let first = world.backup();
    assert_eq!(first["sources"][0]["facts"]["volumes"][&name]["files"].as_u64(), Some(100_000));
    let second = world.backup();
    assert_eq!(second["stats"]["read"].as_u64(), Some(0));
    assert_eq!(second["sources"][0]["facts"]["volumes"][&name]["unchanged"].as_u64(), Some(100_001));
    let copy = stage.name("copy");
    world.run(&["restore", "--yes", "--to", &copy]).code(0).says(&["100,000"]);
}
