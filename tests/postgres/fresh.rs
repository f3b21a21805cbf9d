//! A new cluster in the place of one whose server does not start: plain ones, and those of Debian's packages.

use crate::cluster::Cluster;
use crate::port::free_port;
use crate::round_trip::{SCHEMA, SOCKET, configure, with_database};
use crate::world::{Ran, World};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server with two databases, backed up, written to since, and broken.
fn broken(c: &Cluster) -> (World, [String; 2]) {
    c.psql("postgres", "CREATE DATABASE erp CONNECTION LIMIT 33; ");
    c.psql("erp", SCHEMA);
    c.psql("postgres", "ALTER ROLE postgres SET work_mem = '11MB'; CREATE TABLE notes AS SELECT 'of the cluster' AS x");
    // Such settings win over those of any file, also over the port of a server that only fills.
    c.psql("postgres", &format!("ALTER SYSTEM SET port = {}", c.port));
    c.psql("postgres", "ALTER SYSTEM SET maintenance_work_mem = '77MB'");
    let before = [c.dump("erp"), c.dump("postgres")];
    let mut w = with_database(c, SOCKET);
    w.extra = format!("databases = \"all\"\nbig_tables = \"1MiB\"\ndata_dir = \"{}\"", c.path("data"));
    configure(&w, c, SOCKET);
    w.backup();
    c.psql("erp", "CREATE TABLE since (x int)");
    (w, before)
}

fn broke(c: &Cluster) {
    c.stop();
    std::fs::write(c.path("data/global/pg_control"), "nothing that anybody could read").unwrap();
}

/// What a command does as another user, to whom the world is given.
pub fn run_as(w: &World, user: &str, group: &str, args: &[&str]) -> Ran {
    assert!(Command::new("chown").args(["-R", user, &w.at("")]).status().unwrap().success());
    let command = w.command(args);
    let mut other = Command::new("setpriv");
    other.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).args(["--init-groups", "--"]);
    other.arg(command.get_program()).args(command.get_args());
    let env = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    crate::world::run(other.envs(env).env("HOME", "/tmp").current_dir(w.path()))
}

fn is_whole(c: &Cluster, before: &[String; 2]) {
    // With the password, the settings and the access rules of the old one.
    assert_eq!([c.dump("erp"), c.dump("postgres")], *before);
    assert_eq!(c.psql("postgres", "SELECT datconnlimit FROM pg_database WHERE datname = 'erp'"), "33");
    assert_eq!(c.psql("postgres", "SHOW work_mem"), "11MB");
    assert_eq!(c.psql("postgres", "SHOW maintenance_work_mem"), "77MB");
    assert_eq!(c.psql("postgres", "SHOW ssl"), "on");
    assert_eq!(c.psql("postgres", "SHOW fsync"), "off", "the setting of the test's own cluster");
    let databases = c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database");
    assert_eq!(databases, "erp postgres template0 template1");
}

/// Directories of servers that were made for a while.
fn runs() -> Vec<PathBuf> {
    let all = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    all.map(|e| e.path()).filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("backstay-")).collect()
}

#[test]
fn a_cluster_is_made_proven_and_put_in_place_and_the_old_one_comes_back_by_a_rollback() {
    let c = Cluster::start();
    let (w, before) = broken(&c);
    w.run(&["restore", "--fresh-cluster", "--yes"]).code(10).says(&["the server runs", "process", "--in-place"]);
    broke(&c);
    let old = std::fs::read(c.path("data/global/pg_control")).unwrap();
    // What somebody has put there takes no part in it.
    std::fs::create_dir(c.path("data/archive")).unwrap();
    std::fs::File::create(c.path("data/archive/1")).unwrap().set_len(20 << 20).unwrap();
    w.run(&["restore", "--yes"]).code(11);
    let plan = w.run(&["restore", "--fresh-cluster", "--dry-run"]).code(0);
    plan.says(&[
        "swap cluster of source db",
        "holds what the backup has: erp, postgres",
        "settings and access rules are taken over",
        "too large to be settings): archive",
    ]);
    assert!(c.beside().is_empty());
    let conf = std::fs::read_to_string(c.path("data/postgresql.conf")).unwrap();
    std::fs::write(c.path("data/postgresql.conf"), format!("{conf}\nsynchronous_standby_names = 'away'\n")).unwrap();
    let plan = w.run(&["restore", "--fresh-cluster", "--dry-run"]).code(0);
    plan.says(&["synchronous_standby_names = away", "wait for one without end"]);
    std::fs::write(c.path("data/postgresql.conf"), conf).unwrap();
    w.run(&["restore", "--fresh-cluster", "--yes"]).code(0).says(&[
        "20,000 rows",
        "equal to the facts",
        "data_before_",
    ]);
    is_whole(&c, &before);
    assert!(!Path::new(&c.path("data/archive")).exists());
    assert_eq!(c.beside().len(), 1);
    assert_eq!(std::fs::read(c.path(&format!("{}/global/pg_control", c.beside()[0]))).unwrap(), old);
    // The next backup is one like any other.
    w.backup();
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(std::fs::read(c.path("data/global/pg_control")).unwrap(), old);
    assert!(!c.is_up());
    // Again, and cleaned up.
    w.run(&["restore", "--fresh-cluster", "--yes"]).code(0);
    is_whole(&c, &before);
    for id in w.run(&["--json", "restores"]).code(0).json().as_array().unwrap() {
        w.run(&["cleanup", id["id"].as_str().unwrap()]);
    }
    assert_eq!(c.beside(), Vec::<String>::new());
    is_whole(&c, &before);
}

