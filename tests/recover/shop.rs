//! The host that is lost: a small application behind nginx with a database, a cache, files and a container.

use crate::host::{VERSION, package};
use crate::machine::{Ended, Machine};
use crate::support::S3Access;
use crate::support::s3_server::S3Server;
use crate::wire::{INSIDE, Wire};
use std::path::Path;
use std::process::Command;

/// What the application shows when everything is there: a setting, rows with their sum, a key of Redis, files.
pub const SHOWN: &str = "green 500 125250 42 12";
/// Its repository.
pub const URL: &str = "s3://bucket-1/production";
/// Its name.
pub const HOST: &str = "shop-1";
/// Where packages come from, in place of a mirror.
const MIRROR: &str = "/opt/mirror";

const APP: &str = r#"
import os, socket, subprocess
def ask(*argv):
    return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout.strip()
server = socket.create_server(("127.0.0.1", 8000))
while True:
    client, _ = server.accept()
    client.settimeout(5)
    try:
        client.recv(4096)
        rows = ask("/usr/lib/postgresql/15/bin/psql", "-XAtq", "-d", "shop", "-c", "SELECT count(*) || ' ' || sum(amount) FROM orders")
        files = len(os.listdir("/srv/shop/files"))
        body = " ".join([os.environ["COLOUR"], rows, ask("redis-cli", "get", "visits"), str(files)]) + "\n"
        client.sendall(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)).encode())
    except OSError:
        pass
    client.close()
"#;

const SITE: &str = "server {
    listen 127.0.0.1:80 default_server;
    location /documents/ { proxy_pass http://127.0.0.1:8081/; }
    location / { proxy_pass http://127.0.0.1:8000; }
}
";

/// Which store, and what of the application.
pub struct Shape {
    /// With a container, its image and its volume.
    pub docker: bool,
    /// Bytes of each of its files.
    pub file: usize,
}

fn configuration(access: &S3Access, shape: &Shape) -> String {
    let docker = "[sources.documents]\nkind = \"volume\"\nvolume = \"documents\"\n[sources.images]\nkind = \"image\"\nimages = [\"box:1\"]\n";
    let (docker, more) = if shape.docker { (docker, ", \"documents\", \"images\"") } else { ("", "") };
    format!(
        r#"
host = "{HOST}"
[repository]
url = "{URL}"
endpoint = "http://{INSIDE}"
region = "{region}"
path_style = true
access_key_id = "{key}"
secret_access_key_file = "s3.secret"
[keys]
identity_file = "/etc/backstay/host.key"
[sources.machine]
kind = "host"
exclude = ["/usr/local/bin/backstay", "/usr/local/bin/these-tests"]
[sources.db]
kind = "postgres"
url = "postgresql://postgres@/shop?host=/var/run/postgresql"
os_user = "postgres"
[sources.cache]
kind = "redis"
url = "redis://localhost:6379"
unit = "redis-server"
[sources.files]
kind = "files"
paths = ["/srv/shop", "/opt/shop"]
{docker}
[plans.shop]
sources = ["machine", "db", "cache", "files"{more}]
[plans.shop.restore]
stop = ["shop-worker", "shop"]
start_after_checks = ["shop-worker"]
[[plans.shop.restore.checks]]
http = "http://127.0.0.1/"
within = "60s"
[[plans.shop.restore.checks]]
name = "orders"
sql = "SELECT count(*) FROM orders"
source = "db"
min = 1
before_swap = true
"#,
        region = access.region,
        key = access.key,
    )
}

/// A store, which outlives every machine.
pub struct Store {
    runtime: tokio::runtime::Runtime,
    server: S3Server,
}

impl Store {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(S3Server::start());
        Store { runtime, server }
    }

    pub fn access(&self) -> &S3Access {
        &self.server.access
    }

    /// A wire from a machine that is on.
    pub fn wire(&self, machine: &Machine) -> Wire {
        Wire::lay(machine.init(), self.access().endpoint.strip_prefix("http://").unwrap())
    }

    /// What somebody types on a machine without a configuration, besides the command.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", self.access().key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.access().secret.clone()),
            ("BACKSTAY__REPOSITORY__ENDPOINT", format!("http://{INSIDE}")),
            ("BACKSTAY__REPOSITORY__REGION", self.access().region.clone()),
            ("BACKSTAY__REPOSITORY__PATH_STYLE", "true".to_owned()),
        ]
    }

    /// How many backups there are.
    pub fn backups(&self) -> usize {
        let client = self.access().client();
        let listed =
            client.list_objects_v2().bucket(&self.access().bucket).prefix(format!("production/{HOST}/backups/"));
        self.runtime.block_on(listed.send()).unwrap().contents().len()
    }
}

