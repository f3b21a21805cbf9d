//! `config/examples/mariadb.toml` against a real server on a socket of its own.

use crate::with_example;
use crate::world::{Ran, World, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Server {
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let d = dir.path().display().to_string();
        let install = "mariadbd is not installed: tests/setup.sh test";
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=socket", "--skip-test-db"])
            .arg(format!("--datadir={d}/data"))
            // In one directory for all they would take each other's temporary tables away.
            .arg(format!("--tmpdir={d}"))
            .output()
            .expect(install);
        assert!(
            made.status.success(),
            "{}{}",
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr)
        );
        let child = Command::new("mariadbd")
            .args([
                "--no-defaults",
                "--user=root",
                "--skip-networking",
                "--event-scheduler=on",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .args([format!("--datadir={d}/data"), format!("--tmpdir={d}"), format!("--socket={d}/s")])
            .arg(format!("--pid-file={d}/pid"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect(install);
        let server = Server { dir, child };
        let started = Instant::now();
        while server.try_sql("SELECT 1").is_err() {
            let log = fs::read_to_string(server.dir.path().join("log")).unwrap();
            assert!(started.elapsed() < Duration::from_secs(60), "mariadbd is not ready: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn socket(&self) -> String {
        self.dir.path().join("s").display().to_string()
    }

    fn try_sql(&self, sql: &str) -> Result<String, String> {
        let out =
            Command::new("mariadb").args(["--no-defaults", "-BN", "-S", &self.socket(), "-e", sql]).output().unwrap();
        if out.status.success() {
            Ok(String::from_utf8(out.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Everything in the database, as text.
    fn content(&self) -> String {
        let out = Command::new("mariadb-dump")
            .args([
                "--no-defaults",
                "-S",
                &self.socket(),
                "--routines",
                "--events",
                "--skip-dump-date",
                "--databases",
                "shop",
            ])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shop(s: &Server) -> World {
    s.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, what TEXT, raw BLOB); \
         INSERT INTO orders (what, raw) SELECT CONCAT('Grüße ', seq), UNHEX(SHA2(seq, 256)) FROM mysql.help_topic, (SELECT 1 AS seq UNION SELECT 2) n LIMIT 900; \
         CREATE PROCEDURE p () SELECT 1; CREATE TRIGGER t BEFORE INSERT ON orders FOR EACH ROW SET NEW.what = UPPER(NEW.what); \
         CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO DELETE FROM orders WHERE id < 0; CREATE VIEW v AS SELECT COUNT(*) FROM orders",
    );
    with_example("mariadb.toml", &[("/run/mysqld/mysqld.sock", s.socket())])
}

fn restore(w: &World) -> Ran {
    run(&mut w.command(&["restore", "--yes"]))
}

#[test]
fn the_example_brings_everything_back_and_can_be_taken_back() {
    let s = Server::start();
    let w = shop(&s);
    let before = s.content();
    w.backup();
    assert!(w.shipped() < 10_000, "the same database gives other bytes");
    s.sql("USE shop; DELETE FROM orders WHERE id > 3; DROP PROCEDURE p; CREATE TABLE since (x INT)");
    let since = s.content();
    w.run(&["restore", "--dry-run"]).code(0).says(&["acts on what is live", "`undo` (sh) must put it back"]);
    restore(&w).code(0).says(&["`check`"]);
    assert_eq!(s.content(), before);
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(s.content(), since);
    // On a machine that has nothing of it.
    s.sql("DROP DATABASE shop");
    restore(&w).code(0);
    assert_eq!(s.content(), before);
}

#[test]
fn a_load_that_fails_half_way_is_undone_and_a_dump_that_breaks_off_is_none() {
    let s = Server::start();
    let w = shop(&s);
    w.backup();
    s.sql("USE shop; DELETE FROM orders WHERE id > 3");
    let since = s.content();
    // The load gets as far as the first table and is cut off.
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&text.replace(
        "exec mariadb --socket=\"$SOCKET\"\n",
        "(head -n 40; echo 'SELECT * FROM nowhere.nothing;'; cat) | mariadb --socket=\"$SOCKET\"\n",
    ));
    restore(&w).code(12).says(&["nowhere", "Everything is as it was"]);
    assert_eq!(s.content(), since);
    // A definer of a view who is gone makes mariadb-dump fail in the middle.
    w.write_config(&text);
    s.sql("USE shop; CREATE DEFINER='gone'@'localhost' VIEW zz AS SELECT * FROM orders; ALTER TABLE orders DROP COLUMN raw");
    w.run(&["backup"]).code(11).says(&["mariadb-dump failed with exit status", "zz"]);
}