/// An agent as the server's user gives nothing away, so what is root's becomes the server's; which takes a key only when nobody
/// else can read it.
#[test]
fn an_agent_that_is_not_root_takes_over_what_is_roots() {
    let c = Cluster::start();
    std::fs::copy(c.path("server.key"), c.path("data/group.key")).unwrap();
    std::fs::create_dir(c.path("data/conf.d")).unwrap();
    std::fs::write(c.path("data/conf.d/memory.conf"), "temp_buffers = '9MB'\n").unwrap();
    let conf = std::fs::read_to_string(c.path("data/postgresql.conf")).unwrap();
    std::fs::write(c.path("data/postgresql.conf"), format!("{conf}\ninclude_dir 'conf.d'\n")).unwrap();
    let data = c.path("data");
    let owned = Command::new("sh")
        .args(["-c", "cd \"$0\" && chown root:postgres group.key conf.d && chown root:root conf.d/memory.conf postgresql.conf && chmod 640 group.key && chmod 644 postgresql.conf && chmod 750 conf.d && ln -s /nowhere notes"])
        .arg(&data)
        .status()
        .unwrap();
    assert!(owned.success());
    c.psql("postgres", &format!("ALTER SYSTEM SET ssl_key_file = '{data}/group.key'"));
    c.restart();
    let (w, before) = broken(&c);
    broke(&c);
    // One that is the owner of nothing is told so at once.
    run_as(&w, "nobody", "nogroup", &["restore", "--fresh-cluster", "--dry-run"])
        .code(10)
        .says(&["neither root nor the owner", &data]);
    let as_postgres = |args: &[&str]| run_as(&w, "postgres", "postgres", args);
    let told = ["the server's own afterwards", "group.key", "memory.conf", "postgresql.conf"];
    as_postgres(&["restore", "--fresh-cluster", "--dry-run"]).code(0).says(&told);
    as_postgres(&["restore", "--fresh-cluster", "--yes"]).code(0).says(&["equal to the facts"]);
    is_whole(&c, &before);
    assert_eq!(c.psql("postgres", "SHOW temp_buffers"), "9MB");
    for (name, mode) in [("group.key", 0o600), ("conf.d", 0o700), ("conf.d/memory.conf", 0o644)] {
        let meta = std::fs::metadata(format!("{data}/{name}")).unwrap();
        assert_eq!((meta.mode() & 0o777, meta.uid()), (mode, std::fs::metadata(&data).unwrap().uid()), "{name}");
    }
    assert!(Path::new(&format!("{data}/notes")).is_symlink());
}

#[test]
fn of_a_data_directory_that_is_gone_a_new_one_is_made() {
    let c = Cluster::start();
    let (w, before) = broken(&c);
    c.stop();
    std::fs::rename(c.path("data"), c.path("lost")).unwrap();
    w.run(&["restore", "--fresh-cluster", "--yes"]).code(0).says(&["equal to the facts"]);
    // Settings are gone with it; where the server listened is known, and a password is asked for.
    assert_eq!(c.psql("postgres", "SHOW port"), c.port.to_string());
    assert_eq!([c.dump("erp"), c.dump("postgres")], before);
    assert!(!c.psql_as("postgres", "erp", "wrong", "SELECT 1").status.success());
    w.run(&["rollback", "--yes"]).code(0);
    assert!(!Path::new(&c.path("data")).exists());
}

