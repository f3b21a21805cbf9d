//! A throw-away PostgreSQL cluster of the newest installed version, run by the `postgres` user on a free port.

use crate::port::free_port;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub port: u16,
    bin: PathBuf,
    mounts: Mutex<Vec<String>>,
}

/// The password of every role.
pub const PASSWORD: &str = "p'ss \"wörd\\";

fn bin() -> PathBuf {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is not installed: apt-get install postgresql")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|v: &u32| Path::new(&format!("/usr/lib/postgresql/{v}/bin/initdb")).exists())
        .collect();
    versions.sort_unstable();
    let newest = versions.last().expect("no PostgreSQL server is installed: apt-get install postgresql");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

impl Cluster {
    /// A cluster with password authentication, TLS with a certificate of its own CA, and a superuser `postgres`.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { dir, port: free_port(), bin: bin(), mounts: Mutex::default() };
        let d = cluster.dir.path().display().to_string();
        std::fs::write(cluster.dir.path().join("pw"), PASSWORD).unwrap();
        let tls = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca 2>/dev/null && \
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=localhost 2>/dev/null && \
             printf 'subjectAltName=DNS:localhost' > ext && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext 2>/dev/null && \
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout other.key -out other-ca.pem -days 2 -subj /CN=other-ca 2>/dev/null";
        cluster.shell(&format!("cd {d} && {tls} && chown -R postgres {d} && chmod 755 {d} && chmod 600 server.key"));
        cluster.as_postgres(&format!(
            "{}/initdb -D {d}/data -U postgres --pwfile={d}/pw -A scram-sha-256 -E UTF8 --locale=C.UTF-8 --no-sync",
            cluster.bin.display()
        ));
        let conf = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{d}'\nssl = on\nssl_cert_file = '{d}/server.pem'\nssl_key_file = '{d}/server.key'\nfsync = off\n"
        );
        std::fs::write(cluster.dir.path().join("more.conf"), conf).unwrap();
        cluster.shell(&format!("cat {d}/more.conf >> {d}/data/postgresql.conf"));
        // Between looking for a port and listening on it another test may take it.
        for _ in 0..3 {
            cluster.shell(&format!("echo 'port = {}' >> {d}/data/postgresql.conf", cluster.port));
            let start = format!("{}/pg_ctl -D {d}/data -w -l {d}/log start", cluster.bin.display());
            if cluster.output_as_postgres(&start).status.success() {
                return cluster;
            }
            cluster.port = free_port();
        }
        panic!("{}", std::fs::read_to_string(cluster.path("log")).unwrap_or_default());
    }

    /// Where its programs are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    fn shell(&self, script: &str) {
        let out = Command::new("bash").args(["-c", script]).output().unwrap();
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    }

    fn output_as_postgres(&self, command: &str) -> Output {
        let mut program = Command::new("runuser");
        program.args(["-u", "postgres", "--", "bash", "-c", command]).current_dir(self.dir.path()).output().unwrap()
    }

    fn as_postgres(&self, command: &str) {
        let out = self.output_as_postgres(command);
        assert!(
            out.status.success(),
            "{command}\n{}\n{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
    }

    pub fn psql_output(&self, database: &str, sql: &str) -> Output {
        Command::new(self.bin.join("psql"))
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                &self.dir.path().display().to_string(),
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap()
    }

    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let out = self.psql_output(database, sql);
        assert!(out.status.success(), "{sql}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// A dump as text, for comparing two databases in everything that pg_dump knows.
    pub fn dump(&self, database: &str) -> String {
        let out = Command::new(self.bin.join("pg_dump"))
            .args([
                "-h",
                &self.dir.path().display().to_string(),
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                database,
            ])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        // Recent versions write a random word into \restrict.
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Runs one of PostgreSQL's own tools as the superuser.
    #[track_caller]
    pub fn tool(&self, name: &str, args: &[&str]) {
        let out = Command::new(self.bin.join(name))
            .args(args)
            .env("PGHOST", self.dir.path())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(out.status.success(), "{name} {args:?}\n{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Where the server finds what comes with it.
    pub fn share(&self) -> PathBuf {
        let out = Command::new(self.bin.join("pg_config")).arg("--sharedir").output().unwrap();
        PathBuf::from(String::from_utf8_lossy(&out.stdout).trim())
    }

    /// Stops and starts the server, for settings that need it.
    pub fn restart(&self) {
        let data = self.path("data");
        self.as_postgres(&format!("{}/pg_ctl -D {data} -w -l {} restart", self.bin.display(), self.path("log")));
    }

    /// Ends the server without a word to it, and starts it: what it has only in memory is lost.
    pub fn crash(&self) {
        let (bin, data, log) = (self.bin.display(), self.path("data"), self.path("log"));
        self.as_postgres(&format!("{bin}/pg_ctl -D {data} -m immediate -w -l {log} restart"));
    }

    /// `client.pem` and `client.key` of a role, signed by the CA of the server.
    pub fn client_certificate(&self, role: &str) {
        let d = self.dir.path().display();
        self.shell(&format!(
            "cd {d} && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout client.key -out client.csr -subj /CN={role} 2>/dev/null && \
             openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out client.pem -days 2 2>/dev/null && \
             chown root client.key && chmod 600 client.key"
        ));
    }

    /// A file system of 16 MiB with an empty directory `ts` of the server's on it.
    pub fn small_disk(&self, at: &str) {
        self.disk(at, 16);
    }

    fn disk(&self, at: &str, mib: u32) {
        self.shell(&format!(
            "mkdir {at} && mount -t tmpfs -o size={mib}m tmpfs {at} && mkdir {at}/ts && chown postgres {at}/ts"
        ));
        self.mounts.lock().unwrap().push(at.to_owned());
    }

    /// Its log moves to a file system of its own, of so many MiB.
    pub fn log_on_its_own_disk(&self, mib: u32) {
        let (at, log) = (self.path("disk_of_the_log"), self.path("data/pg_wal"));
        self.disk(&at, mib);
        self.stop();
        self.shell(&format!("cp -a {log}/. {at}/ts && rm -r {log} && ln -s {at}/ts {log}"));
        self.restart();
    }

    /// A standby that streams from it, on a port of its own in the same socket directory.
    pub fn standby(&self) -> Standby {
        let data = self.path("standby");
        self.tool("pg_basebackup", &["-D", &data, "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        self.shell(&format!("chown -R postgres {data}"));
        let port = free_port();
        let log = self.path("standby.log");
        self.as_postgres(&format!("{}/pg_ctl -D {data} -o '-p {port}' -w -l {log} start", self.bin.display()));
        Standby { bin: self.bin.clone(), data, port }
    }

    /// An empty directory of the server's.
    pub fn own_directory(&self, at: &str) {
        self.shell(&format!("mkdir {at} && chown postgres {at}"));
    }

    /// Stops the server.
    pub fn stop(&self) {
        self.as_postgres(&format!("{}/pg_ctl -D {} -w -m fast stop", self.bin.display(), self.path("data")));
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        self.psql_output("postgres", "SELECT 1").status.success()
    }

    /// The same as `psql_output` over TCP, as a role with its password.
    pub fn psql_as(&self, role: &str, database: &str, password: &str, sql: &str) -> Output {
        let port = self.port.to_string();
        Command::new(self.bin.join("psql"))
            .args(["-XAtq", "-h", "127.0.0.1", "-p", &port, "-U", role, "-d", database, "-c", sql])
            .env("PGPASSWORD", password)
            .output()
            .unwrap()
    }

    /// What is beside the data directory, by the names that a restore gives.
    pub fn beside(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> = all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|n| n.starts_with("data_"));
        names.sort();
        names
    }

    pub fn path(&self, file: &str) -> String {
        self.dir.path().join(file).display().to_string()
    }
}

pub struct Standby {
    bin: PathBuf,
    data: String,
    pub port: u16,
}

fn stop_at_once(bin: &Path, data: &Path) {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(bin.join("pg_ctl")).arg("-D").arg(data);
    let _ = command.args(["-m", "immediate", "stop"]).output();
}

impl Drop for Standby {
    fn drop(&mut self) {
        stop_at_once(&self.bin, Path::new(&self.data));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        stop_at_once(&self.bin, &self.dir.path().join("data"));
        for mount in self.mounts.lock().unwrap().iter() {
            let _ = Command::new("umount").arg(mount).output();
        }
    }
}
