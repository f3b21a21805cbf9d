//! A scratch server in a container. Nothing is pulled: the image is made of the programs of this machine.

use crate::setup::Host;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const IMAGE: &str = "backstay-tests-drill";

fn docker(args: &[&str]) -> Output {
    Command::new("docker").args(args).stdin(Stdio::null()).output().expect("docker is not installed")
}

/// The libraries that programs need.
fn libraries(programs: &[PathBuf]) -> BTreeSet<String> {
    let out = Command::new("ldd").args(programs).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let words = text.lines().filter(|l| l.starts_with('\t')).flat_map(str::split_whitespace);
    words.filter(|w| w.starts_with('/')).map(str::to_owned).collect()
}

/// An image of PostgreSQL as it is installed here, with a shell.
fn image(host: &Host) {
    let bin = host.cluster.bin();
    let root = tempfile::tempdir().unwrap();
    let shell = "set -e; mkdir -p bin tmp etc; chmod 1777 tmp; cp /bin/busybox bin/; for a in sh mkdir ls tail cat rm mktemp df sed; do ln bin/busybox bin/$a; done
        printf 'root:x:0:0::/:/bin/sh\\npostgres:x:5432:5432::/tmp:/bin/sh\\n' > etc/passwd; printf 'root:x:0:\\npostgres:x:5432:\\n' > etc/group";
    let made = Command::new("sh").args(["-c", shell]).current_dir(root.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let programs: Vec<PathBuf> = ["initdb", "postgres", "psql", "pg_restore", "pg_dump"].map(|p| bin.join(p)).to_vec();
    let mut paths: Vec<String> = libraries(&programs).into_iter().collect();
    paths.extend(programs.iter().map(|p| p.display().to_string()));
    let server = bin.parent().unwrap();
    for part in
        [server.join("lib"), host.cluster.share(), "/usr/lib/locale/C.utf8".into(), "/usr/share/zoneinfo/Etc".into()]
    {
        if Path::new(&part).exists() {
            paths.push(part.display().to_string());
        }
    }
    // Links of the libraries' directories are followed: the image has none.
    let script = format!(
        "tar -ch --exclude='*llvm*' --exclude='*.bc' -P {} --transform='s,^/,,' -C {} . | docker import --change 'ENV PATH=/bin:{}' - {IMAGE}",
        paths.join(" "),
        root.path().display(),
        bin.display()
    );
    let imported = Command::new("bash").args(["-c", &format!("set -o pipefail; {script}")]).output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
}

#[test]
fn databases_come_back_in_a_container_of_their_own_which_is_gone_afterwards() {
    let mut host = Host::new();
    image(&host);
    host.drill = format!("scratch = \"container\"\nimage = \"{IMAGE}\"");
    host.configure();
    host.backup("p");
    let before = host.live();
    let drilled = host.world.run(&["--json", "drill", "p"]).code(0).json();
    assert_eq!((drilled["outcome"].as_str().unwrap(), drilled["rows"].as_u64().unwrap()), ("proven", 5000));
    assert_eq!(drilled["checks"][0]["good"], true);
    let left = docker(&["ps", "-aq", "--filter", "label=backstay.drill"]);
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    assert_eq!(host.live(), before);
    host.is_clean();
}
