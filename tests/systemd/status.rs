//! What only a host with a systemd can show: next runs in `status`, units and timers in `doctor`, levels and fields in the
//! journal, and check-ins by the timer.

use crate::host::Host;
use serde_json::Value;

fn run(host: &Host, args: &[&str]) -> (i32, Value) {
    let ended = host.try_backstay(&[&["--json"], args].concat());
    let value = serde_json::from_str(&ended.out).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
    (ended.code, value)
}

#[track_caller]
fn check<'a>(found: &'a Value, name: &str) -> &'a Value {
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|c| c["name"].as_str().unwrap().contains(name)).unwrap_or_else(|| panic!("{name}: {found:#}"))
}

#[test]
fn status_and_doctor_know_when_what_runs_next_and_what_does_not() {
    let host = Host::new("status", "", &[]);
    host.backstay(&["backup"]);
    host.backstay(&["--identity", "/root/recovery.key", "key", "check"]);
    // Nothing backs it up by itself yet.
    let (code, now) = run(&host, &["status"]);
    assert_eq!((code, &now["state"]), (0, &"notice".into()), "{now:#}");
    assert!(now["problems"][0]["do"].as_str().unwrap().contains("backstay timer enable shop"), "{now:#}");
    let (_, found) = run(&host, &["doctor", "--area", "timers"]);
    assert_eq!(check(&found, "backup of shop")["outcome"], "warning", "{found:#}");

    host.backstay(&["timer", "enable", "--at", "02:00", "--spread", "0s"]);
    let (code, now) = run(&host, &["status"]);
    assert_eq!((code, &now["state"]), (0, &"good".into()), "{now:#}");
    let next: jiff::Timestamp = now["plans"][0]["timer"]["next"].as_str().unwrap().parse().unwrap();
    assert_eq!(next.to_string().split('T').nth(1), Some("02:00:00Z"));
    assert_eq!(now["timers"]["cleanup"]["next"], Value::Null, "{now:#}");
    host.backstay(&["timer", "enable", "--job", "cleanup", "--at", "05:30", "--spread", "0s"]);
    let (_, now) = run(&host, &["status"]);
    let swept: jiff::Timestamp = now["timers"]["cleanup"]["next"].as_str().unwrap().parse().unwrap();
    assert_eq!(swept.to_string().split('T').nth(1), Some("05:30:00Z"));
    let text = host.backstay(&["status"]);
    assert!(text.contains("02:00:00 UTC (") && text.contains("in ") && text.contains("no problem"), "{text}");
    let (_, found) = run(&host, &["doctor", "--area", "timers"]);
    assert_eq!(check(&found, "backup of shop")["outcome"], "good", "{found:#}");
    assert_eq!(check(&found, "backstay-resume.service")["outcome"], "good", "{found:#}");

    // A timer that somebody stopped goes off after the next boot only.
    host.machine.run(&["systemctl", "stop", "backstay-backup@shop.timer"]);
    let (code, now) = run(&host, &["status"]);
    assert_eq!(code, 17);
    assert!(now["problems"][0]["what"].as_str().unwrap().contains("enabled and stopped"), "{now:#}");
    let (code, found) = run(&host, &["doctor", "--area", "timers"]);
    assert_eq!((code, &check(&found, "backup of shop")["outcome"]), (17, &"bad".into()), "{found:#}");
    host.machine.run(&["systemctl", "start", "backstay-backup@shop.timer"]);
    host.machine.run(&["systemctl", "disable", "backstay-resume.service"]);
    let (code, found) = run(&host, &["doctor", "--area", "timers"]);
    assert_eq!((code, &check(&found, "backstay-resume.service")["outcome"]), (17, &"bad".into()), "{found:#}");
}

#[test]
fn a_job_that_fails_before_it_begins_is_told() {
    let host = Host::new("early", "", &[]);
    host.backstay(&["backup"]);
    host.backstay(&["timer", "enable", "--calendar", "*:*:0/2", "--spread", "0s"]);
    // A mistake that nobody notices: the job ends before it can note that it began.
    host.machine.sh("sed -i 's/^paths/pahts/' /etc/backstay/backstay.toml");
    host.machine.until("systemctl is-failed backstay-backup@shop.service");
    // Seen through to its end: stopped, and mended.
    host.machine.run(&["systemctl", "stop", "backstay-backup@shop.timer"]);
    host.machine.sh("sed -i 's/^pahts/paths/' /etc/backstay/backstay.toml");
    let (code, now) = run(&host, &["status"]);
    let what: Vec<&str> = now["problems"].as_array().unwrap().iter().map(|p| p["what"].as_str().unwrap()).collect();
    assert!(what.iter().any(|w| w.contains("failed before it could note anything: exit status 3")), "{what:?}");
    assert_eq!(code, 17);
}

