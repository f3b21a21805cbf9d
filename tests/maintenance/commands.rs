//! `backstay maintenance` as it is typed.

use super::web::Web;
use backstay::model::BackupId;
use backstay::recovery::journal::{Begin, Journal, Record};
use serde_json::Value;
use std::process::Command;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(self, words: &[&str]) -> Self {
        let all = format!("{}\n{}", self.out, self.err);
        for word in words {
            assert!(all.contains(word), "{word:?} is not said in:\n{all}");
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }
}

fn configure(web: &Web, maintenance: &str) {
    let d = web.path().display();
    web.write(
        "backstay.toml",
        &format!(
            "host = \"h\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n{maintenance}\n\
             [sources.s]\nkind = \"files\"\npaths = [\"/etc/hosts\"]\n[plans.p]\nsources = [\"s\"]\n"
        ),
    );
}

fn section(web: &Web, more: &str) -> String {
    format!("[maintenance]\nwhere = \"host\"\ncommand = {:?}\n{more}", web.command())
}

fn run(web: &Web, args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let out = Command::new(env!("CARGO_BIN_EXE_backstay"))
        .arg("--config")
        .arg(web.at("backstay.toml"))
        .args(args)
        .env("NO_COLOR", "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    Ran {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8(out.stdout).unwrap(),
        err: String::from_utf8(out.stderr).unwrap(),
    }
}

#[test]
fn a_day_with_maintenance_by_hand() {
    let web = Web::plain();
    configure(&web, &section(&web, ""));
    let m = |args: &[&str]| run(&web, &[&["maintenance"], args].concat(), &[]);
    m(&["status"]).code(0).says(&["maintenance is off", "lack the include", "sites-enabled/shop:3", "301, not"]);
    m(&["on"]).code(10).says(&["backstay maintenance install"]);
    let line = format!("include {}/nginx/*.conf; # Backstay", web.state().display());
    let before = web.read("sites-available/shop");
    m(&["install", "--print"]).code(0).says(&[&line]);
    assert_eq!(web.read("sites-available/shop"), before);
    m(&["install"]).code(0).says(&["written into 3 server blocks", "sites-enabled/shop (2)", "nginx-before"]);
    m(&["install"]).code(0).says(&["nothing is to be changed"]);
    m(&["on", "--plan", "p"]).code(0).says(&["maintenance is on as by-hand-20", "4 answers looked at"]);
    m(&["on"]).code(0).says(&["maintenance is on already, as by-hand-20"]);
    m(&["status"]).code(0).says(&[
        "maintenance is on as by-hand-",
        "https://secure.example.com at 127.0.0.1",
        "503, maintenance by-hand-",
    ]);
    m(&["uninstall"]).code(10).says(&["maintenance is on"]);
    m(&["off"]).code(0).says(&["maintenance is off; 4 answers"]);
    m(&["off"]).code(0).says(&["maintenance is off already"]);
    m(&["uninstall"]).code(0).says(&["taken out of 3 server blocks"]);
    assert_eq!(web.read("sites-available/shop"), before);
}

#[test]
fn machines_get_the_same_as_json() {
    let web = Web::plain();
    configure(&web, &section(&web, ""));
    let m = |args: &[&str]| run(&web, &[&["--json", "maintenance"], args].concat(), &[]);
    assert_eq!(m(&["install"]).code(0).json()["files"].as_object().unwrap().len(), 2);
    let on = m(&["on"]).code(0).json();
    let id = on["state"]["on"].as_str().unwrap().to_owned();
    assert_eq!((&on["reloaded"], &on["workers_left"], &on["before"]), (&true.into(), &0.into(), &"absent".into()));
    assert_eq!(on["asked"][0]["answer"]["page"], id.as_str());
    let status = m(&["status"]).code(0).json();
    assert_eq!(
        (&status["state"]["on"], &status["down"], &status["leaving"]),
        (&id.as_str().into(), &Value::Null, &0.into())
    );
    assert!(status["servers"].as_array().unwrap().iter().all(|s| s["included"] == true));
    assert!(status["asked"].as_array().unwrap().iter().all(|a| a["good"] == true));
    // Somebody takes the file away behind our back: what is shown is not what it says.
    std::fs::remove_file(web.snippet()).unwrap();
    assert_eq!(m(&["status"]).code(12).json()["asked"][0]["good"], false);
    let off = m(&["off"]).code(0).json();
    assert_eq!((&off["reloaded"], &off["workers_left"]), (&true.into(), &Value::Null));
    let e: Value = serde_json::from_str(&m(&["on", "--plan", "nobody"]).code(4).err).unwrap();
    assert_eq!(e["error"]["kind"], "not-found");
}

