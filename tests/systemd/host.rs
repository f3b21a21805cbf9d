//! A host with the package installed, a plan and a vault, and the package itself.

use crate::machine::{Ended, Machine};
use rustix::fs::{FlockOperation, flock};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

/// The version of the package that hosts get.
pub const VERSION: &str = "0.0.1";
/// Where the machine finds packages.
const PACKAGE: &str = "/opt/backstay.deb";
/// What every configuration begins with. The repository is where the operator would put a disk.
const BASE: &str =
    "host = \"shop-1\"\n[repository]\nurl = \"file:///srv/repository\"\n[keys]\nidentity_file = \"host.key\"\n";

pub struct Host {
    pub machine: Machine,
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test without what only debuggers need, and a package of it, made once for all tests. What goes into
/// it decides whether it is made again.
pub fn package(version: &str) -> PathBuf {
    let dir = built();
    let package = dir.join(format!("backstay_{version}_{}.deb", architecture()));
    let _lock = lock(&dir);
    if !package.exists() {
        make("packaging/deb.sh", &dir, version, &dir);
    }
    package
}

/// The program, small enough to be copied about.
pub fn program() -> PathBuf {
    built().join("backstay")
}

/// Runs one of the scripts that make packages.
pub fn make(script: &str, binary_in: &Path, version: &str, out: &Path) -> String {
    let made = Command::new(project().join(script))
        .arg(binary_in.join("backstay"))
        .arg(out)
        .envs([("BACKSTAY_VERSION", version), ("BACKSTAY_COMPRESSION", "none"), ("SOURCE_DATE_EPOCH", "1780000000")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn architecture() -> String {
    let out = Command::new("dpkg").arg("--print-architecture").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn lock(dir: &Path) -> std::fs::File {
    let file = std::fs::File::create(dir.join("lock")).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

/// A directory for what is built from just these sources and this binary.
fn built() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_backstay"));
    let mut seen = Vec::new();
    note(binary, &mut seen);
    for folder in ["packaging", "systemd", "config", "docs", "dashboards", "README.md", "CHANGELOG.md"] {
        note(&project().join(folder), &mut seen);
    }
    seen.sort();
    let key = blake3::hash(seen.join("\n").as_bytes()).to_hex();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(&key[..16]);
    std::fs::create_dir_all(&dir).unwrap();
    let _lock = lock(&dir);
    let program = dir.join("backstay");
    if !program.exists() {
        // Those of older builds are of no use any more.
        for old in std::fs::read_dir(dir.parent().unwrap()).unwrap().flatten().filter(|e| e.path() != dir) {
            let _ = std::fs::remove_dir_all(old.path());
        }
        let part = dir.join("backstay.part");
        let stripped = Command::new("strip").arg("--strip-debug").arg("-o").arg(&part).arg(binary).status().unwrap();
        assert!(stripped.success());
        std::fs::rename(part, &program).unwrap();
    }
    dir
}

fn note(path: &Path, seen: &mut Vec<String>) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    if meta.is_dir() {
        std::fs::read_dir(path).unwrap().flatten().for_each(|e| note(&e.path(), seen));
    } else {
        let at = meta.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        seen.push(format!("{} {} {at}", path.display(), meta.len()));
    }
}

impl Host {
    /// A machine with the package installed and nothing else.
    pub fn bare(what: &str) -> Self {
        let host = Host { machine: Machine::boot(what) };
        host.install(VERSION);
        host
    }

    /// The same with a plan `shop`, its data, and its vault. `more` is configuration; the plan has the source `data` and
    /// those named.
    pub fn new(what: &str, more: &str, sources: &[&str]) -> Self {
        let host = Self::bare(what);
        host.configure(more, sources);
        host.machine.write("/srv/data/file", "one");
        host.backstay(&["init", "--recovery-out", "/root/recovery.key"]);
        host
    }

    pub fn configure(&self, more: &str, sources: &[&str]) {
        let named: String = sources.iter().map(|s| format!(", \"{s}\"")).collect();
        self.machine.write(
            "/etc/backstay/backstay.toml",
            &format!(
                "{BASE}[sources.data]\nkind = \"files\"\npaths = [\"/srv/data\"]\n{more}\n\
                 [plans.shop]\nsources = [\"data\"{named}]\nkeep = {{ last = 2 }}\n"
            ),
        );
    }

    /// Installs a version as an administrator would.
    #[track_caller]
    pub fn install(&self, version: &str) -> String {
        std::fs::copy(package(version), self.machine.path(PACKAGE)).unwrap();
        self.machine.run(&["dpkg", "--install", PACKAGE])
    }

    /// Runs the installed program, which must succeed.
    #[track_caller]
    pub fn backstay(&self, args: &[&str]) -> String {
        self.machine.run(&[&["/usr/bin/backstay"], args].concat())
    }

    #[track_caller]
    pub fn try_backstay(&self, args: &[&str]) -> Ended {
        self.machine.try_run(&[&["/usr/bin/backstay"], args].concat())
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.backstay(&[&["--json"], args].concat())).unwrap()
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.machine.run(&["systemctl", "show", "--value", "--property", name, "--", unit])
    }

    /// What a unit wrote to the journal.
    #[track_caller]
    pub fn log(&self, unit: &str) -> String {
        self.machine.run(&["journalctl", "--quiet", "--output=cat", "--no-pager", "--unit", unit])
    }

    /// Starts a unit that must end well, and fails with its log otherwise.
    #[track_caller]
    pub fn job(&self, unit: &str) {
        let ended = self.machine.try_run(&["systemctl", "start", "--", unit]);
        assert_eq!(ended.code, 0, "{}{}", ended.err, self.log(unit));
    }

    /// A drop-in of the operator's.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, text: &str) {
        self.machine.write(&format!("/etc/systemd/system/{unit}.d/of-the-test.conf"), text);
        self.machine.run(&["systemctl", "daemon-reload"]);
    }

    /// How many backups the plan has.
    #[track_caller]
    pub fn backups(&self) -> usize {
        self.json(&["list"]).as_array().unwrap().len()
    }
}
