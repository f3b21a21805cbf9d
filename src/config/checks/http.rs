//! What an HTTP check asks, as whom, and what must come back.

use super::Texts;
use super::raw::{OneOrMany, RawCheck, RawLogin};
use super::read::{one_word, wrong};
use crate::config::command::secrets_of;
use crate::config::secret::{Secret, either, resolve};
use crate::error::Result;
use http::Method;
use http::header::{HeaderName, HeaderValue};
use reqwest::Url;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where; without user and password.
    pub url: Url,
    /// How.
    pub method: Method,
    /// Headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are secret.
    pub secret_headers: Vec<(HeaderName, Secret)>,
    /// Body.
    pub body: Option<String>,
    /// The `Host` header, when it is not that of the URL.
    pub host: Option<String>,
    /// Where to connect, whatever the name of the URL resolves to.
    pub resolve: Option<IpAddr>,
    /// Whether it may ask this machine only, where every name then leads. No key: an exercise sets it.
    pub only_here: bool,
    /// Certificates that may sign the server's, besides those of the system.
    pub ca: Option<PathBuf>,
    /// Whether any certificate is taken.
    pub insecure: bool,
    /// Whether redirections are followed.
    pub redirects: bool,
    /// Who we are.
    pub auth: Option<Auth>,
    /// What comes first.
    pub login: Option<Login>,
    /// Status codes that are good.
    pub status: Vec<u16>,
    /// In the body.
    pub texts: Texts,
    /// In the body when it is JSON: path and value.
    pub json: Vec<(String, Value)>,
}

/// The address that a URL has in the place of a name.
pub fn address_of(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Who we are without a login.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A token.
    Bearer(Secret),
    /// A user with his password.
    Basic(String, Secret),
}

/// How to log in: by a form, which leaves cookies, or by a request that is answered with a token.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where.
    pub url: Url,
    /// Whether the fields go as JSON.
    pub json: bool,
    /// Fields.
    pub fields: Vec<(String, Value)>,
    /// The field of the password, and the password.
    pub password: Option<(String, Secret)>,
    /// The token against forged requests.
    pub csrf: Option<Csrf>,
    /// Status codes of a login that succeeded; else it is judged by what came back.
    pub status: Vec<u16>,
    /// A cookie that is set when it succeeds.
    pub cookie: Option<String>,
    /// The token that the answer holds.
    pub token: Option<Token>,
}

/// A token against forged requests.
#[derive(Clone, Debug)]
pub struct Csrf {
    /// The hidden field, `<meta>` or cookie that holds it.
    pub name: String,
    /// The field that it goes back in.
    pub field: String,
    /// And the header.
    pub header: Option<HeaderName>,
}

/// A token in an answer.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its path.
    pub path: String,
    /// The header that it goes into.
    pub header: HeaderName,
    /// The word before it; may be empty.
    pub scheme: String,
}

fn url_of(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|e| {
        wrong(format!("{text:?} is no URL")).because(e).hint("Write http://HOST:PORT/PATH, or https://…")
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong(format!("{text:?} is no URL of HTTP")).hint("Write http://HOST:PORT/PATH, or https://…"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: what is before the @ may be a password.
        return Err(wrong("the URL holds a user or a password").hint("Use `user` and `password_file`."));
    }
    Ok(url)
}

fn header_of(name: &str) -> Result<HeaderName> {
    name.parse().map_err(|_| wrong(format!("{name:?} cannot be the name of a header")))
}

/// The request of these keys.
pub(super) fn http_of(url: &str, raw: &mut RawCheck, key: &str, dir: &Path) -> Result<Http> {
    let url = url_of(url)?;
    let method = match (&raw.method, &raw.body) {
        (Some(method), _) => {
            Method::from_bytes(method.as_bytes()).map_err(|_| wrong(format!("{method:?} is no HTTP method")))?
        }
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    let mut headers = Vec::new();
    for (name, value) in raw.headers.take().unwrap_or_default() {
        let name = header_of(&name)?;
        if name == http::header::HOST {
            return Err(wrong("`headers` has Host").hint("Use `host`: then the login gets it too."));
        }
        let value =
            HeaderValue::from_str(&value).map_err(|_| wrong(format!("the header {name} has a control code")))?;
        headers.push((name, value));
    }
    let (secrets, files) = (raw.secrets.take().unwrap_or_default(), raw.secrets_file.take().unwrap_or_default());
    let mut secret_headers = Vec::new();
    for (name, value) in secrets_of(&BTreeMap::new(), &secrets, &files, key, dir)? {
        let name = header_of(&name)?;
        // Not told: it is a secret.
        if HeaderValue::from_str(value.expose()).is_err() {
            return Err(wrong(format!("the secret header {name} has a control code")));
        }
        secret_headers.push((name, value));
    }
    if let Some(host) = raw.host.as_deref().filter(|h| HeaderValue::from_str(h).is_err() || h.contains(['/', ' '])) {
        return Err(wrong(format!("`host` is {host:?}")).hint("Write a name, with its port if it has one."));
    }
    let bearer = either(raw.bearer.take(), raw.bearer_file.as_deref(), &format!("{key}.bearer"), dir)?;
    let password = either(raw.password.take(), raw.password_file.as_deref(), &format!("{key}.password"), dir)?;
    let auth = match (bearer, raw.user.take(), password) {
        (None, None, None) => None,
        (Some(bearer), None, None) => Some(Auth::Bearer(bearer)),
        (None, Some(user), Some(password)) => Some(Auth::Basic(user, password)),
        _ => {
            return Err(wrong("it is not clear who the check is")
                .hint("Set `bearer`, or `user` and `password`; those of a login go into `login`."));
        }
    };
    if raw.insecure == Some(true) && raw.ca.is_some() {
        return Err(wrong("`insecure` and `ca` are set").hint("Keep `ca`."));
    }
    let login = raw.login.take().map(|login| login_of(*login, key, dir)).transpose()?;
    if auth.is_some() && login.is_some() {
        return Err(wrong("both `login` and `bearer` or `user` are set").hint("Keep one of them."));
    }
    let resolve_to = match &raw.resolve {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            wrong(format!("`resolve` is {text:?}, which is no address"))
                .hint("Write an IP address; the port is that of the URL.")
        })?),
    };
    if resolve_to.is_some() && url.domain().is_none() {
        return Err(wrong("`resolve` is set, and the URL has an address already")
            .hint("Put the name into the URL, or use `host`."));
    }
    Ok(Http {
        url,
        method,
        headers,
        secret_headers,
        body: raw.body.take(),
        host: raw.host.take(),
        resolve: resolve_to,
        only_here: false,
        ca: raw.ca.take().map(|file| resolve(&file, dir)),
        insecure: raw.insecure.unwrap_or(false),
        redirects: raw.redirects.unwrap_or(false),
        auth,
        login,
        status: status_of(raw.status.take())?.unwrap_or_else(|| vec![200]),
        texts: texts_of(raw),
        json: raw.json.take().unwrap_or_default().into_iter().map(scalar).collect::<Result<_>>()?,
    })
}

