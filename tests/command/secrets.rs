//! Secrets reach the programs and nobody else.

use crate::{long, runs, wait_for, wake, with_command};
use std::fs;
use std::process::{Command, Stdio};

const SECRET: &str = "hunter2 is a good one";

/// Every argument of every process.
fn arguments() -> String {
    let lines =
        fs::read_dir("/proc").unwrap().flatten().map(|e| fs::read(e.path().join("cmdline")).unwrap_or_default());
    lines.map(|l| String::from_utf8_lossy(&l).into_owned()).collect()
}

#[test]
fn they_are_in_no_argument_output_fact_or_file() {
    let one = long();
    let w = with_command(&format!(
        "dump = [\"sh\", \"-c\", \"echo ok; echo $TOKEN >&2; if test -e DIR/wait; then sleep {one}; fi; test \\\"$TOKEN\\\" = '{}'; exit $?\"]\nsecrets_file = {{ TOKEN = \"token\" }}\n",
        SECRET.replace("hunter2", "hunter3")
    ));
    fs::write(w.at("token"), format!("{SECRET}\n")).unwrap();
    fs::write(w.at("wait"), "").unwrap();
    let child = w.command(&["--json", "backup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("it waits", || runs(&one));
    let arguments = arguments();
    assert!(arguments.contains(&one) && !arguments.contains(SECRET));
    fs::remove_file(w.at("wait")).unwrap();
    wake(&one);
    let out = child.wait_with_output().unwrap();
    // It failed, said the secret, and is quoted without it.
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("exit status 1") && said.contains("***") && !said.contains(SECRET), "{said}");
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap().replace("hunter3", "hunter2");
    w.write_config(&text);
    let manifest = w.backup().to_string();
    assert!(
        manifest.contains("\"program\":\"sh\"") && !manifest.contains(SECRET) && !manifest.contains("TOKEN"),
        "{manifest}"
    );
    let show = w.run(&["--json", "show"]).code(0);
    assert!(!show.out.contains(SECRET));
    let found = Command::new("grep").args(["-rl", SECRET, &w.at("state"), &w.at("repo")]).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}