#[test]
fn what_is_configured_wrong_is_said_with_its_key() {
    let web = Web::plain();
    let m = |environment: &[(&str, &str)]| run(&web, &["maintenance", "status"], environment);
    configure(&web, "");
    m(&[]).code(3).says(&["no maintenance is configured", "docs/maintenance.md"]);
    for (more, word) in [
        ("retry_afer = 5", "Did you mean `retry_after`?"),
        ("allow = [\"healthz\"]", "`maintenance.allow`"),
        ("drain = \"soon\"", "is not a duration"),
        ("snippet_dir = \"here\"", "`maintenance.snippet_dir`"),
        ("probe = \"localhost\"", "`maintenance.probe`"),
        ("names = [\"*.x\"]", "`maintenance.names`"),
    ] {
        configure(&web, &section(&web, more));
        m(&[]).code(3).says(&[word]);
    }
    configure(&web, &section(&web, "").replace("\"host\"", "\"hots\""));
    m(&[]).code(3).says(&["Did you mean `host`?"]);
    // Everything from the environment, too.
    configure(&web, "");
    let command = web.command().join(",");
    let environment = [
        ("BACKSTAY__MAINTENANCE__COMMAND", command.as_str()),
        ("BACKSTAY__MAINTENANCE__RETRY_AFTER", "9"),
        ("BACKSTAY__MAINTENANCE__NAMES", "shop.example.com,secure.example.com"),
    ];
    let status = run(&web, &["--json", "maintenance", "status"], &environment).code(0).json();
    assert_eq!(status["asked"].as_array().unwrap().len(), 2);
}

#[test]
fn a_restore_that_runs_is_not_disturbed() {
    let web = Web::plain();
    configure(&web, &section(&web, ""));
    std::fs::create_dir_all(web.state()).unwrap();
    std::fs::write(web.state().join("restore.journal"), "").unwrap();
    for what in ["on", "off", "install", "uninstall"] {
        run(&web, &["maintenance", what], &[]).code(9).says(&["is still open"]);
    }
    run(&web, &["maintenance", "status"], &[]).code(0);
}

/// The rest of such a restore is done by hand, and the page is part of it.
#[test]
fn beside_a_restore_that_is_stuck_the_page_is_the_operators() {
    let web = Web::plain();
    configure(&web, &section(&web, ""));
    run(&web, &["maintenance", "install"], &[]).code(0);
    let begin = Begin {
        id: BackupId::new(jiff::Timestamp::UNIX_EPOCH),
        plan: "shop".parse().unwrap(),
        backup: BackupId::new(jiff::Timestamp::UNIX_EPOCH),
        asked: Value::Null,
        steps: vec!["swap".to_owned()],
    };
    let file = web.state().join("restore.journal");
    let mut journal = Journal::begin(&file, begin).unwrap();
    journal.write(Record::Doing(0, Value::Null)).unwrap();
    journal.write(Record::Failed(0, "it failed".to_owned())).unwrap();
    run(&web, &["maintenance", "on"], &[]).code(9).says(&["is still open"]);
    journal.write(Record::Stuck(0, "so did its undo".to_owned())).unwrap();
    let before = std::fs::read(&file).unwrap();
    for (what, status) in [("on", 0), ("status", 0), ("off", 0), ("uninstall", 9)] {
        run(&web, &["maintenance", what], &[]).code(status);
    }
    // Taken back once more it is called stuck until that has ended; a backup has no mind about the page.
    let at_work = |work: &str| {
        std::fs::write(web.state().join("work.lock"), format!("{work} 1")).unwrap();
        let lock = std::fs::File::open(web.state().join("work.lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        lock
    };
    for (work, status) in [("restore", 9), ("rollback", 9), ("resume", 9), ("backup", 0), ("drill", 0)] {
        let _lock = at_work(work);
        for what in ["on", "off"] {
            let ran = run(&web, &["maintenance", what], &[]).code(status);
            if status == 9 {
                ran.says(&[&format!("a {work} is running (process 1)")]);
            }
        }
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
}
