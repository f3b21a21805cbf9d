//! What goes wrong with databases is told before anything is touched, and undone when it was.

use crate::cluster::Cluster;
use crate::round_trip::{configure, with_database};
use crate::tables::databases;
use crate::world::{Ran, World, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const SOCKET: &str = "postgresql://postgres@/erp?host=SOCKET&port=PORT";

#[test]
fn a_wrong_password_a_missing_database_and_a_dead_server_are_named() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let w = with_database(&c, SOCKET);
    fs::write(w.at("pg.password"), "wrong\n").unwrap();
    let ran = w.run(&["backup"]).code(11).says(&["cannot connect", "password authentication failed", "do:"]);
    assert!(!ran.err.contains("wrong\n"), "{}", ran.err);
    configure(&w, &c, &SOCKET.replace("/erp", "/nosuch"));
    w.run(&["backup"]).code(11).says(&["nosuch", "does not exist"]);
    configure(&w, &c, "postgresql://postgres@127.0.0.1:1/erp");
    w.run(&["backup"]).code(11).says(&["127.0.0.1:1"]);
    assert!(w.objects("backups").is_empty());
}

/// Runs the program where a fake tool hides the real ones.
pub fn with_tools(w: &World, script: &str, args: &[&str]) -> Ran {
    let bin = w.path().join("fake");
    let _ = fs::create_dir(&bin);
    for tool in ["pg_dump", "pg_dumpall", "pg_restore"] {
        let path = bin.join(tool);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let hidden = "mount -t tmpfs none /usr/lib/postgresql && for t in pg_dump pg_dumpall pg_restore; do [ -e /usr/bin/$t ] && mount --bind $FAKE/$t /usr/bin/$t; done; exec \"$@\"";
    let mut c = Command::new("unshare");
    c.args(["--mount", "sh", "-c", hidden, "sh", env!("CARGO_BIN_EXE_backstay")]).args(args);
    c.env("FAKE", &bin)
        .env("BACKSTAY_CONFIG", w.at("backstay.toml"))
        .env("NO_COLOR", "1")
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    run(&mut c)
}

/// What to run instead of the tools, so that an archive of `pg_dump` has another version: `writes` puts out its minor number, which
/// is the seventh byte, and may change what follows.
pub fn of_a_newer_tool(w: &World, c: &Cluster, writes: &str) -> String {
    let real = w.path().join("real");
    fs::create_dir(&real).unwrap();
    for tool in ["pg_dump", "pg_dumpall"] {
        fs::copy(c.bin().join(tool), real.join(tool)).unwrap();
    }
    format!(
        "real={}/$(basename $0); case \"$*\" in *format=custom*) $real \"$@\" | {{ head -c 6; head -c 1 > /dev/null; \
         {writes}; cat; }};; *) exec $real \"$@\";; esac",
        real.display()
    )
}

#[test]
fn a_dump_tool_that_is_missing_or_too_old_is_told_before_anything_starts() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let w = with_database(&c, SOCKET);
    with_tools(&w, "echo 'pg_dump (PostgreSQL) 9.6.1'", &["backup"])
        .code(11)
        .says(&["too old for the server", "postgresql-client-"]);
    with_tools(&w, "exit 127", &["backup"]).code(11).says(&["is not installed", "postgresql-client-"]);
    assert!(w.objects("backups").is_empty());
}

#[test]
fn a_restore_whose_tool_is_missing_or_too_old_is_refused_before_anything_is_touched() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("postgres", "CREATE ROLE app");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("postgres", "DROP ROLE app");
    let live = || (databases(&c), c.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'"));
    let before = live();
    let ways: [&[&str]; 3] = [
        &["restore", "--yes"],
        &["restore", "--to", "copy"],
        &["restore", "--in-place", "--yes", "--without-safety", "p"],
    ];
    for way in ways {
        with_tools(&w, "echo 'pg_restore (PostgreSQL) 9.6.1'", way)
            .code(10)
            .says(&["pg_restore is too old for the server", "postgresql-client-"]);
        with_tools(&w, "exit 127", way).code(10).says(&["pg_restore is not installed", "postgresql-client-"]);
    }
    // What carries tables beside the live ones is two programs.
    let old = "case $0 in *pg_dump) echo 'pg_dump (PostgreSQL) 9.6.1';; *) echo 'pg_restore (PostgreSQL) 99.1';; esac";
    with_tools(&w, old, &["restore", "--table", "t", "--to", "beside"])
        .code(10)
        .says(&["pg_dump is too old for the server"]);
    assert_eq!(live(), before);
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'app'"), "0");
}

