//! A throw-away host: a directory with a configuration, a repository and something to back up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

pub struct World {
    pub dir: tempfile::TempDir,
    pub host: String,
    pub extra: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Fails the test unless the exit code is this.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless everything is said.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let all = format!("{}\n{}", self.out, self.err);
        for word in words {
            assert!(all.contains(word), "{word:?} is not said in:\n{all}");
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }
}

impl World {
    /// A host with one plan `p` of one files source `tree`, and its vault.
    pub fn new() -> Self {
        let world = Self::bare();
        world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
        world
    }

    /// The same without a vault.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        let world = World { dir, host: "test-host".into(), extra: String::new() };
        world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
        world
    }

    /// Writes the configuration anew: more of `[repository]`, and the body of the source.
    pub fn configure(&self, repository: &str, source: &str) {
        self.write_config(&format!(
            "host = \"{host}\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n{repository}\n[keys]\nidentity_file = \"{d}/host.key\"\n\
             [sources.tree]\nkind = \"files\"\n{source}\n[plans.p]\nsources = [\"tree\"]\nkeep = {{ last = 2 }}\n{extra}",
            host = self.host,
            d = self.path().display(),
            extra = self.extra,
        ));
    }

    pub fn write_config(&self, text: &str) {
        std::fs::write(self.path().join("backstay.toml"), text).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the world, as text.
    pub fn at(&self, rel: &str) -> String {
        self.path().join(rel).display().to_string()
    }

    /// A file of the tree with this content, old enough to be trusted unchanged.
    pub fn file(&self, rel: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join("tree").join(rel);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Waits until what was just written counts as settled (its change time is older than two seconds).
    pub fn settle(&self) {
        std::thread::sleep(Duration::from_millis(2200));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command
            .args(args)
            .env("BACKSTAY_CONFIG", self.at("backstay.toml"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .current_dir(self.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Backs up and gives the manifest.
    pub fn backup(&self) -> serde_json::Value {
        self.run(&["--json", "backup"]).code(0).json()
    }

    /// The id of the last restore.
    pub fn last_restore(&self) -> String {
        let journals = std::fs::read_dir(self.path().join("state/restores")).unwrap();
        let ids = journals.filter_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".journal").map(str::to_owned));
        ids.max().unwrap()
    }

    pub fn shipped(&self) -> u64 {
        self.backup()["stats"]["shipped"].as_u64().unwrap()
    }

    /// Objects of the vault below a folder.
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.path().join("repo").join(&self.host).join(folder)];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found.sort();
        found
    }
}

pub fn run(command: &mut Command) -> Ran {
    let out = command.output().unwrap();
    Ran {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Everything about a tree that a restore has to bring back, as text.
pub fn picture(root: &Path) -> String {
    let script = "find . -printf '%P|%y|%m|%U|%G|%s|%T@|%n|%l\\n' | sort; \
                  find . -type f -exec sha256sum {} + | sort; getfattr -hdR -m - --absolute-names . 2>/dev/null; getfacl -Rnp . 2>/dev/null";
    let out = Command::new("bash").arg("-c").arg(script).current_dir(root).env("LC_ALL", "C").output().unwrap();
    assert!(out.status.success());
    // Sizes of directories are the file system's business.
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(|l| {
            let f: Vec<&str> = l.split('|').collect();
            if f.get(1) == Some(&"d") && f.len() == 9 {
                format!("{}|d|{}|{}|{}|{}", f[0], f[2], f[3], f[4], f[6])
            } else {
                l.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn noise(n: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; n];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub fn old() -> SystemTime {
    SystemTime::now() - Duration::from_secs(100_000)
}
