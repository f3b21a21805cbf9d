//! The hosting platform: `config/examples/hosting.toml` with a swarm of its own, and the folders that its script made.

use crate::platform::{Platform, WORKER, until};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

const LAST: &str = "20240215-020000";

impl Platform {
    /// What happened in the morning: everything of which there is a backup is another.
    fn damage(&self) {
        self.sql("DELETE FROM sites; DELETE FROM users WHERE id > 500");
        self.redis(&["SET", "greeting", "by mistake"]);
        self.redis(&["DEL", "session:7"]);
        std::fs::write(self.volume("prometheus_data").join("block"), "torn").unwrap();
        std::fs::remove_dir_all(self.volume("grafana_data").join("dashboards")).unwrap();
        self.spoil_nginx();
        self.write("/opt/applications/VERSION", "1.5 by mistake\n");
        self.write("/spool/crontabs/root", "# nothing\n");
        self.stage.docker(&["image", "rm", WORKER]);
    }

    fn spoil_nginx(&self) {
        let site = self.at("/mnt/nfs/nginx/conf.d/app.conf");
        let text = std::fs::read_to_string(&site).unwrap();
        std::fs::write(&site, text.replace("as it was", "by mistake")).unwrap();
        self.stage.docker(&["exec", &self.task("hosting_nginx"), "nginx", "-s", "reload"]);
        until("nginx has read it", || self.get(self.nginx, "/static").1 == "by mistake");
    }

    fn set(&self, id: &str, file: &str) -> std::path::PathBuf {
        self.at(&format!("/mnt/nfs/backups/{id}/{file}"))
    }

    /// What the last restore took, for the page in docs/runbooks.
    #[allow(clippy::print_stdout)]
    fn figures(&self, what: &str) {
        let took = *self.took.lock().unwrap();
        let restores = self.json(&["restores"]);
        let report = &restores.as_array().unwrap().last().unwrap()["report"];
        let slow = report["steps"].as_array().unwrap().iter().filter(|s| s["seconds"].as_f64() > Some(0.5));
        let slow: Vec<String> = slow.map(|s| format!("{} {}", s["name"], s["seconds"])).collect();
        println!(
            "FIGURES hosting, {what}: {took:?}, the application was away for {} s; {slow:?}",
            report["outage"]["seconds"]
        );
    }
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in\n{text}"));
}

/// Kinds of answers that a client gets through nginx while something is done, in their order.
fn meanwhile(p: &Platform, done: impl FnOnce()) -> Vec<u16> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut seen: Vec<u16> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let status = p.get(p.nginx, "/health").0;
                if seen.last() != Some(&status) {
                    seen.push(status);
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            seen
        });
        done();
        std::thread::sleep(std::time::Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    })
}

#[test]
fn the_whole_platform_comes_back_behind_a_page_and_goes_again() {
    let p = Platform::new();
    let last = p.state();
    says(&p.backstay(&["list", "--foreign"]), &["20240214-020000", "20240215-020000", "complete"]);
    let checked = p.backstay(&["check", "--foreign"]);
    for what in
        ["checksum compared", "3 tables", "502 keys", "1 image: localhost:5000/hosting-app:1.4", "behind it", "1 line"]
    {
        says(&checked, &[what]);
    }
    p.damage();
    let damaged = p.state();
    assert_ne!(damaged, last);
    let seen = meanwhile(&p, || {
        let said = p.backstay(&["restore", "--foreign", "nfs", LAST, "--yes"]);
        // Each archive of the settings has some of the paths, which is nothing to be told.
        assert!(!said.contains("nothing of the paths"), "{said}");
    });
    // While nginx takes up its file, workers of before and new ones answer side by side; nobody sees anything else.
    assert!(seen.contains(&503) && seen.iter().all(|s| [200, 503].contains(s)), "{seen:?}");
    assert_eq!((seen[0], seen[seen.len() - 1]), (200, 200));
    assert_eq!(p.state(), last);
    // What the append-only file had behind the snapshot, and the snapshot had not.
    assert_eq!(p.redis(&["GET", "written-later"]), LAST);
    assert_eq!(p.redis(&["DBSIZE"]), "502");
    let crontab = std::fs::metadata(p.at("/spool/crontabs/root")).unwrap();
    assert_eq!((crontab.mode() & 0o7777, crontab.uid()), (0o600, 0));
    p.figures("everything");
    // The log of the restore: when, of what, with what result, for how long.
    let restores = p.json(&["restores"]);
    let id = restores.as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
    says(&p.backstay(&["restores", id]), &["outage", "maintenance off", "swap"]);
    p.backstay(&["rollback", "--yes"]);
    // Images are named as they were and go with nobody.
    let rolled = p.state();
    let without_images =
        |text: &str| text.lines().filter(|l| !l.contains("hosting-worker")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_images(&rolled), without_images(&damaged));
}

