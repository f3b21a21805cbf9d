//! An application in containers, restored as a whole: a compose project with its database, its nginx and a volume, and services of a
//! swarm with a Redis among them. Killed when a step has had its effect and nobody has noted it, it is taken back, or finished.

use crate::boxed::Boxed;
use crate::fault::{self, Fault, What};
use crate::host::{files, records};
use crate::nginx;
use crate::port::free_port;
use crate::stage::{Daemon, Stage, until};
use crate::world::{Ran, World, run};
use std::path::PathBuf;
use std::process::Command;

/// Goes on until it is told to stop.
const STAYS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// What all of them have: a database in a container, a volume, a plan. The fields go in this order, the daemon last.
struct Shop {
    db: Boxed,
    stage: Stage,
    world: World,
    volume: String,
    place: PathBuf,
    daemon: Option<Daemon>,
}

impl Shop {
    fn new(daemon: Option<Daemon>, of_db: &[&str]) -> Self {
        let host = daemon.as_ref().map(Daemon::host);
        let stage = Stage::on(host.clone());
        let db = Boxed::start_with(15, "trust", of_db, host);
        db.sql("postgres", "CREATE DATABASE app");
        db.sql(
            "app",
            "CREATE TABLE entry (id serial PRIMARY KEY, note text); INSERT INTO entry (note) VALUES ('a'), ('b')",
        );
        let volume = stage.name("files");
        stage.docker(&["volume", "create", &volume]);
        let place = PathBuf::from(stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]));
        std::fs::write(place.join("value"), "first\n").unwrap();
        Shop { db, stage, world: World::bare(), volume, place, daemon }
    }

    /// The configuration; `more` has further sources, which are named in `sources`, and `restore` is the plan's section.
    fn configure(&self, sources: &str, more: &str, restore: &str) {
        self.world.write_config(&format!(
            "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
             [sources.db]\nkind = \"postgres\"\ncontainer = \"{db}\"\nurl = \"postgresql://postgres@/app\"\n\
             [sources.files]\nkind = \"volume\"\nvolume = \"{volume}\"\n{more}\n\
             [plans.p]\nsources = [\"db\", \"files\"{sources}]\n[plans.p.restore]\n{restore}\n",
            d = self.world.path().display(),
            db = self.db.name,
            volume = self.volume,
        ));
    }

    fn host(&self) -> String {
        self.daemon.as_ref().map_or("unix:///var/run/docker.sock".to_owned(), Daemon::host)
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(self.world.command(args).env("DOCKER_HOST", self.host()))
    }

    /// A backup of what is there, and then it changes.
    fn back_up(&self) {
        self.run(&["init", "--recovery-out", &self.world.at("recovery.key")]).code(0);
        self.run(&["backup"]).code(0);
        self.db.sql("app", "INSERT INTO entry (note) VALUES ('c')");
        std::fs::write(self.place.join("value"), "second\n").unwrap();
    }

    fn value(&self) -> String {
        let rows = self.db.sql("app", "SELECT count(*) FROM entry");
        format!("{} {rows}", std::fs::read_to_string(self.place.join("value")).unwrap().trim())
    }

    /// Files and rows, and what lies beside them.
    fn content(&self) -> String {
        let databases = self.db.sql("postgres", "SELECT datname || ' ' || datallowconn FROM pg_database ORDER BY 1");
        let beside = files(self.place.parent().unwrap());
        format!("{}\n{databases}\n{}\n{beside:?}", self.db.content("app"), self.value())
    }

    fn journal(&self) -> PathBuf {
        self.world.path().join("state/restore.journal")
    }

    /// Ends a restore when it is about to write its n-th record.
    fn killed_before(&self, n: usize) {
        let journal = self.journal().display().to_string();
        let fault = Fault { file: &journal, call: "write", when: n, what: What::Kill };
        let library = self.world.path().join("fault.so");
        fault::library(&library);
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(["restore", "--yes"]).envs(fault.environment(library));
        command.env("BACKSTAY_CONFIG", self.world.at("backstay.toml")).env("DOCKER_HOST", self.host());
        let killed = run(&mut command);
        assert!(killed.code != 0 && self.journal().exists(), "{}\n{}", killed.out, killed.err);
    }

    fn clean(&self) {
        let restores = self.world.path().join("state/restores");
        for file in files(&restores) {
            if file.extension().is_some_and(|e| e == "journal") {
                self.run(&["cleanup", file.file_stem().unwrap().to_str().unwrap()]);
            }
        }
        files(&restores).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }

    /// A restore and the way back; then one that is killed when each of these steps has had its effect, taken back and finished in
    /// turns; then one that the application is not well after.
    fn whole(&self, state: &dyn Fn() -> String, steps: &[&str]) {
        let before = state();
        assert_eq!(self.value(), "second 3");
        self.run(&["restore", "--yes"]).code(0);
        assert_eq!(self.value(), "first 2");
        let recorded = records(&self.world.path().join("state/restores"));
        let number = |step: &str| {
            let record = format!("done {step}");
            recorded.iter().position(|r| *r == record).unwrap_or_else(|| panic!("no {record:?} in {recorded:#?}"))
        };
        self.run(&["rollback", "--yes"]).code(0);
        self.clean();
        assert_eq!(state(), before, "taken back");
        for (n, step) in steps.iter().enumerate() {
            self.killed_before(number(step));
            if n % 2 == 0 {
                self.run(&["restore", "--unwind"]).code(0);
            } else {
                self.run(&["restore", "--resume"]).code(0);
                assert_eq!(self.value(), "first 2", "killed after {step}");
                self.run(&["rollback", "--yes"]).code(0);
            }
            self.clean();
            assert_eq!(state(), before, "killed after {step}");
        }
        let config = std::fs::read_to_string(self.world.at("backstay.toml")).unwrap();
        let check = "[[plans.p.restore.checks]]\nname = \"many\"\nsource = \"db\"\nsql = \"SELECT count(*) FROM entry\"\nmin = 1000\nwithin = \"1s\"\n";
        self.world.write_config(&format!("{config}\n{check}"));
        self.run(&["restore", "--yes"]).code(13).says(&["the check many failed"]);
        self.clean();
        assert_eq!(state(), before, "a check failed");
        self.world.write_config(&config);
    }
}

