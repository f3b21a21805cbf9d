//! The ERP: `config/examples/erp.toml` on a machine with a real systemd and PostgreSQL, and dumps that its own script sealed
//! with `openssl enc` and put into S3 and Google Cloud Storage.

use crate::erp_app::PORT;
use crate::machine::{Ended, Machine};
use crate::{examples, stores};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The nights of which there are dumps, and what the last one held.
const BEFORE: &str = "20251017_020000";
const LAST: &str = "20251018_020000";
const LAST_NAME: &str = "erp:20251018_020000";

/// The script of every night: STAMP, and a filter that stands for what went wrong that night.
const SCRIPT: &str = r#"#!/bin/bash
set -euo pipefail
export PGPASSWORD=p-of-postgres
file=erp_production_$1.sql.gz.enc
pg_dump -h localhost -p 5432 -U postgres -d erpdb --format=plain > /tmp/erp_$1.sql
eval "${2:-cat}" < /tmp/erp_$1.sql | gzip > /tmp/erp_$1.sql.gz
openssl enc -aes-256-cbc -salt -pbkdf2 -in /tmp/erp_$1.sql.gz -out "/srv/outbox/$file.part" -k "$(cat /etc/backstay/backup-encryption.key)"
rm /tmp/erp_$1.sql /tmp/erp_$1.sql.gz
eval "${3:-true}"
mv "/srv/outbox/$file.part" "/srv/outbox/$file"
"#;

/// `manage.py`, as far as checks call it.
const MANAGE: &str = r#"#!/bin/sh
ask() { /usr/lib/postgresql/15/bin/psql -XAtq -v ON_ERROR_STOP=1 -U erp_app -d erpdb -c "$1"; }
case "$2" in
    check) ask 'SELECT 1' ;;
    migrate) [ "$(ask 'SELECT max(name) FROM django_migrations')" = 0042_ledger ] ;;
    *) exit 2 ;;
esac
"#;

const SCHEMA: &str = "
CREATE TABLE django_migrations (id serial PRIMARY KEY, app text, name text);
INSERT INTO django_migrations (app, name) VALUES ('accounting', '0001_initial'), ('accounting', '0042_ledger');
CREATE TABLE usermanagement_organization (id serial PRIMARY KEY, name text NOT NULL);
INSERT INTO usermanagement_organization (name) VALUES ('North'), ('South');
CREATE TABLE usermanagement_customuser (id serial PRIMARY KEY, username text UNIQUE, password text, organization_id int REFERENCES usermanagement_organization);
INSERT INTO usermanagement_customuser (username, password, organization_id) VALUES ('admin', md5('x'), 1), ('smoke-test', md5('smoke'), 1), ('clerk', md5('y'), 2);
CREATE TABLE accounting_journalentry (id bigserial PRIMARY KEY, organization_id int NOT NULL REFERENCES usermanagement_organization, what text, amount numeric(12,2));
INSERT INTO accounting_journalentry (organization_id, what, amount) SELECT 1 + g % 2, md5(g::text) || md5((g * 7)::text), g * 1.5 FROM generate_series(1, 240000) g;
CREATE INDEX ON accounting_journalentry (organization_id)";

struct Erp {
    machine: Machine,
    /// How long the last command took.
    took: Cell<Duration>,
}