/// A package of the application's operator, with a service that its installation would start, and a file that it would
/// ask about.
fn mirror(machine: &Machine) {
    let root = machine.path(MIRROR);
    let tree = root.join("tree");
    for (path, text, mode) in [
        (
            "DEBIAN/control",
            "Package: shop-tools\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: tools\n",
            0o644,
        ),
        ("DEBIAN/conffiles", "/etc/shop/tools.conf\n", 0o644),
        (
            "DEBIAN/postinst",
            "#!/bin/sh\nset -e\n/usr/sbin/policy-rc.d shop-tools start || echo $? > /var/lib/shop-tools.policy\n",
            0o755,
        ),
        ("etc/shop/tools.conf", "of the package\n", 0o644),
        ("usr/bin/shop-tools", "#!/bin/sh\necho tools\n", 0o755),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let deb = root.join("shop-tools_1.0_all.deb");
    let made = Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&deb).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let sum = Command::new("sha256sum").arg(&deb).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
    let control = std::fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    let size = std::fs::metadata(&deb).unwrap().len();
    let packages = format!("{control}Filename: ./shop-tools_1.0_all.deb\nSize: {size}\nSHA256: {sum}\n\n");
    std::fs::write(root.join("Packages"), packages).unwrap();
    std::fs::remove_dir_all(&tree).unwrap();
    // The release's own mirror is out of reach.
    machine.write("/etc/apt/sources.list", "");
}

/// The host with its application, its data, and the package of Backstay; it has no vault yet.
pub struct Shop {
    pub machine: Machine,
    /// Stays as long as the host does.
    pub _wire: Wire,
}

impl Shop {
    pub fn new(what: &str, store: &Store, shape: &Shape) -> Self {
        let machine = Machine::off(what);
        mirror(&machine);
        machine.write("/etc/apt/sources.list.d/shop.list", &format!("deb [trusted=yes] file:{MIRROR} ./\n"));
        let unit = |command: &str, more: &str| {
            format!(
                "[Unit]\nAfter=postgresql.service redis-server.service\n[Service]\nUser=shop\nExecStart={command}\n{more}\n[Install]\nWantedBy=multi-user.target\n"
            )
        };
        for (path, text) in [
            ("/etc/backstay/backstay.toml", configuration(store.access(), shape).as_str()),
            ("/etc/backstay/s3.secret", store.access().secret.as_str()),
            ("/opt/shop/app.py", APP),
            ("/etc/shop/shop.env", "COLOUR=green\n"),
            ("/etc/shop/tools.conf", "of the operator\n"),
            ("/etc/nginx/sites-available/shop", SITE),
            ("/etc/fstab", "# of the first\n"),
            ("/etc/ssl/certs/shop.pem", "certificate\n"),
            (
                "/etc/systemd/system/shop.service",
                unit("/usr/bin/python3 /opt/shop/app.py", "EnvironmentFile=/etc/shop/shop.env\nRestart=always")
                    .as_str(),
            ),
            ("/etc/systemd/system/shop-worker.service", unit("/bin/sleep infinity", "").as_str()),
            ("/etc/cron.d/shop", "0 3 * * * root /usr/bin/true\n"),
            ("/home/ann/.ssh/authorized_keys", "ssh-ed25519 AAAA ann\n"),
        ] {
            machine.write(path, text);
        }
        let mut shop = {
            let mut machine = machine;
            std::fs::remove_file(machine.path("/etc/nginx/sites-enabled/default")).unwrap();
            std::os::unix::fs::symlink(
                "/etc/nginx/sites-available/shop",
                machine.path("/etc/nginx/sites-enabled/shop"),
            )
            .unwrap();
            machine.start();
            let wire = store.wire(&machine);
            Shop { machine, _wire: wire }
        };
        shop.set_up(shape);
        shop
    }

