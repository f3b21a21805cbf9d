//! Files by themselves, append-only files, and parts of a set that is not whole.

use crate::scripts::script;
use crate::world::World;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

const T: &str = "20260104_020000";

/// A world with these sources, which are all of its plan, and backups of this layout.
fn world(sources: &str, names: &str, layout: &str) -> World {
    let world = World::bare();
    fs::create_dir(world.at("backups")).unwrap();
    let d = world.path().display().to_string();
    let text = format!(
        "host = \"test-host\"\nstate_dir = \"DIR/state\"\n[repository]\nurl = \"file://DIR/repo\"\n[keys]\nidentity_file = \"DIR/host.key\"\n\
         {sources}\n[plans.p]\nsources = [{names}]\n[foreign.old]\nurl = \"file://DIR/backups\"\n{layout}\n"
    );
    world.write_config(&text.replace("DIR", &d));
    world
}

#[test]
fn settings_come_out_of_several_archives_and_a_crontab_keeps_its_owner() {
    let sources = "[sources.settings]\nkind = \"files\"\npaths = [\"DIR/tree/compose\", \"DIR/tree/scripts\", \"DIR/tree/cron/root\"]";
    let layout = |path: &str| {
        format!(
            "files = [ {{ pattern = \"compose_{{timestamp}}.tar.gz\", is = \"tar\", source = \"settings\" }}, \
             {{ pattern = \"scripts_{{timestamp}}.tar.gz\", is = \"tar\", source = \"settings\" }}, \
             {{ pattern = \"crontab_{{timestamp}}.txt\", is = \"crontab\", source = \"settings\"{path} }} ]"
        )
    };
    let w = world(sources, "\"settings\"", &layout(", path = \"DIR/tree/cron/root\""));
    let cron = w.file("cron/root", "0 2 * * * old\n");
    fs::set_permissions(&cron, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&cron, Some(65_534), Some(65_534)).unwrap();
    w.file("compose/a.yml", "old");
    w.file("scripts/b.sh", "old");
    let tree = w.at("tree");
    script(
        &w,
        &format!(
            "tar czf compose_{T}.tar.gz -C / {0}/compose; tar czf scripts_{T}.tar.gz -C / {0}/scripts; cp ../tree/cron/root crontab_{T}.txt",
            tree.trim_start_matches('/')
        ),
    );
    w.run(&["check", "--foreign"]).code(0).says(&["1 line"]);
    for file in ["cron/root", "compose/a.yml", "scripts/b.sh"] {
        fs::write(w.path().join("tree").join(file), "new").unwrap();
    }
    let ran = w.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    assert!(!format!("{}{}", ran.out, ran.err).contains("nothing of"), "{}{}", ran.out, ran.err);
    let read = |file: &str| fs::read_to_string(w.path().join("tree").join(file)).unwrap();
    assert_eq!([read("cron/root"), read("compose/a.yml"), read("scripts/b.sh")], ["0 2 * * * old\n", "old", "old"]);
    let m = fs::metadata(&cron).unwrap();
    assert_eq!((m.mode() & 0o7777, m.uid(), m.gid()), (0o600, 65_534, 65_534));
    // An archive that has nothing of what it is said to have is not good.
    script(
        &w,
        &format!(
            "cp scripts_{T}.tar.gz scripts_20260105_020000.tar.gz; cp crontab_{T}.txt crontab_20260105_020000.txt; tar czf compose_20260105_020000.tar.gz /etc/hostname 2> /dev/null"
        ),
    );
    w.run(&["check", "--foreign"]).code(7).says(&["holds nothing of what is to be restored", "tree/compose"]);
    let w = world(sources, "\"settings\"", &layout(""));
    w.run(&["list", "--foreign"]).code(3).says(&["which file of source settings it is", "Set `path`"]);
    let w = world(sources, "\"settings\"", &layout(", path = \"DIR/elsewhere\""));
    w.run(&["list", "--foreign"]).code(3).says(&["not in source settings"]);
}

#[test]
fn an_append_only_file_stands_in_for_one_that_is_damaged() {
    let sources = "[sources.cache]\nkind = \"redis\"\nurl = \"redis://localhost:1\"\nunit = \"none.service\"";
    let layout = "files = [ { pattern = \"redis_{timestamp}.aof\", is = \"aof\", source = \"cache\" }, { pattern = \"copy_{timestamp}.aof\", is = \"aof\", source = \"cache\", optional = true } ]";
    let w = world(sources, "\"cache\"", layout);
    let good = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";
    fs::write(w.path().join(format!("backups/redis_{T}.aof")), format!("{good}hello\r\n")).unwrap();
    fs::write(w.path().join(format!("backups/copy_{T}.aof")), good).unwrap();
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    let imported = w.run(&["import", "--set", T]).code(0);
    imported.says(&["aof cannot be used", "something that is no command"]);
    let shown = w.run(&["--json", "show"]).code(0).json();
    assert_eq!(shown["sources"][0]["facts"]["redis"]["keyspaces"][0]["keys"], 1);
}

