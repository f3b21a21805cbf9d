//! A throw-away Redis server in a directory of its own, with a port, a socket and TLS.

use crate::port::free_port;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The password of every user.
pub const PASSWORD: &str = "p'ss \"wörd\\";

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flavour {
    /// For messages.
    pub name: String,
    /// Program and what comes before the server's own arguments.
    pub command: Vec<String>,
    pub major: u32,
}

impl Flavour {
    /// What the distribution installs.
    pub fn system() -> Self {
        let out = Command::new("redis-server").arg("--version").output();
        let out = out.expect("redis-server is not installed: tests/setup.sh test");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let version = text.split("v=").nth(1).and_then(|v| v.split(' ').next()).expect("a version").to_owned();
        let major = version.split('.').next().unwrap().parse().unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let program = std::env::split_paths(&path).map(|d| d.join("redis-server")).find(|p| p.exists()).unwrap();
        Flavour { name: format!("redis {version}"), command: vec![program.display().to_string()], major }
    }

    /// Other releases, which `tests/server-roots.sh` unpacks: a directory each, with the root of its packages.
    pub fn others() -> Vec<Self> {
        let dir = Path::new(&std::env::var("HOME").unwrap()).join(".cache/backstay-tools/redis");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).expect("run tests/setup.sh test as root").flatten() {
            let root = entry.path().join("root");
            let text = |p: &str| root.join(p).display().to_string();
            for program in ["redis-server", "valkey-server"] {
                if !root.join("usr/bin").join(program).is_symlink() {
                    continue;
                }
                let libraries = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(text).join(":");
                let loader = ["usr/lib", "lib"]
                    .map(|l| format!("{l}/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
                    .into_iter()
                    .find(|l| root.join(l).exists())
                    .expect("a loader");
                let command =
                    vec![text(&loader), "--library-path".into(), libraries, text(&format!("usr/bin/{program}"))];
                let out = Command::new(&command[0]).args(&command[1..]).arg("--version").output().unwrap();
                let out = String::from_utf8_lossy(&out.stdout).into_owned();
                let version = out.split("v=").nth(1).and_then(|v| v.split(' ').next()).expect("a version").to_owned();
                let major = version.split('.').next().unwrap().parse().unwrap();
                found.push(Flavour {
                    name: format!("{} {version}", program.trim_end_matches("-server")),
                    command,
                    major,
                });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    pub fn all() -> Vec<Self> {
        [vec![Self::system()], Self::others()].concat()
    }
}

/// A server that can be stopped and started, by the test and by a program that looks like `systemctl`.
pub struct Server {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub flavour: Flavour,
    /// More lines of `redis.conf`.
    pub conf: String,
}

/// What stands for `systemctl`: `DIR/grace` has the seconds until it kills, `DIR/broken` makes every start fail.
const SYSTEMCTL: &str = r#"#!/bin/bash
echo "$*" >> DIR/systemctl.log
pid=$(cat DIR/pid 2> /dev/null)
up() { [ -n "$pid" ] && readlink /proc/$pid/exe > /dev/null; }
case $1 in
    show) echo LoadState=loaded; if up; then echo ActiveState=active; else echo ActiveState=inactive; fi ;;
    start)
        up && exit 0
        [ -e DIR/broken ] && { echo "it is broken" >&2; exit 1; }
        rm -f DIR/pid
        COMMAND DIR/redis.conf --daemonize yes --pidfile DIR/pid $(cat DIR/args 2> /dev/null) >> DIR/out 2>&1 || exit 1
        for ((i = 0; i < 1000; i++)); do [ -s DIR/pid ] && exit 0; sleep 0.01; done; exit 1 ;;
    stop)
        up || exit 0
        kill -TERM $pid
        for ((i = 0; i < $(cat DIR/grace 2> /dev/null || echo 6000); i++)); do up || exit 0; sleep 0.01; done
        kill -KILL $pid; while up; do sleep 0.01; done ;;
esac
"#;

impl Server {
    pub fn start() -> Self {
        Self::with("")
    }

    pub fn with(conf: &str) -> Self {
        Self::of(Flavour::system(), conf)
    }

    pub fn of(flavour: Flavour, conf: &str) -> Self {
        let server = Self::stopped(flavour, conf);
        server.launch();
        server
    }

