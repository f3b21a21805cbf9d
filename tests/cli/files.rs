//! The files source: what comes back is what was there, and what did not change costs nothing.

use crate::world::{World, noise, old, picture};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

fn sh(world: &World, script: &str) {
    let status = Command::new("bash").args(["-euc", script]).current_dir(world.path().join("tree")).status().unwrap();
    assert!(status.success(), "{script}");
}

/// Every kind of entry that a host has.
fn full_tree(w: &World) {
    w.file("plain.txt", "hello");
    w.file("empty", "");
    w.file("exactly-512", noise(512, 1));
    w.file("large.bin", noise(5_000_003, 2));
    w.file(&format!("deep/{}/{}", "n".repeat(200), "m".repeat(180)), "long path");
    w.file("with\nnewline and 'quotes' \"both\" ä", "odd");
    let raw = w.path().join("tree").join(OsStr::from_bytes(b"not-utf8-\xff\xfe"));
    fs::write(raw, "bytes").unwrap();
    symlink("plain.txt", w.path().join("tree/link")).unwrap();
    symlink("x".repeat(150), w.path().join("tree/dangling")).unwrap();
    fs::hard_link(w.path().join("tree/large.bin"), w.path().join("tree/deep/again")).unwrap();
    sh(
        w,
        "mkfifo fifo; mknod null c 1 3; mknod disk b 7 200; truncate -s 64M sparse; printf data | dd of=sparse bs=1 seek=9999999 conv=notrunc status=none; \
         truncate -s 20M all-hole; chmod 4755 plain.txt; chown 12345:54321 empty; chown 3000000:7 exactly-512; setfattr -n user.note -v \"$(head -c 3000 /dev/zero | tr '\\0' x)\" plain.txt; \
         setfattr -n trusted.secret -v 0x0001ff deep; setfacl -m u:daemon:rw exactly-512; setfacl -d -m g:daemon:rx deep; touch -d '1960-02-03 04:05:06.789' exactly-512; \
         touch -d '2040-01-01 00:00:00.000000001' empty; touch -h -d '2001-02-03 04:05:06.5' link; mkdir -m 1777 sticky; mkdir -m 000 locked; python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind(\"socket\")'",
    );
    fs::set_permissions(w.path().join("tree"), fs::Permissions::from_mode(0o751)).unwrap();
}

#[test]
fn everything_a_host_has_comes_back_as_it_was() {
    let w = World::new();
    full_tree(&w);
    let m = w.backup();
    assert!(m["sources"][0]["warnings"].to_string().contains("1 socket left out"), "{m}");
    fs::remove_file(w.path().join("tree/socket")).unwrap();
    let before = picture(&w.path().join("tree"));
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    // Only the parent's own time changed by removing the socket.
    let strip = |p: &str| p.lines().filter(|l| !l.starts_with("|d|")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(strip(&picture(&restored)), strip(&before));
    // Holes are holes again.
    let blocks = |p: &std::path::Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(p).unwrap());
    assert!(blocks(&restored.join("sparse")) * 512 < 1 << 20);
    assert!(blocks(&restored.join("all-hole")) * 512 < 1 << 20);
}

#[test]
fn the_artifact_is_a_plain_tar_that_stock_tar_unpacks() {
    let w = World::new();
    full_tree(&w);
    fs::remove_file(w.path().join("tree/socket")).unwrap();
    w.backup();
    let script = format!(
        "mkdir stock && {} cat --source tree | tar -C stock --xattrs --xattrs-include='*' --numeric-owner -xpf -",
        env!("CARGO_BIN_EXE_backstay")
    );
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(w.path())
        .env("BACKSTAY_CONFIG", w.at("backstay.toml"));
    crate::world::run(&mut command).code(0);
    let stock = w.path().join("stock").join(w.at("tree").trim_start_matches('/'));
    // Old GNU sparse members carry no access to what tar does with negative or sub-second times elsewhere.
    assert_eq!(picture(&stock), picture(&w.path().join("tree")));
}

#[test]
fn an_unchanged_tree_is_not_read_and_ships_next_to_nothing() {
    let w = World::new();
    for i in 0..3000 {
        w.file(&format!("d{}/f{i}", i % 50), noise(500 + i, i as u64));
    }
    w.settle();
    w.backup();
    let m = w.backup();
    assert_eq!(m["stats"]["read"], 0, "{}", m["stats"]);
    assert_eq!(m["stats"]["shipped"], 0, "{}", m["stats"]);
    assert_eq!(m["sources"][0]["facts"]["unchanged"], 3051);
    // And what was not read is still all there.
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    assert_eq!(
        picture(&w.path().join("out").join(w.at("tree").trim_start_matches('/'))),
        picture(&w.path().join("tree"))
    );
}