#[test]
fn an_append_only_file_is_replayed_and_what_reaches_beyond_its_data_is_not() {
    let sources = "[sources.cache]\nkind = \"redis\"\nurl = \"redis://localhost:1\"\nunit = \"none.service\"";
    let layout = "files = [ { pattern = \"redis_{timestamp}.aof\", is = \"aof\", source = \"cache\" }, { pattern = \"redis_{timestamp}.rdb\", is = \"rdb\", source = \"cache\", optional = true } ]";
    let w = world(sources, "\"cache\"", layout);
    let command = |words: &[&str]| {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{words}", words.matches('$').count())
    };
    let good = [command(&["SELECT", "17"]), command(&["SET", "a", "1"]), command(&["SET", "b", "2"])].concat();
    let write = |stamp: &str, text: &str| fs::write(w.path().join(format!("backups/redis_{stamp}.aof")), text).unwrap();
    write(T, &good);
    w.run(&["check", "--foreign"]).code(0).says(&["3 commands"]);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.run(&["import", "--set", T]).code(0);
    let shown = w.run(&["--json", "show"]).code(0).json();
    let counted = &shown["sources"][0]["facts"]["redis"]["keyspaces"];
    assert_eq!((&counted[0]["db"], &counted[0]["keys"]), (&17.into(), &2.into()), "{shown:#}");
    // Half a command at its end is left out, and told.
    write("20260105_020000", &good[..good.len() - 3]);
    w.run(&["check", "--foreign"]).code(0).says(&["ends in the middle of a command", "2 commands"]);
    w.run(&["import", "--set", "20260105"]).code(0).says(&["ends in the middle of a command"]);
    let shown = w.run(&["--json", "show"]).code(0).json();
    assert_eq!(shown["sources"][0]["facts"]["redis"]["keyspaces"][0]["keys"], 1);
    // It is a program, and nobody knows who wrote it.
    let evil = format!("{good}{}", command(&["CONFIG", "SET", "dir", &w.at("tree")]));
    write("20260106_020000", &evil);
    w.run(&["import", "--set", "20260106"]).code(7).says(&["does not load the append-only file", "CONFIG"]);
    write("20260106_020000", &format!("{good}hello\r\n"));
    w.run(&["check", "--foreign"]).code(7).says(&["something that is no command"]);
    assert_eq!(fs::read_dir(w.at("tree")).unwrap().count(), 0);
    assert!(!w.path().join("state/import").exists());
}

#[test]
fn what_is_asked_for_must_be_whole_and_the_rest_need_not() {
    let sources = "[sources.a]\nkind = \"files\"\npaths = [\"DIR/tree/a\"]\n[sources.b]\nkind = \"files\"\npaths = [\"DIR/tree/b\"]";
    let layout = "files = [ { pattern = \"{timestamp}/a.tar.gz\", is = \"tar\", source = \"a\" }, { pattern = \"{timestamp}/b.tar.gz\", is = \"tar\", source = \"b\" } ]\nchecksums = { manifest = \"{timestamp}/MANIFEST.txt\", format = \"file|size|sha256\" }";
    let w = world(sources, "\"a\", \"b\"", layout);
    let night = |stamp: &str, word: &str| {
        w.file("a/x", word);
        w.file("b/y", word);
        let tree = w.at("tree");
        script(
            &w,
            &format!(
                "mkdir {stamp}; for n in a b; do tar czf {stamp}/$n.tar.gz -C / {}/$n; done; cd {stamp}; for f in *; do echo \"$f|$(stat -c %s $f)|$(sha256sum $f | cut -d' ' -f1)\"; done > ../m; mv ../m MANIFEST.txt",
                tree.trim_start_matches('/')
            ),
        );
    };
    let read = |file: &str| fs::read_to_string(w.path().join("tree").join(file)).unwrap();
    night("20260103_020000", "third");
    night(T, "fourth");
    w.file("a/x", "now");
    w.file("b/y", "now");
    fs::remove_file(w.at(&format!("backups/{T}/b.tar.gz"))).unwrap();
    w.run(&["restore", "--foreign", "old", T, "--yes"])
        .code(7)
        .says(&["is not whole", "missing: 20260104_020000/b.tar.gz"]);
    w.run(&["restore", "--foreign", "old", "latest", "--source", "a", "--yes"]).code(0);
    assert_eq!((read("a/x"), read("b/y")), ("fourth".into(), "now".into()));
    w.run(&["rollback", "--yes"]).code(0);
    w.run(&["restore", "--foreign", "old", T, "--path", &w.at("tree/a/x"), "--yes"]).code(0);
    assert_eq!(read("a/x"), "fourth");
    w.run(&["restore", "--foreign", "old", T, "--source", "b", "--yes"]).code(7).says(&["b.tar.gz"]);
    // Rot in what is asked for: the one before it, when that is said.
    let archive = w.at(&format!("backups/{T}/a.tar.gz"));
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    w.run(&["restore", "--foreign", "old", "latest", "--source", "a", "--yes"]).code(7).says(&["checksum"]);
    let ran = w.run(&["restore", "--foreign", "old", "latest", "--source", "a", "--yes", "--fallback", "3"]).code(0);
    ran.says(&["foreign backup 20260104_020000 is not good", "20260103_020000"]);
    assert_eq!(read("a/x"), "third");
    assert!(!w.path().join("state/foreign").exists());
}
