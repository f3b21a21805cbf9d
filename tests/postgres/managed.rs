//! Servers where nobody is a superuser, servers elsewhere, and what is estimated.

use crate::cluster::{Cluster, PASSWORD};
use crate::errors::{of_a_newer_tool, with_tools};
use crate::round_trip::{SOCKET, configure, with_database};
use crate::tables::databases;
use crate::world::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// A server on which the source's role may only make databases, and roles when `may` says so.
pub fn managed(may: &str) -> Cluster {
    let c = Cluster::start();
    let password = PASSWORD.replace('\'', "''");
    c.psql("postgres", &format!("CREATE ROLE manager LOGIN CREATEDB {may} PASSWORD '{password}'"));
    c
}

pub const MANAGED: &str = "postgresql://manager@/erp?host=SOCKET&port=PORT";

/// One with a database of that role, and another role that may log in and whose sessions it may not end.
pub fn with_sessions_of_another() -> Cluster {
    let c = managed("");
    c.psql("postgres", &format!("CREATE ROLE app LOGIN PASSWORD '{}'", PASSWORD.replace('\'', "''")));
    c.psql("postgres", "CREATE DATABASE erp OWNER manager");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; ALTER TABLE t OWNER TO manager");
    c
}

/// The sessions of that other role.
pub const OTHERS: &str = "FROM pg_stat_activity WHERE usename = 'app'";