#[test]
fn a_changed_or_renamed_small_file_ships_its_own_bytes_only() {
    let w = World::new();
    for i in 0..2000 {
        w.file(&format!("d/f{i:05}"), noise(4000, i));
    }
    w.settle();
    w.backup();
    w.file("d/f01000", noise(4000, 77_777));
    w.settle();
    let m = w.backup();
    assert_eq!(m["stats"]["read"], 4000);
    assert!(m["stats"]["new"].as_u64().unwrap() < 8000, "{}", m["stats"]);
    fs::rename(w.path().join("tree/d/f01500"), w.path().join("tree/d/renamed")).unwrap();
    w.settle();
    let m = w.backup();
    assert!(m["stats"]["new"].as_u64().unwrap() < 4000, "a rename ships headers: {}", m["stats"]);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    assert_eq!(
        picture(&w.path().join("out").join(w.at("tree").trim_start_matches('/'))),
        picture(&w.path().join("tree"))
    );
}

#[test]
fn a_large_file_that_moves_or_grows_ships_what_is_new() {
    let w = World::new();
    let content = noise(20 << 20, 5);
    w.file("big", &content);
    w.settle();
    w.backup();
    fs::rename(w.path().join("tree/big"), w.path().join("tree/moved")).unwrap();
    w.settle();
    assert!(w.shipped() < 20_000);
    w.file("moved", [&content[..], b"one more line\n"].concat());
    w.settle();
    assert!(w.shipped() < 3 << 20);
}

#[test]
fn hard_links_are_resolved_anew_when_their_first_name_goes() {
    let w = World::new();
    w.file("a/first", noise(3000, 1));
    fs::create_dir(w.path().join("tree/b")).unwrap();
    fs::hard_link(w.path().join("tree/a/first"), w.path().join("tree/b/second")).unwrap();
    w.settle();
    w.backup();
    // The directory above the first name is renamed: the other name's times do not change.
    fs::rename(w.path().join("tree/a"), w.path().join("tree/z")).unwrap();
    w.backup();
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    assert_eq!(
        picture(&w.path().join("out").join(w.at("tree").trim_start_matches('/'))),
        picture(&w.path().join("tree"))
    );
    // Now the first name is excluded.
    w.configure("", &format!("paths = [\"{}\"]\nexclude = [\"second\"]", w.at("tree")));
    w.backup();
    w.run(&["restore", "--to", &w.at("out2")]).code(0);
    let restored = w.path().join("out2").join(w.at("tree").trim_start_matches('/'));
    assert_eq!(fs::read(restored.join("z/first")).unwrap(), noise(3000, 1));
    assert!(!restored.join("b/second").exists());
}

#[test]
fn a_write_in_the_same_tick_is_not_missed() {
    let w = World::new();
    let path = w.file("f", "one");
    w.backup();
    // Same size, same modification time; only the change time moves, perhaps within the tick.
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    w.backup();
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    assert_eq!(fs::read(restored.join("f")).unwrap(), b"two");
}

#[test]
fn one_file_is_restored_without_reading_the_rest() {
    let w = World::new();
    for i in 0..30 {
        w.file(&format!("f{i:02}"), noise(900_000, i));
    }
    fs::hard_link(w.path().join("tree/f00"), w.path().join("tree/zz-link")).unwrap();
    w.backup();
    let packs = w.objects("packs");
    assert!(packs.len() >= 5);
    // Damage all packs but those of the wanted file: the restore must not care.
    let wanted = w.at("tree/f17");
    let mut broken = 0;
    for pack in &packs {
        let content = fs::read(pack).unwrap();
        fs::write(pack, b"damaged").unwrap();
        if w.run(&["cat", "--source", "tree", "--path", &wanted]).code != 0 {
            fs::write(pack, content).unwrap();
        } else {
            broken += 1;
        }
    }
    assert!(broken >= packs.len() - 2, "{broken} of {}", packs.len());
    fs::remove_file(&wanted).unwrap();
    w.run(&["restore", "--yes", "--path", &wanted]).code(0);
    assert_eq!(fs::read(&wanted).unwrap(), noise(900_000, 17));
}

#[test]
fn a_path_that_the_backup_does_not_hold_is_named_before_anything_is_written() {
    let w = World::new();
    w.file("a/f", "content");
    w.backup();
    let (there, missing) = (w.at("tree/a"), w.at("tree/nope"));
    let words = ["the backup does not hold this path", missing.as_str()];
    for paths in [vec![&missing], vec![&there, &missing]] {
        for more in [vec![], vec!["--dry-run"]] {
            let to = w.at("out");
            let mut args = vec!["restore", "--to", &to];
            paths.iter().for_each(|path| args.extend(["--path", path.as_str()]));
            args.extend(more);
            let ran = w.run(&args).code(4).says(&words);
            assert!(!ran.err.contains("/tree/a,") && !w.path().join("out").exists(), "{}", ran.err);
        }
    }
    w.run(&["restore", "--yes", "--path", &missing]).code(4).says(&words);
    w.run(&["restore", "--to", &w.at("out"), "--path", &there, "--dry-run"]).code(0).says(&["would write 7 B"]);
    w.run(&["restore", "--to", &w.at("out"), "--path", &there]).code(0).says(&["1 file"]);
    w.run(&["restore", "--to", &w.at("other"), "--source", "nope"])
        .code(4)
        .says(&["has no source nope", "It has: tree"]);
}

