//! Takes secrets out of text that leaves this machine or is kept where others may look.
//!
//! Two nets. Every secret of the configuration registers its value here when it comes into being, as do passphrases and
//! identities, and is taken out wherever it stands, also percent-encoded or in base64. And whatever looks like a secret
//! goes: passwords in URLs, age identities, keys of clouds, bearer tokens, PEM keys, and values of names like `password`.
//!
//! A secret of three characters, or one that is a word which messages are made of, is left to the second net: to take
//! it out everywhere leaves no text, and a hole where anybody expects `postgres` tells the password.

use regex::{Captures, Regex};
use serde_json::Value;
use std::sync::{LazyLock, Mutex, PoisonError};
use zeroize::Zeroizing;

/// What stands in place of a secret.
pub const MASK: &str = "***";
/// Shorter ones are taken out as whole words only.
const SHORT: usize = 6;
/// Shorter ones are not looked for: they stand everywhere.
const SHORTEST: usize = 4;
/// Nor are these, which are nobody's secret even where they are somebody's password.
const WORDS: &[&str] = &[
    "admin",
    "backstay",
    "backup",
    "changeme",
    "database",
    "debug",
    "default",
    "docker",
    "example",
    "false",
    "files",
    "guest",
    "host",
    "localhost",
    "main",
    "mariadb",
    "mysql",
    "nginx",
    "none",
    "null",
    "password",
    "postgres",
    "postgresql",
    "production",
    "public",
    "redis",
    "restore",
    "root",
    "secret",
    "service",
    "source",
    "staging",
    "system",
    "test",
    "true",
    "user",
    "volume",
];

/// Known secrets and the forms in which they appear, longest first.
static KNOWN: Mutex<Vec<Zeroizing<String>>> = Mutex::new(Vec::new());

/// From now on this value is taken out of every text.
pub fn register(secret: &str) {
    if secret.trim().chars().count() < SHORTEST || WORDS.contains(&secret.to_ascii_lowercase().as_str()) {
        return;
    }
    let mut forms = vec![secret.to_owned(), percent(secret), secret.escape_debug().to_string()];
    if secret.len() >= SHORT {
        // The three ways in which base64 of something longer holds it, less the characters that its neighbours decide.
        forms.extend((0..3).map(|shift| base64_within(secret.as_bytes(), shift)).filter(|f| f.len() >= SHORT));
    }
    // Of a key with several lines each line alone is a secret.
    forms.extend(secret.lines().filter(|l| l.len() >= 20 && !l.starts_with("-----")).map(str::to_owned));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    for form in forms {
        if !known.iter().any(|k| **k == form) {
            known.push(Zeroizing::new(form));
        }
    }
    known.sort_by_key(|k| std::cmp::Reverse(k.len()));
}

/// Registers what the environment holds under names of secrets.
pub fn register_environment() {
    for (name, value) in std::env::vars() {
        if SECRET_NAME.is_match(&name) && value.len() >= 8 && !value.starts_with('/') {
            register(&value);
        }
    }
}

fn percent(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// What base64 makes of these bytes behind `shift` unknown ones, without the characters that depend on others.
fn base64_within(bytes: &[u8], shift: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1 == 1)).collect();
    let skip = (6 - shift * 8 % 6) % 6;
    let whole = bits.get(skip..).unwrap_or_default().chunks_exact(6);
    whole.map(|six| char::from(DIGITS[six.iter().fold(0, |n, bit| n << 1 | usize::from(*bit))])).collect()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern")
}

/// Names whose values are secrets.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(secret|token|passw(or)?d|passphrase|pwd|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization|signature|\bdsn\b)",
    )
});

/// What looks like a secret, and what it becomes.
static LOOKS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let of = [
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", MASK),
        (r"(?i)AGE-(SECRET-KEY|PLUGIN)-[A-Z0-9-]+", MASK),
        // Greedy up to the last @: a password may hold one, or a slash.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@"'<>]*):[^\s"'<>]*@"#, "${1}:***@"),
        (r#"(https?://)[^\s:/@"'<>]+@"#, "${1}***@"),
        (r"\b(AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12,}\b", MASK),
        (r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}", "Bearer ***"),
        (r"\b[Bb]asic\s+[A-Za-z0-9+/=]{12,}", "Basic ***"),
        (r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?", MASK),
        (r"\bya29\.[A-Za-z0-9_.-]+", MASK),
        (r"\bgh[pousr]_[A-Za-z0-9]{20,}", MASK),
        (r"\bxox[a-z]-[A-Za-z0-9-]{10,}", MASK),
        (r"\bsk[-_](live|test|proj)[-_][A-Za-z0-9_-]{10,}", MASK),
        (r"(?i)\b(X-(Amz|Goog)-(Signature|Credential|Security-Token))=[^&\s]+", "${1}=***"),
        (
            r#"(?i)([\w.-]*(?:secret|token|passw(?:or)?d|passphrase|pwd|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization)[\w.-]*["']?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s"',;&})\]]+)"#,
            "${1}***",
        ),
    ];
    of.into_iter().map(|(text, with)| (pattern(text), with)).collect()
});

/// Forty characters of base64: what a secret key of AWS looks like.
static FORTY: LazyLock<Regex> = LazyLock::new(|| pattern(r"[A-Za-z0-9/+]{40,}"));