/// Waits for a session of that other role, which a thread holds.
pub fn wait_for_other<T>(c: &Cluster, session: &ScopedJoinHandle<'_, T>) {
    while !session.is_finished() && c.psql("postgres", &format!("SELECT count(*) {OTHERS}")) != "1" {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_role_without_privileges_is_told_what_it_lacks_and_restores_without_owners_and_grants() {
    let from = Cluster::start();
    from.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'x'; ");
    from.psql("postgres", "CREATE ROLE reader");
    from.psql("postgres", "CREATE DATABASE erp OWNER app");
    from.psql(
        "erp",
        "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; ALTER TABLE t OWNER TO app; GRANT SELECT ON t TO reader;
         ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO reader",
    );
    let w = with_database(&from, SOCKET);
    w.backup();
    let to = managed("");
    configure(&w, &to, MANAGED);
    let before = databases(&to);
    w.run(&["restore", "--yes"]).code(10).says(&[
        "lacks roles",
        "app, reader",
        "role manager may not make them",
        "--no-privileges",
    ]);
    // One of both is not enough: grants speak of roles too.
    w.run(&["restore", "--yes", "--no-owner"]).code(10).says(&["reader"]);
    assert_eq!(databases(&to), before);
    w.run(&["restore", "--yes", "--no-owner", "--no-privileges"]).code(0).says(&["500 rows", "equal to the facts"]);
    assert_eq!(to.psql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), "manager");
    assert_eq!(to.psql("erp", "SELECT relacl IS NULL FROM pg_class WHERE relname = 't'"), "t");
    assert_eq!(to.psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname IN ('app', 'reader')"), "0");
}

#[test]
fn a_role_that_may_make_roles_makes_them_as_far_as_it_may() {
    let from = Cluster::start();
    from.psql("postgres", "CREATE ROLE reader");
    from.psql("postgres", "CREATE ROLE app LOGIN IN ROLE reader");
    from.psql("postgres", "CREATE DATABASE erp");
    from.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; GRANT SELECT ON t TO reader");
    let w = with_database(&from, SOCKET);
    w.backup();
    let to = managed("CREATEROLE");
    configure(&w, &to, MANAGED);
    w.run(&["restore", "--yes", "--no-owner"]).code(0).says(&["roles made", "500 rows"]);
    assert_eq!(to.psql("erp", "SELECT has_table_privilege('app', 't', 'SELECT')"), "t");
    assert_eq!(to.psql("postgres", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app'"), "t");
}

/// A world with a backup of a database of role `app`, in which a role `manager` owns the only table.
fn of_another_role() -> (Cluster, World) {
    let c = Cluster::start();
    c.psql("postgres", "CREATE ROLE app");
    c.psql("postgres", "CREATE ROLE manager");
    c.psql("postgres", "CREATE DATABASE erp OWNER app");
    c.psql("postgres", "ALTER ROLE app IN DATABASE erp SET work_mem = '7MB'");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; ALTER TABLE t OWNER TO manager");
    let w = with_database(&c, SOCKET);
    w.backup();
    (c, w)
}

#[test]
fn what_a_role_may_not_give_to_a_database_is_told_and_kept_in_the_report() {
    let (_from, w) = of_another_role();
    let to = managed("");
    to.psql("postgres", "CREATE ROLE app");
    configure(&w, &to, MANAGED);
    let not_given = [
        "not given: database erp: owner: role manager may not give it to app",
        "not given: database erp: setting work_mem: it is of role app",
    ];
    for how in [&["restore", "--yes"][..], &["restore", "--yes", "--in-place", "--without-safety", "p"]] {
        w.run(how).code(0).says(&not_given);
        assert_eq!(to.psql("erp", "SELECT count(*) FROM t"), "500");
        w.run(&["restores", &w.last_restore()]).code(0).says(&not_given);
        to.psql("postgres", "DROP DATABASE erp");
    }
}

#[test]
fn a_role_that_was_made_by_one_that_may_not_act_as_it_is_not_given_the_database() {
    let (_from, w) = of_another_role();
    let to = managed("CREATEROLE");
    configure(&w, &to, MANAGED);
    w.run(&["restore", "--yes"])
        .code(0)
        .says(&["roles made: app", "not given: database erp: owner: role manager may not give it to app"]);
    let stored = "SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 'app'::regrole";
    assert_eq!(to.psql("postgres", stored), "{work_mem=7MB}");
}

#[test]
fn a_session_that_the_role_may_not_end_is_told_before_and_leaves_everything_as_it_was() {
    let c = with_sessions_of_another();
    let w = with_database(&c, MANAGED);
    w.backup();
    let before = databases(&c);
    let told = "may not end sessions of app (1)";
    std::thread::scope(|scope| {
        let session = scope.spawn(|| c.psql_as("app", "erp", PASSWORD, "SELECT pg_sleep(120)"));
        wait_for_other(&c, &session);
        w.run(&["restore", "--dry-run"]).code(0).says(&[told, "pg_signal_backend"]);
        w.run(&["restore", "--yes"]).code(12).says(&[
            "sessions of the database do not end",
            told,
            "Everything is as it was",
        ]);
        assert_eq!(databases(&c), before);
        assert_eq!(c.psql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'erp'"), "t");
        c.psql("postgres", "GRANT pg_signal_backend TO manager");
        let ran = w.run(&["restore", "--yes"]).code(0);
        assert!(!ran.err.contains(told), "{}", ran.err);
        assert!(!session.join().unwrap().status.success());
    });
}

#[test]
fn a_worker_of_autovacuum_holds_up_no_role_that_may_not_end_it() {
    let c = managed("");
    c.psql("postgres", "ALTER SYSTEM SET autovacuum_naptime = '1s'");
    c.restart();
    c.psql("postgres", "CREATE DATABASE erp OWNER manager");
    // Each page takes it a long while.
    c.psql(
        "erp",
        "CREATE TABLE t WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, \
         autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0) \
         AS SELECT g AS x, repeat('x', 500) AS filler FROM generate_series(1, 20000) g; ALTER TABLE t OWNER TO manager",
    );
    let w = with_database(&c, MANAGED);
    w.backup();
    c.psql("erp", "DELETE FROM t WHERE x > 10");
    let worker = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'erp' AND backend_type = 'autovacuum worker'";
    let comes = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        c.psql("postgres", worker) != "0"
    });
    assert!(comes, "autovacuum does not come");
    w.run(&["restore", "--yes"]).code(0).says(&["20,000 rows"]);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "20000");
}

#[test]
fn a_role_that_is_made_has_its_password_and_settings_and_those_that_are_there_stay_as_they_are() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE ROLE team; CREATE ROLE clerk LOGIN CREATEDB PASSWORD 'old' IN ROLE team; ALTER ROLE clerk SET work_mem = '7MB'");
    c.psql("postgres", "CREATE ROLE app LOGIN CONNECTION LIMIT 7 PASSWORD 'of the backup' IN ROLE team; ALTER ROLE app SET work_mem = '7MB'");
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 10) AS x; ALTER TABLE t OWNER TO app");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("postgres", "DROP DATABASE erp");
    c.psql("postgres", "DROP ROLE app; ALTER ROLE clerk NOCREATEDB PASSWORD 'new'; ALTER ROLE clerk SET work_mem = '9MB'; REVOKE team FROM clerk");
    let others = || {
        let roles = "SELECT string_agg(a::text, ' ' ORDER BY rolname) FROM pg_authid a WHERE rolname <> 'app'";
        let members = "SELECT count(*) FROM pg_auth_members WHERE pg_get_userbyid(member) = 'clerk'";
        let settings = "SELECT setconfig FROM pg_db_role_setting WHERE pg_get_userbyid(setrole) = 'clerk'";
        [roles, members, settings].map(|sql| c.psql("postgres", sql))
    };
    let before = others();
    w.run(&["restore", "--yes"]).code(0).says(&["roles made: app"]);
    assert_eq!(others(), before);
    let shown = c.psql_as("app", "erp", "of the backup", "SHOW work_mem");
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "7MB\n", "{shown:?}");
    let role = "SELECT rolconnlimit, pg_has_role('app', 'team', 'MEMBER') FROM pg_roles WHERE rolname = 'app'";
    assert_eq!(c.psql("postgres", role), "7|t");
}

