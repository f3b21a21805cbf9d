//! A host with an application, of which there is one backup, and which has changed since.

use crate::app::PORT;
use crate::fault::{self, Fault};
use crate::machine::{Ended, Machine, ended};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the application shows as it was backed up, and as it is now.
pub const THEN: &str = "first 2";
pub const NOW: &str = "second 3";

/// The journal of the restore that is open.
pub const JOURNAL: &str = "/var/lib/backstay/restore.journal";
/// Where journals of ended restores are.
const RESTORES: &str = "/var/lib/backstay/restores";

const CONFIG: &str = r#"
host = "flow"
state_dir = "/var/lib/backstay"
[repository]
url = "file:///var/lib/repository"
[keys]
identity_file = "/etc/backstay/host.key"
[maintenance]
where = "host"
[sources.db]
kind = "postgres"
url = "postgresql://postgres@/app?host=/var/run/postgresql"
os_user = "postgres"
[sources.data]
kind = "files"
paths = ["/srv/app/data"]
exclude = ["cache"]
[plans.app]
sources = ["db", "data"]
[plans.app.restore]
stop = ["worker", "app"]
start_after_checks = ["worker"]
stop_for = { data = ["app"] }
after_stage = [{ source = "db", sql = "UPDATE entry SET note = 'staged'" }]
[[plans.app.restore.checks]]
http = "http://127.0.0.1:8000/health"
json = { status = "ok" }
within = "20s"
every = "200ms"
[[plans.app.restore.checks]]
name = "rows"
sql = "SELECT count(*) FROM entry"
source = "db"
min = 1
before_swap = true
"#;