/// The text without secrets.
pub fn scrub(text: &str) -> String {
    let mut out = text.to_owned();
    for known in KNOWN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if out.contains(known.as_str()) {
            out = without(&out, known);
        }
    }
    for (looks, with) in LOOKS.iter() {
        if looks.is_match(&out) {
            out = looks.replace_all(&out, *with).into_owned();
        }
    }
    let masked = FORTY.replace_all(&out, |found: &Captures<'_>| {
        let key = &found[0];
        let has = |f: fn(&u8) -> bool| key.bytes().any(|b| f(&b));
        let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
        if key.len() == 40 && mixed { MASK.to_owned() } else { key.to_owned() }
    });
    masked.into_owned()
}

fn without(text: &str, known: &str) -> String {
    if known.len() >= SHORT {
        return text.replace(known, MASK);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(known) {
        let (before, behind) = (&rest[..at], &rest[at + known.len()..]);
        let alone = !before.chars().next_back().is_some_and(char::is_alphanumeric)
            && !behind.chars().next().is_some_and(char::is_alphanumeric);
        out.push_str(before);
        out.push_str(if alone { MASK } else { known });
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The same for everything in a JSON value: texts, names, and what stands under the name of a secret.
pub fn scrub_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = scrub(text),
        Value::Array(all) => all.iter_mut().for_each(scrub_value),
        Value::Object(map) => {
            let old = std::mem::take(map);
            for (key, mut inner) in old {
                if SECRET_NAME.is_match(&key) && (inner.is_string() || inner.is_number()) {
                    inner = Value::String(MASK.to_owned());
                } else {
                    scrub_value(&mut inner);
                }
                map.insert(scrub(&key), inner);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_looks_like_a_secret_is_taken_out() {
        for (text, secret) in [
            ("postgresql://erp:hun/ter@2@db:5432/erp refused", "hun/ter@2"),
            ("key AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQ is wrong", "1QQQQQ"),
            ("AKIAIOSFODNN7EXAMPLE is not known", "IOSFODNN7"),
            ("signed with wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtn"),
            ("Authorization: Bearer abc.def-ghi_123", "abc.def"),
            ("sent bearer 0123456789abcdef", "0123456789"),
            ("Basic dXNlcjpodW50ZXIy", "dXNlcjpo"),
            ("PGPASSWORD=hunter2 pg_dump", "hunter2"),
            ("{\"password\": \"two words\", \"x\": 1}", "two words"),
            ("redis --pass x --api-key='k 1'", "k 1"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----", "MIIE"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE cut", "MIIE"),
            ("https://s3/x?X-Amz-Signature=deadbeef&a=b", "deadbeef"),
            ("https://ghp_abcdefghijklmnopqrstuvwx@github.com/x", "ghp_abc"),
            ("token eyJhbGciOiJI.eyJzdWIi.c2ln", "eyJhbG"),
        ] {
            let clean = scrub(text);
            assert!(!clean.contains(secret) && clean.contains(MASK), "{text} -> {clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "plan erp: 3 packs, 12 MiB shipped in 4.2 s",
            "the connection to db:5432 was refused: password authentication failed for user \"erp\"",
            "packs/ab/abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789-0 is missing",
            "https://example.org/a/b?c=d",
            "s3://bucket/prefix and file:///srv/backstay",
            "/var/lib/backstay/restores/20260103T220000Z-k3v9q2.journal",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn a_registered_secret_goes_in_every_form() {
        register("Tr0ub4dor&3 horse");
        let encoded = "dXNlcjpUcjB1YjRkb3ImMyBob3JzZQ==";
        for text in ["x Tr0ub4dor&3 horse y", "?p=Tr0ub4dor%263%20horse", "a Tr0ub4dor&3 horse", encoded] {
            let clean = scrub(text);
            assert!(clean.contains(MASK) && !clean.contains("Tr0ub"), "{clean}");
        }
        assert!(!scrub(encoded).contains("UcjB1YjRkb3ImMyBob3"), "{}", scrub(encoded));
        register("q7x9");
        assert_eq!(scrub("q7x9 and (q7x9), but not seq7x9 or q7x90"), "*** and (***), but not seq7x9 or q7x90");
    }

    #[test]
    fn what_stands_everywhere_is_left_but_where_a_secret_stands() {
        ["q7", "a", " ", "postgres", "Backup"].into_iter().for_each(register);
        let text = "a backup of postgres on q7";
        assert_eq!(scrub(text), text);
        let clean = scrub("postgresql://postgres:postgres@q7/db, password=q7, PGPASSWORD: \"a\"");
        assert_eq!(clean, "postgresql://postgres:***@q7/db, password=***, PGPASSWORD: ***");
    }

    #[test]
    fn values_are_cleaned_through_and_through() {
        let mut value =
            json!({ "a": ["postgres://u:pw12345@h/d"], "api_key": 123, "b": { "Bearer abcdefgh1": 1 }, "n": 4 });
        scrub_value(&mut value);
        let expected = json!({ "a": ["postgres://u:***@h/d"], "api_key": "***", "b": { "Bearer ***": 1 }, "n": 4 });
        assert_eq!(value, expected);
    }
}
