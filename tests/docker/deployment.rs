//! What is deployed on a daemon, as a `host` source records it, and what a fresh daemon lacks of it.

use super::stage::{Daemon, Stage, until};
use super::world::{Ran, World};
use serde_json::{Value, json};

/// Quick to read, since the machine is the developer's own.
const QUICK: &str = "exclude = [\"/usr/local/*\", \"/etc/ssl\", \"/etc/alternatives\"]";

struct Setting {
    world: World,
    host: String,
}

impl Setting {
    fn new(daemon: &Daemon, sources: &str, plan: &str) -> Self {
        let setting = Setting { world: World::bare(), host: daemon.host() };
        setting.configure(sources, plan);
        setting.run(&["init", "--recovery-out", &setting.world.at("recovery.key")]).code(0);
        setting
    }

    fn configure(&self, sources: &str, plan: &str) {
        self.world.write_config(&format!(
            "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
             {sources}\n[plans.p]\nsources = [{plan}]\n",
            d = self.world.path().display(),
        ));
    }

    fn run(&self, args: &[&str]) -> Ran {
        super::world::run(self.world.command(args).env("DOCKER_HOST", &self.host))
    }
}

#[test]
fn a_swarm_and_a_project_are_recorded_and_a_fresh_daemon_is_told_what_it_lacks() {
    let daemon = Daemon::start();
    let stage = Stage::on(Some(daemon.host()));
    stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23793"]);
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().join("shop");
    std::fs::create_dir_all(project.join("data")).unwrap();
    for (file, text) in [("compose.yml", "services: {}\n"), (".env", "PASSWORD=p\n"), ("data/x", "data\n")] {
        std::fs::write(project.join(file), text).unwrap();
    }
    let name = |what: &str| stage.name(what);
    stage.docker(&["network", "create", "-d", "overlay", "--attachable", "--subnet", "10.77.0.0/24", &name("shared")]);
    stage.docker(&["volume", "create", &name("documents")]);
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    stage.docker(&["secret", "create", &name("key"), &secret.display().to_string()]);
    stage.docker(&["config", "create", &name("site"), &project.join("compose.yml").display().to_string()]);
    let (service, image) = (name("web"), stage.image());
    let args = [
        "service",
        "create",
        "-d",
        "-q",
        "--no-resolve-image",
        "--replicas",
        "2",
        "--network",
        "host",
        "--env",
        "TOKEN=hunter3",
    ];
    let more =
        ["--name", &service, "--secret", &name("key"), "--config", &name("site"), "--constraint", "node.role==manager"];
    stage.docker(
        &[&args[..], &more, &["--label", "com.docker.stack.namespace=front", &image, "sleep", "1000"]].concat(),
    );
    let folder = format!("com.docker.compose.project.working_dir={}", project.display());
    let files = format!("com.docker.compose.project.config_files={}", project.join("compose.yml").display());
    let mount = format!("{}:/documents", name("documents"));
    let bind = format!("{}:/data", project.join("data").display());
    let labels = [
        "-v",
        &mount,
        "-v",
        &bind,
        "--label",
        &folder,
        "--label",
        &files,
        "--label",
        "com.docker.compose.project=shop",
        "--label",
        "com.docker.compose.service=app",
    ];
    stage.container("app", &labels);
    stage.container("single", &["--restart", "always"]);

    let sources = format!(
        "[sources.machine]\nkind = \"host\"\n{QUICK}\nswarm_configs = true\n[sources.v]\nkind = \"volume\"\nvolume = \"{}\"\n",
        name("documents")
    );
    let setting = Setting::new(&daemon, &sources, "\"machine\", \"v\"");
    let manifest = setting.run(&["--json", "backup"]).code(0).json();
    let record = manifest["sources"].as_array().unwrap().iter().find(|s| s["name"] == "machine").unwrap();
    let docker = &record["facts"]["host"]["docker"];
    assert_eq!((docker["swarm"]["role"].as_str(), docker["swarm"]["nodes"].as_i64()), (Some("manager"), Some(1)));
    let of = |list: &str, name: &str| -> Value {
        let all = docker[list].as_array().unwrap();
        all.iter().find(|x| x["name"] == name).unwrap_or_else(|| panic!("{name} is not in {docker}")).clone()
    };
    let web = of("services", &service);
    assert_eq!(
        (web["mode"].as_str(), web["replicas"].as_i64(), web["stack"].as_str()),
        (Some("replicated"), Some(2), Some("front"))
    );
    assert_eq!((&web["secrets"], &web["variables"]), (&json!([name("key")]), &json!(["TOKEN"])));
    let shared = of("networks", &name("shared"));
    assert_eq!(
        (shared["driver"].as_str(), shared["attachable"].as_bool(), shared["subnets"][0]["subnet"].as_str()),
        (Some("overlay"), Some(true), Some("10.77.0.0/24"))
    );
    let shop = of("projects", "shop");
    assert_eq!(
        (shop["services"][0]["name"].as_str(), shop["services"][0]["replicas"].as_u64()),
        (Some("app"), Some(1))
    );
    assert_eq!(of("containers", &name("single"))["restart"], "always");
    assert!(of("volumes", &name("documents"))["made_by"].is_null());
    // Values of variables and secrets are in no fact, and in what is sealed.
    assert!(!manifest.to_string().contains("hunter"), "{manifest}");
    let cat = |artifact: &str| setting.run(&["cat", "--source", "machine", "--artifact", artifact]).code(0).out;
    assert!(cat("docker").contains("TOKEN=hunter3") && !cat("docker").contains("hunter2"));
    assert_eq!(cat(&format!("config:{}", name("site"))), "services: {}\n");
    // The project's folder is there without what its container writes.
    let list = setting.run(&["ls", "latest", "--source", "machine"]).code(0).out;
    assert!(list.contains("shop/.env") && !list.contains("shop/data"), "{list}");
    setting.run(&["show"]).code(0).says(&[
        "data is left out",
        "compose project shop: app × 1",
        "secrets that only you have",
        "front; name their folders",
    ]);

    // Nothing is missing here.
    let (volume, copy) = (name("documents"), name("copy"));
    let ran = setting.run(&["restore", "--yes", "--source", "v", "--to", &copy]).code(0);
    assert!(!ran.out.contains("still to do"), "{}", ran.out);
    stage.docker(&["service", "rm", &service]);
    until("no task runs", || stage.docker(&["ps", "-q", "--filter", &format!("name={service}")]).is_empty());
    drop(stage);
    let fresh = Daemon::start();
    let setting = Setting { host: fresh.host(), ..setting };
    let out = setting.run(&["restore", "--yes", "--source", "v"]).code(0).out;
    let todo: Vec<&str> = out.lines().filter(|l| l.contains("still to do")).collect();
    for (n, words) in [
        vec!["in no swarm", "docker swarm init"],
        vec!["network", "--driver overlay --attachable --subnet 10.77.0.0/24"],
        vec!["secret", "docker secret create"],
        vec!["config", "docker config create"],
        vec!["image", "restore it"],
        vec!["compose project shop", "up -d"],
        vec![&service, "docker stack deploy --resolve-image never"],
        vec!["container", "docker run"],
    ]
    .into_iter()
    .enumerate()
    {
        assert!(words.iter().all(|w| todo[n].contains(w)), "{n}: {words:?} in\n{out}");
    }
    assert_eq!(todo.len(), 8, "{out}");
    assert!(!out.contains(&format!("volume {volume} is missing")), "{out}");
}
