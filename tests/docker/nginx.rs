//! An image of nginx, made of this machine's and its libraries.

use super::stage::Stage;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// Its main file.
pub const MAIN: &str = "user root; worker_processes 2; pid /var/run/nginx.pid; error_log /dev/stderr;\nevents {}\n\
                    http { access_log off; include /etc/nginx/conf.d/*.conf; }\n";

/// Makes an image with nginx; its main file includes `/etc/nginx/conf.d`.
pub fn image(stage: &Stage, name: &str) {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path.trim_start_matches('/'));
    let copy = |from: &str| {
        std::fs::create_dir_all(at(from).parent().unwrap()).unwrap();
        std::fs::copy(from, at(from)).unwrap_or_else(|e| panic!("{from}: {e}"));
    };
    copy("/usr/sbin/nginx");
    let ldd = Command::new("ldd").arg("/usr/sbin/nginx").output().expect("install nginx");
    for word in String::from_utf8(ldd.stdout).unwrap().split_whitespace().filter(|w| w.starts_with('/')) {
        copy(word);
    }
    copy("/bin/busybox");
    symlink("busybox", at("/bin/sh")).unwrap();
    for dir in ["/etc/nginx/conf.d", "/var/log/nginx", "/var/lib/nginx", "/run", "/tmp", "/dev"] {
        std::fs::create_dir_all(at(dir)).unwrap();
    }
    // As Debian has it: a path that would lead out of the container.
    symlink("/run", at("/var/run")).unwrap();
    std::fs::write(at("/etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n").unwrap();
    std::fs::write(at("/etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
    std::fs::write(at("/etc/nginx/nginx.conf"), MAIN).unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    stage.import(root.path(), name);
}