#[test]
fn a_hard_link_whose_first_name_was_not_picked_comes_with_its_content() {
    let w = World::new();
    w.file("a/first", "content");
    fs::create_dir(w.path().join("tree/b")).unwrap();
    fs::hard_link(w.path().join("tree/a/first"), w.path().join("tree/b/second")).unwrap();
    w.backup();
    w.run(&["restore", "--path", &w.at("tree/b"), "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    assert_eq!(fs::read(restored.join("b/second")).unwrap(), b"content");
    assert!(!restored.join("a").exists());
}

#[test]
fn what_was_there_stays_beside_what_is_restored() {
    let w = World::new();
    w.file("f", "good");
    w.backup();
    w.file("f", "bad");
    w.file("new-since", "x");
    w.run(&["restore", "--yes"]).code(0).says(&["_before_", "is kept"]);
    assert_eq!(fs::read(w.path().join("tree/f")).unwrap(), b"good");
    let before = w.path().join(format!("tree_before_{}", w.last_restore()));
    assert_eq!(fs::read(before.join("f")).unwrap(), b"bad");
    assert_eq!(fs::read(before.join("new-since")).unwrap(), b"x");
    // Twice does not overwrite the first previous copy.
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(fs::read(before.join("f")).unwrap(), b"bad");
}

#[test]
fn excludes_and_file_system_borders_are_respected() {
    let w = World::new();
    w.file("keep/a.txt", "a");
    w.file("keep/b.pyc", "b");
    w.file("venv/lib", "c");
    let mount = w.path().join("tree/mounted");
    fs::create_dir(&mount).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).status().unwrap().success());
    fs::write(mount.join("inside"), "x").unwrap();
    w.configure(
        "",
        &format!("paths = [\"{0}\"]\nexclude = [\"*.pyc\", \"{0}/venv\"]\none_file_system = true", w.at("tree")),
    );
    let ran = w.run(&["--json", "backup"]);
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
    ran.code(0);
    w.run(&["ls"]).code(0).says(&["keep/a.txt", "tree/mounted"]);
    let listed = w.run(&["ls"]).out;
    for out in ["b.pyc", "venv", "inside"] {
        assert!(!listed.contains(out), "{out} in\n{listed}");
    }
}

#[test]
fn files_that_change_vanish_or_shrink_while_read_are_told_and_never_torn() {
    let w = World::new();
    for i in 0..400 {
        w.file(&format!("f{i:03}"), noise(200_000, i));
    }
    w.file("growing.log", "start\n");
    let tree = w.path().join("tree");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut n = 0u64;
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            n += 1;
            let _ = fs::write(tree.join(format!("f{:03}", 200 + n % 100)), noise(150_000 + (n % 7) as usize * 1000, n));
            let _ = fs::remove_file(tree.join(format!("f{:03}", 300 + n % 100)));
            let mut log = fs::File::options().append(true).open(tree.join("growing.log")).unwrap();
            std::io::Write::write_all(&mut log, b"line\n").unwrap();
        }
        n
    });
    let ran = w.run(&["--json", "backup"]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let written = writer.join().unwrap();
    // A file that shrinks under every try fails the source by name; otherwise the archive is whole.
    if ran.code != 0 {
        ran.code(11).says(&["shrinks while it is read"]);
        return;
    }
    let m = ran.json();
    let source = m["sources"].as_array().unwrap().iter().find(|s| s["name"] == "tree").unwrap();
    let warnings = source["warnings"].to_string();
    for (count, said) in
        [("changed_while_read", "changed while being read"), ("vanished", "vanished before being read")]
    {
        let count = source["facts"][count].as_u64().unwrap();
        assert_eq!(warnings.contains(said), count > 0, "{count} {said}: {warnings}");
    }
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    for i in 0..200 {
        assert_eq!(fs::read(restored.join(format!("f{i:03}"))).unwrap(), noise(200_000, i));
    }
    // A rewritten file is some version of it as far as that was written; what is not was counted as changed.
    let torn = (200..300u64).filter(|i| {
        let found = fs::read(restored.join(format!("f{i:03}"))).unwrap();
        let mut versions = std::iter::once(*i).chain((1..=written).filter(|n| 200 + n % 100 == *i));
        !versions.any(|version| noise(found.len(), version) == found)
    });
    let (torn, changed) = (torn.count() as u64, source["facts"]["changed_while_read"].as_u64().unwrap());
    assert!(torn <= changed, "{torn} files are torn, {changed} were told");
    w.run(&["check", "--read-data"]).code(0);
}

#[test]
fn find_tells_which_backups_hold_which_version() {
    let w = World::new();
    let path = w.file("etc/app.conf", "v1");
    fs::File::options().write(true).open(&path).unwrap().set_modified(old()).unwrap();
    w.backup();
    w.backup();
    w.file("etc/app.conf", "version 2");
    w.backup();
    let found = w.run(&["--json", "find", "*.conf"]).code(0).json();
    let versions: Vec<usize> =
        found.as_array().unwrap().iter().map(|v| v["backups"].as_array().unwrap().len()).collect();
    assert_eq!(versions, [2, 1]);
    w.run(&["find", "nothing-like-this"]).code(4);
}