#[test]
fn a_backup_goes_to_another_server_by_its_url() {
    let (from, to) = (Cluster::start(), Cluster::start());
    from.psql("postgres", "CREATE ROLE app");
    from.psql("postgres", "CREATE DATABASE erp");
    from.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; ALTER TABLE t OWNER TO app");
    let w = with_database(&from, SOCKET);
    w.backup();
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let passfile = w.at("elsewhere.pass");
    fs::write(&passfile, format!("*:*:*:postgres:{password}\n")).unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let url = |database: &str| {
        format!("postgresql://postgres@/{database}?host={}&port={}&passfile={passfile}", to.path(""), to.port)
    };
    w.run(&["restore", "--to", &url("moved")]).code(0).says(&["500 rows", "equal to the facts"]);
    assert_eq!(to.dump("moved"), from.dump("erp"));
    assert_eq!(from.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'moved'"), "0");
    // What is there is not exchanged, and a password would be seen by everybody on this host.
    w.run(&["restore", "--to", &url("moved")]).code(10).says(&["database moved exists"]);
    let open = url("x").replace("postgres@", "postgres:secret@");
    let ran = w.run(&["restore", "--to", &open]).code(2).says(&["passfile"]);
    assert!(!ran.err.contains("secret"), "{}", ran.err);
    w.run(&["restore", "--to", &url("x"), "--table", "t"]).code(2).says(&["--table"]);
    // Killed there, it is taken back there.
    let mut child =
        w.command(&["restore", "--to", &url("again")]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|l| l.unwrap().contains("verify")));
    child.kill().unwrap();
    child.wait().unwrap();
    w.run(&["restore", "--unwind"]).code(0);
    assert_eq!(to.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'again%'"), "0");
}

/// Rows are counted in the copies themselves, whatever their number. Of an archive of a `pg_dump` that nobody knows yet, which
/// passes through as it is, they are counted by the server, or estimated.
#[test]
fn rows_that_are_estimated_are_said_to_be() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql(
        "erp",
        "CREATE TABLE large AS SELECT generate_series(1, 20000) AS x; CREATE TABLE small AS SELECT 1 AS x; ANALYZE",
    );
    let mut w = with_database(&c, SOCKET);
    w.extra = "count_rows_up_to = \"16KiB\"".into();
    configure(&w, &c, SOCKET);
    let tables = |m: &serde_json::Value| m["sources"][0]["facts"]["databases"][0]["tables"].clone();
    assert!(tables(&w.backup())[0]["estimated"].is_null());
    assert!(!w.run(&["show"]).out.contains("estimated"));
    let newer = of_a_newer_tool(&w, &c, "printf '\\143'");
    let found = tables(&with_tools(&w, &newer, &["--json", "backup"]).code(0).json());
    assert_eq!(found[0]["estimated"], true, "{found}");
    assert!(found[1]["estimated"].is_null() && found[1]["rows"] == 1, "{found}");
    w.run(&["show"]).code(0).says(&["20,001 rows (partly estimated)"]);
}