/// Only newer clients are installed where the backup is made, and only the server's own where it is restored. An archive of
/// 1.14 becomes one of 1.15, which PostgreSQL 16 has brought, by another version and one byte for the compression.
#[test]
fn a_restore_of_an_archive_that_is_newer_than_every_pg_restore_is_refused_before_anything_is_dropped() {
    let c = Cluster::start();
    let major: u32 = c.bin().parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
    // The server's own clients read it.
    if major > 15 {
        return;
    }
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let w = with_database(&c, SOCKET);
    let newer = of_a_newer_tool(&w, &c, "printf '\\017'; head -c 4; head -c 5 > /dev/null; printf '\\000'");
    with_tools(&w, &newer, &["backup"]).code(0);
    let live = || (databases(&c), c.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'"));
    let before = live();
    let own = format!("echo 'pg_restore (PostgreSQL) {major}.1'");
    for way in [&["restore", "--yes"][..], &["restore", "--in-place", "--yes", "--without-safety", "p"]] {
        with_tools(&w, &own, way).code(10).says(&["a pg_dump of version 16 or newer", "postgresql-client-16"]);
        assert_eq!(live(), before);
    }
}

/// Somebody waits to alter a big table when our sessions want to read it: whoever queued behind him would wait for the end
/// of the dump, which would wait for us. Over a connection and through psql.
#[test]
fn a_lock_that_somebody_waits_for_makes_pg_dump_do_it_all() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 20000) g");
    // More than fits into a pipe, so that pg_dump does not end and let go of its locks meanwhile.
    c.psql("erp", "CREATE TABLE u AS SELECT g, md5(g::text) FROM generate_series(1, 10000) g");
    fs::write(c.path("data/pg_hba.conf"), "local all all trust\n").unwrap();
    c.restart();
    for os_user in ["", "os_user = \"postgres\""] {
        let mut w = with_database(&c, SOCKET);
        w.extra = format!("big_tables = \"2MiB\"\n{os_user}");
        configure(&w, &c, SOCKET);
        let real = w.path().join("real");
        fs::create_dir(&real).unwrap();
        for tool in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
            fs::copy(c.bin().join(tool), real.join(tool)).unwrap();
        }
        Command::new("chmod").args(["-R", "a+rx"]).arg(w.path()).status().unwrap();
        // The head of the archive comes late, and meanwhile somebody queues up behind pg_dump's lock.
        let late = format!(
            "real={0}/real/$(basename $0); case \"$*\" in *format=custom*) ;; *) exec $real \"$@\";; esac\n\
             if mkdir /tmp/{1}.once 2> /dev/null; then\n\
             (sleep 1; PGOPTIONS='-c lock_timeout=20s' {0}/real/psql -d erp -c 'LOCK TABLE t IN ACCESS EXCLUSIVE MODE' -c 'SELECT pg_sleep(1)' --single-transaction > /dev/null 2>&1) &\n\
             $real \"$@\" | {{ sleep 2.5; cat; }}\nelse exec $real \"$@\"; fi",
            w.path().display(),
            w.path().file_name().unwrap().to_string_lossy()
        );
        let ran = with_tools(&w, &late, &["--json", "backup"]).code(0);
        let once = format!("{}.once", w.path().display());
        fs::remove_dir(once).expect("the late dump was not asked for");
        let facts = &ran.json()["sources"][0]["facts"]["databases"][0];
        assert!(facts["archive"].is_null(), "pg_dump did not do it all: {facts}");
        assert_eq!(facts["tables"][0]["rows"], 20000);
    }
}

#[test]
fn a_dump_that_prints_and_then_fails_is_no_backup() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let w = with_database(&c, SOCKET);
    let script = "case \"$1\" in --version) echo 'pg_dump (PostgreSQL) 99.1';; *) head -c 6000000 /dev/urandom; echo 'connection lost' >&2; exit 1;; esac";
    with_tools(&w, script, &["backup"]).code(11).says(&["exit status 1", "connection lost"]);
    assert!(w.objects("backups").is_empty());
}

