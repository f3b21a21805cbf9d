//! `backstay timer`, and timers that go off.

use crate::host::Host;
use jiff::Timestamp;
use std::process::Command;
use std::time::Duration;

const TIMER: &str = "backstay-backup@shop.timer";
const DROP_IN: &str = "/etc/systemd/system/backstay-backup@shop.timer.d/schedule.conf";

fn next(host: &Host) -> Option<Timestamp> {
    let all = host.json(&["timer", "list"]);
    let ours = all.as_array().unwrap().iter().find(|t| t["unit"] == TIMER).unwrap().clone();
    ours["next"].as_str().map(|at| at.parse().unwrap())
}

#[test]
fn a_timer_goes_off_by_itself_and_tells_when_it_will_again() {
    let host = Host::new("fires", "", &[]);
    // What is enabled is what a reboot of the host needs too.
    host.backstay(&["timer", "enable", "shop", "--calendar", "*:*:0/3", "--spread", "0s"]);
    assert_eq!(host.property("backstay-resume.service", "UnitFileState"), "enabled");
    host.machine.until("test $(ls /srv/repository/shop-1/backups/shop | wc -l) -ge 2");
    let asked = Timestamp::now();
    let told = loop {
        // None while the job runs.
        if let Some(at) = next(&host) {
            break at;
        }
    };
    let away = told.duration_since(asked).as_secs();
    assert!((-1..=6).contains(&away), "{told} is not soon after {asked}");
    let listed = host.json(&["timer", "list"]);
    let ours = listed.as_array().unwrap().iter().find(|t| t["unit"] == TIMER).unwrap();
    assert_eq!((ours["enabled"].as_bool(), ours["failure"].as_str()), (Some(true), None), "{ours}");
    assert!(ours["last"].as_str().is_some_and(|at| at.parse::<Timestamp>().is_ok()), "{ours}");

    host.backstay(&["timer", "disable", "shop"]);
    host.machine.until("! systemctl is-active backstay-backup@shop.service");
    let before = host.backups();
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(host.backups(), before);
    host.machine.run(&["test", "!", "-e", DROP_IN]);
    assert_eq!(host.property(TIMER, "UnitFileState"), "disabled");
}

#[test]
fn a_schedule_is_told_in_utc_and_in_local_time() {
    let host = Host::new("zones", "", &[]);
    host.machine.sh("ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime");
    let told = host.backstay(&["timer", "enable", "--at", "02:00", "--spread", "0s"]);
    assert!(told.contains("enabled backstay-backup@shop.timer") && told.contains("*-*-* 02:00:00"), "{told}");
    // Two in the morning in Tokyo.
    assert!(told.contains("17:00:00 UTC (") && told.contains("02:00 JST"), "{told}");
    assert_eq!(next(&host).unwrap().to_string().split('T').nth(1), Some("17:00:00Z"));
    let table = host.backstay(&["timer", "list"]);
    assert!(table.contains("17:00:00 UTC") && table.contains("02:00 JST"), "{table}");
    for job in ["drill", "check", "prune", "cleanup"] {
        assert!(table.lines().any(|l| l.starts_with(job) && l.contains("disabled")), "{table}");
    }
    // Another time zone may be named.
    host.backstay(&["timer", "enable", "--on", "Mon..Fri", "--at", "22:30 UTC", "--at", "12:00"]);
    let of_timer = host.property(TIMER, "TimersCalendar");
    assert!(
        of_timer.contains("Mon..Fri *-*-* 22:30:00 UTC") && of_timer.contains("Mon..Fri *-*-* 12:00:00"),
        "{of_timer}"
    );
    // Enabled once more without a time, it keeps the one that it has.
    host.backstay(&["timer", "disable"]);
    host.backstay(&["timer", "enable", "--on", "weekly", "--at", "05:00"]);
    host.machine.run(&["systemctl", "disable", "--now", TIMER]);
    let told = host.backstay(&["timer", "enable"]);
    assert!(told.contains("Mon *-*-* 05:00:00"), "{told}");
    // The other jobs.
    for (job, default) in [("check", "Sun *-*-* 05:00:00"), ("prune", "*-*-* 06:00:00"), ("cleanup", "*-*-* 06:30:00")]
    {
        let told = host.backstay(&["timer", "enable", "--job", job]);
        assert!(told.contains(&format!("enabled backstay-{job}.timer")) && told.contains(default), "{told}");
    }
}

#[test]
fn a_new_schedule_does_not_start_the_job() {
    let host = Host::new("quiet", "", &[]);
    host.backstay(&["timer", "enable", "--at", "23:59", "--spread", "0s"]);
    // It went off yesterday, so that by the new schedule it missed one.
    host.machine.sh("systemctl stop backstay-backup@shop.timer; touch -d '2 days ago' /var/lib/systemd/timers/stamp-backstay-backup@shop.timer");
    host.backstay(&["timer", "enable", "--at", "00:01", "--spread", "0s"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(host.backups(), 0);
    // One that was missed because the host was off is made up for.
    host.machine.sh("systemctl stop backstay-backup@shop.timer; touch -d '2 days ago' /var/lib/systemd/timers/stamp-backstay-backup@shop.timer");
    host.machine.run(&["systemctl", "start", TIMER]);
    host.machine.until("test $(ls /srv/repository/shop-1/backups/shop | wc -l) -ge 1");
}

#[test]
fn what_is_no_schedule_is_refused_and_nothing_is_written() {
    let host = Host::new("refused", "", &[]);
    for (args, code, word) in [
        (&["--at", "25:00"][..], 2, "25:00"),
        (&["--on", "Mon,Foo"], 2, "Mon,Foo"),
        (&["--calendar", "2001-01-01"], 2, "never comes"),
        (&["--calendar", "*:*:0/5\n[Service]\nExecStart=/bin/false"], 2, "control characters"),
        (&["--on", "hourly", "--at", "02:00"], 2, "no time of day"),
        (&["nosuch", "--at", "02:00"], 4, "Configured are: shop"),
        (&["shop", "--job", "prune"], 2, "takes no plan"),
    ] {
        let refused = host.try_backstay(&[&["timer", "enable"], args].concat());
        assert_eq!(refused.code, code, "{args:?}: {refused:?}");
        assert!(refused.err.contains(word), "{args:?}: {}", refused.err);
    }
    host.machine.run(&["test", "!", "-e", "/etc/systemd/system/backstay-backup@shop.timer.d"]);
    assert_eq!(host.property(TIMER, "ActiveState"), "inactive");
    // A plan that is gone from the configuration is shown, and can be disabled.
    host.backstay(&["timer", "enable"]);
    host.machine.sh("sed -i 's/plans.shop/plans.store/' /etc/backstay/backstay.toml");
    assert!(host.backstay(&["timer", "list"]).contains("shop (not configured)"));
    host.backstay(&["timer", "disable", "shop"]);
    // Without the package there are no units.
    host.machine.sh("rm /usr/lib/systemd/system/backstay-*@.timer && systemctl daemon-reload");
    let missing = host.try_backstay(&["timer", "enable"]);
    assert_eq!(missing.code, 4, "{missing:?}");
    assert!(missing.err.contains("install.sh"), "{missing:?}");
}

#[test]
fn without_systemd_it_says_so() {
    // A name space in which nothing is below /run.
    let script = "mount -t tmpfs none /run && exec \"$0\" timer list";
    let out =
        Command::new("unshare").args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_backstay")]).output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(10), "{err}");
    assert!(err.contains("this host is not run by systemd") && err.contains("cron"), "{err}");
}
