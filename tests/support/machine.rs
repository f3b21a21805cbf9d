//! A machine of its own for one test: systemd as its first process, its own files, network and power switch.
//!
//! Its root is made once by `tests/machine-root.sh` and lies below an overlay, so that every machine begins as new and
//! keeps what it wrote over a reboot or a power cut. Its network is its own and has a loopback only. Services (Docker,
//! PostgreSQL, nginx, Redis, cron) are there and disabled. In it, `/usr/local/bin/backstay` is the program, and
//! `/usr/local/bin/these-tests` the running test binary: `test` runs one of its tests inside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where `tests/machine-root.sh` has put it.
const ROOT: &str = ".cache/backstay-tools/roots/bookworm";
/// How long a machine may take to boot, or to go down.
const PATIENCE: Duration = Duration::from_secs(90);
/// The environment of what runs inside.
const ENVIRONMENT: &[(&str, &str)] = &[
    // The tools of PostgreSQL themselves before Debian's scripts, which take nine times as long to start.
    ("PATH", "/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
];

/// A machine. Powered off and removed when dropped.
pub struct Machine {
    name: String,
    dir: tempfile::TempDir,
    power: Option<Power>,
}

/// What runs while it is on.
struct Power {
    /// systemd-nspawn.
    outside: Child,
    /// The first process of the machine, as it is numbered here.
    init: u32,
}

/// What a command inside did.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Machine {
    /// A machine that is on.
    pub fn boot(what: &str) -> Self {
        let mut machine = Self::off(what);
        machine.start();
        machine
    }

    /// A machine that is off; what it is to have at its first boot can be written to it.
    pub fn off(what: &str) -> Self {
        let root = PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(ROOT);
        assert!(root.join("sbin/init").exists(), "{} is missing: run tests/setup.sh test as root", root.display());
        let name = format!("bs-{what}-{:08x}", rand::random::<u32>());
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().unwrap();
        for folder in ["upper", "work", "root", "docker"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let at = |folder: &str| dir.path().join(folder).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", root.display(), at("upper"), at("work"));
        run(Command::new("mount").args(["-t", "overlay", &name, "-o", &options]).arg(at("root")));
        Machine { name, dir, power: None }
    }

    /// A file of the machine as it is seen from here. What is below /run and /tmp is seen only from inside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("root").join(inside.trim_start_matches('/'))
    }

    /// Writes a file of the machine, with the folders above it.
    #[track_caller]
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }

    /// Switches it on and waits until systemd has started everything that is enabled.
    pub fn start(&mut self) {
        assert!(self.power.is_none(), "{} is on", self.name);
        let mut outside = self.nspawn().spawn().expect("install systemd-container (tests/setup.sh test)");
        let started = Instant::now();
        let init = loop {
            if let Some(init) = first_process(outside.id()) {
                break init;
            }
            if let Some(status) = outside.try_wait().unwrap() {
                panic!("{} ended at once: {status}\n{}", self.name, self.log());
            }
            assert!(started.elapsed() < PATIENCE, "{} does not begin\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        };
        self.power = Some(Power { outside, init });
        loop {
            let state = self.try_run(&["systemctl", "is-system-running"]).out;
            if ["running", "degraded"].contains(&state.trim()) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{} does not boot: {state}\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The command that keeps it on. It is in a control group of its own: two machines would meet in one.
    fn nspawn(&self) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let groups = self.groups();
        groups.iter().for_each(|group| std::fs::create_dir_all(group).unwrap());
        let (first, last) = (groups.first().unwrap(), groups.last().unwrap());
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "echo $$ > \"$0/cgroup.procs\"; echo $$ > \"$1/cgroup.procs\"; shift; exec systemd-nspawn \"$@\"",
            ])
            .args([first, last])
            .arg(format!("--machine={}", self.name))
            .arg(format!("--directory={}", self.dir.path().join("root").display()))
            .arg(format!("--bind={}:/var/lib/docker", self.dir.path().join("docker").display()))
            .arg(format!("--bind-ro={}:/usr/local/bin/backstay", env!("CARGO_BIN_EXE_backstay")))
            .arg(format!("--bind-ro={}:/usr/local/bin/these-tests", std::env::current_exe().unwrap().display()))
            .args(["--register=no", "--keep-unit", "--settings=no", "--boot", "--console=passive"])
            .args(["--private-network", "--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            // What Docker needs inside.
            .args(["--capability=all", "--system-call-filter=@keyring bpf add_key keyctl perf_event_open"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// One, or one of each version where both are there.
    fn groups(&self) -> Vec<PathBuf> {
        let above = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"].map(Path::new);
        let mut above: Vec<&Path> = above.into_iter().filter(|dir| dir.is_dir()).collect();
        if above.is_empty() {
            above.push(Path::new("/sys/fs/cgroup"));
        }
        above.into_iter().map(|dir| dir.join(&self.name)).collect()
    }

    /// Its first process, as it is numbered here: the way into its name spaces.
    pub fn init(&self) -> u32 {
        self.power.as_ref().expect("the machine is off").init
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A command inside, to be started by the caller.
    #[track_caller]
    pub fn command(&self, argv: &[&str]) -> Command {
        let power = self.power.as_ref().expect("the machine is off");
        let mut command = Command::new("nsenter");
        command.args(["-a", "-t", &power.init.to_string(), "--"]).args(argv);
        command.env_clear().envs(ENVIRONMENT.iter().copied()).stdin(Stdio::null());
        command
    }

    /// Runs a command inside to its end.
    #[track_caller]
    pub fn try_run(&self, argv: &[&str]) -> Ended {
        ended(&mut self.command(argv))
    }

    /// Runs a command that must succeed, and gives what it printed, without the end of the last line.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> String {
        let ended = self.try_run(argv);
        assert_eq!(ended.code, 0, "{argv:?} in {}:\n{}{}", self.name, ended.out, ended.err);
        ended.out.trim_end().to_owned()
    }

    /// Runs a script inside, every command of which must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(&["sh", "-euc", script])
    }

    /// One test of the running test binary, inside, with one more variable in its environment.
    #[track_caller]
    pub fn test(&self, name: &str, variable: (&str, &str)) -> Command {
        let mut command = self.command(&["/usr/local/bin/these-tests", "--exact", name, "--nocapture"]);
        command.env(variable.0, variable.1);
        command
    }

    /// Waits until a script inside succeeds.
    #[track_caller]
    pub fn until(&self, script: &str) {
        let started = Instant::now();
        while self.try_run(&["sh", "-euc", script]).code != 0 {
            assert!(started.elapsed() < PATIENCE, "in {} never: {script}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shuts it down as its administrator would.
    pub fn power_off(&mut self) {
        let ended = self.try_run(&["systemctl", "poweroff"]);
        let mut power = self.power.take().expect("the machine is off");
        let started = Instant::now();
        while power.outside.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "{} does not go down: {ended:?}\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills everything in it at once: no process runs another instruction. What it had written is there.
    pub fn cut_power(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        // With the first process of a name space the kernel kills all others of it.
        let _ = Command::new("kill").args(["-KILL", &power.init.to_string()]).status();
        let _ = power.outside.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
        let _ = Command::new("umount").arg("-l").arg(self.dir.path().join("root")).status();
        self.groups().iter().for_each(|group| remove_groups(group));
    }
}

/// The child that is the first process of another name space.
fn first_process(parent: u32) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let value = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).map(str::split_whitespace);
        let of_it = value("PPid:")?.next()?.parse() == Ok(parent);
        let numbers: Vec<&str> = value("NSpid:")?.collect();
        // Before it has become systemd it is a copy of nspawn, in which nothing can be entered yet.
        let name = value("Name:")?.next()?;
        (of_it && numbers.len() > 1 && numbers.last() == Some(&"1") && name == "systemd").then_some(pid)
    })
}

/// Control groups go from the innermost outwards.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// Runs a command to its end. -1 when a signal ended it.
#[track_caller]
pub fn ended(command: &mut Command) -> Ended {
    let out = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: out.status.code().unwrap_or(-1), out: text(&out.stdout), err: text(&out.stderr) }
}

#[track_caller]
fn run(command: &mut Command) {
    let ended = ended(command);
    assert_eq!(ended.code, 0, "{command:?}: {}{}", ended.out, ended.err);
}
