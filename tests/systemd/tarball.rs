//! The tarball for hosts that are not Debian.

use crate::host::{VERSION, make, program};
use crate::machine::Machine;

/// A machine with the tarball unpacked in /opt/unpacked.
fn unpacked(what: &str) -> Machine {
    let machine = Machine::boot(what);
    let dir = tempfile::tempdir().unwrap();
    let tarball = make("packaging/tarball.sh", program().parent().unwrap(), VERSION, dir.path());
    std::fs::copy(tarball, machine.path("/opt/backstay.tar.gz")).unwrap();
    machine.sh("mkdir /opt/unpacked && tar -xzf /opt/backstay.tar.gz -C /opt/unpacked --strip-components=1");
    machine
}

#[test]
fn it_installs_anywhere_updates_and_removes_what_it_brought() {
    let machine = unpacked("tarball");
    let install = "/opt/unpacked/install.sh --prefix /opt/tools";
    assert!(machine.sh(install).contains("below /opt/tools"));
    machine.sh("cp /etc/backstay/backstay.toml.sample /etc/backstay/backstay.toml");
    machine.sh(
        "printf '%s\\n' 'host = \"a\"' '[repository]' 'url = \"file:///srv/r\"' '[keys]' 'identity_file = \"host.key\"' \
         '[sources.etc]' 'kind = \"files\"' 'paths = [\"/etc\"]' '[plans.p]' 'sources = [\"etc\"]' > /etc/backstay/backstay.toml",
    );
    machine.run(&["/opt/tools/bin/backstay", "init", "--recovery-out", "/root/recovery.key"]);
    // The units know where the program is.
    machine.run(&["systemctl", "start", "backstay-backup@p.service"]);
    machine.run(&["/opt/tools/bin/backstay", "timer", "enable"]);
    assert!(machine.run(&["systemctl", "cat", "backstay-backup@.service"]).contains("/opt/tools/bin/backstay"));

    // Brought up to date: what the older version alone had goes, what is the operator's stays.
    machine.sh("echo /opt/tools/share/backstay/old >> /opt/tools/share/backstay/installed-files; touch /opt/tools/share/backstay/old");
    machine.sh(install);
    machine.sh("test ! -e /opt/tools/share/backstay/old && test -s /etc/backstay/host.key");
    machine.run(&["systemctl", "is-active", "backstay-backup@p.timer"]);

    assert!(machine.sh(&format!("{install} --remove")).contains("/etc/backstay"));
    machine.sh("test -s /etc/backstay/host.key && test -d /var/lib/backstay/trust");
    assert_eq!(machine.sh("find /opt/tools -type f -o -name '*backstay*'"), "");
    assert_eq!(machine.sh("find /etc/systemd/system -name 'backstay-*.service' -o -name 'backstay-*.timer'"), "");
    assert_ne!(machine.try_run(&["systemctl", "is-active", "backstay-backup@p.timer"]).code, 0);
}

#[test]
fn it_refuses_before_it_changes_anything() {
    let machine = unpacked("refused");
    machine.sh("echo damaged > /opt/unpacked/root/usr/bin/backstay");
    let refused = machine.try_run(&["/opt/unpacked/install.sh"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("does not run here") && refused.err.contains("-static"), "{refused:?}");
    assert_eq!(
        machine.sh(
            "find / -xdev -name '*backstay*' -not -path '/opt/*' -not -path '/usr/local/bin/*' -not -path '/proc/*'"
        ),
        ""
    );
    let missing = machine.try_run(&["/opt/unpacked/install.sh", "--remove"]);
    assert!(missing.code != 0 && missing.err.contains("there is no installation"), "{missing:?}");
}

#[test]
fn below_another_root_it_takes_the_places_of_the_prefix() {
    let machine = unpacked("image");
    machine.sh("/opt/unpacked/install.sh --root /srv/image");
    for file in [
        "/usr/local/bin/backstay",
        "/usr/local/lib/systemd/system/backstay-backup@.service",
        "/usr/local/share/zsh/site-functions/_backstay",
        "/usr/local/share/man/man1/backstay.1.gz",
        "/etc/backstay/backstay.toml.sample",
    ] {
        machine.run(&["test", "-s", &format!("/srv/image{file}")]);
    }
    assert_eq!(machine.sh("stat -c %a /srv/image/etc/backstay"), "700");
    machine.sh("test ! -e /etc/backstay");
}