    pub fn stopped(flavour: Flavour, conf: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        let port = free_port();
        let server = Server { dir, port, flavour, conf: conf.to_owned() };
        server.write_conf();
        let script = SYSTEMCTL
            .replace("DIR", &server.dir.path().display().to_string())
            .replace("COMMAND", &server.flavour.command.join(" "));
        std::fs::write(server.path("bin/systemctl"), script).unwrap();
        std::fs::set_permissions(server.path("bin/systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
        server
    }

    /// Whether fields of hashes can expire.
    pub fn has_field_expiry(&self) -> bool {
        self.flavour.major >= 8 && self.flavour.name.starts_with("redis")
    }

    pub fn write_conf(&self) {
        // What the test says comes last and wins; `DIR` stands for the directory of the server.
        let d = self.dir.path().display();
        let conf = format!(
            "port {}\nbind 127.0.0.1\ndir {d}/data\nunixsocket {d}/s\nsave \"\"\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\nlogfile {d}/log\nenable-debug-command yes\nenable-protected-configs yes\n{}\n",
            self.port,
            self.conf.replace("DIR", &d.to_string())
        );
        let conf = if self.flavour.major < 7 {
            conf.replace("enable-debug-command yes\nenable-protected-configs yes\n", "")
        } else {
            conf
        };
        std::fs::write(self.path("redis.conf"), conf).unwrap();
    }

    fn systemctl(&self, verb: &str) {
        let out = Command::new(self.path("bin/systemctl")).arg(verb).output().unwrap();
        assert!(out.status.success(), "{verb}: {} {}", String::from_utf8_lossy(&out.stderr), self.log());
    }

    pub fn launch(&self) {
        self.systemctl("start");
        self.wait_until_ready();
    }

    pub fn stop(&self) {
        self.systemctl("stop");
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        let started = Instant::now();
        loop {
            if let Ok(reply) = self.try_ask(&["PING"])
                && !reply.starts_with("-LOADING")
            {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "{} is not ready: {}", self.flavour.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        let read = |f: &str| std::fs::read_to_string(self.path(f)).unwrap_or_default();
        read("log") + &read("out")
    }

    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()
    }

    pub fn is_up(&self) -> bool {
        self.pid().is_some_and(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok())
    }

    pub fn kill(&self) {
        while self.is_up() {
            let _ = Command::new("kill").args(["-KILL", &self.pid().unwrap().to_string()]).status();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    /// A connection on the socket; a password is not asked for unless the test set one.
    pub fn socket(&self) -> std::io::Result<Talk> {
        let stream = UnixStream::connect(self.path("s"))?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        Ok(Talk { stream: std::io::BufReader::new(stream) })
    }

    fn try_ask(&self, args: &[&str]) -> std::io::Result<String> {
        let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
        Ok(String::from_utf8_lossy(&self.socket()?.ask(&args)?).into_owned())
    }

    /// The answer as text; an error of the server is `-…`.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        self.try_ask(args).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", self.log()))
    }

    /// The same, and the answer is no error.
    #[track_caller]
    pub fn good(&self, args: &[&str]) -> String {
        let answer = self.ask(args);
        assert!(!answer.starts_with('-'), "{args:?}: {answer}");
        answer
    }

    /// Saves now, after a save that the server has begun by itself.
    #[track_caller]
    pub fn save(&self) {
        for _ in 0..200 {
            let answer = self.ask(&["SAVE"]);
            if !answer.contains("in progress") {
                assert!(!answer.starts_with('-'), "{answer}");
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("a background save does not end");
    }

    /// A value of `INFO`.
    pub fn info(&self, field: &str) -> String {
        let text = self.good(&["INFO", "everything"]);
        text.lines().find_map(|l| l.strip_prefix(&format!("{field}:"))).unwrap_or_default().trim().to_owned()
    }

    /// Everything in all databases, as one digest of the server's own.
    pub fn digest(&self) -> String {
        self.good(&["DEBUG", "DIGEST"])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A connection.
pub struct Talk {
    stream: std::io::BufReader<UnixStream>,
}

impl Talk {
    pub fn select(&mut self, db: u32) {
        assert_eq!(self.ask(&[b"SELECT", db.to_string().as_bytes()]).unwrap(), b"OK");
    }

    pub fn send(&mut self, args: &[&[u8]]) {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).unwrap();
    }

    pub fn ask(&mut self, args: &[&[u8]]) -> std::io::Result<Vec<u8>> {
        self.send(args);
        self.answer()
    }

    /// A reply with its elements in lines.
    pub fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = String::new();
        if std::io::BufRead::read_line(&mut self.stream, &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_owned();
        let number = || line[1..].parse::<i64>().unwrap();
        Ok(match &line[..1] {
            "$" if number() < 0 => Vec::new(),
            "$" => {
                let mut bytes = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                bytes
            }
            "*" => {
                let mut all = Vec::new();
                for _ in 0..number().max(0) {
                    all.extend(self.answer()?);
                    all.push(b'\n');
                }
                all
            }
            "-" => line.into_bytes(),
            _ => line.as_bytes()[1..].to_vec(),
        })
    }

    /// Sends many commands and reads their answers; none may be an error.
    pub fn all(&mut self, commands: impl IntoIterator<Item = Vec<Vec<u8>>>) {
        let mut waiting = 0;
        let drain = |talk: &mut Self, n: usize| {
            for _ in 0..n {
                let answer = talk.answer().unwrap();
                assert!(!answer.starts_with(b"-"), "{}", String::from_utf8_lossy(&answer));
            }
        };
        for command in commands {
            self.send(&command.iter().map(Vec::as_slice).collect::<Vec<_>>());
            waiting += 1;
            if waiting == 500 {
                drain(self, waiting);
                waiting = 0;
            }
        }
        drain(self, waiting);
    }
}

/// Words of a command.
pub fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|w| w.as_bytes().to_vec()).collect()
}