#[test]
fn a_part_comes_back_by_itself_whatever_the_rest_of_the_folder_is_like() {
    let p = Platform::new();
    let last = p.state();
    let (users, sites) =
        (p.sql("SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u"), p.sql("SELECT count(*) FROM sites"));
    // The folder lost a volume, and the custom dump rotted on its disk.
    std::fs::remove_file(p.set(LAST, &format!("volumes/grafana-{LAST}.tar.gz"))).unwrap();
    let dump = p.set(LAST, &format!("postgres/postgres-{LAST}.dump"));
    let mut bytes = std::fs::read(&dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&dump, bytes).unwrap();
    let (code, out, err) = p.try_backstay(&["restore", "--foreign", "nfs", LAST, "--yes"]);
    assert_eq!(code, 7, "{out}\n{err}");
    says(&err, &["is not whole", "missing: 20240215-020000/volumes/grafana-20240215-020000.tar.gz"]);
    assert_eq!(p.state(), last);

    // The database alone, by the plain dump that stands in.
    p.sql("DELETE FROM sites; UPDATE users SET name = 'x'");
    let said = p.backstay(&["restore", "--foreign", "nfs", LAST, "--source", "hostingdb", "--yes"]);
    says(&said, &["postgres-20240215-020000.dump cannot be used"]);
    assert_eq!(p.sql("SELECT md5(string_agg(u::text, ',' ORDER BY id)) FROM users u"), users);
    assert_eq!(p.sql("SELECT count(*) FROM sites"), sites);
    assert_eq!(p.state(), last);
    p.figures("the database");

    // One file of nginx's configuration: nothing stops, and nginx has read it.
    p.spoil_nginx();
    let conf = p.at("/mnt/nfs/nginx/conf.d/app.conf").display().to_string();
    let task = p.task("hosting_app");
    let seen = meanwhile(&p, || {
        p.backstay(&["restore", "--foreign", "nfs", LAST, "--path", &conf, "--yes"]);
    });
    assert_eq!(seen, [200]);
    assert_eq!((p.get(p.nginx, "/static"), p.task("hosting_app")), ((200, "as it was".into()), task));
    p.figures("one file");
    p.backstay(&["rollback", "--yes"]);
    assert_eq!(p.get(p.nginx, "/static").1, "by mistake");

    // Its whole directory, which nginx has mounted and keeps.
    let folder = p.at("/mnt/nfs/nginx/conf.d").display().to_string();
    p.backstay(&["restore", "--foreign", "nfs", LAST, "--path", &folder, "--yes"]);
    assert_eq!(p.get(p.nginx, "/static").1, "as it was");
    p.backstay(&["rollback", "--yes"]);
    assert_eq!(p.get(p.nginx, "/static").1, "by mistake");

    // A configuration that nginx does not take is taken back.
    let good = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, "server { nonsense; }\n").unwrap();
    p.night("20240216-020000");
    std::fs::write(&conf, &good).unwrap();
    let (code, out, err) =
        p.try_backstay(&["restore", "--foreign", "nfs", "20240216-020000", "--path", &conf, "--yes"]);
    assert_eq!(code, 12, "{out}\n{err}");
    says(&err, &["nonsense"]);
    assert_eq!((std::fs::read_to_string(&conf).unwrap(), p.get(p.nginx, "/static").1), (good, "by mistake".into()));

    // The application does not start with its code of that night: everything is as it was.
    let code_now = std::fs::read_to_string(p.at("/opt/applications/app.py")).unwrap();
    p.write("/opt/applications/app.py", "raise SystemExit('cannot open the ledger')\n");
    p.night("20240217-020000");
    p.write("/opt/applications/app.py", &code_now);
    let before = p.state();
    let applications = ["restore", "--foreign", "nfs", "20240217-020000", "--source", "applications", "--yes"];
    let (code, out, err) = p.try_backstay(&applications);
    // By the start itself, or by the check when it takes a while to fail.
    assert!([12, 13].contains(&code), "{code}: {out}\n{err}");
    says(&err, &["hosting_app", "undo: swap files applications"]);
    assert_eq!(p.state(), before);
}

