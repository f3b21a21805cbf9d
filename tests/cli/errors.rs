//! Bad input gives a clear error (what, where, what to do), the right exit code, and loses nothing.

use crate::world::{World, noise};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

#[test]
fn an_existing_vault_is_not_made_again() {
    let w = World::new();
    w.run(&["init", "--recovery-out", &w.at("second.key")]).code(10).says(&["exists"]);
    // Not even when this host has forgotten everything.
    fs::remove_dir_all(w.path().join("state")).unwrap();
    fs::remove_file(w.path().join("host.key")).unwrap();
    w.run(&["init", "--recovery-out", &w.at("second.key")])
        .code(10)
        .says(&["has a vault in this repository already", "do:"]);
    assert!(!w.path().join("second.key").exists() && !w.path().join("host.key").exists());
    w.run(&["--identity", &w.at("recovery.key"), "list"]).code(0);
}

#[test]
fn a_wrong_identity_opens_nothing() {
    let (w, other) = (World::new(), World::new());
    w.file("f", "x");
    w.backup();
    let args = ["--config", "/nowhere", "--repository", &format!("file://{}", w.at("repo"))];
    let with =
        |key: &str| w.run(&[&args[..], &["--identity", key, "restore", "--plan", "p", "--to", &w.at("out")]].concat());
    with(&other.at("recovery.key")).code(5).says(&["opens none of the 2 key files", "do:"]);
    assert!(!w.path().join("out").exists());
    with(&w.at("backstay.toml")).code(5);
    with(&w.at("recovery.key")).code(0);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let w = World::new();
    let path = w.path().join("repo/test-host/vault.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    w.file("f", "x");
    w.run(&["backup"]).code(15).says(&["format 2", "newer Backstay"]);
    assert!(w.objects("backups").is_empty());
}

#[test]
fn a_typo_in_the_configuration_names_the_nearest_key() {
    let w = World::new();
    w.configure("", &format!("pahts = [\"{}\"]", w.at("tree")));
    w.run(&["backup"]).code(3).says(&["`pahts`", "Did you mean `paths`?", "backstay.toml"]);
    w.write_config("host = \n");
    w.run(&["backup"]).code(3).says(&["backstay.toml"]);
    fs::remove_file(w.path().join("backstay.toml")).unwrap();
    w.run(&["backup"]).code(3).says(&["cannot be read", "--config"]);
}

#[test]
fn a_path_that_vanished_fails_the_source() {
    let w = World::new();
    w.file("f", "x");
    w.backup();
    fs::rename(w.path().join("tree"), w.path().join("elsewhere")).unwrap();
    w.run(&["backup"]).code(11).says(&["does not exist", "tree"]);
    assert_eq!(w.objects("backups").len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_fails_its_source_unless_it_is_excluded() {
    let w = World::new();
    w.file("ok", "x");
    let locked = w.file("locked", "y");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // As an ordinary user, to whom permissions apply.
    for dir in ["", "tree"] {
        fs::set_permissions(w.path().join(dir), fs::Permissions::from_mode(0o777)).unwrap();
    }
    assert!(Command::new("chown").args(["-R", "nobody", &w.at("")]).status().unwrap().success());
    assert!(Command::new("chown").args(["root", &locked.display().to_string()]).status().unwrap().success());
    // The build directory need not be open to everyone.
    let program = w.at("backstay");
    fs::copy(env!("CARGO_BIN_EXE_backstay"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = || {
        let mut c = Command::new("setpriv");
        c.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", &program, "backup"])
            .env("BACKSTAY_CONFIG", w.at("backstay.toml"))
            .env("NO_COLOR", "1");
        crate::world::run(c.stdin(Stdio::null()))
    };
    as_nobody().code(11).says(&["cannot be read", "tree/locked", "exclude it"]);
    w.configure("", &format!("paths = [\"{}\"]\nexclude = [\"locked\"]", w.at("tree")));
    as_nobody().code(0);
}

#[test]
fn one_failing_source_does_not_take_the_others_with_it() {
    let w = World::new();
    w.file("f", "x");
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{0}/state\"\n[repository]\nurl = \"file://{0}/repo\"\n[keys]\nidentity_file = \"{0}/host.key\"\n\
         [sources.tree]\nkind = \"files\"\npaths = [\"{0}/tree\"]\n[sources.gone]\nkind = \"files\"\npaths = [\"{0}/gone\"]\n\
         [sources.db]\nkind = \"postgres\"\nurl = \"postgresql://postgres@127.0.0.1:1/x\"\n[plans.p]\nsources = [\"gone\", \"tree\", \"db\"]\n",
        w.path().display()
    ));
    w.run(&["backup"]).code(8).says(&["partly backed up", "gone", "does not exist", "db", "cannot connect"]);
    // It is not the latest of the plan, and not of the failed sources; it is of the good one.
    w.run(&["restore", "--to", &w.at("a")]).code(4).says(&["no backup is complete"]);
    w.run(&["restore", "--source", "gone", "--to", &w.at("b")]).code(4);
    w.run(&["restore", "--source", "tree", "--to", &w.at("c")]).code(0);
    w.run(&["list"]).code(0).says(&["2 of 4 failed"]);
}

#[test]
fn a_full_repository_is_told_and_earlier_backups_stay_whole() {
    let w = World::bare();
    let repo = w.path().join("repo");
    fs::create_dir(&repo).unwrap();
    assert!(
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(&repo).status().unwrap().success()
    );
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.file("small", noise(1 << 20, 1));
    let first = w.run(&["--json", "backup"]);
    w.file("huge", noise(40 << 20, 2));
    let full = w.run(&["backup"]);
    let check = w.run(&["check", "--read-data"]);
    fs::remove_file(w.path().join("tree/huge")).unwrap();
    let restore = w.run(&["restore", "--to", &w.at("out")]);
    assert!(Command::new("umount").arg(&repo).status().unwrap().success());
    first.code(0);
    full.code(6).says(&["no space left"]);
    check.code(0);
    restore.code(0);
}

#[test]
fn two_backups_at_once_are_refused_and_the_lock_dies_with_its_process() {
    let w = World::new();
    w.file("pipe-me", noise(30 << 20, 1));
    w.configure("limit_upload = \"1MiB\"", &format!("paths = [\"{}\"]", w.at("tree")));
    let mut first = w.command(&["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let lock = w.path().join("state/work.lock");
    while !fs::read_to_string(&lock).is_ok_and(|t| !t.is_empty()) {
        std::thread::sleep(Duration::from_millis(10));
    }
    w.run(&["backup"]).code(9).says(&["another backup is running", &first.id().to_string()]);
    first.kill().unwrap();
    first.wait().unwrap();
    w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
    w.run(&["backup"]).code(0);
}

#[test]
fn a_kill_at_any_moment_loses_nothing_and_the_next_run_takes_up_what_was_uploaded() {
    let w = World::new();
    w.file("small", "one");
    w.backup();
    w.file("big", noise(24 << 20, 3));
    w.settle();
    for delay in [5, 20, 40, 80, 120, 200, 300, 500] {
        let mut run = w.command(&["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = run.kill();
        run.wait().unwrap();
        w.run(&["check"]).code(0);
    }
    let m = w.run(&["--json", "backup"]).code(0).json();
    w.run(&["check", "--read-data"]).code(0);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    assert_eq!(fs::read(restored.join("big")).unwrap(), noise(24 << 20, 3));
    // Eight runs did not store the file eight times.
    let stored: u64 = w.objects("packs").iter().map(|p| fs::metadata(p).unwrap().len()).sum();
    assert!(stored < 60 << 20, "{stored} stored, {} shipped by the last", m["stats"]["shipped"]);
}

#[test]
fn a_terminated_run_ends_with_its_own_code() {
    let w = World::new();
    w.file("big", noise(30 << 20, 1));
    w.configure("limit_upload = \"1MiB\"", &format!("paths = [\"{}\"]", w.at("tree")));
    let run = w.command(&["backup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    let out = run.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(14), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(w.objects("backups").is_empty());
}

#[test]
fn a_cloned_host_is_refused_until_it_takes_over() {
    let w = World::new();
    w.file("f", "x");
    w.backup();
    let state = w.path().join("state");
    let cloned = |args: &[&str]| {
        // Another machine id, seen by this process alone.
        let id = w.path().join("machine-id");
        fs::write(&id, "0123456789abcdef0123456789abcdef\n").unwrap();
        let script = format!(
            "mount --bind {} /etc/machine-id && exec {} {}",
            id.display(),
            env!("CARGO_BIN_EXE_backstay"),
            args.join(" ")
        );
        let mut c = Command::new("unshare");
        c.args(["--mount", "sh", "-c", &script]).env("BACKSTAY_CONFIG", w.at("backstay.toml")).env("NO_COLOR", "1");
        crate::world::run(&mut c)
    };
    cloned(&["backup"]).code(10).says(&["another machine", "--take-over"]);
    cloned(&["backup", "--take-over"]).code(0);
    cloned(&["backup"]).code(0);
    assert!(state.exists());
}

#[test]
fn a_copied_repository_reads_and_goes_on() {
    let w = World::new();
    w.file("f", "x");
    w.backup();
    assert!(Command::new("cp").args(["-r", &w.at("repo"), &w.at("copy")]).status().unwrap().success());
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&text.replace(&w.at("repo"), &w.at("copy")));
    w.file("g", "y");
    w.run(&["backup"]).code(0);
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
    // Another vault under the same name is not the one this host trusts.
    let other = World::new();
    w.write_config(&text.replace(&w.at("repo"), &other.at("repo")));
    w.run(&["backup"]).code(10).says(&["another vault", "trusts"]);
}

#[test]
fn the_times_of_the_objects_themselves_age_no_backup() {
    let w = World::new();
    let ids: Vec<String> = (0..4)
        .map(|i| {
            w.file("f", noise(100, i));
            w.backup()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    // As a copy of the bucket, or a clock that was wrong, leaves them: the newest look ten years old, the oldest are of
    // the next year.
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    for object in w.objects("") {
        let name = object.file_name().unwrap().to_str().unwrap();
        let at = if ids[2..].iter().any(|id| id == name) { now - 3650 * day } else { now + 365 * day };
        fs::File::options().write(true).open(&object).unwrap().set_modified(at).unwrap();
    }
    w.run(&["forget", "--dry-run"]).code(0).says(&["2 backups would be removed"]);
    assert_eq!(w.objects("backups").len(), 4);
    w.run(&["forget"]).code(0).says(&["removed 2 backups"]);
    assert_eq!(listed(&w), ids[2..]);
    w.run(&["prune"]).code(0);
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
}

/// The ids of all backups, oldest first.
fn listed(w: &World) -> Vec<String> {
    let list = w.run(&["--json", "list"]).code(0).json();
    let mut ids: Vec<String> = list.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn backups_far_smaller_than_usual_do_not_count_until_somebody_acknowledges_them() {
    let w = World::new();
    let good: Vec<String> = (0..3)
        .map(|i| {
            w.file("f", noise(200_000, i));
            w.backup()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    w.file("f", "");
    let small: Vec<String> = (0..3).map(|_| w.backup()["id"].as_str().unwrap().to_owned()).collect();
    w.run(&["forget", "--dry-run"]).code(0).says(&["1 backup would be removed", "not acknowledged"]);
    for id in &small {
        w.run(&["hold", id, "--acknowledge", "--note", "the old files were moved"]).code(0).says(&["acknowledged"]);
    }
    w.run(&["forget"]).code(0).says(&["removed 4 backups"]);
    assert_eq!(listed(&w), small[1..]);
    assert!(!listed(&w).contains(&good[2]));
}

#[test]
fn a_source_that_is_configured_no_more_protects_its_last_backup_until_forget_names_it() {
    let w = World::new();
    w.file("f", "x");
    fs::create_dir(w.at("other")).unwrap();
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let other = format!("[sources.other]\nkind = \"files\"\npaths = [\"{}\"]\n", w.at("other"));
    w.write_config(&(text.replace("sources = [\"tree\"]", "sources = [\"tree\", \"other\"]") + &other));
    let first = w.backup()["id"].as_str().unwrap().to_owned();
    w.write_config(&text);
    let ids: Vec<String> = (0..3).map(|_| w.backup()["id"].as_str().unwrap().to_owned()).collect();
    w.run(&["forget"]).code(0).says(&["removed 1 backup"]);
    assert_eq!(listed(&w), [&first, &ids[1], &ids[2]].map(String::clone));
    w.run(&["forget", "--source", "other"]).code(0).says(&["removed 1 backup"]);
    assert_eq!(listed(&w), ids[1..]);
}

#[test]
fn state_and_repository_are_neither_backed_up_nor_swapped_away() {
    let w = World::new();
    w.file("f", "x");
    w.configure("", &format!("paths = [\"{}\"]", w.at("")));
    w.backup();
    let listed = w.run(&["ls"]).code(0).out;
    assert!(!listed.contains("repo/") && !listed.contains("state/"), "{listed}");
    w.run(&["restore", "--yes"]).code(10).says(&["which this restore itself needs", "--to"]);
    w.configure("", &format!("paths = [\"{}\"]", w.at("repo/x")));
    w.run(&["backup"]).code(3).says(&["own state and repository"]);
}

#[test]
fn machines_get_their_errors_as_json() {
    let w = World::new();
    let ran = w.run(&["--json", "show"]).code(4);
    let e: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((e["error"]["kind"].as_str(), e["error"]["exit_code"].as_u64()), (Some("not-found"), Some(4)));
    assert!(e["error"]["do"].is_string());
}
