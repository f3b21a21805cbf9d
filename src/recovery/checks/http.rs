//! A check by HTTP: status, body, values in JSON; logged in before, where that is asked for.

use super::Verdict;
use super::browser::{Answer, Asked, Browser, told};
use super::login;
use super::words::{excerpt, listed};
use crate::config::checks::{Auth, Http, Texts};
use crate::config::secret::Secret;
use crate::sources::command::run::hide;
use http::header::{self, HeaderMap, HeaderValue};
use serde_json::Value;
use std::time::Instant;

/// Characters of the body that are told.
const TOLD: usize = 200;
/// The least length of a cookie that may be who we are.
const SESSION: usize = 16;

/// What should be, in words.
pub(super) fn expected(http: &Http) -> String {
    let mut parts = vec![format!("status {}", listed(&http.status, " or "))];
    parts.extend(in_texts(&http.texts));
    parts.extend(http.json.iter().map(|(path, value)| format!("{path} = {value} in JSON")));
    parts.extend(http.login.as_ref().map(|_| "a login that succeeds".to_owned()));
    parts.join(", ")
}

/// The texts that should be there, in words.
pub(super) fn in_texts(texts: &Texts) -> Vec<String> {
    let with = texts.contains.iter().map(|text| format!("the text {text:?}"));
    with.chain(texts.not_contains.iter().map(|text| format!("no text {text:?}"))).collect()
}

/// What is wrong with a text.
pub(super) fn wrong_texts(texts: &Texts, found: &str) -> Vec<String> {
    let missing = texts.contains.iter().filter(|text| !found.contains(*text)).map(|text| format!("no text {text:?}"));
    let there = texts.not_contains.iter().filter(|text| found.contains(*text)).map(|text| format!("the text {text:?}"));
    missing.chain(there).collect()
}

/// The value at a path: keys and numbers of elements with dots between, or a JSON pointer, which begins with a slash.
pub(super) fn at_path<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() || path.starts_with('/') {
        return json.pointer(path);
    }
    path.split('.').try_fold(json, |value, key| match value {
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

fn same(expected: &Value, found: &Value) -> bool {
    match (expected.as_f64(), found.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => expected == found,
    }
}

/// One visit.
pub(super) async fn look(http: &Http) -> Verdict {
    let mut browser = match Browser::new(http) {
        Ok(browser) => browser,
        Err(why) => return Verdict::Final(why),
    };
    let mut headers: HeaderMap = http.headers.iter().cloned().collect();
    let mut learned = Vec::new();
    let secrets = http.secret_headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let auth = http.auth.as_ref().map(|auth| {
        let value = match auth {
            Auth::Bearer(token) => format!("Bearer {}", token.expose()),
            Auth::Basic(user, password) => {
                let pair = format!("{user}:{}", password.expose());
                let encoded = openssl::base64::encode_block(pair.as_bytes());
                learned.push(Secret::new(encoded.clone()));
                format!("Basic {encoded}")
            }
        };
        (header::AUTHORIZATION, value)
    });
    for (name, value) in secrets.chain(auth) {
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            Err(_) => return Verdict::Final(format!("the secret of the header {name} cannot be sent")),
        }
    }
    if let Some(login) = &http.login {
        match login::log_in(&mut browser, login).await {
            Ok(None) => {}
            Ok(Some((name, value, token))) => {
                learned.push(token);
                headers.insert(name, value);
            }
            Err(verdict) => return verdict,
        }
    }
    let (url, follow) = (http.url.clone(), http.redirects);
    let body = http.body.clone().map(Into::into);
    let started = Instant::now();
    let verdict = match browser.ask(Asked { method: http.method.clone(), url, headers, body, follow }).await {
        Err(why) => Verdict::Bad(why),
        Ok(answer) => judge(http, &answer, started.elapsed().as_secs_f64()),
    };
    // Shorter ones are settings, and words of every text.
    let sessions = browser.cookies.values().filter(|value| value.len() >= SESSION);
    learned.extend(sessions.map(|value| Secret::new(value.to_owned())));
    match verdict {
        Verdict::Bad(why) => Verdict::Bad(hide(&why, &learned)),
        other => other,
    }
}

fn judge(http: &Http, answer: &Answer, seconds: f64) -> Verdict {
    let mut status = answer.status.to_string();
    if let Some(to) = &answer.location {
        status.push_str(&format!(", to {}", told(to)));
    } else if answer.url != http.url {
        status.push_str(&format!(" at {}", told(&answer.url)));
    }
    let mut wrong = Vec::new();
    let good_status = http.status.contains(&answer.status.as_u16());
    wrong.extend(wrong_texts(&http.texts, &answer.body));
    if !http.json.is_empty() {
        match serde_json::from_str::<Value>(&answer.body) {
            Err(_) => wrong.push("no JSON".to_owned()),
            Ok(json) => wrong.extend(http.json.iter().filter_map(|(path, value)| match at_path(&json, path) {
                None => Some(format!("nothing at {path} in JSON")),
                Some(found) if same(value, found) => None,
                Some(found) => Some(format!("{path} = {} in JSON", excerpt(&found.to_string(), TOLD))),
            })),
        }
    }
    if good_status && wrong.is_empty() {
        return Verdict::Good(format!("{status} in {seconds:.2} s"));
    }
    let wrong = if wrong.is_empty() { String::new() } else { format!("; {}", wrong.join("; ")) };
    let body = excerpt(&answer.body, TOLD);
    let body = if body.is_empty() { "an empty body".to_owned() } else { format!("body: {body}") };
    Verdict::Bad(format!("{status}{wrong}; {body}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let json = json!({ "a": { "b": [ { "c": 7 } ], "x.y": 1 }, "ok": true });
        assert_eq!(at_path(&json, "a.b.0.c"), Some(&json!(7)));
        assert_eq!(at_path(&json, "/a/x.y"), Some(&json!(1)));
        assert_eq!(at_path(&json, "ok"), Some(&json!(true)));
        for missing in ["a.b.1", "a.b.c", "b", "ok.x", "a.b.0.c.d", "a..b"] {
            assert_eq!(at_path(&json, missing), None, "{missing}");
        }
        assert!(same(&json!(7), &json!(7.0)) && !same(&json!("7"), &json!(7)) && same(&json!(null), &json!(null)));
    }
}
