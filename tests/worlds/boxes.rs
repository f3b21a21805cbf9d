//! Containers as the usual images make them, and nothing is pulled: the image is a handful of links and the application's
//! own files; the programs are mounted from this machine.

use crate::releases::usr;
use crate::stage::Stage;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// One test's containers and volumes.
pub struct Boxes {
    pub stage: Stage,
}

impl Boxes {
    /// With an image that has these files besides.
    pub fn new(files: Option<&Path>) -> Self {
        let stage = Stage::new();
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for (name, to) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            std::os::unix::fs::symlink(to, at(name)).unwrap();
        }
        for dir in ["usr", "etc", "tmp", "run", "var"] {
            std::fs::create_dir(at(dir)).unwrap();
        }
        std::fs::set_permissions(at("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        std::os::unix::fs::symlink("/run", at("var/run")).unwrap();
        std::fs::write(at("etc/passwd"), "root:x:0:0::/:/bin/sh\npostgres:x:5432:5432::/tmp:/bin/sh\n").unwrap();
        std::fs::write(at("etc/group"), "root:x:0:\npostgres:x:5432:\n").unwrap();
        if let Some(files) = files {
            assert!(Command::new("cp").arg("-r").arg(files.join(".")).arg(root.path()).status().unwrap().success());
        }
        let boxes = Boxes { stage };
        boxes.stage.import(root.path(), &boxes.image());
        boxes
    }

    /// The image.
    pub fn image(&self) -> String {
        self.stage.name("box")
    }

    /// Starts a container of the image; its name.
    #[track_caller]
    pub fn run(&self, what: &str, options: &[&str], command: &[&str]) -> String {
        let (name, image) = (self.stage.name(what), self.image());
        let mut args = vec!["run", "-d", "--name", &name];
        args.extend_from_slice(options);
        if !options.iter().any(|o| o.ends_with(":/usr:ro")) {
            args.extend(["-v", "/usr:/usr:ro"]);
        }
        args.push(&image);
        args.extend_from_slice(command);
        self.stage.docker(&args);
        name
    }

    /// A PostgreSQL server as its official image makes it: with the superuser and the database that its environment names, and
    /// with no other. It listens on its socket only, and trusts who comes there.
    #[track_caller]
    pub fn postgres(&self, what: &str, major: u32, superuser: &str, database: &str, options: &[&str]) -> String {
        let bin = format!("/usr/lib/postgresql/{major}/bin");
        let script = format!(
            "data=/var/lib/postgresql/data
             mkdir -p $data /run/postgresql && chown 5432:5432 $data /run/postgresql && chmod 700 $data && cd /tmp
             as() {{ setpriv --reuid=5432 --regid=5432 --clear-groups \"$@\"; }}
             if ! [ -s $data/PG_VERSION ]; then
                 as {bin}/initdb -D $data -U {superuser} -A trust -E UTF8 --locale=C.UTF-8 --no-sync > /dev/null
                 echo 'CREATE DATABASE {database}' | as {bin}/postgres --single -D $data postgres > /dev/null
             fi
             exec setpriv --reuid=5432 --regid=5432 --clear-groups {bin}/postgres -D $data -c listen_addresses= \\
                 -c fsync=off -c unix_socket_directories=/run/postgresql"
        );
        let (usr, path) = (format!("{}:/usr:ro", usr(major).display()), format!("PATH={bin}:/usr/bin:/bin"));
        let mut all = vec!["--network", "none", "-v", &usr, "-e", &path, "--stop-signal", "SIGINT"];
        all.extend_from_slice(options);
        let name = self.run(what, &all, &["sh", "-ec", &script]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.ask(&name, superuser, database, "SELECT 1").status.success() {
            let logs = Command::new("docker").args(["logs", &name]).output().unwrap();
            assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&logs.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
        name
    }

    fn ask(&self, container: &str, user: &str, database: &str, sql: &str) -> std::process::Output {
        let psql = ["exec", container, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database, "-c", sql];
        Command::new("docker").args(psql).output().unwrap()
    }

    /// Runs SQL in a server's container.
    #[track_caller]
    pub fn sql(&self, container: &str, user: &str, database: &str, sql: &str) -> String {
        let out = self.ask(container, user, database, sql);
        assert!(out.status.success(), "{sql}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// All of a database as `pg_dump` says it, for comparing.
    #[track_caller]
    pub fn content(&self, container: &str, user: &str, database: &str) -> String {
        let dump = self.stage.docker(&["exec", container, "pg_dump", "-U", user, "-d", database]);
        // Recent versions write a random word into \restrict.
        dump.lines()
            .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Labels that compose gives to the container of a service.
    pub fn labels(&self, project: &str, dir: &str, service: &str, needs: &str) -> Vec<String> {
        let labels = [
            format!("com.docker.compose.project={project}"),
            format!("com.docker.compose.service={service}"),
            format!("com.docker.compose.depends_on={needs}"),
            format!("com.docker.compose.project.working_dir={dir}"),
            format!("com.docker.compose.project.config_files={dir}/docker-compose.prod.yml"),
        ];
        labels.into_iter().flat_map(|label| ["--label".to_owned(), label]).collect()
    }

    /// Whether a container runs.
    pub fn runs(&self, container: &str) -> bool {
        self.stage.docker(&["inspect", "-f", "{{.State.Running}}", container]) == "true"
    }
}

/// The directory of the Python that has Django, and what a container must have mounted for it.
pub fn python() -> (String, Vec<String>) {
    let venv = format!("{}/.cache/backstay-tools/django", std::env::var("HOME").unwrap());
    let told =
        std::fs::read_to_string(format!("{venv}/pyvenv.cfg")).expect("Django is not installed: tests/setup.sh test");
    let home = told.lines().find_map(|l| l.strip_prefix("home = ")).unwrap();
    let base = Path::new(home).parent().unwrap().display().to_string();
    let mut mounts = vec![format!("{venv}:{venv}:ro")];
    if !base.starts_with("/usr") {
        mounts.push(format!("{base}:{base}:ro"));
    }
    (format!("{venv}/bin"), mounts)
}
