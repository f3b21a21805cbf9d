//! The hosting platform: a swarm of its own with its services, volumes and configuration, and the script that made a folder
//! of it every night.

use crate::examples;
use crate::port::free_port;
use crate::stage::{Daemon, Stage};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub const APP: &str = "localhost:5000/hosting-app:1.4";
pub const WORKER: &str = "localhost:5000/hosting-worker:1.4";

/// The script of every night, with the id of the backup. `ROOT` stands for the machine's own root.
const SCRIPT: &str = r#"
set -euo pipefail
ID=$1 NFS=$ROOT/mnt/nfs
DIR=$NFS/backups/$ID
mkdir -p $DIR/{postgres,redis,volumes,configs,app}
PG=$(docker ps -q -f label=com.docker.swarm.service.name=hosting_postgres)
redis() { redis-cli -p $REDIS -a p-of-redis --no-auth-warning "$@"; }
docker exec $PG pg_dump -U hosting_user -d hosting_db -F c > $DIR/postgres/postgres-$ID.dump
docker exec $PG pg_dump -U hosting_user -d hosting_db > $DIR/postgres/postgres-$ID.sql
redis --rdb $DIR/redis/redis-$ID.rdb > /dev/null 2>&1
redis SET written-later "$ID" > /dev/null
DATA=$(docker volume inspect -f '{{.Mountpoint}}' redis_data)
cat $DATA/appendonlydir/*.base.rdb $DATA/appendonlydir/*.incr.aof > $DIR/redis/redis-$ID.aof
for v in prometheus grafana; do
    tar czf $DIR/volumes/$v-$ID.tar.gz -C $(docker volume inspect -f '{{.Mountpoint}}' ${v}_data) .
done
tar czf $DIR/configs/docker-compose-$ID.tar.gz -C / ${ROOT#/}/opt/docker-compose
tar czf $DIR/configs/nginx-config-$ID.tar.gz -C / ${ROOT#/}/mnt/nfs/nginx
tar czf $DIR/configs/prometheus-config-$ID.tar.gz -C / ${ROOT#/}/mnt/nfs/prometheus
tar czf $DIR/configs/scripts-$ID.tar.gz -C / ${ROOT#/}/opt/scripts
cp $ROOT/spool/crontabs/root $DIR/configs/crontab-$ID.txt
tar czf $DIR/app/applications-$ID.tar.gz -C $ROOT/opt applications
for image in app worker; do
    docker save localhost:5000/hosting-$image:1.4 | gzip > $DIR/app/docker-image-hosting-$image.tar.gz
done
cd $DIR
{
    echo "===================="
    echo "Backup ID: $ID"
    echo "===================="
    find . -type f ! -name 'MANIFEST*' -printf '%P\n' | sort | while read -r f; do
        echo "$f|$(stat -c %s "$f")|$(sha256sum "$f" | cut -d' ' -f1)"
    done
} > MANIFEST.part
mv MANIFEST.part MANIFEST.txt
"#;

/// The application: what it answers is what is in the database, in Redis and in its own folder.
const CODE: &str = r#"
import json, os, signal, socket, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

def users():
    ask = ["/usr/lib/postgresql/15/bin/psql", "-XAtq", "-h", "/run/postgresql", "-U", "hosting_user", "-d", "hosting_db", "-c", "SELECT count(*) FROM users"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()

def greeting():
    with socket.create_connection(("127.0.0.1", int(sys.argv[2]))) as s:
        s.sendall(b"AUTH p-of-redis\r\nGET greeting\r\n")
        got = b""
        while got.count(b"\r\n") < 3 and b"$-1" not in got:
            got += s.recv(4096)
    return got.split(b"\r\n")[2].decode()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/api/version":
            text = open("/srv/app/VERSION").read().strip()
        else:
            text = json.dumps({"status": "ok", "database": "ok", "redis": "ok", "users": users(), "greeting": greeting()})
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    allow_reuse_port = True

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

const MAIN: &str = "user root; worker_processes 1; pid /run/nginx.pid; error_log /dev/stderr;\nevents {}\n\
                    http { access_log off; include /etc/nginx/conf.d/*.conf; }\n";
/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_secs(180);
const STAYS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

pub struct Platform {
    /// Ends before what its containers have mounted goes.
    daemon: Daemon,
    pub stage: Stage,
    pub dir: tempfile::TempDir,
    pub nginx: u16,
    pub app: u16,
    pub redis: u16,
    /// How long the last command took.
    pub took: Mutex<Duration>,
}

impl Platform {
    /// With everything running, after two nights. `maintenance install` came after them.
    pub fn new() -> Self {
        let daemon = Daemon::start();
        let stage = Stage::on(Some(daemon.host()));
        let dir = tempfile::tempdir().unwrap();
        let (nginx, app, redis) = (free_port(), free_port(), free_port());
        let p = Platform { stage, dir, nginx, app, redis, took: Mutex::default(), daemon };
        p.files();
        p.images();
        p.services();
        p.night("20240214-020000");
        p.sql("UPDATE users SET name = 'renamed' WHERE id < 20; INSERT INTO users (name) VALUES ('of the last day')");
        p.redis(&["SET", "greeting", "of the last day"]);
        p.night("20240215-020000");
        p.backstay(&["maintenance", "install"]);
        p
    }

    /// A path of the machine, as the test has it.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
    }

    fn files(&self) {
        self.write("/opt/docker-compose/hosting/docker-compose.prod.yml", "services: {}\n");
        self.write("/opt/scripts/backup-full.sh", SCRIPT);
        self.write("/opt/applications/app.py", CODE);
        self.write("/opt/applications/VERSION", "1.4\n");
        self.write("/mnt/nfs/nginx/nginx.conf", MAIN);
        self.write("/mnt/nfs/nginx/conf.d/app.conf", &self.site("as it was"));
        self.write("/mnt/nfs/prometheus/prometheus.yml", "scrape_configs: []\n");
        self.write("/spool/crontabs/root", "0 2 * * * /opt/scripts/backup-full.sh\n");
        std::fs::set_permissions(self.at("/spool/crontabs/root"), std::fs::Permissions::from_mode(0o600)).unwrap();
        for folder in ["/run", "/state/nginx", "/mnt/nfs/backups", "/repo"] {
            std::fs::create_dir_all(self.at(folder)).unwrap();
        }
        self.write("/etc/redis.password", "p-of-redis\n");
        let at = |path: &str| self.at(path).display().to_string();
        let text = examples::with(
            "hosting.toml",
            &[
                ("\"s3://hosting-backups/backstay\"", &format!("\"file://{}\"", at("/repo"))),
                ("state_dir = \"/var/lib/backstay\"", &format!("state_dir = \"{}\"", at("/state"))),
                ("\"/etc/backstay/", &format!("\"{}/", at("/etc"))),
                ("\"/opt/", &format!("\"{}/", at("/opt"))),
                ("\"/mnt/nfs/", &format!("\"{}/", at("/mnt/nfs"))),
                ("file:///mnt/nfs/", &format!("file://{}/", at("/mnt/nfs"))),
                ("\"/var/spool/cron/crontabs/", &format!("\"{}/", at("/spool/crontabs"))),
                ("localhost:6379", &format!("localhost:{}", self.redis)),
                ("localhost:8080", &format!("localhost:{}", self.app)),
            ],
        );
        self.write("/etc/backstay.toml", &text);
    }

    pub fn site(&self, word: &str) -> String {
        format!(
            "server {{\n    listen 127.0.0.1:{};\n    server_name hosting.example;\n    location = /static {{ return 200 \"{word}\"; }}\n    location / {{ proxy_pass http://127.0.0.1:{}; }}\n}}\n",
            self.nginx, self.app
        )
    }

    /// Images of nothing but links into the programs of this machine, which are mounted, and a file of their own.
    fn images(&self) {
        for (name, size) in [("localhost:5000/hosting-base:1", 1), (APP, 200_000), (WORKER, 300_000)] {
            let root = tempfile::tempdir().unwrap();
            let at = |path: &str| root.path().join(path);
            for link in ["bin", "sbin", "lib", "lib64"] {
                symlink(format!("usr/{link}"), at(link)).unwrap();
            }
            // Debian's tools have the server under another name.
            symlink("/usr/bin/redis-check-rdb", at("redis-server")).unwrap();
            for folder in [
                "usr",
                "etc/nginx/conf.d",
                "tmp",
                "run/postgresql",
                "data",
                "srv/app",
                "var/log/nginx",
                "var/lib/nginx",
                "var/lib/backstay/nginx",
            ] {
                std::fs::create_dir_all(at(folder)).unwrap();
            }
            symlink("/run", at("var/run")).unwrap();
            std::fs::set_permissions(at("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
            std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::write(
                at("etc/passwd"),
                "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\npostgres:x:5432:5432::/tmp:/bin/sh\n",
            )
            .unwrap();
            std::fs::write(at("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
            let noise: Vec<u8> = (0..size).map(|_| rand::random::<u8>()).collect();
            std::fs::write(at("own"), noise).unwrap();
            self.stage.import(root.path(), name);
        }
    }

    fn service(&self, name: &str, options: &[&str], image: &str, command: &[&str]) {
        let usr = "type=bind,source=/usr,target=/usr,readonly";
        let first = [
            "service",
            "create",
            "-d",
            "-q",
            "--name",
            name,
            "--no-resolve-image",
            "--network",
            "host",
            "--mount",
            usr,
            "--restart-delay",
            "100ms",
            "--stop-grace-period",
            "20s",
        ];
        self.stage.docker(&[&first[..], options, &[image], command].concat());
    }

    fn services(&self) {
        let listen = format!("127.0.0.1:{}", free_port());
        self.stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", &listen]);
        let bind = |from: &str, to: &str| format!("type=bind,source={},target={to}", self.at(from).display());
        let volume = |name: &str| format!("type=volume,source={name},target=/data");
        let base = "localhost:5000/hosting-base:1";
        let mut majors: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
            .expect("install postgresql")
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect();
        majors.sort_unstable();
        let bin = format!("/usr/lib/postgresql/{}/bin", majors.last().unwrap());
        let own = "setpriv --reuid=5432 --regid=5432 --clear-groups";
        let script = format!(
            "chown 5432:5432 /run/postgresql /data && cd /tmp && {{ [ -e /data/d ] || {own} {bin}/initdb -D /data/d -U hosting_user -A trust -E UTF8 --locale=C.UTF-8 --no-sync; }} && \
             exec {own} {bin}/postgres -D /data/d -c listen_addresses= -c fsync=off -c unix_socket_directories=/run/postgresql"
        );
        let path = format!("PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin");
        let (run, data) = (bind("/run", "/run/postgresql"), volume("hosting_postgres_data"));
        self.service(
            "hosting_postgres",
            &["--env", &path, "--mount", &run, "--mount", &data],
            base,
            &["sh", "-c", &script],
        );
        let (port, data) = (self.redis.to_string(), volume("redis_data"));
        let server = [
            "/redis-server",
            "--dir",
            "/data",
            "--bind",
            "127.0.0.1",
            "--port",
            &port,
            "--requirepass",
            "p-of-redis",
            "--appendonly",
            "yes",
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
        ];
        self.service("hosting_redis", &["--mount", &data], base, &server);
        for name in ["prometheus", "grafana"] {
            let data = volume(&format!("{name}_data"));
            self.service(name, &["--mount", &data], base, &["sh", "-c", STAYS]);
        }
        let mounts = [
            bind("/mnt/nfs/nginx/nginx.conf", "/etc/nginx/nginx.conf"),
            bind("/mnt/nfs/nginx/conf.d", "/etc/nginx/conf.d"),
            bind("/state/nginx", "/var/lib/backstay/nginx") + ",readonly",
        ];
        let mounts: Vec<&str> = mounts.iter().flat_map(|m| ["--mount", m]).collect();
        self.service("hosting_nginx", &mounts, base, &["nginx", "-g", "daemon off;"]);
        until("PostgreSQL answers", || self.try_sql("SELECT 1", "postgres").is_some());
        until("Redis answers", || self.redis(&["PING"]) == "PONG");
        self.try_sql("CREATE DATABASE hosting_db", "postgres").unwrap();
        self.sql("CREATE TABLE users (id serial PRIMARY KEY, name text); CREATE TABLE schema_migrations (version bigint PRIMARY KEY); INSERT INTO schema_migrations VALUES (20240101), (20240215); INSERT INTO users (name) SELECT md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 150000) g; CREATE TABLE sites (id serial PRIMARY KEY, owner int REFERENCES users); INSERT INTO sites (owner) SELECT id FROM users WHERE id < 100");
        self.redis(&["SET", "greeting", "hello"]);
        let sessions: Vec<String> = (0..500).flat_map(|n| [format!("session:{n}"), format!("value {n}")]).collect();
        let mut set = vec!["MSET"];
        set.extend(sessions.iter().map(String::as_str));
        self.redis(&set);
        let noise: Vec<u8> = (0..400_000).map(|_| rand::random::<u8>()).collect();
        std::fs::write(self.volume("prometheus_data").join("block"), noise).unwrap();
        std::fs::create_dir(self.volume("grafana_data").join("dashboards")).unwrap();
        std::fs::write(self.volume("grafana_data").join("dashboards/hosting.json"), "{}\n").unwrap();
        let (code, run) = (bind("/opt/applications", "/srv/app") + ",readonly", bind("/run", "/run/postgresql"));
        let (port, redis) = (self.app.to_string(), self.redis.to_string());
        let options = ["--replicas", "2", "--env", &path, "--mount", &code, "--mount", &run];
        self.service("hosting_app", &options, APP, &["python3", "/srv/app/app.py", &port, &redis]);
        until("the application answers", || self.get(self.nginx, "/health").0 == 200 && self.tasks("hosting_app") == 2);
    }

    /// The folder of a volume on this machine.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", name]).into()
    }

    pub fn tasks(&self, service: &str) -> usize {
        self.task(service).lines().count()
    }

    pub fn task(&self, service: &str) -> String {
        self.stage.docker(&["ps", "-q", "--filter", &format!("label=com.docker.swarm.service.name={service}")])
    }

    fn try_sql(&self, statements: &str, database: &str) -> Option<String> {
        let mut command = Command::new("/usr/lib/postgresql/15/bin/psql");
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "hosting_user", "-d", database, "-h"])
            .arg(self.at("/run"));
        let out = command.args(["-c", statements]).stdin(Stdio::null()).output().unwrap();
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        self.try_sql(statements, "hosting_db").unwrap_or_else(|| panic!("{statements}"))
    }

    pub fn redis(&self, args: &[&str]) -> String {
        let port = self.redis.to_string();
        let out =
            Command::new("redis-cli").args(["-p", &port, "-a", "p-of-redis", "--no-auth-warning"]).args(args).output();
        String::from_utf8_lossy(&out.expect("install redis-tools").stdout).trim().to_owned()
    }

    #[track_caller]
    pub fn night(&self, id: &str) {
        let script = self.at("/opt/scripts/backup-full.sh");
        let mut command = Command::new("bash");
        command.arg(script).arg(id).env("ROOT", self.dir.path()).env("REDIS", self.redis.to_string());
        let out = command.env("DOCKER_HOST", self.daemon.host()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Status and body.
    pub fn get(&self, port: u16, path: &str) -> (u16, String) {
        let asked = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: hosting.example\r\nConnection: close\r\n\r\n").ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            let (head, body) = text.split_once("\r\n\r\n")?;
            Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
        };
        asked().unwrap_or((0, String::new()))
    }

    pub fn try_backstay(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command
            .args(args)
            .env("BACKSTAY_CONFIG", self.at("/etc/backstay.toml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        let started = Instant::now();
        let out = command.env("DOCKER_HOST", self.daemon.host()).current_dir(self.dir.path()).output().unwrap();
        *self.took.lock().unwrap() = started.elapsed();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
    }

    /// Runs it, which must succeed; what it said on both channels.
    #[track_caller]
    pub fn backstay(&self, args: &[&str]) -> String {
        let (code, out, err) = self.try_backstay(args);
        assert_eq!(code, 0, "{args:?}\n{out}\n{err}");
        format!("{out}\n{err}")
    }

    /// What it prints as JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let (code, out, err) = self.try_backstay(&[&["--json"], args].concat());
        assert_eq!(code, 0, "{args:?}\n{out}\n{err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Everything that a restore may change, in words that can be compared.
    pub fn state(&self) -> String {
        let mut lines =
            vec![self.sql("SELECT count(*) || ' ' || md5(string_agg(u::text, ',' ORDER BY id)) FROM users u")];
        lines.push(self.sql("SELECT count(*) FROM sites"));
        lines.extend(["greeting", "session:7", "written-later"].map(|key| self.redis(&["GET", key])));
        for root in ["/opt", "/mnt/nfs/prometheus", "/mnt/nfs/nginx/conf.d", "/spool"].map(|p| self.at(p)) {
            lines.push(listing(&root));
        }
        lines.extend(["prometheus_data", "grafana_data"].map(|v| listing(&self.volume(v))));
        let mut images: Vec<String> = self
            .stage
            .docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "localhost:5000/*"])
            .lines()
            .map(str::to_owned)
            .collect();
        // Those of one second come in any order.
        images.sort();
        lines.push(images.join("\n"));
        lines.extend(
            ["hosting_app", "prometheus", "grafana", "hosting_nginx"].map(|s| format!("{s} {}", self.tasks(s))),
        );
        lines.push(format!("{:?} {:?}", self.get(self.nginx, "/static"), self.get(self.nginx, "/api/version")));
        lines.join("\n")
    }
}

/// Files with mode and checksum, without what is ours.
fn listing(root: &Path) -> String {
    let script = "find . \\( -name '*backstay*' -o -name '*_before_*' -o -name '*_failed_*' \\) -prune -o -type f -printf '%m %U ' -exec sha256sum {} \\; | sort -k4";
    let out = Command::new("bash").args(["-c", script]).current_dir(root).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Waits until something is so. A whole platform comes up here beside other tests.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < PATIENCE, "not: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