#[test]
fn a_password_comes_from_the_home_directory_too() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let w = with_database(&c, SOCKET);
    let config = fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&config.replace("password_file = \"pg.password\"\n", ""));
    let home = w.at("home");
    fs::create_dir(&home).unwrap();
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    fs::write(format!("{home}/.pgpass"), format!("*:{}:*:postgres:{password}\n", c.port)).unwrap();
    fs::set_permissions(format!("{home}/.pgpass"), fs::Permissions::from_mode(0o600)).unwrap();
    let backup = |home: &str| crate::world::run(w.command(&["backup"]).env("HOME", home).env_remove("PGPASSFILE"));
    backup(&w.at("tree")).code(11);
    backup(&home).code(0);
}

#[test]
fn room_is_looked_for_in_every_tablespace() {
    let c = Cluster::start();
    let small = c.path("small");
    c.small_disk(&small);
    c.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{small}/ts'"));
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql(
        "erp",
        "CREATE TABLE t (x text) TABLESPACE small; INSERT INTO t SELECT repeat(md5(g::text), 50) FROM generate_series(1, 5000) g",
    );
    let w = with_database(&c, SOCKET);
    let facts = w.backup()["sources"][0]["facts"]["databases"][0].clone();
    let taken = facts["tablespaces"]["small"].as_u64().unwrap();
    assert!((8 << 20..16 << 20).contains(&taken), "{facts}");
    // Two of it are more than the disk has.
    w.run(&["restore", "--yes"]).code(10).says(&["no room for a second copy", &format!("{small}/ts")]);
    c.psql("erp", "TRUNCATE t");
    w.run(&["restore", "--yes"]).code(0).says(&["5,000 rows"]);
    assert_eq!(
        c.psql(
            "erp",
            "SELECT spcname FROM pg_class c JOIN pg_tablespace s ON s.oid = reltablespace WHERE relname = 't'"
        ),
        "small"
    );
}

#[test]
fn room_for_the_log_is_looked_for_on_the_disk_that_it_has_for_itself() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x");
    c.log_on_its_own_disk(400);
    let w = with_database(&c, SOCKET);
    w.backup();
    // The default is 1 GiB.
    w.run(&["restore", "--yes"]).code(10).says(&["no room for the log", "data/pg_wal", "max_wal_size"]);
    c.psql("postgres", "ALTER SYSTEM SET max_wal_size = '64MB'");
    c.restart();
    w.run(&["restore", "--yes"]).code(0).says(&["500 rows"]);
}

#[test]
fn a_database_comes_back_into_its_own_tablespace() {
    let c = Cluster::start();
    let space = c.path("space");
    c.own_directory(&space);
    c.psql("postgres", &format!("CREATE TABLESPACE own LOCATION '{space}'"));
    c.psql("postgres", "CREATE DATABASE erp TABLESPACE own");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    let of = |name: &str| {
        c.psql("postgres", &format!("SELECT spcname FROM pg_database d JOIN pg_tablespace s ON s.oid = dattablespace WHERE datname = '{name}'"))
    };
    w.run(&["restore", "--to", "copy"]).code(0);
    assert_eq!(of("copy"), "own");
    c.psql("postgres", "DROP DATABASE copy");
    c.psql("postgres", "DROP DATABASE erp");
    c.psql("postgres", "DROP TABLESPACE own");
    w.run(&["restore", "--yes"]).code(0).says(&["tablespace own, which is not here"]);
    assert_eq!(of("erp"), "pg_default");
}

#[test]
fn on_a_server_elsewhere_free_space_is_unknown_unless_it_is_told() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("postgres", "ALTER SYSTEM SET listen_addresses = '127.0.0.1,127.0.0.2'");
    fs::write(c.path("data/pg_hba.conf"), "local all all scram-sha-256\nhost all all 127.0.0.0/8 scram-sha-256\n")
        .unwrap();
    c.restart();
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x");
    let w = with_database(&c, "postgresql://postgres@127.0.0.2:PORT/erp?sslmode=disable");
    w.backup();
    w.run(&["restore", "--dry-run"]).code(0).says(&["unknown"]);
    w.run(&["restore", "--yes", "--assume-space", "1MiB"]).code(10).says(&["no room for a second copy"]);
    // What needs its files is refused.
    w.run(&["restore", "--yes", "--in-place", "--cold-copy"]).code(10).says(&["the server is not on this host"]);
    w.run(&["restore", "--yes", "--fresh-cluster"]).code(10).says(&["the server is not on this host"]);
    w.run(&["restore", "--yes", "--assume-space", "100GiB"]).code(0).says(&["500 rows"]);
}
