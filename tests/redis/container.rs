//! A server in a container, with its port published nowhere and its data in a volume.

use crate::backup::{configure, with_server};
use crate::restore::restore_here;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// An image with the server of this machine, a volume, a container; gone when dropped.
struct Boxed {
    name: String,
}

fn docker(args: &[&str]) -> Result<String, String> {
    let out = Command::new("docker").args(args).stdin(Stdio::null()).output().expect("docker is not installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

impl Boxed {
    fn new() -> Self {
        let boxed = Boxed { name: format!("bsr-{:08x}", rand::random::<u32>()) };
        let root = tempfile::tempdir().unwrap();
        // The program, and the libraries that it asks for.
        let script = "set -e; mkdir -p $R/usr/bin; for n in redis-server redis-cli; do p=$(command -v $n); cp -L $p $R/usr/bin/$n; \
             ldd $p | grep -o '/[^ ]*' | while read f; do mkdir -p $R$(dirname $f); cp -nL $f $R$f; done; done; mkdir -p $R/data $R/tmp; \
             tar -C $R -c . | docker import - $N > /dev/null";
        let made =
            Command::new("bash").args(["-c", script]).env("R", root.path()).env("N", &boxed.name).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        docker(&["volume", "create", &boxed.name]).unwrap();
        boxed
    }

    fn run(&self, options: &[&str], server: &[&str]) {
        let volume = format!("{}:/data", self.name);
        let mut args = vec!["run", "-d", "--name", &self.name, "-v", &volume];
        args.extend(options);
        args.extend([
            self.name.as_str(),
            "/usr/bin/redis-server",
            "--dir",
            "/data",
            "--save",
            "",
            "--enable-debug-command",
            "yes",
        ]);
        args.extend(server);
        docker(&args).unwrap();
        self.wait();
    }

    fn wait(&self) {
        let started = Instant::now();
        while self.cli(&["PING"]) != "PONG" {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", docker(&["logs", &self.name]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn cli(&self, args: &[&str]) -> String {
        let mut all = vec!["exec", self.name.as_str(), "/usr/bin/redis-cli"];
        all.extend(args);
        docker(&all).unwrap_or_else(|e| e)
    }

    fn body(&self) -> String {
        format!("url = \"redis://localhost:6379\"\ncontainer = \"{}\"\n", self.name)
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", "-v", &self.name]);
        let _ = docker(&["volume", "rm", "-f", &self.name]);
        let _ = docker(&["rmi", "-f", &self.name]);
    }
}

#[test]
fn a_server_in_a_container_is_read_and_restored_from_the_host() {
    for (network, server) in [("none", vec![]), ("none", vec!["--appendonly", "yes"])] {
        let b = Boxed::new();
        b.run(&["--network", network, "--restart", "always"], &server);
        b.cli(&["SET", "a", "1"]);
        b.cli(&["EVAL", "for i = 1, 10000 do redis.call('SET', 'key:' .. i, i) end", "0"]);
        let before = b.cli(&["DEBUG", "DIGEST"]);
        let w = with_server(&b.body());
        w.backup();
        b.cli(&["FLUSHALL"]);
        b.cli(&["SET", "a", "2"]);
        let ran = restore_here(&w).code(0);
        assert_eq!(b.cli(&["DEBUG", "DIGEST"]), before, "{network}: {}", ran.out);
        assert_eq!(
            docker(&["inspect", "-f", "{{.State.Status}} {{.HostConfig.RestartPolicy.Name}}", &b.name]).unwrap(),
            "running always"
        );
        // Lost altogether: the container is down, its data is rot.
        docker(&["stop", "-t", "0", &b.name]).unwrap();
        let volume = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &b.name]).unwrap();
        for entry in std::fs::read_dir(volume).unwrap().flatten() {
            if entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).unwrap();
            } else {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        restore_here(&w).code(0).says(&["does not run"]);
        assert_eq!(b.cli(&["DEBUG", "DIGEST"]), before, "{network}");
    }
}

#[test]
fn a_container_that_is_not_there_or_keeps_its_data_inside_is_told() {
    let b = Boxed::new();
    let w = with_server(&b.body());
    w.run(&["backup"]).code(11).says(&["there is no container", &b.name]);
    b.run(&["--network", "none"], &["--dir", "/tmp"]);
    b.cli(&["SET", "a", "1"]);
    w.backup();
    restore_here(&w).code(10).says(&["/tmp", "is on no volume", "Mount a volume"]);
    assert_eq!(b.cli(&["GET", "a"]), "1");
    docker(&["stop", "-t", "1", &b.name]).unwrap();
    w.run(&["backup"]).code(11).says(&["does not run", "docker start"]);
    configure(&w, &b.body().replace("6379", "1"));
    docker(&["start", &b.name]).unwrap();
    b.wait();
    w.run(&["backup"]).code(11).says(&["cannot connect", "localhost:1"]);
}
