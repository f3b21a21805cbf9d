//! Encrypted by stock tools: read with the right key, and a clear word about a wrong one.

use crate::scripts::{files, relayout, script};
use crate::world::World;

fn layout(encryption: &str) -> String {
    format!(
        "encryption = {encryption}\nfiles = [ {{ pattern = \"app_{{timestamp}}.sql.gz.enc\", is = \"pg-plain\" }} ]"
    )
}

const PLAIN: &str = "{ echo '-- PostgreSQL database dump'; for i in $(seq 20000); do echo \"SELECT $i;\"; done; echo '-- PostgreSQL database dump complete'; }";
const NAME: &str = "app_20251018_020000.sql.gz.enc";

#[test]
fn openssl_enc_is_read_and_its_mistakes_are_told_apart() {
    let right = "{ kind = \"openssl-enc\", cipher = \"aes-256-cbc\", pbkdf2 = true, password_file = \"key\" }";
    let w = files(&layout(right));
    std::fs::write(w.at("key"), "a key ä\n").unwrap();
    script(&w, &format!("{PLAIN} | gzip | openssl enc -aes-256-cbc -salt -pbkdf2 -k 'a key ä' > {NAME}"));
    w.run(&["check", "--foreign"]).code(0).says(&["good"]);
    relayout(&w, &layout("{ kind = \"openssl-enc\", pbkdf2 = true, password = \"another\" }"));
    let e = w.run(&["check", "--foreign"]).code(5).says(&["does not decrypt with this password", NAME]);
    assert!(!format!("{}{}", e.out, e.err).contains("another"), "{e:?}");
    for wrong in ["digest = \"md5\"", "pbkdf2 = false", "iter = 100000"] {
        relayout(&w, &layout(&format!("{{ kind = \"openssl-enc\", {wrong}, password_file = \"key\" }}")));
        w.run(&["check", "--foreign"])
            .code(5)
            .says(&["the password is right", "digest = \"sha256\", pbkdf2 = true, iter = 10000"]);
    }
    relayout(&w, &layout(right));
    script(&w, &format!("truncate -s -16 {NAME}"));
    w.run(&["check", "--foreign"]).code(7).says(&["cut short"]);
    script(&w, &format!("{PLAIN} | gzip > {NAME}"));
    w.run(&["check", "--foreign"]).code(7).says(&["not encrypted at all"]);
    // What older versions of openssl made by default.
    script(&w, &format!("{PLAIN} | gzip | openssl enc -aes-128-cbc -md md5 -k 'a key ä' > {NAME} 2>/dev/null"));
    relayout(
        &w,
        &layout("{ kind = \"openssl-enc\", cipher = \"aes-128-cbc\", digest = \"md5\", password_file = \"key\" }"),
    );
    w.run(&["check", "--foreign"]).code(0).says(&["good"]);
}

fn no_agent(w: &World) {
    // The agents of our own homes ended with them.
    let agents = std::process::Command::new("pgrep").args(["-f", "gpg-agent.*backstay-gpg"]).output().unwrap();
    assert!(agents.stdout.is_empty(), "{} in {}", String::from_utf8_lossy(&agents.stdout), w.path().display());
}

#[test]
fn gpg_is_read_by_passphrase_and_by_key() {
    let w = files(&layout("{ kind = \"gpg\", passphrase_file = \"key\" }"));
    std::fs::write(w.at("key"), "a pass phrase\n").unwrap();
    let gpg = "gpg --batch --quiet --homedir $PWD/../gnupg";
    std::fs::create_dir(w.at("gnupg")).unwrap();
    script(&w, "chmod 700 ../gnupg");
    script(&w, &format!("{PLAIN} | gzip | {gpg} --pinentry-mode loopback --passphrase 'a pass phrase' -c > {NAME}"));
    w.run(&["check", "--foreign"]).code(0).says(&["good"]);
    std::fs::write(w.at("key"), "another\n").unwrap();
    w.run(&["check", "--foreign"]).code(5).says(&["gpg cannot decrypt the file with this passphrase or key"]);
    script(
        &w,
        &format!(
            "{gpg} --passphrase '' --quick-generate-key 'backup <backup@example.org>' rsa2048 encr never 2>/dev/null; {gpg} --export-secret-keys > ../private.key; \
         {PLAIN} | gzip | {gpg} --trust-model always -r backup@example.org -e > {NAME}; gpgconf --homedir $PWD/../gnupg --kill all"
        ),
    );
    relayout(&w, &layout("{ kind = \"gpg\", key_file = \"private.key\" }"));
    w.run(&["check", "--foreign"]).code(0).says(&["good"]);
    script(&w, &format!("truncate -s -4000 {NAME}"));
    let e = w.run(&["check", "--foreign"]);
    assert!(e.code == 7 || e.code == 5, "{e:?}");
    no_agent(&w);
}

#[test]
fn age_is_read_by_identity_binary_or_armoured() {
    let w = files(&layout("{ kind = \"age\", identity_file = \"id\" }"));
    script(
        &w,
        &format!(
            "age-keygen -o ../id 2>/dev/null; age-keygen -o ../other 2>/dev/null; {PLAIN} | gzip | age -r $(age-keygen -y ../id) > {NAME}"
        ),
    );
    w.run(&["check", "--foreign"]).code(0).says(&["good"]);
    script(&w, &format!("{PLAIN} | gzip | age -a -r $(age-keygen -y ../id) > {NAME}"));
    w.run(&["check", "--foreign"]).code(0).says(&["good"]);
    relayout(&w, &layout("{ kind = \"age\", identity_file = \"other\" }"));
    w.run(&["check", "--foreign"]).code(5).says(&["age cannot decrypt the file"]);
    relayout(&w, &layout("{ kind = \"age\", identity_file = \"id\" }"));
    script(&w, &format!("{PLAIN} | gzip | age -r $(age-keygen -y ../id) > {NAME}; truncate -s -100 {NAME}"));
    w.run(&["check", "--foreign"]).code(7).says(&["cut short or damaged"]);
}