/// What must and must not be in an answer or output.
pub(super) fn texts_of(raw: &mut RawCheck) -> Texts {
    let list = |texts: Option<OneOrMany<String>>| texts.map(OneOrMany::into_vec).unwrap_or_default();
    Texts { contains: list(raw.contains.take()), not_contains: list(raw.not_contains.take()) }
}

fn status_of(raw: Option<OneOrMany<u16>>) -> Result<Option<Vec<u16>>> {
    let Some(codes) = raw.map(OneOrMany::into_vec) else { return Ok(None) };
    match codes.iter().find(|code| !(100..=599).contains(*code)) {
        Some(code) => Err(wrong(format!("`status` names {code}, which no server answers"))),
        None if codes.is_empty() => Err(wrong("`status` is empty").hint("Leave it out, or name a status code.")),
        None => Ok(Some(codes)),
    }
}

fn scalar((path, value): (String, Value)) -> Result<(String, Value)> {
    if value.is_array() || value.is_object() {
        return Err(wrong(format!("`json` compares {path} with a list or table"))
            .hint("Name the path of each value: \"items.0.name\" = \"…\"."));
    }
    Ok((path, value))
}

fn login_of(raw: RawLogin, key: &str, dir: &Path) -> Result<Login> {
    let key = format!("{key}.login");
    let password = either(raw.password, raw.password_file.as_deref(), &format!("{key}.password"), dir)?;
    let json = raw.json.is_some();
    let fields: Vec<(String, Value)> = match (raw.form, raw.json) {
        (Some(_), Some(_)) => return Err(wrong("`login` has `form` and `json`").hint("Keep one of them.")),
        (Some(form), None) => form.into_iter().map(|(name, value)| (name, Value::String(value))).collect(),
        (None, json) => json.unwrap_or_default().into_iter().collect(),
    };
    let field = raw.password_field.unwrap_or_else(|| "password".to_owned());
    if password.is_some() && fields.iter().any(|(name, _)| *name == field) {
        return Err(wrong(format!("`login` has the field {field} twice")).hint("Take it out of `form` or `json`."));
    }
    if fields.is_empty() && password.is_none() {
        return Err(wrong("`login` sends nothing")
            .hint("Write form = { username = \"…\" } and password_file, or json = { … }."));
    }
    let csrf = match (raw.csrf, raw.csrf_field, raw.csrf_header) {
        (None, None, None) => None,
        (Some(name), field, header) => Some(Csrf {
            field: field.unwrap_or_else(|| name.clone()),
            header: header.as_deref().map(header_of).transpose()?,
            name,
        }),
        _ => return Err(wrong("`csrf_field` or `csrf_header` is set without `csrf`")),
    };
    let token = match (raw.token, raw.header, raw.scheme) {
        (None, None, None) => None,
        (Some(path), header, scheme) => Some(Token {
            path,
            header: header_of(header.as_deref().unwrap_or("Authorization"))?,
            scheme: one_word("scheme", scheme.unwrap_or_else(|| "Bearer".to_owned()))?,
        }),
        _ => return Err(wrong("`header` or `scheme` is set without `token`")),
    };
    if token.is_some() && (csrf.is_some() || raw.cookie.is_some()) {
        return Err(wrong("`login` has `token` and `csrf` or `cookie`")
            .hint("A form leaves a cookie, and an API gives a token. Keep one of them."));
    }
    Ok(Login {
        url: url_of(&raw.url)?,
        json,
        fields,
        password: password.map(|password| (field, password)),
        csrf,
        status: status_of(raw.status)?.unwrap_or_default(),
        cookie: raw.cookie,
        token,
    })
}
