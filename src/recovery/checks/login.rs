//! Logging in, by a form or for a token.
//!
//! A refused login is not tried again: many applications lock an account after some.

use super::Verdict;
use super::browser::{Answer, Asked, Browser};
use super::csrf::{asks_for_password, in_page};
use super::http::at_path;
use super::words::{excerpt, listed};
use crate::config::checks::{Login, Token};
use crate::config::secret::Secret;
use crate::sources::url::encode;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Map, Value};

/// Characters of an answer that are told.
const TOLD: usize = 120;

/// Logs in: the cookies are the browser's then, a token becomes the header that is given back.
pub(super) async fn log_in(
    browser: &mut Browser<'_>,
    login: &Login,
) -> Result<Option<(HeaderName, HeaderValue, Secret)>, Verdict> {
    let bad = |why: String| Verdict::Bad(format!("the login gets no answer: {why}"));
    let mut fields: Vec<(String, Value)> = login.fields.clone();
    if let Some((field, password)) = &login.password {
        fields.push((field.clone(), Value::String(password.expose().to_owned())));
    }
    let mut headers = HeaderMap::new();
    // Without it Django refuses a form over TLS.
    let referer = format!("{}://{}{}", login.url.scheme(), browser.authority(&login.url), login.url.path());
    headers.extend(HeaderValue::from_str(&referer).ok().map(|value| (header::REFERER, value)));
    if let Some(csrf) = &login.csrf {
        let page =
            Asked { method: Method::GET, url: login.url.clone(), headers: HeaderMap::new(), body: None, follow: true };
        let page = browser.ask(page).await.map_err(bad)?;
        if !page.status.is_success() {
            return Err(Verdict::Bad(format!("the page of the login answers {}", page.status)));
        }
        let site = browser.site(&login.url);
        let token =
            in_page(&page.body, &csrf.name).or_else(|| browser.cookies.value(&csrf.name, &site).map(str::to_owned));
        let Some(token) = token else {
            return Err(Verdict::Bad(format!("the page of the login has no field and no cookie {}", csrf.name)));
        };
        if let (Some(name), Ok(value)) = (&csrf.header, HeaderValue::from_str(&token)) {
            headers.insert(name, value);
        }
        fields.push((csrf.field.clone(), Value::String(token)));
    }
    let (kind, body) = match login.json {
        true => ("application/json", Value::Object(Map::from_iter(fields)).to_string()),
        false => ("application/x-www-form-urlencoded", form(&fields)),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let sent =
        Asked { method: Method::POST, url: login.url.clone(), headers, body: Some(Bytes::from(body)), follow: false };
    let answer = browser.ask(sent).await.map_err(bad)?;
    match &login.token {
        Some(token) => read_token(login, token, &answer).map(Some),
        None => judge(browser, login, &answer).map(|()| None),
    }
}

fn form(fields: &[(String, Value)]) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    listed(fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(&text(value)))), "&")
}

/// Refused for good, or not answered as it should be just yet.
fn refused(status: StatusCode, why: String) -> Verdict {
    let why = format!("the login failed: {why}");
    match status.is_server_error() || status == StatusCode::NOT_FOUND {
        true => Verdict::Bad(why),
        false => Verdict::Final(why),
    }
}

fn judge(browser: &Browser<'_>, login: &Login, answer: &Answer) -> Result<(), Verdict> {
    let status = answer.status;
    let refused = |why: String| Err(refused(status, why));
    if !login.status.is_empty() {
        if !login.status.contains(&status.as_u16()) {
            return refused(format!("{status} instead of {}", listed(&login.status, " or ")));
        }
    } else if !status.is_success() && !status.is_redirection() {
        return refused(format!("{status}"));
    }
    if let Some(cookie) = &login.cookie {
        return match browser.cookies.has(cookie) {
            true => Ok(()),
            false => refused(format!("{status}, and no cookie {cookie}")),
        };
    }
    if !login.status.is_empty() {
        return Ok(());
    }
    // Who is refused mostly sees the form again, with status 200.
    if answer.location.as_ref().is_some_and(|to| to.path() == login.url.path()) {
        return refused(format!("{status} leads back to it"));
    }
    if status.is_success() && asks_for_password(&answer.body) {
        return refused(format!("{status}, and the page asks for a password again"));
    }
    Ok(())
}

fn read_token(login: &Login, token: &Token, answer: &Answer) -> Result<(HeaderName, HeaderValue, Secret), Verdict> {
    let status = answer.status;
    let good = if login.status.is_empty() { status.is_success() } else { login.status.contains(&status.as_u16()) };
    if !good {
        return Err(refused(status, format!("{status}: {}", excerpt(&answer.body, TOLD))));
    }
    // The body is not told from here on: it is one that may hold a token.
    let Ok(json) = serde_json::from_str::<Value>(&answer.body) else {
        return Err(refused(status, format!("{status}, and the answer is no JSON")));
    };
    let Some(Value::String(text)) = at_path(&json, &token.path) else {
        let keys = json.as_object().map(|object| listed(object.keys(), ", ")).unwrap_or_default();
        return Err(refused(
            status,
            format!("{status}, and the answer has no text {}; its keys are: {keys}", token.path),
        ));
    };
    let value = if token.scheme.is_empty() { text.clone() } else { format!("{} {text}", token.scheme) };
    match HeaderValue::from_str(&value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok((token.header.clone(), value, Secret::new(text.clone())))
        }
        Err(_) => Err(refused(status, "the token cannot be sent in a header".to_owned())),
    }
}
