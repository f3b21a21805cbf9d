//! Memory stays below what is promised, however much goes through: 256 MiB, of which buffers take what they are given.

use crate::world::World;
use std::process::Command;

/// Of data, several times what may be on its way at once, so that every queue was full.
const DATA: &str = "700M";
const PROMISED_MIB: u64 = 256;

/// Runs a command; the peak of its resident memory in MiB.
fn peak(world: &World, args: &[&str]) -> u64 {
    let script = "import resource, subprocess, sys\n\
                  code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n\
                  print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)\n\
                  sys.exit(code)";
    let out = Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_backstay")])
        .args(args)
        .env("BACKSTAY_CONFIG", world.at("backstay.toml"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn a_backup_and_every_way_back_stay_below_the_promised_memory() {
    let w = World::new();
    let file = w.file("noise", "");
    let filled = Command::new("bash")
        .args(["-c", &format!("head -c {DATA} /dev/urandom > \"$0\"")])
        .arg(&file)
        .status()
        .unwrap();
    assert!(filled.success());
    let out = w.at("out");
    let commands: [&[&str]; 4] = [
        &["backup"],
        &["check", "--read-data"],
        &["cat", "--source", "tree", "--path", file.to_str().unwrap()],
        &["restore", "--to", &out],
    ];
    for args in commands {
        let mib = peak(&w, args);
        assert!(mib <= PROMISED_MIB, "{args:?} took {mib} MiB");
        // Else it was not the command that was measured.
        assert!(mib >= 30, "{args:?} took {mib} MiB");
    }
}