#[test]
fn two_sources_of_one_server_do_not_both_make_it_anew() {
    let c = Cluster::start();
    let (w, _) = broken(&c);
    let text = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
    let (top, rest) = text.split_once("[sources.db]").unwrap();
    let (db, plan) = rest.split_once("[plans.p]").unwrap();
    let plan = plan.replace("\"db\"", "\"db\", \"again\"");
    let with = |again: &str| {
        w.write_config(&format!("{top}[sources.db]{db}[sources.again]{again}[plans.p]{plan}"));
    };
    with(db);
    w.backup();
    broke(&c);
    // By another name, and by a link to its directory.
    std::os::unix::fs::symlink(c.path("data"), c.path("link")).unwrap();
    let elsewhere = db
        .replace(&format!("@/erp?host={}&port={}", c.path(""), c.port), &format!("@127.0.0.1:{}/erp", c.port))
        .replace(&c.path("data"), &c.path("link"));
    assert!(elsewhere.contains("127.0.0.1") && elsewhere.contains(&c.path("link")), "{elsewhere}");
    for again in [db, elsewhere.as_str()] {
        with(again);
        w.run(&["restore", "--fresh-cluster", "--yes"]).code(2).says(&["makes a server anew for one source", "again"]);
        assert!(c.beside().is_empty());
    }
}

