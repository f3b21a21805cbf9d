//! PostgreSQL servers of several majors in containers without a network. Nothing is pulled: the image is a handful of
//! links, and the programs are mounted from below a directory that `tests/server-roots.sh` unpacks, or from this machine.

use crate::releases::usr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Boxed {
    pub name: String,
    pub major: u32,
    daemon: Daemon,
}

/// Where the daemon listens, when it is not the usual one.
type Daemon = Option<String>;

const IMAGE: &str = "backstay-tests-postgres";

fn command(daemon: &Daemon) -> Command {
    let mut command = Command::new("docker");
    command.envs(daemon.iter().map(|host| ("DOCKER_HOST", host)));
    command
}

fn docker(daemon: &Daemon, args: &[&str]) -> Output {
    command(daemon).args(args).stdin(Stdio::null()).output().expect("docker is not installed")
}

/// An image of nothing but links into what is mounted, and a user.
fn image(daemon: &Daemon) {
    let root = tempfile::tempdir().unwrap();
    for (name, to) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        std::os::unix::fs::symlink(to, root.path().join(name)).unwrap();
    }
    for dir in ["usr", "etc", "tmp", "run", "data", "var"] {
        std::fs::create_dir(root.path().join(dir)).unwrap();
    }
    std::fs::set_permissions(root.path().join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    std::os::unix::fs::symlink("/run", root.path().join("var/run")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\npostgres:x:5432:5432::/tmp:/bin/sh\n")
        .unwrap();
    std::fs::write(root.path().join("etc/group"), "root:x:0:\npostgres:x:5432:\n").unwrap();
    let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().unwrap();
    let import = ["import", "-", IMAGE];
    let mut import = command(daemon).args(import).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut import.stdin.take().unwrap(), &tar.stdout).unwrap();
    assert!(import.wait().unwrap().success(), "these tests need a Docker daemon (as root: tests/setup.sh test)");
}

impl Boxed {
    /// Starts a server that asks for no password on its socket, except with `auth`.
    pub fn start(major: u32, auth: &str) -> Self {
        Self::start_with(major, auth, &[], None)
    }

    /// The same with more options of `docker run`, on another daemon.
    pub fn start_with(major: u32, auth: &str, options: &[&str], daemon: Daemon) -> Self {
        Self::on(major, auth, &[options, &["--tmpfs", "/data"]].concat(), daemon)
    }

    /// The same with its data in a volume, which outlives a stop.
    pub fn on_volume(major: u32) -> Self {
        Self::on(major, "trust", &["-v", "/data"], None)
    }

    fn on(major: u32, auth: &str, options: &[&str], daemon: Daemon) -> Self {
        image(&daemon);
        let name = format!("bs-pg{major}-{:08x}", rand::random::<u32>());
        let bin = format!("/usr/lib/postgresql/{major}/bin");
        // The tools are in the search path as in the usual images.
        let script = format!(
            "mkdir -p /run/postgresql && chown 5432:5432 /run/postgresql /data && cd /tmp && \
             {{ [ -e /data/d/PG_VERSION ] || setpriv --reuid=5432 --regid=5432 --clear-groups {bin}/initdb -D /data/d -U postgres -A {auth} -E UTF8 --locale=C.UTF-8 --no-sync; }} && \
             exec setpriv --reuid=5432 --regid=5432 --clear-groups {bin}/postgres -D /data/d -c listen_addresses= -c fsync=off -c unix_socket_directories=/run/postgresql"
        );
        let programs = format!("{}:/usr:ro", usr(major).display());
        let path = format!("PATH={bin}:/usr/bin:/bin");
        let first = ["run", "-d", "--network", "none", "--name", &name];
        let last =
            ["-v", &programs, "--tmpfs", "/tmp:mode=1777", "--tmpfs", "/run", "-e", &path, IMAGE, "sh", "-c", &script];
        let started = docker(&daemon, &[&first[..], options, &last[..]].concat());
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let boxed = Boxed { name, major, daemon };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !boxed.sql_output("postgres", "SELECT 1").status.success() {
            let logs = docker(&boxed.daemon, &["logs", &boxed.name]);
            assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&logs.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
        boxed
    }

    fn sql_output(&self, database: &str, sql: &str) -> Output {
        let psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql];
        docker(&self.daemon, &[&["exec", "-u", "postgres", &self.name][..], &psql].concat())
    }

    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let out = self.sql_output(database, sql);
        assert!(out.status.success(), "{sql}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// What a database holds: every table's rows as a checksum, and the definitions that SQL shows.
    pub fn content(&self, database: &str) -> String {
        let tables = self.sql(
            database,
            "SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE relkind IN ('r', 'm') AND relispopulated AND nspname NOT LIKE 'pg_%' AND nspname <> 'information_schema' ORDER BY 1",
        );
        let mut out = self.sql(
            database,
            "SELECT indexdef FROM pg_indexes WHERE schemaname NOT LIKE 'pg_%' UNION ALL \
             SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1",
        );
        for table in tables.lines() {
            let sum = format!(
                "SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM ONLY {table} t"
            );
            out.push_str(&format!("\n{table} {}", self.sql(database, &sum)));
        }
        out
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        docker(&self.daemon, &["rm", "-fv", &self.name]);
    }
}