#[test]
fn roles_that_are_gone_and_rows_that_point_at_nothing_are_told_before_anything_is_touched() {
    let p = Platform::new();
    let database = |id: &str, more: &[&str]| {
        p.try_backstay(&[&["restore", "--foreign", "nfs", id, "--source", "hostingdb", "--yes"], more].concat())
    };
    // Permission errors: that night a role owned a table and could read another, and it is no more.
    p.sql("CREATE ROLE reports; ALTER TABLE sites OWNER TO reports; GRANT SELECT ON users TO reports");
    p.night("20240216-020000");
    let good = p.state();
    p.sql("REASSIGN OWNED BY reports TO hosting_user; DROP OWNED BY reports; DROP ROLE reports");
    p.sql("DELETE FROM sites WHERE id > 7");
    let before = p.state();
    let (code, out, err) = database("20240216-020000", &[]);
    assert_eq!(code, 10, "{out}\n{err}");
    says(&err, &["roles", "reports", "--no-owner"]);
    assert_eq!(p.state(), before);
    let (code, out, err) = database("20240216-020000", &["--no-owner", "--no-privileges"]);
    assert_eq!(code, 0, "{out}\n{err}");
    assert_eq!(p.state(), good);
    assert_eq!(p.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"), "hosting_user");
    assert_eq!(p.get(p.nginx, "/health").0, 200);

    // Data that is inconsistent: it was so when it was dumped. Neither of the two dumps loads, and neither goes live.
    p.sql("SET session_replication_role = replica; INSERT INTO sites (owner) VALUES (99999999)");
    p.night("20240217-020000");
    p.sql("DELETE FROM sites WHERE owner = 99999999");
    let before = p.state();
    let (code, out, err) = database("20240217-020000", &[]);
    assert_eq!(code, 12, "{out}\n{err}");
    says(&err, &["foreign key constraint", "sites"]);
    assert_eq!(p.state(), before);
    assert_eq!(p.get(p.nginx, "/health").0, 200);

    // Code that runs, and writes into the service's log that something is wrong.
    let code_now = std::fs::read_to_string(p.at("/opt/applications/app.py")).unwrap();
    let complains = "import sys\nprint('CRITICAL: the ledger cannot be opened', file=sys.stderr, flush=True)\n";
    p.write("/opt/applications/app.py", &format!("{complains}{code_now}"));
    p.night("20240218-020000");
    p.write("/opt/applications/app.py", &code_now);
    let before = p.state();
    let (code, out, err) =
        p.try_backstay(&["restore", "--foreign", "nfs", "20240218-020000", "--source", "applications", "--yes"]);
    assert_eq!(code, 13, "{out}\n{err}");
    says(&err, &["check log", "CRITICAL: the ledger cannot be opened"]);
    assert_eq!(p.state(), before);
}

#[test]
fn its_history_moves_along_and_the_next_night_ships_what_changed() {
    let p = Platform::new();
    p.backstay(&["init", "--recovery-out", &p.at("/recovery.key").display().to_string()]);
    let imported = p.json(&["import", "nfs", "--all"]);
    let shipped = |m: &serde_json::Value| m["stats"]["shipped"].as_u64().unwrap();
    assert_eq!(imported.as_array().unwrap().len(), 2);
    assert!(shipped(&imported[1]) * 4 < shipped(&imported[0]), "{imported:#}");
    let nightly = p.json(&["backup"]);
    assert!(shipped(&nightly) * 4 < shipped(&imported[0]), "{} of {}", shipped(&nightly), shipped(&imported[0]));
    let all = p.json(&["list"]);
    assert_eq!(all[0]["started"], "2024-02-14T02:00:00Z");
    p.backstay(&["check", "--read-data"]);
    // Any of the old ones comes back like a new one, without its folder.
    let last = p.state();
    std::fs::remove_dir_all(p.at("/mnt/nfs/backups")).unwrap();
    p.damage();
    p.backstay(&["restore", "--at", "2024-02-15T03:00:00Z", "--yes"]);
    assert_eq!(p.state(), last);
}
