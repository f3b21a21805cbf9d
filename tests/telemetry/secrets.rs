//! Secrets of every kind, planted wherever a text comes from. None of them may leave, nor be kept where others look.

use crate::endpoint::{Endpoint, get, wait};
use crate::serve::Serving;
use crate::world::World;
use std::path::Path;

const PASSWORD: &str = "correct-horse-7battery";
const TOKEN: &str = "tok_9f8e7d6c5b4a";
const FROM_ENVIRONMENT: &str = "env-only-secret-42";
const IN_URL: &str = "url/pass@word1";
const AGE: &str = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS";
const AWS_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const BEARER: &str = "abcdef.0123456789-xyz";
const PEM: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
const HOOK: &str = "5b2d8a7c-hook-uuid";
const ALL: &[&str] =
    &[PASSWORD, TOKEN, FROM_ENVIRONMENT, IN_URL, "pass@word1", AGE, AWS_ID, AWS_SECRET, BEARER, PEM, HOOK];

/// Everything below a directory, as text.
fn everything(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text.push_str(&everything(&path));
        } else {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()));
        }
    }
    text
}

#[test]
fn no_secret_leaves_wherever_it_was_planted() {
    let sentry = Endpoint::answering(&[200]);
    let hook = Endpoint::answering(&[200]);
    let mut world = World::bare();
    std::fs::create_dir(world.path().join("metrics")).unwrap();
    // In the environment of a source, in what its program says, in the configuration, in a tag (the environment is one),
    // and in the URL of a server that does not answer.
    let says = format!(
        "echo \"password {PASSWORD} $TOKEN $PLANTED_TOKEN postgresql://u:{IN_URL}@db/x {AGE} {AWS_ID} {AWS_SECRET} Bearer {BEARER}\" >&2; \
         printf -- '-----BEGIN PRIVATE KEY-----\\n{PEM}\\n-----END PRIVATE KEY-----\\n' >&2; exit 3"
    );
    std::fs::write(world.path().join("fails.sh"), says).unwrap();
    world.extra = format!(
        "[sources.leaky]\nkind = \"command\"\ndump = [\"sh\", \"{script}\"]\nsecrets = {{ TOKEN = \"{TOKEN}\" }}\n\
         [sources.db]\nkind = \"postgres\"\nurl = \"postgresql://u@127.0.0.1:1/{PASSWORD}\"\npassword = \"{PASSWORD}\"\n\
         [plans.leak]\nsources = [\"leaky\", \"db\", \"tree\"]\nschedule = \"0 3 * * *\"\n\
         [sentry]\ndsn = \"{dsn}\"\nenvironment = \"staging {PASSWORD}\"\n\
         [webhooks]\nfailure_url = \"{hook}\"\njson_url = \"{json}\"\n\
         [metrics]\ntextfile = \"{textfile}\"\n",
        script = world.at("fails.sh"),
        dsn = sentry.dsn(),
        hook = hook.url(&format!("/{HOOK}")),
        json = hook.url("/json"),
        textfile = world.at("metrics/backstay.prom"),
    );
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world.file("a.txt", b"x");
    let mut command = world.command(&["backup", "leak"]);
    crate::world::run(command.env("PLANTED_TOKEN", FROM_ENVIRONMENT)).code(8);

    let sent: String = sentry.requests().iter().map(|r| format!("{}\n", r.body)).collect();
    let events = sentry.of_type("event");
    assert_eq!(events.len(), 2, "{events:#?}");
    assert!(events.iter().any(|e| e["tags"]["source"] == "leaky"), "{events:#?}");
    assert_eq!(events[0]["environment"], "staging ***");
    let pinged: String = hook.requests().iter().map(|r| format!("{}\n", r.body)).collect();
    assert!(sent.contains("***") && pinged.contains("***"), "{sent}\n{pinged}");
    let serving = Serving::start(&world);
    let page = wait("the page", || get(&serving.address, "/")).2;
    assert!(page.contains("leaky"), "{page}");
    let kept = everything(&world.path().join("state/runs")) + &everything(&world.path().join("metrics"));
    for secret in ALL {
        for (place, text) in [("Sentry", &sent), ("webhooks", &pinged), ("the page", &page), ("run records", &kept)] {
            assert!(!text.contains(secret), "{secret} is in what {place} got:\n{text}");
        }
    }
}
