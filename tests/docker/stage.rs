//! What the tests need of Docker: names of their own, an image made of busybox, and everything gone afterwards.

use backstay::host::docker::Docker;
use backstay::host::docker::exec::Inside;
use backstay::host::exec::{Place, Program};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const APPLETS: &[&str] = &[
    "cat", "chmod", "cp", "date", "dd", "echo", "env", "false", "head", "id", "kill", "ln", "ls", "mkdir", "mkfifo",
    "mv", "ps", "pwd", "rm", "sh", "sleep", "stat", "sync", "tail", "touch", "tr", "true", "wc", "yes",
];

/// One test's containers, volumes and images, on the daemon of the machine or on one of its own.
pub struct Stage {
    suffix: String,
    host: Option<String>,
}

impl Stage {
    /// With an image.
    pub fn new() -> Self {
        Self::on(None)
    }

    /// The same on another daemon.
    pub fn on(host: Option<String>) -> Self {
        let stage = Stage { suffix: format!("{:08x}", rand::random::<u32>()), host };
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("install busybox-static");
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        for dir in ["tmp", "vol"] {
            std::fs::create_dir(root.path().join(dir)).unwrap();
        }
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:1234:1234::/tmp:/bin/sh\n")
            .unwrap();
        stage.import(root.path(), &stage.image());
        stage
    }

    /// Makes an image of a directory.
    pub fn import(&self, root: &Path, name: &str) {
        let mut tar = Command::new("tar").arg("-C").arg(root).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let ran = self.command(&["import", "-", name]).stdin(tar.stdout.take().unwrap()).output().unwrap();
        assert!(tar.wait().unwrap().success());
        assert!(
            ran.status.success(),
            "these tests need a Docker daemon (as root: tests/setup.sh test): {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }

    /// A name of this test.
    pub fn name(&self, what: &str) -> String {
        format!("bs-{}-{what}", self.suffix)
    }

    /// The image.
    pub fn image(&self) -> String {
        self.name("image")
    }

    /// A label for images that may lose their name.
    pub fn label(&self) -> String {
        format!("bs-test={}", self.suffix)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).stdin(Stdio::null());
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    /// Runs `docker` and gives its output.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let out = self.command(args).output().unwrap();
        assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Starts a container that sleeps, with more options of `docker run`; its full name.
    #[track_caller]
    pub fn container(&self, what: &str, options: &[&str]) -> String {
        self.container_of(what, options, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"])
    }

    /// The same with a command.
    #[track_caller]
    pub fn container_of(&self, what: &str, options: &[&str], command: &[&str]) -> String {
        let (name, image) = (self.name(what), self.image());
        let mut args = vec!["run", "-d", "--name", &name, "--network", "none"];
        args.extend_from_slice(options);
        args.push(&image);
        args.extend_from_slice(command);
        self.docker(&args);
        name
    }

    /// The daemon as the agent sees it.
    pub async fn connect(&self) -> Docker {
        Docker::connect_to(self.host.as_deref()).await.unwrap()
    }

    /// A program in a container.
    pub async fn inside(&self, container: &str, argv: &[&str]) -> Program {
        let inside = Inside::new(self.connect().await, container);
        Program::new(argv[0], argv[1..].iter().copied()).at(Place::Container(inside))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let filter = format!("name=bs-{}", self.suffix);
        for (list, remove) in [
            (vec!["service", "ls", "-q", "--filter", &filter], vec!["service", "rm"]),
            (vec!["ps", "-aq", "--filter", &filter], vec!["rm", "-fv"]),
            (vec!["volume", "ls", "-q", "--filter", &filter], vec!["volume", "rm", "-f"]),
        ] {
            let Ok(out) = self.command(&list).output() else { continue };
            for id in String::from_utf8_lossy(&out.stdout).lines() {
                let _ = self.command(&[&remove[..], &[id]].concat()).output();
            }
        }
        // Those that lost their name come before those that they are made of.
        for filter in [format!("label={}", self.label()), format!("reference=bs-{}*", self.suffix)] {
            let Ok(out) = self.command(&["images", "-q", "--filter", &filter]).output() else { continue };
            for id in String::from_utf8_lossy(&out.stdout).lines() {
                let _ = self.command(&["image", "rm", "-f", id]).output();
            }
        }
    }
}

/// A daemon of one's own, where the shared one must not be touched (swarm, restarts).
pub struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    pub fn start() -> Self {
        Self::with(&["dockerd"])
    }

    /// One that says that it runs on another machine, and so do its paths.
    pub fn elsewhere() -> Self {
        Self::with(&["unshare", "--uts", "sh", "-c", "hostname elsewhere && exec dockerd \"$@\"", "sh"])
    }

    fn with(program: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("bs-dockerd-").tempdir().unwrap();
        let child = Self::spawn(program, dir.path());
        let daemon = Daemon { dir, child };
        daemon.wait();
        daemon
    }

    fn spawn(program: &[&str], dir: &Path) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        Command::new(program[0])
            .args(&program[1..])
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("run"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", dir.join("sock").display()))
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("install docker.io (tests/setup.sh test)")
    }

    fn wait(&self) {
        let started = Instant::now();
        while !Command::new("docker")
            .args(["version"])
            .env("DOCKER_HOST", self.host())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
        {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// As at a reboot: it stops its containers and comes again.
    pub fn restart(&mut self) {
        self.stop();
        self.again();
    }

    /// It stops its containers and ends.
    pub fn stop(&mut self) {
        // One that has ended has a number no more.
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }

    /// It comes again.
    pub fn again(&mut self) {
        self.child = Self::spawn(&["dockerd"], self.dir.path());
        self.wait();
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        // What is still mounted below would keep the directory.
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let below = self.dir.path().display().to_string();
        for place in mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|p| p.starts_with(&below)) {
            let _ = Command::new("umount").args(["-l", place]).status();
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(30), "after 30 seconds not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