    fn set_up(&mut self, shape: &Shape) {
        let m = &self.machine;
        std::fs::copy(package(VERSION), m.path("/opt/backstay.deb")).unwrap();
        m.sh("dpkg --install /opt/backstay.deb >&2
              useradd --system --home-dir /opt/shop --shell /usr/sbin/nologin --uid 555 --user-group shop
              useradd --uid 1234 --user-group --shell /bin/sh --home-dir /home/ann ann; chown -R ann: /home/ann
              echo 'ann:secret' | chpasswd
              sed -i '1i local shop shop peer' /etc/postgresql/15/main/pg_hba.conf
              systemctl enable --now postgresql redis-server nginx >&2
              DEBIAN_FRONTEND=noninteractive apt-get -q update >&2
              DEBIAN_FRONTEND=noninteractive apt-get -yq -o Dpkg::Options::=--force-confold install shop-tools >&2");
        m.until("runuser -u postgres -- psql -Xqc 'SELECT 1'");
        m.sh("runuser -u postgres -- psql -Xqc 'CREATE ROLE shop LOGIN' -c 'CREATE DATABASE shop OWNER shop' >&2
              runuser -u shop -- psql -Xq -d shop -c 'CREATE TABLE orders (id serial PRIMARY KEY, amount int)' \
                -c 'INSERT INTO orders (amount) SELECT * FROM generate_series(1, 500)' >&2
              redis-cli set visits 42 >&2; redis-cli save >&2");
        m.sh(&format!(
            "mkdir -p /srv/shop/files; for n in $(seq 12); do head -c {} /dev/urandom > /srv/shop/files/$n; done; chown -R shop: /srv/shop",
            shape.file
        ));
        if shape.docker {
            m.sh("systemctl enable --now docker >&2
                  mkdir /tmp/box; cp /bin/busybox /tmp/box/busybox; tar -C /tmp/box -c . | docker import - box:1 >&2
                  docker volume create documents >&2
                  docker run --rm --network none -v documents:/data box:1 /busybox sh -c 'echo contract > /data/a.txt' >&2
                  docker run -d --name documents --restart always --network host -v documents:/data box:1 /busybox httpd -f -p 127.0.0.1:8081 -h /data >&2");
        }
        m.sh("systemctl enable --now shop shop-worker >&2");
        m.until(&format!("test \"$(curl -sf http://127.0.0.1/)\" = '{SHOWN}'"));
        m.run(&["backstay", "init", "--recovery-out", "/root/recovery.key"]);
    }

    /// The recovery identity, as it lies in the safe.
    pub fn identity(&self) -> String {
        std::fs::read_to_string(self.machine.path("/root/recovery.key")).unwrap()
    }
}

/// A fresh machine: it never had an application, a cluster or an id.
pub fn fresh(what: &str, identity: &str) -> Machine {
    let machine = Machine::off(what);
    mirror(&machine);
    let id = format!("{:032x}\n", rand::random::<u128>());
    machine.write("/etc/machine-id", &id);
    machine.write("/etc/fstab", "# of the second\n");
    machine.write("/root/recovery.key", identity);
    for path in ["/etc/postgresql/15", "/var/lib/postgresql/15"] {
        std::fs::remove_dir_all(machine.path(path)).unwrap();
    }
    machine
}

/// Runs the program on a fresh machine, with what somebody types there.
pub fn recover(machine: &Machine, store: &Store, more: &[&str]) -> Ended {
    let argv = ["backstay", "recover", "--repository", URL, "--identity", "/root/recovery.key"];
    ended(machine.command(&[&argv[..], more].concat()).envs(store.environment()))
}

pub fn ended(command: &mut Command) -> Ended {
    let out = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: out.status.code().unwrap_or(-1), out: text(&out.stdout), err: text(&out.stderr) }
}

#[track_caller]
pub fn says(ended: &Ended, code: i32, words: &[&str]) {
    let all = format!("{}{}", ended.out, ended.err);
    assert_eq!(ended.code, code, "{all}");
    for word in words {
        assert!(all.contains(word), "{word:?} is not said in:\n{all}");
    }
}

/// Everything below a directory of a machine that is off or on, in words that can be compared.
pub fn tree(machine: &Machine, path: &str) -> String {
    let at = machine.path(path);
    let out = Command::new("sh").args(["-c", "cd \"$0\" && find . -type f | sort | xargs sha256sum"]).arg(&at).output();
    String::from_utf8(out.unwrap().stdout).unwrap()
}

pub fn exists(machine: &Machine, path: &str) -> bool {
    Path::new(&machine.path(path)).symlink_metadata().is_ok()
}