const SITE: &str = r#"
server {
    listen 127.0.0.1:80 default_server;
    server_name app.example;
    location / { proxy_pass http://127.0.0.1:8000; }
}
"#;

pub struct Host {
    pub machine: Machine,
}

impl Host {
    /// A machine with the application running on [`NOW`], and a backup of [`THEN`].
    pub fn new(what: &str) -> Self {
        Self::with(what, |_| (), str::to_owned)
    }

    /// The same with more on the machine before its first boot, and another configuration.
    pub fn with(what: &str, more: impl FnOnce(&Machine), config: impl FnOnce(&str) -> String) -> Self {
        let machine = Machine::off(what);
        machine.write("/etc/backstay/backstay.toml", &config(CONFIG));
        more(&machine);
        fault::library(&machine.path(fault::WITHIN));
        machine.write("/etc/nginx/conf.d/app.conf", SITE);
        std::fs::remove_file(machine.path("/etc/nginx/sites-enabled/default")).unwrap();
        let unit = |command: &str, more: &str| {
            format!(
                "[Unit]\nAfter=postgresql.service\n[Service]\nExecStart={command}\n{more}\n[Install]\nWantedBy=multi-user.target\n"
            )
        };
        let serve = "/usr/local/bin/these-tests --exact app::server --nocapture";
        machine.write("/etc/systemd/system/app.service", &unit(serve, &format!("Environment={PORT}=8000")));
        machine.write("/etc/systemd/system/worker.service", &unit("/bin/sleep infinity", ""));
        machine.write("/srv/app/data/value", "first\n");
        let mut host = Host { machine };
        host.machine.start();
        host.machine.sh("sed -i '1i local app app trust' /etc/postgresql/15/main/pg_hba.conf
             systemctl enable --now postgresql nginx worker 2>&1");
        host.machine.until("runuser -u postgres -- psql -Xqc 'SELECT 1'");
        host.psql("postgres", "CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app");
        host.psql("app", "SET ROLE app; CREATE TABLE entry (id serial PRIMARY KEY, note text); INSERT INTO entry (note) VALUES ('a'), ('b')");
        host.machine.sh("systemctl enable --now app 2>&1; backstay maintenance install >&2");
        host.machine.run(&["backstay", "init", "--recovery-out", "/root/recovery.key"]);
        host.machine.run(&["backstay", "backup"]);
        host.psql("app", "INSERT INTO entry (note) VALUES ('c')");
        host.machine
            .sh("echo second > /srv/app/data/value; mkdir -p /srv/app/data/cache; echo warm > /srv/app/data/cache/x");
        host.machine.until("curl -sf http://127.0.0.1/ | grep -q 'second 3'");
        host
    }

    /// Runs statements as the superuser, each in its own transaction.
    #[track_caller]
    pub fn psql(&self, database: &str, statements: &str) -> String {
        let mut argv =
            vec!["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database];
        for statement in statements.split("; ") {
            argv.extend(["-c", statement]);
        }
        self.machine.run(&argv)
    }

    pub fn backstay(&self, args: &[&str]) -> Ended {
        let argv: Vec<&str> = ["backstay"].into_iter().chain(args.iter().copied()).collect();
        self.machine.try_run(&argv)
    }

    /// The program, to which something happens.
    pub fn faulty(&self, fault: &Fault<'_>, args: &[&str]) -> Ended {
        ended(&mut self.faulty_command(fault, args))
    }

    /// The same, to be started by the caller.
    pub fn faulty_command(&self, fault: &Fault<'_>, args: &[&str]) -> Command {
        let argv: Vec<&str> = ["backstay"].into_iter().chain(args.iter().copied()).collect();
        let mut command = self.machine.command(&argv);
        command.envs(fault.environment(fault::WITHIN));
        command
    }

    /// What a client sees, through nginx.
    pub fn shows(&self) -> String {
        self.machine.try_run(&["curl", "-s", "-m", "20", "http://127.0.0.1/"]).out
    }

    /// Everything that a restore could change, in words that can be compared: content, databases, units, holds, nginx,
    /// what lies beside. Names of kept copies are left out.
    pub fn state(&self) -> String {
        let m = &self.machine;
        let files = m.sh("find /srv/app /etc/nginx /etc/systemd/system -path '*_before_*' -prune -o -type f -print | sort | xargs sha256sum; ls -A /srv/app | grep -v _before_");
        let databases = self.psql(
            "postgres",
            "SELECT datname || ' ' || datallowconn FROM pg_database WHERE datname NOT LIKE '%\\_before\\_%' ORDER BY 1",
        );
        let rows =
            self.psql("app", "SELECT count(*) || ' ' || string_agg(DISTINCT note, ',' ORDER BY note) FROM entry");
        let units = m.sh("for u in app worker nginx postgresql; do systemctl show $u -p Id,ActiveState,UnitFileState,DropInPaths; done; find /etc/systemd/system -name '*backstay*'");
        let page = m.sh("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/");
        format!("{files}\n{databases}\n{rows}\n{units}\n{page}")
    }

    /// [`records`] of this host.
    pub fn records(&self) -> Vec<String> {
        records(&self.machine.path(RESTORES))
    }

    /// Drops what is kept of earlier tries, and forgets them: else each try would look at all before it.
    pub fn clean(&self) {
        for file in files(&self.machine.path(RESTORES)) {
            if file.extension().is_some_and(|e| e == "journal") {
                self.backstay(&["cleanup", file.file_stem().unwrap().to_str().unwrap()]);
            }
        }
        files(&self.machine.path(RESTORES)).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
}

/// The files of a directory by their names; none when it is not there.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[track_caller]
pub fn ok(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
}

/// The records of the last restore that has ended, each with the name of its step: `done swap database app`. The number of one
/// is that of the write and of the sync with which it came to the journal.
pub fn records(restores: &Path) -> Vec<String> {
    let journal = files(restores).into_iter().rev().find(|p| p.extension().is_some_and(|e| e == "journal"));
    let text = std::fs::read_to_string(journal.expect("no restore has ended")).unwrap();
    let entries: Vec<serde_json::Value> =
        text.lines().map(|l| serde_json::from_str(l.split_once(' ').unwrap().1).unwrap()).collect();
    let steps = entries[0]["begin"]["steps"].clone();
    let name = |entry: &serde_json::Value| {
        let (word, what) = entry.as_object().unwrap().iter().find(|(key, _)| *key != "at").unwrap();
        let number = what.as_u64().or_else(|| what[0].as_u64());
        let step = number.and_then(|n| steps[usize::try_from(n).unwrap()].as_str()).unwrap_or_default();
        format!("{word} {step}").trim_end().to_owned()
    };
    // One that speaks of nothing has no value: `"committed": null`.
    entries.iter().map(name).collect()
}
