//! Reads the files in `config/policies`, as far as they go: what this does not understand fails the test, so that a
//! typo is seen.

use serde_json::Value;
use std::path::{Path, PathBuf};

const ACTIONS: [&str; 4] = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"];

const PERMISSIONS: [&str; 4] =
    ["storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"];

/// A request in the words of a policy.
pub struct Asked<'a> {
    pub action: &'a str,
    /// A bucket, or a bucket, a slash and a key.
    pub resource: &'a str,
    /// The prefix of a listing.
    pub prefix: Option<&'a str>,
    /// Whether the request has the header `If-None-Match`.
    pub conditional: bool,
}

/// An IAM policy.
pub struct Policy {
    statements: Vec<Value>,
}

impl Policy {
    /// The policy in a file, with its placeholders filled in.
    pub fn of_file(name: &str, bucket: &str, prefix: &str, host: &str) -> Self {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        let text = text.replace("BUCKET", bucket).replace("PREFIX", prefix).replace("HOST", host);
        let policy: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(policy["Version"], "2012-10-17", "{name}");
        Policy { statements: policy["Statement"].as_array().unwrap().clone() }
    }

    /// Whether any statement allows it; there are none that deny.
    pub fn allows(&self, asked: &Asked<'_>) -> bool {
        self.statements.iter().any(|statement| covers(statement, asked))
    }
}

/// The permissions of a role for Cloud Storage.
pub fn role(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let (_, list) = text.split_once("includedPermissions:\n").unwrap();
    let permissions: Vec<String> = list.lines().map(|line| line.strip_prefix("  - ").unwrap().to_owned()).collect();
    for permission in &permissions {
        assert!(PERMISSIONS.contains(&permission.as_str()), "{permission} in {name}");
    }
    permissions
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies")
}

fn covers(statement: &Value, asked: &Asked<'_>) -> bool {
    for field in statement.as_object().unwrap().keys() {
        assert!(["Sid", "Effect", "Action", "Resource", "Condition"].contains(&field.as_str()), "{field}");
    }
    assert_eq!(statement["Effect"], "Allow");
    let actions = texts(&statement["Action"]);
    assert!(actions.iter().all(|action| ACTIONS.contains(action)), "{actions:?}");
    let resource = format!("arn:aws:s3:::{}", asked.resource);
    actions.contains(&asked.action)
        && texts(&statement["Resource"]).iter().any(|pattern| fits(pattern, &resource))
        && statement.get("Condition").is_none_or(|condition| holds(condition, asked))
}

fn holds(condition: &Value, asked: &Asked<'_>) -> bool {
    condition.as_object().unwrap().iter().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, wanted)| match (operator.as_str(), key.as_str()) {
            ("StringLike", "s3:prefix") => {
                asked.prefix.is_some_and(|prefix| texts(wanted).iter().any(|pattern| fits(pattern, prefix)))
            }
            // "Null": "false" holds when the key is there.
            ("Null", "s3:if-none-match") => match wanted.as_str() {
                Some("false") => asked.conditional,
                Some("true") => !asked.conditional,
                _ => panic!("{wanted}"),
            },
            other => panic!("{other:?}"),
        })
    })
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text.as_str()],
        Value::Array(list) => list.iter().map(|text| text.as_str().unwrap()).collect(),
        other => panic!("{other}"),
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).any(|at| tail.get(at..).is_some_and(|tail| fits(rest, tail)))),
    }
}
