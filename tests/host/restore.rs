//! What goes back, and where.

use super::server::Server;
use std::os::unix::fs::MetadataExt;

fn put(server: &Server, paths: &[&str], code: i32, words: &[&str]) {
    let mut args = vec!["restore", "--source", "machine", "--yes"];
    paths.iter().for_each(|p| args.extend(["--path", p]));
    server.says(&args, code, words);
}

#[test]
fn on_its_own_machine_files_go_back_one_by_one() {
    let server = Server::new("same");
    server.backup();
    server.machine.write("/etc/cron.d/shop", "broken\n");
    server.machine.write("/etc/fstab", "broken\n");
    server.machine.sh("rm /etc/nginx/sites-enabled/shop");
    put(&server, &["/etc/cron.d/shop"], 0, &["kept as /etc/cron.d/.shop_before_"]);
    assert_eq!(server.read("/etc/cron.d/shop"), "0 2 * * * root /usr/local/bin/nightly\n");
    // What was there before is in a directory whose files cron runs: it must not see it.
    assert_eq!(
        server.machine.sh("run-parts --list --regex '^[a-zA-Z0-9_-]+$' /etc/cron.d | grep shop"),
        "/etc/cron.d/shop"
    );
    put(&server, &["/etc/fstab", "/etc/nginx/sites-enabled/shop"], 0, &["systemctl reload nginx"]);
    assert_eq!(server.read("/etc/fstab"), "# of the first\n");
    server.machine.sh("nginx -t 2> /dev/null");
    // Back again, as every restore.
    server.run(&["rollback", "--yes"]);
    assert_eq!(server.read("/etc/fstab"), "broken\n");
    // A machine is not exchanged under itself.
    put(&server, &[], 10, &["not put in place as a whole", "--path"]);
    server.machine.write("/srv/site/index.html", "changed\n");
    server.says(&["restore", "--yes"], 0, &["source machine is left out"]);
    assert_eq!(server.read("/srv/site/index.html"), "hello\n");
    // A mount point cannot be exchanged; what is in it can.
    server.machine.sh("mount -t tmpfs none /srv/site; echo changed > /srv/site/index.html");
    server.says(&["restore", "--yes", "--source", "site"], 0, &["/srv/site cannot change its place"]);
    assert_eq!(server.machine.sh("cat /srv/site/index.html"), "hello");
    server.machine.sh("umount /srv/site");
    // Which of two sources of files is meant is told by the path.
    server.machine.write("/srv/site/index.html", "changed\n");
    server.says(&["restore", "--yes", "--path", "/srv/site/index.html"], 0, &["restored"]);
    assert_eq!(server.read("/srv/site/index.html"), "hello\n");
}

#[test]
fn on_another_machine_what_belonged_to_the_first_is_left_out_and_owners_go_by_name() {
    let first = Server::new("first");
    first.backup();
    let second = Server::replacing("second", &first);
    let identity = ["--identity", "/root/recovery.key"];
    let put = |paths: &[&str], code: i32, words: &[&str]| {
        let mut args = [&identity[..], &["restore", "--source", "machine", "--yes"]].concat();
        paths.iter().for_each(|p| args.extend(["--path", p]));
        second.says(&args, code, words);
    };
    put(&["/etc/fstab"], 10, &["belongs to the machine that was backed up", "/etc/fstab", "disks", "--to"]);
    put(&["/etc/netplan", "/etc/passwd"], 10, &["accounts of the other machine"]);
    put(&["/etc/ssh", "/etc/shop.conf"], 0, &["left out, since this is another machine: /etc/ssh/ssh_host_rsa_key"]);
    assert_eq!(second.read("/etc/ssh/sshd_config"), "PermitRootLogin no\n");
    assert_eq!(second.read("/etc/ssh/ssh_host_rsa_key"), "of the second\n");
    let owner = std::fs::metadata(second.machine.path("/etc/shop.conf")).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (777, 777));
    // A directory, a file, and a link that enables it.
    let units = ["shop.service.d", "shop.service", "multi-user.target.wants/shop.service"];
    let units = units.map(|u| format!("/etc/systemd/system/{u}"));
    put(&units.each_ref().map(String::as_str), 0, &["daemon-reload"]);
    second.machine.sh("systemctl daemon-reload; systemctl is-enabled shop.service; systemctl start shop.service");
    assert_eq!(second.machine.run(&["systemctl", "show", "-P", "LimitNOFILE", "shop.service"]), "9999");
    // To a directory everything goes, with the numbers that it had.
    let to = ["restore", "--source", "machine", "--to", "/root/out"];
    second.says(&[&identity[..], &to].concat(), 0, &["restored"]);
    assert_eq!(second.read("/root/out/etc/fstab"), "# of the first\n");
    assert_eq!(std::fs::metadata(second.machine.path("/root/out/etc/shop.conf")).unwrap().uid(), 555);
    assert_eq!(second.read("/etc/fstab"), "# of the second\n");
}