#[test]
fn a_role_that_may_not_read_everything_fails_loudly() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE secret (x int); CREATE TABLE rls (x int); INSERT INTO rls SELECT generate_series(1, 100); ALTER TABLE rls ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON rls USING (x <= 10)");
    c.psql("postgres", &format!("CREATE ROLE weak LOGIN PASSWORD '{}'", crate::cluster::PASSWORD.replace('\'', "''")));
    c.psql("erp", "GRANT SELECT ON rls TO weak");
    let w = with_database(&c, &SOCKET.replace("postgres@", "weak@"));
    w.run(&["backup"]).code(11);
    c.psql("erp", "DROP TABLE secret");
    // Row security would hide ninety of a hundred rows without a word.
    w.run(&["backup"]).code(11);
    assert!(w.objects("backups").is_empty());
}

#[test]
fn a_load_that_fails_or_differs_leaves_nothing_behind() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp; ");
    c.psql("postgres", "CREATE ROLE owner_of_it");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x; ALTER TABLE t OWNER TO owner_of_it");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("postgres", "DROP DATABASE erp");
    c.psql("postgres", "DROP ROLE owner_of_it");
    let left = || {
        c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'erp'")
            + &c.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'owner_of_it'")
    };
    // pg_restore fails half way.
    let half = "case \"$1\" in --version) echo 'pg_restore (PostgreSQL) 99.1';; *) head -c 1000 > /dev/null; echo 'disk full' >&2; exit 1;; esac";
    with_tools(&w, half, &["restore", "--yes"]).code(12).says(&["pg_restore failed", "disk full"]);
    assert_eq!(left(), "00");
    // pg_restore says yes and loads nothing: the facts notice.
    let liar = "case \"$1\" in --version) echo 'pg_restore (PostgreSQL) 99.1';; *) cat > /dev/null;; esac";
    with_tools(&w, liar, &["restore", "--yes"]).code(13).says(&["table public.t: missing instead of 1,000 rows"]);
    assert_eq!(left(), "00");
    // A pack is gone: no half-loaded database stays.
    let pack = w.objects("packs").into_iter().max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    let kept = w.path().join("kept");
    fs::rename(&pack, &kept).unwrap();
    w.run(&["restore", "--yes"]).code(7).says(&["pack"]);
    assert_eq!(left(), "00");
    fs::rename(kept, &pack).unwrap();
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(left(), "11");
}

#[test]
fn a_load_that_fails_says_why_when_cleaning_up_behind_it_fails_too() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    fs::create_dir(w.path().join("fake")).unwrap();
    let rm = w.path().join("fake/rm");
    fs::write(&rm, "#!/bin/sh\n/bin/rm \"$@\"; echo 'the disk is gone' >&2; exit 1\n").unwrap();
    fs::set_permissions(&rm, fs::Permissions::from_mode(0o755)).unwrap();
    let half = "case \"$1\" in --version) echo 'pg_restore (PostgreSQL) 99.1';; *) echo 'disk full' >&2; exit 1;; esac";
    with_tools(&w, half, &["restore", "--to", "copy"]).code(12).says(&["pg_restore failed", "disk full"]);
}

#[test]
fn what_a_load_that_was_killed_has_left_is_removed_by_a_later_one() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    let tmp = w.path().join("tmp");
    for (name, age) in
        [("backstay-head.old", "8 days ago"), ("backstay-head.new", "6 days ago"), ("other-head", "8 days ago")]
    {
        fs::create_dir_all(tmp.join(name)).unwrap();
        fs::write(tmp.join(name).join("head.dump"), "").unwrap();
        let touched = Command::new("touch").args(["-d", age]).arg(tmp.join(name)).status().unwrap();
        assert!(touched.success());
    }
    run(w.command(&["restore", "--to", "copy"]).env("TMPDIR", &tmp)).code(0);
    let mut left: Vec<String> =
        fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.retain(|name| name.contains("head"));
    left.sort();
    assert_eq!(left, ["backstay-head.new", "other-head"]);
}

#[test]
fn passwords_are_in_no_argument_and_no_output() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let w = with_database(&c, SOCKET);
    let script = format!(
        "echo \"$@\" >> {}; case \"$1\" in --version) echo 'pg_dump (PostgreSQL) 99.1';; *) exit 1;; esac",
        w.at("arguments")
    );
    let ran = with_tools(&w, &script, &["--json", "backup"]).code(11);
    let arguments = fs::read_to_string(w.at("arguments")).unwrap();
    for text in [&arguments, &ran.out, &ran.err] {
        assert!(!text.contains("p'ss") && !text.contains("wörd"), "{text}");
    }
    assert!(Path::new(&w.at("arguments")).exists() && arguments.contains("--globals-only"));
}
