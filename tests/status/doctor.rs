//! What `doctor` finds on a host, and that it changes nothing.

use crate::alone::{self, alone};
use crate::port::free_port;
use crate::world::{World, picture};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// The checks of a run that ends with this code.
pub fn checks(world: &World, args: &[&str], code: i32) -> Vec<Value> {
    let ran = alone(world, &[&["--json", "doctor"], args].concat()).code(code);
    ran.json()["checks"].as_array().unwrap().clone()
}

/// The only check of an area with such a name.
#[track_caller]
pub fn check(checks: &[Value], area: &str, name: &str) -> Value {
    let mut found = checks.iter().filter(|c| c["area"] == area && c["name"].as_str().unwrap().contains(name));
    match (found.next(), found.next()) {
        (Some(one), None) => one.clone(),
        _ => panic!("not one check {name} of {area}: {checks:#?}"),
    }
}

/// Fails unless a check came out like this, with these words.
#[track_caller]
pub fn expect(checks: &[Value], area: &str, name: &str, outcome: &str, words: &[&str]) {
    let check = check(checks, area, name);
    assert_eq!(check["outcome"], outcome, "{check:#}");
    let text = format!("{} {}", check["detail"].as_str().unwrap(), check["do"].as_str().unwrap_or_default());
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in {check:#}"));
}

#[test]
fn a_host_is_looked_at_and_nothing_is_changed() {
    let world = World::new();
    world.file("a.txt", b"x");
    world.backup();
    // A directory's clock is that of a file which is made and removed: only the directory's own time moves.
    let everything = || (picture(&world.path().join("state")), picture(&world.path().join("tree")), world.objects(""));
    let before = everything();
    let all = checks(&world, &[], 0);
    assert_eq!(everything(), before);
    expect(&all, "configuration", "plans", "good", &["1 plan of 1 source"]);
    expect(&all, "configuration", "host.key", "good", &[]);
    expect(&all, "configuration", "state directory", "good", &["free"]);
    expect(&all, "repository", "answers", "good", &["file://"]);
    expect(&all, "repository", "clock", "good", &["agree"]);
    expect(&all, "repository", "disk", "warning", &["same disk", "bucket"]);
    expect(&all, "keys", "identity", "good", &["opens the vault"]);
    expect(&all, "keys", "recovery", "warning", &["recovery was never proven", "key check"]);
    expect(&all, "sources", "tree (files)", "good", &["1 path"]);
    expect(&all, "space", "p", "good", &["needed", "free"]);
    expect(&all, "timers", "p", "unknown", &["not run by systemd", "cron"]);
    expect(&all, "proofs", "restore of p", "warning", &["never drilled", "backstay drill p"]);
    expect(&all, "telling", "who is told", "warning", &["nobody", "[metrics]"]);
    for check in &all {
        assert!(!check["detail"].as_str().unwrap().is_empty(), "{check:#}");
        assert!(check["outcome"] == "good" || check["do"].is_string(), "no remedy: {check:#}");
    }
    // Warnings fail who asks for that, and an area may be asked alone.
    world.run(&["doctor", "--strict"]).code(17);
    let text = world.run(&["doctor", "--area", "keys"]).code(0).says(&[
        "keys\n",
        "do: backstay --identity",
        "2 checks: 1 warning",
    ]);
    assert!(!text.out.contains("repository"), "{}", text.out);
    let ran = world.run(&["doctor", "--area", "kitchen"]).code(2).says(&["there is no area kitchen", "repository"]);
    // The document has them all.
    let (_, areas) = ran.err.split_once("There are: ").unwrap();
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md")).unwrap();
    for area in areas.trim().trim_end_matches('.').split(", ") {
        assert!(document.contains(&format!("| `{area}` |")), "docs/doctor.md has no row for {area}");
    }
}

#[test]
fn a_host_that_is_well_passes_even_strictly() {
    let mut world = World::bare();
    std::fs::create_dir(world.path().join("metrics")).unwrap();
    std::fs::set_permissions(world.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.extra =
        format!("schedule = \"0 3 * * *\"\n[metrics]\ntextfile = \"{}\"\n", world.at("metrics/backstay.prom"));
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world.file("a.txt", b"x");
    world.backup();
    world.run(&["restore", "--yes"]).code(0);
    world.run(&["--identity", &world.at("recovery.key"), "key", "check"]).code(0);
    let areas = ["configuration", "keys", "sources", "restore", "space", "timers", "proofs", "telling"];
    let areas: Vec<&str> = areas.iter().flat_map(|area| ["--area", area]).collect();
    let ran = alone(&world, &[&["doctor", "--strict"], &areas[..]].concat());
    ran.code(0).says(&["everything is as it should be", "called by another scheduler", "a textfile"]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_what_it_tells() {
    let world = World::bare();
    world.write_config("host = \"x\"\n[repository]\nurll = \"file:///x\"\n");
    let all = checks(&world, &[], 17);
    expect(&all, "configuration", "file", "bad", &["urll", "Did you mean `url`?"]);
    world.run(&["doctor"]).code(17).says(&["configuration", "bad", "urll", "1 check: 1 bad"]);
}

#[test]
fn who_may_read_what_is_secret_is_told() {
    let mut world = World::new();
    world.extra = "[webhooks]\nfailure_url = \"http://127.0.0.1:1/fail\"\n".into();
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let mode = |path: &str, mode| {
        std::fs::set_permissions(world.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("backstay.toml", 0o644);
    mode("host.key", 0o640);
    mode("state", 0o755);
    let all = checks(&world, &["--area", "configuration"], 17);
    expect(&all, "configuration", "backstay.toml", "bad", &["failure_url", "chmod go-rwx", "failure_url_file"]);
    expect(&all, "configuration", "host.key", "bad", &["every backup", "chmod 600", "key rotate"]);
    expect(&all, "configuration", "state directory", "bad", &["chmod 700"]);
    mode("backstay.toml", 0o600);
    mode("host.key", 0o600);
    mode("state", 0o700);
    checks(&world, &["--area", "configuration"], 0);
}

#[test]
fn a_source_that_is_gone_and_one_that_nobody_backs_up_are_told() {
    let mut world = World::new();
    world.extra = "[sources.program]\nkind = \"command\"\ndump = [\"/no/such/program\"]\n[sources.idle]\nkind = \"files\"\npaths = [\"/etc/hostname\"]\n\
         [plans.more]\nsources = [\"program\"]\n"
        .into();
    world.configure("", &format!("paths = [\"{}\", \"{}\"]", world.at("tree"), world.at("gone")));
    let all = checks(&world, &["--area", "sources", "--area", "configuration"], 17);
    expect(&all, "sources", "tree (files)", "bad", &[&world.at("gone"), "No such file"]);
    expect(&all, "sources", "program (command)", "bad", &["/no/such/program"]);
    expect(&all, "sources", "idle (files)", "good", &[]);
    expect(&all, "configuration", "sources in no plan", "warning", &["idle"]);
}

#[test]
fn what_a_host_source_names_and_is_gone_is_told() {
    let mut world = World::new();
    std::fs::create_dir(world.path().join("shop")).unwrap();
    std::os::unix::fs::symlink(world.path().join("gone"), world.path().join("led")).unwrap();
    world.extra = format!(
        "[sources.machine]\nkind = \"host\"\n[sources.shop]\nkind = \"host\"\ncompose = [\"{}\"]\n\
         [sources.scripts]\nkind = \"host\"\ncompose = [\"{0}\"]\nextra = [\"{}\"]\n",
        world.at("shop"),
        world.at("led")
    );
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let all = checks(&world, &["--area", "sources"], 17);
    expect(&all, "sources", "shop (host)", "good", &["1 path"]);
    expect(&all, "sources", "scripts (host)", "bad", &[&world.at("led"), "No such file", "`compose` and `extra`"]);
    assert!(all.iter().all(|c| c["name"] != "machine (host)"), "it names nothing: {all:#?}");
}

#[test]
fn an_identity_of_another_vault_and_a_lost_recovery_key_are_told() {
    let (world, other) = (World::new(), World::new());
    std::fs::copy(other.path().join("host.key"), world.path().join("host.key")).unwrap();
    let all = checks(&world, &["--area", "keys"], 17);
    expect(&all, "keys", "identity", "bad", &["opens no key file"]);
    for key in world.objects("keys").iter().filter(|key| key.to_string_lossy().contains("recovery")) {
        std::fs::remove_file(key).unwrap();
    }
    let all = checks(&world, &["--area", "keys"], 17);
    expect(&all, "keys", "recovery", "bad", &["nobody can open", "key add recovery"]);
    // Without a vault nothing of this can be asked.
    let bare = World::bare();
    let all = checks(&bare, &["--area", "keys", "--area", "repository"], 17);
    expect(&all, "keys", "keys", "unknown", &["the vault cannot be opened"]);
}

#[test]
fn what_a_restore_would_stop_over_is_told_before_it() {
    let mut world = World::new();
    world.extra = "[plans.q]\nsources = [\"tree\"]\n[[plans.q.restore.checks]]\nname = \"answers\"\ncommand = [\"/no/such/check\"]\n\
         [[plans.q.restore.after_swap]]\nname = \"warm\"\ncommand = [\"/no/such/hook\"]\n"
        .into();
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let all = checks(&world, &["--area", "restore"], 17);
    expect(&all, "restore", "check answers", "bad", &["/no/such/check"]);
    expect(&all, "restore", "hook", "bad", &["/no/such/hook"]);
}

#[test]
fn an_open_restore_does_not_hide_behind_anything() {
    let world = World::new();
    std::fs::write(world.path().join("state/restore.journal"), b"cut off").unwrap();
    let all = checks(&world, &["--area", "proofs"], 17);
    assert!(all.iter().any(|c| c["outcome"] == "bad" && c["detail"].as_str().unwrap().contains("a restore is open")));
    alone(&world, &["doctor", "--area", "proofs"]).code(17).says(&["backstay restore --resume"]);
}

#[test]
fn a_docker_that_does_not_answer_is_told_before_its_sources() {
    let mut world = World::new();
    world.extra = "[sources.uploads]\nkind = \"volume\"\nvolume = \"shop_uploads\"\n".into();
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let mut doctor = alone::command(&world, &["--json", "doctor", "--area", "sources"]);
    let ran = crate::world::run(doctor.env("DOCKER_HOST", "unix:///nowhere/docker.sock")).code(17);
    let all = ran.json()["checks"].as_array().unwrap().clone();
    expect(&all, "sources", "docker", "bad", &["does not answer", "/nowhere/docker.sock", "systemctl start docker"]);
    expect(&all, "sources", "uploads (volume)", "bad", &["does not answer"]);
    expect(&all, "sources", "tree (files)", "good", &[]);
}

#[test]
fn an_nginx_that_would_show_no_page_or_is_broken_is_told() {
    let mut world = World::new();
    let conf = world.at("nginx.conf");
    world.extra =
        format!("[plans.p.restore]\nmaintenance = true\n[maintenance]\ncommand = [\"nginx\", \"-c\", \"{conf}\"]\n");
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.file("a.txt", b"x");
    world.backup();
    let port = free_port();
    let write = |server: &str| {
        let text = format!(
            "pid {0}/nginx.pid;\nerror_log {0}/nginx.log;\nevents {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:{port}; server_name shop.example.com; {server} }} }}\n",
            world.path().display()
        );
        std::fs::write(&conf, text).unwrap();
    };
    let area = ["--area", "restore"];
    write("return 200;");
    expect(&checks(&world, &area, 17), "restore", "maintenance page", "bad", &["nginx does not run", "Start it"]);
    let started = std::process::Command::new("nginx").args(["-c", &conf]).status().expect("nginx: tests/setup.sh test");
    assert!(started.success());
    let shown = checks(&world, &area, 17);
    write("retrun 200;");
    let broken = checks(&world, &area, 17);
    let pid = std::fs::read_to_string(world.path().join("nginx.pid")).unwrap();
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
    expect(&shown, "restore", "maintenance page", "bad", &["maintenance install"]);
    expect(&broken, "restore", "maintenance page", "bad", &["retrun"]);
}
