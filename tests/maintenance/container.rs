//! nginx in containers and as a service of a swarm.

use super::nginx::{MAIN, image};
use super::requests::Request;
use super::stage::{Daemon, Stage};
use super::web::{at, until};
use crate::port::free_port;
use backstay::error::Kind;
use backstay::host::nginx::config::{Settings, Where};
use backstay::recovery::maintenance::Maintenance;
use backstay::recovery::maintenance::snippet::{self, State};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A container's configuration on the host, and how to switch it.
struct Boxed {
    stage: Stage,
    dir: tempfile::TempDir,
    port: u16,
    image: String,
}

impl Boxed {
    fn new() -> Self {
        let stage = Stage::new();
        let name = stage.name("nginx");
        image(&stage, &name);
        let new = Boxed { dir: tempfile::tempdir().unwrap(), port: free_port(), image: name, stage };
        std::fs::create_dir(new.conf()).unwrap();
        std::fs::write(new.conf().join("site.conf"), new.site("")).unwrap();
        new
    }

    fn conf(&self) -> PathBuf {
        self.dir.path().join("conf.d")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn site(&self, more: &str) -> String {
        format!(
            "server {{\n    listen 127.0.0.1:{p};\n    server_name app.example.com;\n    {more}\n    location / {{ return 200 application; }}\n    \
             location = /slow {{ root /etc/nginx; limit_rate 100; try_files /nginx.conf =404; }}\n}}\n\
             server {{ listen 127.0.0.1:{p} default_server; return 404; }}\n",
            p = self.port
        )
    }

    fn run(&self, what: &str, options: &[&str]) -> String {
        let name = self.stage.name(what);
        let args = [&["run", "-d", "--name", &name], options, &[&self.image, "nginx", "-g", "daemon off;"]].concat();
        self.stage.docker(&args);
        self.until_up(&name);
        name
    }

    fn until_up(&self, name: &str) {
        let test = || {
            let out = Command::new("docker").args(["exec", name, "busybox", "test", "-s", "/run/nginx.pid"]).output();
            out.is_ok_and(|o| o.status.success())
        };
        until("nginx runs in its container", test);
    }

    fn maintenance(&self, r#where: Where) -> Maintenance {
        let settings = Settings { r#where, drain: Duration::from_secs(30), ..Settings::default() };
        Maintenance::new(settings, &self.state())
    }

    fn mount(&self, path: &Path, target: &str) -> String {
        format!("{}:{target}", path.display())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_any_published_port_is_switched_by_its_mounted_configuration() {
    let b = Boxed::new();
    let before = std::fs::read(b.conf().join("site.conf")).unwrap();
    let project = format!("com.docker.compose.project={}", b.stage.name("shop"));
    let name = b.run(
        "web",
        &[
            "--network",
            "none",
            "-v",
            &b.mount(&b.conf(), "/etc/nginx/conf.d:ro"),
            "--label",
            &project,
            "--label",
            "com.docker.compose.service=web",
        ],
    );
    let maintenance = b.maintenance(Where::Container(name.clone()));
    let e = maintenance.on("x").await.unwrap_err();
    assert!(e.to_string().contains("app.example.com (/etc/nginx/conf.d/site.conf:1)"), "{e}");
    let changed = maintenance.install().await.unwrap();
    assert_eq!(changed.include, "include /etc/nginx/conf.d/.backstay/*.conf;");
    assert_eq!(changed.files.into_iter().collect::<Vec<_>>(), [("/etc/nginx/conf.d/site.conf".to_owned(), 2)]);
    // In its own network, by compose's names.
    let by_compose = b.maintenance(Where::Container(format!("{}/web", b.stage.name("shop"))));
    let switched = by_compose.on("x").await.unwrap();
    assert_eq!((switched.asked.len(), switched.file), (2, b.conf().join(".backstay/maintenance.conf")));
    assert_eq!(maintenance.drain().await.unwrap().left, 0);
    assert!(maintenance.status().await.unwrap().is_consistent());
    let e = maintenance.preflight(&[b.conf()]).await.unwrap_err();
    assert!(
        e.to_string().contains("lies in what is restored") && e.to_string().contains("/var/lib/backstay/nginx"),
        "{e}"
    );
    // A restart keeps it.
    b.stage.docker(&["restart", "-t", "1", &name]);
    b.until_up(&name);
    assert!(maintenance.status().await.unwrap().is_consistent());
    let off = maintenance.off(State::Absent, None).await.unwrap();
    assert!(off.reloaded && off.asked.iter().any(|a| a.answer.words().starts_with("200")), "{off:?}");
    maintenance.uninstall().await.unwrap();
    assert_eq!(std::fs::read(b.conf().join("site.conf")).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_ours_comes_first_and_a_file_mounted_by_itself_stays_the_same_file() {
    let b = Boxed::new();
    let (main, own) = (b.dir.path().join("nginx.conf"), b.state().join("nginx"));
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(&main, MAIN.replace("include", &format!("{}\n include", b.site("")))).unwrap();
    let inode = std::fs::metadata(&main).unwrap().ino();
    let name = b.run(
        "web",
        &[
            "--network",
            "host",
            "-v",
            &b.mount(&main, "/etc/nginx/nginx.conf"),
            "-v",
            &b.mount(&own, "/var/lib/backstay/nginx:ro"),
        ],
    );
    let maintenance = b.maintenance(Where::Container(name.clone()));
    assert_eq!(maintenance.install().await.unwrap().include, "include /var/lib/backstay/nginx/*.conf;");
    assert_eq!(std::fs::metadata(&main).unwrap().ino(), inode);
    // The container's processes are seen from here: one still sends.
    let address = at(b.port);
    let slow = std::thread::spawn(move || Request::get("/slow").host("app.example.com").send(address).unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    maintenance.on("x").await.unwrap();
    assert_eq!(maintenance.status().await.unwrap().leaving, 1);
    assert_eq!(Request::get("/").host("app.example.com").send(address).unwrap().maintenance(), Some("x"));
    let drained = maintenance.drain().await.unwrap();
    assert_eq!((drained.left, slow.join().unwrap().status), (0, 200));
    maintenance.preflight(&[b.conf()]).await.unwrap();
    // Its container stops, as at a power cut: the file can be changed all the same.
    b.stage.docker(&["stop", "-t", "1", &name]);
    let e = maintenance.on("y").await.unwrap_err();
    assert!(e.kind == Kind::Refused && e.to_string().contains("does not run"), "{e}");
    assert!(maintenance.off(State::Off, None).await.is_err());
    // Stopped with the application, it reads its files when it starts.
    maintenance.apply_if_up().await.unwrap();
    assert!(maintenance.apply().await.is_err());
    let file = own.join("maintenance.conf");
    let off = maintenance.off(State::Absent, Some(&file)).await.unwrap();
    assert_eq!((off.before, snippet::state_of(&file).unwrap()), (State::On("x".into()), State::Absent));
    b.stage.docker(&["start", &name]);
    until("the application is back", || {
        Request::get("/").host("app.example.com").send(address).is_ok_and(|r| r.body == "application")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_an_image_is_refused_with_what_to_do() {
    let b = Boxed::new();
    let site = b.conf().join("site.conf");
    let name = b.run("web", &["--network", "none", "-v", &b.mount(&site, "/etc/nginx/conf.d/site.conf")]);
    let maintenance = b.maintenance(Where::Container(name));
    let e = maintenance.on("x").await.unwrap_err();
    let text = e.to_string();
    assert!(e.kind == Kind::Refused && text.contains("no directory for the maintenance page is mounted"), "{text}");
    assert!(text.contains(":/var/lib/backstay/nginx:ro"), "{text}");
    // The directory is there, the server block is in the image.
    let own = b.state().join("nginx");
    std::fs::create_dir_all(&own).unwrap();
    let baked = b.stage.name("baked");
    let file = tempfile::tempdir().unwrap();
    std::fs::write(file.path().join("Dockerfile"), format!("FROM {}\nCOPY site.conf /etc/nginx/conf.d/\n", b.image))
        .unwrap();
    std::fs::copy(&site, file.path().join("site.conf")).unwrap();
    let container = b.stage.name("to-bake");
    b.stage.docker(&["create", "--name", &container, &b.image, "true"]);
    b.stage.docker(&["cp", site.to_str().unwrap(), &format!("{container}:/etc/nginx/conf.d/site.conf")]);
    b.stage.docker(&["commit", &container, &baked]);
    let b = Boxed { image: baked, ..b };
    let name = b.run("baked-web", &["--network", "none", "-v", &b.mount(&own, "/srv/backstay:ro")]);
    let maintenance = b.maintenance(Where::Container(name));
    let e = maintenance.install().await.unwrap_err().to_string();
    assert!(e.contains("lies in the image") && e.contains("include /srv/backstay/*.conf;"), "{e}");
    let e = b.maintenance(Where::Container("bs-no-such".into())).on("x").await.unwrap_err();
    assert!(e.kind == Kind::Refused && e.to_string().contains("there is no container"), "{e}");
}

/// `backstay maintenance` with another daemon.
fn backstay(b: &Boxed, host: &str, service: &str, args: &[&str]) -> (i32, String) {
    let d = b.dir.path().display();
    let text = format!(
        "host = \"h\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[maintenance]\nwhere = {{ service = \"{service}\" }}\n"
    );
    std::fs::write(b.dir.path().join("backstay.toml"), text).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_backstay"))
        .arg("--config")
        .arg(b.dir.path().join("backstay.toml"))
        .arg("maintenance")
        .args(args)
        .env("DOCKER_HOST", host)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
}

#[test]
fn a_swarm_service_is_switched_in_all_its_tasks_and_refused_where_that_is_not_enough() {
    let (manager, worker) = (Daemon::start(), Daemon::start());
    let (here, there) = (Stage::on(Some(manager.host())), Stage::on(Some(worker.host())));
    here.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23781"]);
    let name = here.name("nginx");
    image(&here, &name);
    // The same image on both, so that nobody asks a registry.
    image(&there, &name);
    let b = Boxed { dir: tempfile::tempdir().unwrap(), port: free_port(), image: name, stage: here };
    std::fs::create_dir(b.conf()).unwrap();
    // Two tasks share a port.
    let site = b.site("").replace("default_server;", "default_server reuseport;");
    std::fs::write(b.conf().join("site.conf"), &site).unwrap();
    let service = b.stage.name("web");
    let mount = format!("type=bind,source={},destination=/etc/nginx/conf.d", b.conf().display());
    let create = |stage: &Stage, name: &str, options: &[&str], image: &str| {
        let first = ["service", "create", "-d", "-q", "--name", name, "--no-resolve-image", "--network", "host"];
        stage.docker(&[&first, options, &[image, "nginx", "-g", "daemon off;"]].concat());
    };
    create(&b.stage, &service, &["--replicas", "2", "--mount", &mount], &b.image);
    let tasks = || {
        let ids = b.stage.docker(&["ps", "-q", "--filter", &format!("label=com.docker.swarm.service.name={service}")]);
        ids.lines().count()
    };
    until("both tasks run", || tasks() == 2);
    let reached = || Request::get("/").host("app.example.com").send(at(b.port));
    until("the application answers", || reached().is_ok_and(|r| r.body == "application"));
    let (code, text) = backstay(&b, &manager.host(), &service, &["install"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("written into 2 server blocks"), "{text}");
    let (code, text) = backstay(&b, &manager.host(), &service, &["on"]);
    assert_eq!(code, 0, "{text}");
    // Whichever of the two answers.
    for _ in 0..30 {
        assert!(reached().unwrap().maintenance().is_some());
    }
    let (code, text) = backstay(&b, &manager.host(), &service, &["off"]);
    assert_eq!(code, 0, "{text}");
    for _ in 0..30 {
        assert_eq!(reached().unwrap().body, "application");
    }
    b.stage.docker(&["service", "scale", &format!("{service}=0")]);
    until("no task runs", || tasks() == 0);
    let (code, text) = backstay(&b, &manager.host(), &service, &["on"]);
    assert!(code == 10 && text.contains("does not run"), "{code} {text}");
    // Config objects.
    let (object, objects) = (b.stage.name("object"), b.stage.name("objects"));
    b.stage.docker(&["config", "create", &object, b.conf().join("site.conf").to_str().unwrap()]);
    let config = format!("source={object},target=/etc/nginx/conf.d/site.conf");
    create(&b.stage, &objects, &["--config", &config], &b.image);
    until("it answers", || reached().is_ok_and(|r| r.body == "application"));
    let (code, text) = backstay(&b, &manager.host(), &objects, &["on"]);
    assert!(code == 10 && text.contains(&object) && text.contains("--mount-add type=bind"), "{code} {text}");
    // With a directory: the object has the include of another place.
    std::fs::create_dir_all(b.state().join("nginx")).unwrap();
    let own = format!("type=bind,source={}/nginx,destination=/var/lib/backstay/nginx,readonly", b.state().display());
    b.stage.docker(&["service", "update", "-q", "--mount-add", &own, &objects]);
    for (args, word) in [(["on"], "cannot change"), (["install"], "docker config create")] {
        let (code, text) = backstay(&b, &manager.host(), &objects, &args);
        assert!(code == 10 && text.contains(&object) && text.contains(word), "{code} {text}");
    }
    // Another node.
    let token = b.stage.docker(&["swarm", "join-token", "-q", "worker"]);
    let join = ["--advertise-addr", "127.0.0.2", "--listen-addr", "127.0.0.2:23782", "127.0.0.1:23781"];
    there.docker(&[&["swarm", "join", "--token", &token], &join[..]].concat());
    let node = there.docker(&["info", "-f", "{{.Swarm.NodeID}}"]);
    let far = b.stage.name("far");
    create(&b.stage, &far, &["--constraint", &format!("node.id=={node}")], &b.image);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    until("the task is given to the other node", || {
        !b.stage.docker(&["service", "ps", "-q", "--filter", &format!("node={node}"), &far]).is_empty()
    });
    let (code, text) = backstay(&b, &manager.host(), &far, &["on"]);
    assert!(code == 10 && text.contains("runs on another node") && text.contains(hostname.trim()), "{code} {text}");
    let (code, text) = backstay(&b, &worker.host(), &far, &["on"]);
    assert!(code == 10 && text.contains("manager"), "{code} {text}");
    there.docker(&["image", "rm", "-f", &b.image]);
}
