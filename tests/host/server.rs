//! An application's server with a `host` source.

use super::machine::{Ended, Machine};
use std::os::unix::fs::PermissionsExt;

/// The test's own programs lie there, and no server has them.
const EXCLUDE: &str = "exclude = [\"/usr/local/bin/backstay\", \"/usr/local/bin/these-tests\"]";

pub struct Server {
    pub machine: Machine,
}

impl Server {
    /// A machine with files of its own, switched on, and its vault made.
    pub fn new(what: &str) -> Self {
        let machine = Machine::off(what);
        set_up(&machine);
        let mut server = Server { machine };
        server.configure("");
        server.machine.start();
        server.run(&["init", "--recovery-out", "/root/recovery.key"]);
        server
    }

    /// Another machine: it knows the repository of the first and its recovery identity.
    pub fn replacing(what: &str, first: &Server) -> Self {
        let machine = Machine::off(what);
        machine.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        machine.write("/etc/ssh/ssh_host_rsa_key", "of the second\n");
        machine.write("/etc/fstab", "# of the second\n");
        // What a package made there got another number here.
        for (file, line) in [("passwd", "shop:x:777:777::/opt/shop:/bin/sh\n"), ("group", "shop:x:777:\n")] {
            append(&machine, &format!("/etc/{file}"), line);
        }
        for (from, to) in [("/srv/repo", "/srv/"), ("/root/recovery.key", "/root/")] {
            let copied =
                std::process::Command::new("cp").arg("-a").arg(first.machine.path(from)).arg(machine.path(to)).status();
            assert!(copied.unwrap().success());
        }
        let mut server = Server { machine };
        server.configure("");
        server.machine.start();
        server
    }

    /// Writes the configuration with more of the source.
    pub fn configure(&self, more: &str) {
        self.machine.write(
            "/etc/backstay/backstay.toml",
            &format!(
                "host = \"web-1\"\n[repository]\nurl = \"file:///srv/repo\"\n[keys]\nidentity_file = \"/etc/backstay/host.key\"\n\
                 [sources.machine]\nkind = \"host\"\n{EXCLUDE}\n{more}\n\
                 [sources.site]\nkind = \"files\"\npaths = [\"/srv/site\"]\n\
                 [plans.p]\nsources = [\"machine\", \"site\"]\n"
            ),
        );
    }

    /// Runs the program; it must succeed.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let ended = self.try_run(args);
        assert_eq!(ended.code, 0, "{args:?}:\n{}{}", ended.out, ended.err);
        format!("{}{}", ended.out, ended.err)
    }

    pub fn try_run(&self, args: &[&str]) -> Ended {
        self.machine.try_run(&[&["backstay"], args].concat())
    }

    /// Backs up, and gives what the manifest says of the machine.
    #[track_caller]
    pub fn backup(&self) -> serde_json::Value {
        let ended = self.try_run(&["--json", "backup"]);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        let manifest: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        let sources = manifest["sources"].as_array().unwrap();
        sources.iter().find(|s| s["name"] == "machine").unwrap().clone()
    }

    /// Words that a run must say, with its exit code.
    #[track_caller]
    pub fn says(&self, args: &[&str], code: i32, words: &[&str]) {
        let ended = self.try_run(args);
        let all = format!("{}{}", ended.out, ended.err);
        assert_eq!(ended.code, code, "{args:?}:\n{all}");
        for word in words {
            assert!(all.contains(word), "{word:?} is not said in:\n{all}");
        }
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.machine.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }
}

fn append(machine: &Machine, path: &str, line: &str) {
    let text = std::fs::read_to_string(machine.path(path)).unwrap();
    machine.write(path, &format!("{text}{line}"));
}

/// What an operator has put on the first machine.
fn set_up(machine: &Machine) {
    for (path, text) in [
        ("/etc/cron.d/shop", "0 2 * * * root /usr/local/bin/nightly\n"),
        ("/var/spool/cron/crontabs/root", "5 4 * * * /usr/local/bin/weekly\n"),
        ("/usr/local/bin/nightly", "#!/bin/sh\nexit 0\n"),
        (
            "/etc/systemd/system/shop.service",
            "[Service]\nExecStart=/bin/sleep 1d\n[Install]\nWantedBy=multi-user.target\n",
        ),
        ("/etc/systemd/system/shop.service.d/limits.conf", "[Service]\nLimitNOFILE=9999\n"),
        ("/etc/systemd/system/shop.timer", "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"),
        ("/etc/nginx/sites-enabled/shop", "server { listen 127.0.0.1:8099; return 204; }\n"),
        ("/etc/ssh/sshd_config", "PermitRootLogin no\n"),
        ("/etc/ssh/ssh_host_rsa_key", "of the first\n"),
        ("/etc/fstab", "# of the first\n"),
        ("/etc/shop.conf", "colour = green\n"),
        ("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA ann\n"),
        ("/root/.ssh/id_ed25519", "private\n"),
        ("/srv/site/index.html", "hello\n"),
        ("/opt/stack/compose.yml", "services: {}\n"),
        ("/opt/stack/.env", "COLOUR=green\n"),
    ] {
        machine.write(path, text);
    }
    append(machine, "/etc/passwd", "shop:x:555:555::/opt/shop:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n");
    append(machine, "/etc/group", "shop:x:555:ann\nann:x:1000:\n");
    let owned = machine.path("/etc/shop.conf");
    std::os::unix::fs::chown(&owned, Some(555), Some(555)).unwrap();
    let nightly = machine.path("/usr/local/bin/nightly");
    std::fs::set_permissions(nightly, std::fs::Permissions::from_mode(0o755)).unwrap();
    for unit in ["shop.service", "shop.timer"] {
        let root = format!("--root={}", machine.path("/").display());
        let enabled = std::process::Command::new("systemctl").args([&root, "--quiet", "enable", unit]).status();
        assert!(enabled.unwrap().success());
    }
}