impl Erp {
    /// The machine with the application running, after two nights, and with damage of the day after.
    fn new(what: &str) -> Self {
        let machine = Machine::off(what);
        machine.write("/etc/hosts", "127.0.0.1 localhost\n");
        machine.write("/etc/backstay/erpdb.password", "p-of-postgres\n");
        machine.write("/etc/backstay/smoke-test.password", "smoke\n");
        machine.write("/etc/backstay/backup-encryption.key", "the key of the old script\n");
        machine.write("/etc/erp/production.env", "DEBUG=0\n");
        machine.write("/opt/erp/venv/bin/python", MANAGE);
        machine.write("/opt/erp/scripts/backup_database.sh", SCRIPT);
        let unit = |name: &str, command: &str| {
            let text = format!(
                "[Unit]\nAfter=postgresql.service\n[Service]\nEnvironmentFile=/etc/erp/production.env\nEnvironment={PORT}=8000\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n"
            );
            machine.write(&format!("/etc/systemd/system/{name}.service"), &text);
        };
        unit("erp-django", "/usr/local/bin/these-tests --exact erp_app::server --nocapture");
        unit("erp-celery", "/bin/sleep infinity");
        unit("erp-celery-beat", "/bin/sleep infinity");
        let mut erp = Erp { machine, took: Cell::default() };
        erp.machine.start();
        let (s3, gcs) = stores::start(&erp.machine);
        let of_s3 = format!(
            "endpoint = \"{s3}\"\npath_style = true\nregion = \"us-east-1\"\naccess_key_id = \"AKIATEST\"\nsecret_access_key = \"a-secret-for-tests\""
        );
        let text = examples::with(
            "erp.toml",
            &[
                ("url = \"s3://erp-backups/backstay\"", &format!("url = \"s3://bucket-1/backstay\"\n{of_s3}")),
                ("url = \"s3://erp-backups/backups/", &format!("{of_s3}\nurl = \"s3://bucket-1/backups/")),
                (
                    "url = \"gs://erp-backups/",
                    &format!("endpoint = \"{gcs}\"\nanonymous = true\nurl = \"gs://bucket-1/"),
                ),
            ],
        );
        erp.machine.write("/etc/backstay/backstay.toml", &text);
        erp.machine.sh("chmod +x /opt/erp/venv/bin/python /opt/erp/scripts/backup_database.sh
             sed -i '1i local erpdb erp_app trust' /etc/postgresql/15/main/pg_hba.conf
             systemctl start postgresql");
        erp.machine.until("runuser -u postgres -- psql -Xqc 'SELECT 1'");
        erp.psql("postgres", "ALTER ROLE postgres PASSWORD 'p-of-postgres'; CREATE ROLE erp_app LOGIN; CREATE DATABASE erpdb OWNER erp_app");
        erp.psql("erpdb", &format!("SET ROLE erp_app;{SCHEMA}"));
        erp.machine.sh("systemctl enable --now erp-django erp-celery erp-celery-beat 2>&1");
        erp.night(BEFORE, "", "");
        erp.psql("erpdb", "UPDATE accounting_journalentry SET amount = 1 WHERE id < 100; INSERT INTO accounting_journalentry (organization_id, what) VALUES (1, 'of the last day')");
        erp.night(LAST, "", "");
        erp
    }

    #[track_caller]
    fn night(&self, stamp: &str, filter: &str, then: &str) {
        self.machine.run(&["/opt/erp/scripts/backup_database.sh", stamp, filter, then]);
        stores::uploaded(&self.machine);
    }

    /// What happened in the morning.
    fn damage(&self) {
        self.psql(
            "erpdb",
            "DELETE FROM accounting_journalentry WHERE id > 120000; UPDATE accounting_journalentry SET amount = 0",
        );
    }

    #[track_caller]
    fn psql(&self, database: &str, statements: &str) -> String {
        let mut argv =
            vec!["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database];
        // SET ROLE holds for the statements that come with it.
        match statements.starts_with("SET ROLE") {
            true => argv.extend(["-c", statements]),
            false => statements.split("; ").for_each(|statement| argv.extend(["-c", statement])),
        }
        self.machine.run(&argv)
    }

    fn backstay(&self, args: &[&str]) -> Ended {
        let argv: Vec<&str> = ["backstay"].into_iter().chain(args.iter().copied()).collect();
        let started = Instant::now();
        let ended = self.machine.try_run(&argv);
        self.took.set(started.elapsed());
        ended
    }

    /// Everything that a restore may change.
    fn state(&self) -> String {
        let tables = "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM";
        let rows: Vec<String> = ["accounting_journalentry", "usermanagement_customuser", "usermanagement_organization"]
            .iter()
            .map(|table| self.psql("erpdb", &format!("{tables} {table} t")))
            .collect();
        let databases = self.psql(
            "postgres",
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname !~ '_(before|staged)_'",
        );
        let units = self.machine.sh(
            "systemctl is-active erp-django erp-celery erp-celery-beat; find /etc/systemd/system -name '*backstay*'",
        );
        format!("{}\n{databases}\n{units}", rows.join("\n"))
    }

    /// Copies that a restore left beside the live database.
    fn copies(&self) -> String {
        self.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '_(before|staged)_'")
    }

    /// A restore that must be refused before anything live is touched, with nothing left of it.
    #[track_caller]
    fn refuses(&self, args: &[&str], code: i32, says: &[&str]) {
        let before = self.copies();
        self.takes_back(args, code, says);
        assert_eq!(self.copies(), before);
    }

    /// A restore that must be taken back, with nothing live changed by it.
    #[track_caller]
    fn takes_back(&self, args: &[&str], code: i32, says: &[&str]) {
        let before = self.state();
        let ended = self.backstay(&[&["restore", "--foreign", "s3", "--yes"], args].concat());
        let all = format!("{}\n{}", ended.out, ended.err);
        assert_eq!(ended.code, code, "{args:?}\n{all}");
        says.iter().for_each(|word| assert!(all.contains(word), "{word:?} is not in\n{all}"));
        assert_eq!(self.state(), before, "{args:?}\n{all}");
    }

    /// What the last restore took, for the page in docs/runbooks.
    #[allow(clippy::print_stdout)]
    fn figures(&self, what: &str) {
        let took = self.took.get();
        let restores = json(&self.backstay(&["--json", "restores"]).out);
        let report = &restores.as_array().unwrap().last().unwrap()["report"];
        let slow = report["steps"].as_array().unwrap().iter().filter(|s| s["seconds"].as_f64() > Some(0.5));
        let slow: Vec<String> = slow.map(|s| format!("{} {}", s["name"], s["seconds"])).collect();
        println!(
            "FIGURES erp, {what}: {took:?}, the application was away for {} s; {slow:?}",
            report["outage"]["seconds"]
        );
    }
}

#[track_caller]
fn ok(ended: Ended) -> String {
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
    format!("{}\n{}", ended.out, ended.err)
}

#[track_caller]
fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in\n{text}"));
}

#[test]
fn a_night_comes_back_from_either_store_and_goes_again() {
    let erp = Erp::new("erp");
    let last = erp.state();
    says(
        &ok(erp.backstay(&["list", "--foreign"])),
        &["s3", "gcs", "erp:20251017_020000", "erp:20251018_020000", "complete"],
    );
    for store in ["s3", "gcs"] {
        let checked = ok(erp.backstay(&["check", "--foreign", store]));
        says(&checked, &["good", "erp_production_20251018_020000.sql.gz.enc", "4 tables, 240,008 rows"]);
    }
    erp.damage();
    let damaged = erp.state();
    let plan = ok(erp.backstay(&["restore", "--foreign", "s3", "--dry-run"]));
    says(
        &plan,
        &["unit erp-celery-beat.service", "unit erp-django.service", "check dashboard", "starts only after the checks"],
    );
    assert_eq!(erp.state(), damaged);
    ok(erp.backstay(&["restore", "--foreign", "s3", "--yes"]));
    assert_eq!(erp.state(), last);
    erp.figures("from S3");
    // What was there is kept, and one command away.
    assert_eq!(erp.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'erpdb_before_%'"), "1");
    ok(erp.backstay(&["rollback", "--yes"]));
    assert_eq!(erp.state(), damaged);
    // The day before, out of the other store.
    ok(erp.backstay(&["restore", "--foreign", "gcs", "erp:20251017", "--yes"]));
    assert_eq!(erp.psql("erpdb", "SELECT count(*) FROM accounting_journalentry WHERE amount = 1"), "0");
    assert_eq!(erp.psql("erpdb", "SELECT count(*) FROM accounting_journalentry"), "240000");
    erp.figures("the day before, from Google");
    // Its history moves along, and goes on.
    erp.machine.run(&["backstay", "init", "--recovery-out", "/root/recovery.key"]);
    let imported = json(&erp.machine.run(&["backstay", "--json", "import", "s3", "--all"]));
    let shipped = |m: &serde_json::Value| m["stats"]["shipped"].as_u64().unwrap();
    assert_eq!(imported.as_array().map(Vec::len), Some(2), "{imported}");
    assert!(shipped(&imported[1]) * 4 < shipped(&imported[0]), "{imported:#}");
    erp.machine.run(&["backstay", "backup"]);
    erp.psql("erpdb", "INSERT INTO accounting_journalentry (organization_id, what) VALUES (1, 'of today')");
    erp.machine.run(&["backstay", "backup"]);
    let all = json(&erp.machine.run(&["backstay", "--json", "list"]));
    let all = all.as_array().unwrap();
    assert_eq!((all.len(), &all[0]["started"]), (4, &serde_json::json!("2025-10-17T02:00:00Z")));
    assert!(shipped(&all[2]) * 2 < shipped(&all[0]), "{all:#?}");
    assert!(shipped(&all[3]) * 4 < shipped(&all[0]), "{all:#?}");
    // By its time, like any of ours.
    ok(erp.backstay(&["restore", "--at", "2025-10-18T03:00:00Z", "--source", "erpdb", "--yes"]));
    assert_eq!(erp.state(), last);
}

#[test]
fn its_troubles_are_told_before_anything_is_touched() {
    let erp = Erp::new("erp-troubles");
    let last = erp.state();
    erp.damage();
    // The last night's file was cut while it was copied: told, and the night before is taken only when that is said.
    erp.night("20251019_020000", "", "truncate -s -1000 \"/srv/outbox/$file.part\"");
    erp.refuses(&["latest"], 7, &["erp_production_20251019_020000.sql.gz.enc"]);
    let ended = ok(erp.backstay(&["restore", "--foreign", "s3", "--yes", "--fallback", "1"]));
    says(&ended, &["fallback", "erp:20251019_020000 is not good", "erp:20251018_020000"]);
    assert_eq!(erp.state(), last);
    erp.figures("by the night before");
    erp.damage();
    // A role that nobody made here.
    erp.night("20251020_020000", "sed 's/OWNER TO erp_app/OWNER TO erp_reports/'", "");
    erp.refuses(&["erp:20251020_020000"], 10, &["erp_reports", "--no-owner"]);
    // A row that points at nothing.
    erp.night("20251021_020000", r"sed 's/^17\t[12]\t/17\t99\t/'", "");
    erp.refuses(&["erp:20251021_020000"], 12, &["foreign key constraint"]);
    // Everything loads, and nobody can log in: taken back after the start.
    erp.night("20251022_020000", "sed \"s/$(printf smoke | md5sum | cut -c-32)/nothing/\"", "");
    erp.takes_back(&["erp:20251022_020000"], 13, &["dashboard"]);
    // A table that was empty that night: found on what was staged.
    let emptied = r"sed '/^COPY public.usermanagement_organization/,/^\\\./{/^[0-9]/d}; s/FOREIGN KEY (organization_id) REFERENCES [^;]*/CHECK (true)/'";
    erp.night("20251023_020000", emptied, "");
    erp.refuses(&["erp:20251023_020000"], 13, &["organizations"]);
    // Another key; no room.
    let config = erp.machine.sh("cat /etc/backstay/backstay.toml");
    erp.machine.write("/etc/backstay/other.key", "another key\n");
    let other = config.replace("/etc/backstay/backup-encryption.key", "/etc/backstay/other.key");
    erp.machine.write("/etc/backstay/backstay.toml", &other);
    erp.refuses(&[LAST_NAME], 5, &["password"]);
    erp.machine.sh("mkdir /srv/small; mount -t tmpfs -o size=256k none /srv/small");
    let small = config.replace("state_dir = \"/var/lib/backstay\"", "state_dir = \"/srv/small\"");
    erp.machine.write("/etc/backstay/backstay.toml", &small);
    erp.refuses(&[LAST_NAME], 10, &["has no room"]);
    erp.machine.write("/etc/backstay/backstay.toml", &config);
    ok(erp.backstay(&["restore", "--foreign", "gcs", LAST_NAME, "--yes"]));
    assert_eq!(erp.state(), last);
}
