//! The unit files themselves.

use crate::host::{Host, project};
use std::process::Command;

/// `backstay-backup@.service` as an instance.
fn instance(name: &str) -> String {
    name.replace("@.", "@x.")
}

fn units(ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project().join("systemd")).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().into_string().unwrap()).filter(|n| n.ends_with(ending)).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

fn text(unit: &str) -> String {
    std::fs::read_to_string(project().join("systemd").join(unit)).unwrap()
}

/// How exposed a service is, from 0 to 10, as systemd counts.
fn exposure(unit: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(instance(unit));
    std::fs::write(&path, text(unit)).unwrap();
    let args = ["security", "--offline=true", "--no-pager"];
    let out = Command::new("systemd-analyze").args(args).arg(&path).env("LC_ALL", "C.UTF-8").output().unwrap();
    let report = String::from_utf8(out.stdout).unwrap();
    let figure = report.split("Overall exposure level for ").nth(1).and_then(|rest| rest.split(": ").nth(1));
    figure.and_then(|f| f.split(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{unit}: {report}"))
}

#[test]
fn no_service_is_more_exposed_than_the_document_says() {
    let document = std::fs::read_to_string(project().join("docs/systemd.md")).unwrap();
    for unit in units(".service") {
        let row = document
            .lines()
            .find(|l| l.starts_with(&format!("| `{unit}` | ")))
            .unwrap_or_else(|| panic!("docs/systemd.md does not say how exposed {unit} is: it is {}", exposure(&unit)));
        let told: f64 = row.split('|').nth(2).unwrap().trim().parse().unwrap();
        let is = exposure(&unit);
        assert!(is <= told, "{unit} is exposed by {is}, and docs/systemd.md says {told}");
    }
}

#[test]
fn every_service_runs_a_command_that_there_is_and_tells_of_its_failure() {
    let help = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for unit in units(".service").into_iter().filter(|u| u != "backstay-failed@.service") {
        let text = text(&unit);
        assert!(text.contains("\nOnFailure=backstay-failed@%n.service\n"), "{unit}");
        let lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("ExecStart=/usr/bin/backstay ")).collect();
        assert!(!lines.is_empty(), "{unit}");
        for line in lines {
            let word = line.split(' ').find(|w| w.len() > 2 && w.chars().all(|c| c.is_ascii_lowercase())).unwrap();
            // It is for units alone.
            let known = word == "managed" || help.contains(&format!("\n  {word} "));
            assert!(known, "{unit}: there is no command {word}");
        }
    }
    for timer in units(".timer") {
        for line in ["Persistent=yes", "RandomizedDelaySec=", "FixedRandomDelay=yes", "WantedBy=timers.target"] {
            assert!(text(&timer).contains(line), "{timer}: {line}");
        }
    }
}

#[test]
fn systemd_finds_nothing_to_complain_of() {
    let host = Host::bare("verify");
    host.machine.sh("printf '#!/bin/sh\n' > /etc/backstay/on-failure; chmod 755 /etc/backstay/on-failure");
    let installed: Vec<String> = units("").iter().map(|u| instance(u)).collect();
    let mut argv = vec!["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"];
    argv.extend(installed.iter().map(String::as_str));
    let ended = host.machine.try_run(&argv);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
}