#[test]
fn what_fails_leaves_the_old_directory_where_it_was_and_no_server_running() {
    let c = Cluster::start();
    let (w, _) = broken(&c);
    broke(&c);
    let ran = runs();
    let old = std::fs::read(c.path("data/global/pg_control")).unwrap();
    let untouched = || {
        assert_eq!(std::fs::read(c.path("data/global/pg_control")).unwrap(), old);
        assert_eq!(c.beside(), Vec::<String>::new());
        assert!(!Path::new(&w.at("state/restore.journal")).exists());
    };
    w.run(&["restore", "--fresh-cluster", "--yes", "--assume-space", "1MiB"])
        .code(10)
        .says(&["no room for a second cluster"]);
    untouched();
    w.run(&["restore", "--fresh-cluster", "--database", "erp", "--yes"]).code(2);
    // The new server cannot start with the old settings: what was put in place goes back.
    let conf = std::fs::read_to_string(c.path("data/postgresql.conf")).unwrap();
    std::fs::write(c.path("data/postgresql.conf"), format!("{conf}\nno_such_setting = 1\n")).unwrap();
    w.run(&["restore", "--fresh-cluster", "--yes"])
        .code(12)
        .says(&["undo: swap cluster of source db", "no_such_setting"]);
    std::fs::write(c.path("data/postgresql.conf"), conf).unwrap();
    untouched();
    // A damaged pack.
    let packs = w.objects("packs");
    let largest = packs.iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    w.run(&["restore", "--fresh-cluster", "--yes"]).code(7).says(&["undo: stage cluster of source db"]);
    untouched();
    let left: Vec<PathBuf> = runs().into_iter().filter(|r| !ran.contains(r)).collect();
    let ours: Vec<&PathBuf> = left
        .iter()
        .filter(|r| std::fs::read_to_string(r.join("postgresql.conf")).is_ok_and(|t| t.contains(&c.path(""))))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// Killed when this is said and so, for each way on.
fn killed(say: &str, so: impl Fn(&Path) -> bool) {
    let c = Cluster::start();
    let (w, before) = broken(&c);
    broke(&c);
    let old = std::fs::read(c.path("data/global/pg_control")).unwrap();
    for forward in [false, true] {
        let args = ["restore", "--fresh-cluster", "--yes"];
        let mut child = w.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        assert!(lines.any(|l| l.unwrap().starts_with(say)));
        while !c.beside().iter().any(|d| so(Path::new(&c.path(d)))) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        w.run(&["restore", if forward { "--resume" } else { "--unwind" }]).code(0);
        if forward {
            is_whole(&c, &before);
            w.run(&["rollback", "--yes"]).code(0);
            for id in w.run(&["--json", "restores"]).code(0).json().as_array().unwrap() {
                w.run(&["cleanup", id["id"].as_str().unwrap()]);
            }
        }
        assert_eq!(std::fs::read(c.path("data/global/pg_control")).unwrap(), old, "{say} {forward}");
        assert_eq!(c.beside(), Vec::<String>::new(), "{say} {forward}");
        assert!(!c.is_up());
    }
}

#[test]
fn killed_while_it_is_made_it_is_taken_back_or_finished() {
    killed("stage cluster", |made| made.join("global").exists());
}

#[test]
fn killed_while_it_is_filled_it_is_taken_back_or_finished() {
    // The port is in the fourth line; while `initdb` is at it there is none.
    killed("stage cluster", |made| {
        std::fs::read_to_string(made.join("postmaster.pid")).is_ok_and(|t| t.lines().nth(3) == Some("5432"))
    });
}

#[test]
fn killed_while_it_is_compared_it_is_taken_back_or_finished() {
    killed("verify cluster", |_| true);
}

#[test]
fn killed_while_it_takes_the_place_it_is_taken_back_or_finished() {
    killed("swap cluster", |_| true);
}

/// A cluster of Debian's packages, of a name that nobody else has.
struct Debian {
    name: String,
    major: u32,
    dir: tempfile::TempDir,
}

impl Debian {
    fn make(c: &Cluster) -> Self {
        let major: u32 = c.bin().parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let d = Debian { name: format!("bs{:08x}", rand::random::<u32>()), major, dir };
        let port = free_port();
        let socket = d.dir.path().join("socket");
        std::fs::create_dir(&socket).unwrap();
        let chowned = Command::new("chown").arg("postgres").arg(&socket).arg(d.dir.path()).status().unwrap();
        assert!(chowned.success());
        d.run(
            "pg_createcluster",
            &[
                "-d",
                &d.data().display().to_string(),
                "-l",
                &d.dir.path().join("log").display().to_string(),
                "-s",
                &socket.display().to_string(),
                "-p",
                &port.to_string(),
                "--start-conf=manual",
                "-e",
                "UTF8",
                "--locale=C.UTF-8",
            ],
            &["--", "--no-sync"],
        );
        std::fs::write(format!("/etc/postgresql/{major}/{}/pg_hba.conf", d.name), "local all all trust\n").unwrap();
        // Two logs stand behind its data directory in the list of clusters.
        let main = format!("/etc/postgresql/{major}/{}/postgresql.conf", d.name);
        let settings = std::fs::read_to_string(&main).unwrap();
        std::fs::write(&main, format!("{settings}log_destination = 'stderr, csvlog'\n")).unwrap();
        d.run("pg_ctlcluster", &[], &["start"]);
        d
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("main")
    }

    fn port(&self) -> String {
        let list = Command::new("pg_lsclusters").arg("-h").output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        let line = list.lines().find(|l| l.contains(&self.name)).unwrap();
        line.split_whitespace().nth(2).unwrap().to_owned()
    }

    #[track_caller]
    fn run(&self, program: &str, before: &[&str], after: &[&str]) {
        let out = Command::new(program)
            .args(before)
            .args([self.major.to_string().as_str(), self.name.as_str()])
            .args(after)
            .output()
            .unwrap();
        assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        let out = Command::new(format!("/usr/lib/postgresql/{}/bin/psql", self.major))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &self.port(), "-d", database, "-c", sql])
            .arg("-h")
            .arg(self.dir.path().join("socket"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let of = [self.major.to_string(), self.name.clone()];
        let _ = Command::new("pg_dropcluster").arg("--stop").args(&of).output();
        let _ = std::fs::remove_dir_all(format!("/etc/postgresql/{}/{}", self.major, self.name));
    }
}

#[test]
fn a_cluster_of_debians_packages_is_found_by_its_port_and_keeps_its_settings() {
    let plain = Cluster::start();
    let d = Debian::make(&plain);
    d.sql("postgres", "CREATE DATABASE erp");
    d.sql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let w = World::bare();
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{0}/state\"\n[repository]\nurl = \"file://{0}/repo\"\n[keys]\nidentity_file = \"{0}/host.key\"\n\
         [sources.db]\nkind = \"postgres\"\nurl = \"postgresql://postgres@/erp?host={1}/socket&port={2}\"\n[plans.p]\nsources = [\"db\"]\n",
        w.path().display(),
        d.dir.path().display(),
        d.port()
    ));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.backup();
    // A cold copy knows where its files are and who stops it.
    d.sql("erp", "DELETE FROM t");
    w.run(&["restore", "--in-place", "--cold-copy", "--yes"]).code(0).says(&["main_before_"]);
    assert_eq!(d.sql("erp", "SELECT count(*) FROM t"), "1000");
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(d.sql("erp", "SELECT count(*) FROM t"), "0");
    d.run("pg_ctlcluster", &[], &["stop"]);
    std::fs::remove_file(d.data().join("PG_VERSION")).unwrap();
    let ran = w.run(&["restore", "--fresh-cluster", "--yes"]).code(0);
    ran.says(&["in /etc stay as they are", "main_before_"]);
    assert_eq!(d.sql("erp", "SELECT count(*) FROM t"), "1000");
    assert_eq!(
        d.sql("postgres", "SHOW config_file"),
        format!("/etc/postgresql/{}/{}/postgresql.conf", d.major, d.name)
    );
    w.run(&["rollback", "--yes"]).code(0);
    assert!(!d.data().join("PG_VERSION").exists());
}
