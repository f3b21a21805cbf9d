//! Memory stays below what is promised, however much goes through: 256 MiB, of which buffers take what they are given.

use crate::world::{World, noise};
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

fn stay_below(world: &World, commands: &[&[&str]]) {
    for args in commands {
        let mib = peak(world, args);
        assert!(mib <= PROMISED_MIB, "{args:?} took {mib} MiB");
        // Else it was not the command that was measured.
        assert!(mib >= 30, "{args:?} took {mib} MiB");
    }
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
    stay_below(
        &w,
        &[
            &["backup"],
            &["check", "--read-data"],
            &["cat", "--source", "tree", "--path", file.to_str().unwrap()],
            &["restore", "--to", &out],
        ],
    );
}

/// The recipe then goes back and forth between packs of all generations, and pieces of each wait to be written.
#[test]
fn a_tree_of_small_and_large_files_in_turns_comes_back_in_the_promised_memory_after_many_backups() {
    let w = World::new();
    const DIRS: u64 = 48;
    const SMALL: u64 = 24;
    for generation in 0..4 {
        for dir in 0..DIRS {
            for small in (0..SMALL).filter(|n| generation == 0 || (n + dir) % 8 == generation) {
                let seed = generation << 32 | dir << 16 | small;
                let bytes = 20_000 + (small as usize * 7919) % 90_000;
                w.file(&format!("d{dir}/s{small:02}"), noise(bytes, seed));
                if small % 8 == 0 && (generation == 0 || dir % 8 == generation) {
                    w.file(&format!("d{dir}/s{small:02}-large"), noise(3 << 20, seed | 1 << 15));
                }
            }
        }
        stay_below(&w, &[&["backup"]]);
    }
    let out = w.at("out");
    stay_below(&w, &[&["restore", "--to", &out], &["cat", "--source", "tree"]]);
}
