//! A restore while clients read and write all the time: what they see, for how long they have to wait, and where what they wrote is
//! afterwards.
//!
//! The sizes are small here; `benches/flow.sh` runs the same with 2 GiB and 2 GiB, and holds the outage to its goal.

use crate::app::WRITTEN;
use crate::host::{Host, ok};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The variable that makes the clients of the test below.
const CLIENTS: &str = "FLOW_CLIENTS";
/// Sizes for the bench, MiB; the goal for the outage beyond the application's own time, seconds; where it is told as Markdown.
const DATABASE: &str = "FLOW_DATABASE_MIB";
const FILES: &str = "FLOW_FILES_MIB";
const GOAL: &str = "FLOW_GOAL";
const MARKDOWN: &str = "FLOW_MARKDOWN";
/// What the clients saw, and when they have seen enough.
const SEEN: &str = "/root/seen";
const ENOUGH: &str = "/root/enough";
/// Clients side by side; every second of them writes.
const MANY: usize = 4;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// One request over a connection of its own: its status, and the id of the maintenance page.
fn ask(path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect("127.0.0.1:80")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let page = answer.lines().find_map(|l| l.strip_prefix("X-Backstay-Maintenance: ")).unwrap_or("-");
    Ok((status, page.to_owned()))
}

/// The clients: a line for each answer.
#[test]
fn clients() {
    if std::env::var(CLIENTS).is_err() {
        return;
    }
    let seen = Mutex::new(std::fs::File::create(SEEN).unwrap());
    std::thread::scope(|scope| {
        for client in 0..MANY {
            let seen = &seen;
            scope.spawn(move || {
                for n in 0.. {
                    if Path::new(ENOUGH).exists() {
                        return;
                    }
                    let path = if client % 2 == 0 { "/".to_owned() } else { format!("/write/c{client}-{n}") };
                    let begun = now();
                    let (status, page) = ask(&path).unwrap_or_else(|e| (0, e.to_string().replace(' ', "_")));
                    writeln!(seen.lock().unwrap(), "{begun:.6} {:.6} {path} {status} {page}", now()).unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
}

/// An answer as a client noted it.
struct Seen {
    begun: f64,
    ended: f64,
    path: String,
    status: u16,
    page: String,
}

impl Seen {
    fn parse(line: &str) -> Self {
        let w: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<f64>().unwrap();
        Seen {
            begun: number(w[0]),
            ended: number(w[1]),
            path: w[2].to_owned(),
            status: w[3].parse().unwrap(),
            page: w[4].to_owned(),
        }
    }

    /// The word of a write that was accepted.
    fn accepted(&self) -> Option<&str> {
        self.path.strip_prefix("/write/").filter(|_| self.status == 200)
    }
}

fn mib(variable: &str) -> u64 {
    std::env::var(variable).map_or(24, |text| text.parse().unwrap())
}

/// So much that does not compress, in files of up to 32 MiB and in a table with a key and an index.
fn fill(host: &Host, database: u64, files: u64) {
    let files = format!(
        "mkdir -p /srv/app/data/ballast; n=0; left={files}; while [ $left -gt 0 ]; do size=$(( left > 32 ? 32 : left )); \
         head -c ${{size}}M /dev/urandom > /srv/app/data/ballast/$n; n=$((n + 1)); left=$((left - size)); done"
    );
    host.machine.sh(&files);
    // A row takes 334 bytes with its part of the indexes.
    let rows = database * 1024 * 1024 / 334;
    host.psql("app", &format!(
        "SET ROLE app; CREATE TABLE ballast AS SELECT n, md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) || md5((n + 3)::text) || repeat(md5((n + 4)::text), 4) AS filler FROM generate_series(1, {rows}) n; \
         ALTER TABLE ballast ADD PRIMARY KEY (n); CREATE INDEX ON ballast (left(filler, 8))"
    ));
}

/// What the application takes by itself to stop, and to start until it answers. Seconds.
fn own_time(host: &Host) -> f64 {
    let started = Instant::now();
    host.machine.sh("systemctl stop worker app");
    host.machine
        .sh("systemctl start app; until curl -sf -o /dev/null http://127.0.0.1:8000/health; do sleep 0.01; done");
    let took = started.elapsed().as_secs_f64();
    host.machine.sh("systemctl start worker");
    took
}

fn seconds(span: &serde_json::Value, end: &str) -> f64 {
    span[end].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_microsecond() as f64 / 1e6
}

#[test]
fn clients_that_read_and_write_meanwhile_lose_nothing_that_was_accepted_after_the_stop() {
    let (database, files) = (mib(DATABASE), mib(FILES));
    let host = Host::new("load");
    let m = &host.machine;
    fill(&host, database, files);
    ok(&host.backstay(&["backup"]));
    m.sh("echo third > /srv/app/data/value");
    let own = own_time(&host);
    let plan = host.backstay(&["restore", "--dry-run"]);
    ok(&plan);
    assert!(plan.out.contains("What was written since then will not be live any more"), "{}", plan.out);

    let mut clients = m.test("load::clients", (CLIENTS, "1"));
    let clients = clients.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    m.until(&format!("[ $(wc -l < {SEEN}) -gt 40 ]"));
    let began = Instant::now();
    let restored = host.backstay(&["restore", "--yes"]);
    let took = began.elapsed().as_secs_f64();
    let enough = std::fs::read_to_string(m.path(SEEN)).unwrap().lines().count() + 40;
    m.until(&format!("[ $(wc -l < {SEEN}) -gt {enough} ]"));
    m.sh(&format!("touch {ENOUGH}"));
    let ended = clients.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    ok(&restored);
    let text = std::fs::read_to_string(m.path(SEEN)).unwrap();
    let mut seen: Vec<Seen> = text.lines().map(Seen::parse).collect();
    seen.sort_by(|a, b| a.ended.total_cmp(&b.ended));

    // Answers of the application, or the page, and nothing else.
    for s in &seen {
        let good = s.status == 200 || (s.status == 503 && s.page.starts_with("20"));
        assert!(good, "a client saw {} {} at {} in {restored:?}", s.status, s.page, s.ended);
    }
    let pages: Vec<&Seen> = seen.iter().filter(|s| s.status == 503).collect();
    let (first, last) = (pages.first().unwrap(), pages.last().unwrap());
    let before = seen.iter().filter(|s| s.status == 200 && s.ended <= first.ended).map(|s| s.ended).fold(0.0, f64::max);
    let after =
        seen.iter().filter(|s| s.status == 200 && s.begun >= last.begun).map(|s| s.ended).fold(f64::MAX, f64::min);
    let outage = after - before;

    // The report says the same, and names the window of what is not live any more.
    let listed: serde_json::Value = serde_json::from_str(&host.backstay(&["--json", "restores"]).out).unwrap();
    let restore = listed.as_array().unwrap().last().unwrap();
    let report = &restore["report"];
    let told = (seconds(&report["outage"], "from"), seconds(&report["outage"], "to"));
    assert!(told.0 <= first.ended && last.begun <= told.1, "{told:?} does not hold {} to {}", first.ended, last.begun);
    let took_step = |name: &str| {
        let steps = report["steps"].as_array().unwrap();
        steps.iter().find(|s| s["name"] == name).unwrap()["seconds"].as_f64().unwrap()
    };
    let switching = took_step("maintenance on") + took_step("maintenance off");
    assert!(told.1 - told.0 <= outage + switching + 0.1, "{outage} s and {switching} s, and told are {told:?}");
    let lost = (seconds(&report["lost"], "from"), seconds(&report["lost"], "to"));

    // Whatever was accepted is live, or in what was kept: by when it was accepted.
    let kept = |part: &str| {
        let all: Vec<&str> = restore["kept"].as_array().unwrap().iter().map(|k| k["name"].as_str().unwrap()).collect();
        all.iter().find(|name| name.starts_with(part)).unwrap_or_else(|| panic!("{part} is not in {all:?}")).to_string()
    };
    let kept_database = kept("database ").replace("database ", "");
    host.psql("postgres", &format!("ALTER DATABASE \"{kept_database}\" ALLOW_CONNECTIONS true"));
    let rows =
        |of: &str| -> BTreeSet<String> { host.psql(of, "SELECT note FROM entry").lines().map(str::to_owned).collect() };
    let names = |of: &str| -> BTreeSet<String> {
        m.sh(&format!("ls {of} 2>/dev/null || true")).lines().map(str::to_owned).collect()
    };
    let kept_files = WRITTEN.replace("/srv/app/data", &kept("/srv/app/data"));
    let places =
        BTreeMap::from([("live", (rows("app"), names(WRITTEN))), ("kept", (rows(&kept_database), names(&kept_files)))]);
    let mut counted = BTreeMap::new();
    for s in &seen {
        let Some(word) = s.accepted() else { continue };
        let place = if s.ended <= lost.1 { "kept" } else { "live" };
        let (rows, files) = &places[place];
        assert!(
            rows.contains(word) && files.contains(word),
            "{word}, accepted at {}, is not {place}; stopped at {}",
            s.ended,
            lost.1
        );
        assert!(place == "live" || s.begun >= lost.0, "{word} was there before the backup");
        *counted.entry(place).or_insert(0) += 1;
    }
    assert!(counted["kept"] > 5 && counted["live"] > 5, "{counted:?}");
    assert_eq!(m.sh("systemctl is-active app worker"), "active\nactive");

    let beyond = outage - own;
    let markdown = format!(
        "| database | files | restore | requests | clients waited | the application's own stop and start | beyond it |\n|---|---|---|---|---|---|---|\n\
         | {} | {} | {took:.1} s | {}, of which {} got the page | {outage:.2} s | {own:.2} s | {beyond:.2} s |\n",
        m.sh("runuser -u postgres -- psql -XAtqc \"SELECT pg_size_pretty(pg_database_size('app'))\""),
        m.sh("du -sh /srv/app/data | cut -f1"),
        seen.len(),
        pages.len(),
    );
    if let Ok(path) = std::env::var(MARKDOWN) {
        std::fs::write(path, &markdown).unwrap();
    }
    if let Ok(goal) = std::env::var(GOAL) {
        assert!(beyond <= goal.parse().unwrap(), "{markdown}\nthe goal is {goal} s");
    }
}