fn http(port: u16) -> String {
    let out = Command::new("curl")
        .args(["-s", "-m", "5", "-w", " %{http_code}", &format!("http://127.0.0.1:{port}/value")])
        .output()
        .expect("install curl");
    String::from_utf8_lossy(&out.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_compose_project_with_its_database_and_its_nginx() {
    let project = format!("bs-shop-{:08x}", rand::random::<u32>());
    let labels = |service: &str, needs: &str| -> Vec<String> {
        [("project", project.as_str()), ("service", service), ("depends_on", needs), ("oneoff", "False")]
            .iter()
            .flat_map(|(key, value)| ["--label".to_owned(), format!("com.docker.compose.{key}={value}")])
            .collect()
    };
    let of_db = labels("db", "");
    let shop = Shop::new(None, &of_db.iter().map(String::as_str).collect::<Vec<_>>());
    let stage = &shop.stage;
    let (web, front) = (free_port(), free_port());
    let add = |service: &str, needs: &str, options: &[&str], image: &str, command: &[&str]| {
        let name = stage.name(service);
        let labels = labels(service, needs);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        stage.docker(
            &[&["run", "-d", "--name", &name, "--network", "host"][..], &labels, options, &[image], command].concat(),
        );
        name
    };
    let mount = format!("{}:/data", shop.volume);
    let serve = format!("busybox httpd -p 127.0.0.1:{web} -h /data; {STAYS}");
    let health = format!("busybox wget -q -O /dev/null http://127.0.0.1:{web}/value");
    let options = ["-v", &mount, "--restart", "unless-stopped", "--health-cmd", &health, "--health-interval", "300ms"];
    let image = stage.image();
    let web_name = add("web", "db:service_started:false", &options, &image, &["sh", "-c", &serve]);
    let worker = add("worker", "web:service_healthy:false", &["--restart", "always"], &image, &["sh", "-c", STAYS]);
    let with_nginx = stage.name("nginx");
    nginx::image(stage, &with_nginx);
    let (conf, own) = (shop.world.path().join("conf.d"), shop.world.path().join("state/nginx"));
    std::fs::create_dir_all(&conf).unwrap();
    std::fs::create_dir_all(&own).unwrap();
    let site = format!(
        "server {{\n    listen 127.0.0.1:{front};\n    location / {{ proxy_pass http://127.0.0.1:{web}; }}\n}}\n"
    );
    std::fs::write(conf.join("site.conf"), site).unwrap();
    let mounts =
        [format!("{}:/etc/nginx/conf.d", conf.display()), format!("{}:/var/lib/backstay/nginx:ro", own.display())];
    let options = ["-v", &mounts[0], "-v", &mounts[1], "--restart", "always"];
    let page = add("nginx", "web:service_started:false", &options, &with_nginx, &["nginx", "-g", "daemon off;"]);
    shop.configure(
        "",
        &format!("[maintenance]\nwhere = {{ container = \"{project}/nginx\" }}\n"),
        &format!(
            "stop = [\"compose-project:{project}\"]\nstart_after_checks = [\"container:{worker}\"]\n\
             [[plans.p.restore.checks]]\nhttp = \"http://127.0.0.1:{web}/value\"\nwithin = \"20s\"\nevery = \"200ms\"\n\
             [[plans.p.restore.checks]]\ncontainer = \"{web_name}\"\nsettle = \"1s\"\nwithin = \"20s\""
        ),
    );
    until("the front answers", || http(front) == "first 200");
    shop.run(&["maintenance", "install"]).code(0);
    shop.back_up();

    let all = [&web_name, &worker, &page, &shop.db.name];
    let inspect = |format: &str, names: &[&String]| -> String {
        names.iter().map(|n| stage.docker(&["inspect", "-f", format, n])).collect::<Vec<_>>().join("\n")
    };
    // What shows the page and what holds the data goes on all the time.
    let goes_on = || inspect("{{.Name}} {{.State.StartedAt}}", &[&page, &shop.db.name]);
    let since = goes_on();
    shop.run(&["restore", "--dry-run"]).code(0).says(&[
        &format!("container {web_name}: running, restart policy unless-stopped"),
        "goes on all the same",
        &format!("container:{page}"),
        &format!("container:{}", shop.db.name),
    ]);
    let state = || {
        let policy = "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}";
        let states = inspect(&format!("{{{{.Name}}}} {{{{.State.Status}}}} {policy}"), &all);
        format!("{states}\n{}\n{}\n{}", goes_on(), http(front), shop.content())
    };
    let volume = format!("swap volume {}", shop.volume);
    shop.whole(
        &state,
        &["maintenance on", "stop the application", &volume, "swap database app", "start the application"],
    );
    assert_eq!(goes_on(), since);
    // A rollback too looks who uses what changes places, and shows its plan.
    shop.run(&["restore", "--yes"]).code(0);
    let stranger = stage.container("stranger", &["-v", &mount]);
    shop.run(&["rollback", "--dry-run"]).code(0).says(&["swap back volume", "in use by", &stranger, "written since"]);
    shop.run(&["rollback", "--yes"]).code(10).says(&["in use by", &stranger, "in `stop`"]);
    assert_eq!(shop.value(), "first 2");
    stage.docker(&["rm", "-f", &stranger]);
    shop.run(&["rollback", "--yes"]).code(0);
    assert_eq!(shop.value(), "second 3");
}

/// An image with the Redis server of this machine.
fn redis_image(stage: &Stage, name: &str) {
    let root = tempfile::tempdir().unwrap();
    let script = "for n in redis-server redis-cli; do p=$(command -v $n); mkdir -p $R/usr/bin; cp -L $p $R/usr/bin/$n; \
         ldd $p | grep -o '/[^ ]*' | while read f; do mkdir -p $R$(dirname $f); cp -nL $f $R$f; done; done; mkdir -p $R/data $R/tmp";
    let made = Command::new("bash").args(["-ec", script]).env("R", root.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    stage.import(root.path(), name);
}

#[test]
fn services_of_a_swarm_with_a_redis_among_them() {
    let shop = Shop::new(Some(Daemon::start()), &[]);
    let stage = &shop.stage;
    let listen = format!("127.0.0.1:{}", free_port());
    stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", &listen]);
    let create = |what: &str, options: &[&str], image: &str, command: &[&str]| {
        let name = stage.name(what);
        let first = ["service", "create", "-q", "-d", "--name", &name, "--no-resolve-image", "--network", "host"];
        stage.docker(&[&first[..], options, &[image], command].concat());
        name
    };
    let running = |service: &str| {
        let label = format!("label=com.docker.swarm.service.name={service}");
        stage.docker(&["ps", "-q", "--filter", &label]).lines().count()
    };
    let mount = format!("type=volume,source={},target=/data", shop.volume);
    let app = create("app", &["--replicas", "2", "--mount", &mount], &stage.image(), &["sh", "-c", STAYS]);
    let agent = create("agent", &["--mode", "global"], &stage.image(), &["sh", "-c", STAYS]);
    let with_redis = stage.name("redis");
    redis_image(stage, &with_redis);
    let (port, kept) = (free_port().to_string(), stage.name("cache"));
    let mount = format!("type=volume,source={kept},target=/data");
    let server = ["/usr/bin/redis-server", "--dir", "/data", "--port", &port, "--bind", "127.0.0.1", "--save", ""];
    let cache = create("cache", &["--mount", &mount], &with_redis, &server);
    let redis = |args: &[&str]| -> String {
        let out = Command::new("redis-cli").args(["-p", &port]).args(args).output().expect("install redis-tools");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    until("they run", || (running(&app), running(&agent)) == (2, 1) && redis(&["ping"]) == "PONG");
    redis(&["set", "a", "1"]);
    shop.configure(
        ", \"cache\"",
        &format!("[sources.cache]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:{port}\"\ncontainer = \"{cache}\"\n"),
        &format!(
            "stop = [\"service:{app}\", \"service:{agent}\", \"service:{cache}\"]\n\
             [[plans.p.restore.checks]]\ncontainer = \"{app}\"\nsettle = \"1s\"\nwithin = \"30s\""
        ),
    );
    shop.back_up();
    redis(&["set", "a", "2"]);
    redis(&["set", "b", "since"]);
    shop.run(&["restore", "--dry-run"]).code(0).says(&[
        &format!("service {app}: 2 replicas"),
        &format!("service {agent}: one task on each node"),
        &format!("service:{cache}"),
        "redis cache: its swap takes a time that grows with the data",
    ]);
    shop.run(&["restore", "--dry-run", "--source", "db"]).code(0).says(&["redis cache does not go back", "`flush`"]);
    // Scaled to nothing and back, it is what it was before: compared by the specification.
    let state = || {
        let specs: Vec<String> =
            [&app, &agent, &cache].map(|s| stage.docker(&["service", "inspect", "-f", "{{json .Spec}}", s])).into();
        let keys = redis(&["mget", "a", "b"]);
        format!("{}\n{} {}\n{keys}\n{}", specs.join("\n"), running(&app), running(&agent), shop.content())
    };
    let volume = format!("swap volume {}", shop.volume);
    shop.whole(
        &state,
        &["stop the application", &volume, "swap redis cache", "swap database app", "start the application"],
    );
    shop.run(&["restore", "--yes"]).code(0);
    assert_eq!((redis(&["mget", "a", "b"]).as_str(), shop.value().as_str()), ("1", "first 2"));
}
