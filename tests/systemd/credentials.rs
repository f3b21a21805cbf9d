//! Identities and secrets that are not files of the configuration.

use crate::host::Host;

const CHECK: &str = "backstay-check.service";

#[test]
fn an_identity_may_be_an_encrypted_credential() {
    let host = Host::new("credential", "", &[]);
    host.backstay(&["backup"]);
    host.drop_in(CHECK, "[Service]\nExecStart=\nExecStart=/usr/bin/backstay check --read-data\n");
    host.job(CHECK);
    host.machine.sh(
        "mkdir -p /etc/credstore.encrypted
         systemd-creds encrypt --with-key=host --name=host.key /etc/backstay/host.key /etc/credstore.encrypted/backstay.host.key
         rm /etc/backstay/host.key",
    );
    assert_eq!(host.try_backstay(&["check", "--read-data"]).code, 5);
    host.job(CHECK);
    assert!(host.log(CHECK).contains("read and opened"), "{}", host.log(CHECK));
    host.job("backstay-backup@shop.service");
}

#[test]
fn one_drop_in_gives_a_secret_to_all_units() {
    let source = "[sources.secret]\nkind = \"command\"\ndump = [\"sh\", \"-c\", \"test \\\"$TOKEN\\\" = hunter2 && echo right\"]\nsecrets_file = { TOKEN = \"token\" }\n";
    let host = Host::bare("secret");
    host.configure(source, &["secret"]);
    host.machine.write("/srv/data/file", "one");
    // Without the secret the configuration cannot be read.
    host.machine.write("/srv/vault/token", "hunter2\n");
    host.machine.write(
        "/etc/systemd/system/backstay-.service.d/secrets.conf",
        "[Service]\nLoadCredential=token:/srv/vault/token\n",
    );
    host.machine.run(&["systemctl", "daemon-reload"]);
    let init = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--property=LoadCredential=token:/srv/vault/token",
        "/usr/bin/backstay",
        "init",
        "--recovery-out",
        "/root/recovery.key",
    ];
    host.machine.run(&init);
    assert_eq!(host.try_backstay(&["backup"]).code, 3);
    host.job("backstay-backup@shop.service");
    host.job(CHECK);
    host.job("backstay-prune.service");
}

#[test]
fn variables_for_all_units_are_in_one_file() {
    let host = Host::new("variables", "", &[]);
    host.machine.write("/etc/backstay/environment", "BACKSTAY__HOST=another-name\n");
    let failed = host.machine.try_run(&["systemctl", "start", "backstay-backup@shop.service"]);
    assert_ne!(failed.code, 0);
    assert!(
        host.log("backstay-backup@shop.service").contains("another-name"),
        "{}",
        host.log("backstay-backup@shop.service")
    );
}