#[test]
fn units_that_there_are_not_are_told_before_a_restore_needs_them() {
    let host = Host::new("units", "", &[]);
    host.machine.write("/etc/systemd/system/shop-web.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    host.machine.run(&["systemctl", "daemon-reload"]);
    host.machine.sh("printf '[plans.shop.restore]\\nstop = [\"shop-wbe\"]\\n' >> /etc/backstay/backstay.toml");
    let (code, found) = run(&host, &["doctor", "--area", "restore"]);
    let stopped = check(&found, "what is stopped");
    assert_eq!((code, &stopped["outcome"]), (17, &"bad".into()), "{found:#}");
    assert!(stopped["detail"].as_str().unwrap().contains("shop-wbe"), "{found:#}");
    assert!(stopped["do"].as_str().unwrap().contains("shop-web"), "what is meant is not proposed: {found:#}");
    host.machine.sh("sed -i 's/shop-wbe/shop-web/' /etc/backstay/backstay.toml");
    let (code, found) = run(&host, &["doctor", "--area", "restore"]);
    assert_eq!((code, &check(&found, "what is stopped")["outcome"]), (0, &"good".into()), "{found:#}");
}

/// The entries of a unit, with all their fields.
fn entries(host: &Host, unit: &str) -> Vec<Value> {
    let out = host.machine.run(&["journalctl", "--output=json", "--no-pager", "--quiet", "--unit", unit]);
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_journal_gets_levels_and_fields() {
    let host = Host::new("journal", "", &[]);
    let unit = "backstay-backup@shop.service";
    host.job(unit);
    let all = entries(&host, unit);
    let done = all.iter().find(|e| e["BACKSTAY_STATE"] == "done").unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!((&done["MESSAGE"], &done["PRIORITY"]), (&"source data: done".into(), &"6".into()));
    assert_eq!((&done["BACKSTAY_SOURCE"], &done["SYSLOG_IDENTIFIER"]), (&"data".into(), &"backstay".into()));
    let committed = all.iter().find(|e| e["BACKSTAY_BACKUP"].is_string()).unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(committed["BACKSTAY_PLAN"], "shop");

    host.machine.sh("mv /srv/data /srv/elsewhere");
    assert_ne!(host.machine.try_run(&["systemctl", "start", unit]).code, 0);
    let errors =
        host.machine.run(&["journalctl", "--output=cat", "--no-pager", "--quiet", "--priority=err", "--unit", unit]);
    assert!(errors.contains("source data: failed") && errors.contains("error: "), "{errors}");
    let of_source =
        host.machine.run(&["journalctl", "--output=cat", "--quiet", "BACKSTAY_SOURCE=data", "BACKSTAY_STATE=failed"]);
    assert_eq!(of_source.lines().count(), 1, "{of_source}");
}

/// A Sentry in few words: it writes down what it is sent.
const SENTRY: &str = "import socket
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(('127.0.0.1', 9000)); server.listen(16)
while True:
    to, _ = server.accept(); got = b''
    while b'\\r\\n\\r\\n' not in got:
        more = to.recv(65536); got += more
        if not more: break
    if b'\\r\\n\\r\\n' not in got: continue
    head, body = got.split(b'\\r\\n\\r\\n', 1)
    length = [int(l.split(b':')[1]) for l in head.lower().split(b'\\r\\n') if l.startswith(b'content-length')][0]
    while len(body) < length: body += to.recv(65536)
    open('/root/sent', 'ab').write(body + b'\\n')
    to.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}'); to.close()
";

#[test]
fn check_ins_have_the_schedule_and_the_margin_of_the_timer() {
    let host = Host::new("checkin", "[sentry]\ndsn = \"http://key@127.0.0.1:9000/42\"\n", &[]);
    host.machine.sh("sed -i 's/^\\[plans.shop\\]/[plans.shop]\\nmax_runtime = \"2h\"/' /etc/backstay/backstay.toml");
    host.machine.write("/root/sentry.py", SENTRY);
    let mut server = host.machine.command(&["python3", "/root/sentry.py"]).spawn().unwrap();
    host.machine.until("python3 -c \"import socket; socket.create_connection(('127.0.0.1', 9000)).close()\" || true; test -e /proc/net/tcp && grep -q ':2328 ' /proc/net/tcp");
    let check_ins = || -> Vec<Value> {
        let sent = host.machine.try_run(&["cat", "/root/sent"]).out;
        let all = sent.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|item| item["check_in_id"].is_string()).collect()
    };
    // Without a timer nobody knows when it is due.
    host.backstay(&["backup"]);
    assert!(check_ins().is_empty(), "{:#?}", check_ins());
    host.backstay(&["timer", "enable", "--on", "Mon..Fri", "--at", "02:30 Europe/Berlin", "--spread", "15m"]);
    host.backstay(&["backup"]);
    let seen = check_ins();
    assert_eq!(
        seen.iter().map(|c| c["status"].as_str().unwrap()).collect::<Vec<_>>(),
        ["in_progress", "ok"],
        "{seen:#?}"
    );
    let config = &seen[0]["monitor_config"];
    assert_eq!(config["schedule"]["value"], "30 2 * * 1,2,3,4,5", "{config}");
    assert_eq!(config["timezone"], "Europe/Berlin", "{config}");
    // Half an hour, and what chance adds.
    assert_eq!((&config["checkin_margin"], &config["max_runtime"]), (&45.into(), &120.into()), "{config}");
    server.kill().unwrap();
    server.wait().unwrap();
}
