//! Cookies of one login, as RFC 6265 has them as far as one application goes.

use jiff::Timestamp;
use std::net::IpAddr;

struct Cookie {
    name: String,
    value: String,
    /// The host that set it, or the domain that it named.
    domain: String,
    /// Only that very host.
    host_only: bool,
    path: String,
    secure: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Cookies(Vec<Cookie>);

/// Where a request goes.
pub(super) struct Site<'a> {
    pub host: &'a str,
    pub path: &'a str,
    pub https: bool,
}

fn within(host: &str, domain: &str) -> bool {
    host == domain
        || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && host.parse::<IpAddr>().is_err())
}

/// A machine's own network needs no encryption.
fn is_own(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || address.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// The part of a path up to its last slash.
fn folder(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

fn covers(cookie: &str, path: &str) -> bool {
    path == cookie || path.strip_prefix(cookie).is_some_and(|rest| cookie.ends_with('/') || rest.starts_with('/'))
}

fn is_past(date: &str) -> bool {
    // Two forms are about: with spaces and with hyphens.
    let date = date.replace('-', " ");
    jiff::fmt::rfc2822::parse(&date).is_ok_and(|at| at.timestamp() <= Timestamp::now())
}

impl Cookies {
    /// Takes one `Set-Cookie`. What is malformed, or for somebody else, is left out.
    pub(super) fn set(&mut self, header: &str, site: &Site<'_>) {
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let mut cookie = Cookie {
            name: name.trim().to_owned(),
            value: value.trim().trim_matches('"').to_owned(),
            domain: site.host.to_ascii_lowercase(),
            host_only: true,
            path: folder(site.path).to_owned(),
            secure: false,
        };
        let mut gone = false;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key.trim().to_ascii_lowercase().as_str() {
                "domain" if !value.is_empty() => {
                    let domain = value.trim().trim_start_matches('.').to_ascii_lowercase();
                    if !within(&cookie.domain, &domain) {
                        return;
                    }
                    (cookie.domain, cookie.host_only) = (domain, false);
                }
                "path" if value.starts_with('/') => cookie.path = value.trim().to_owned(),
                "secure" => cookie.secure = true,
                "max-age" => gone = value.trim().parse::<i64>().is_ok_and(|seconds| seconds <= 0),
                "expires" => gone = gone || is_past(value.trim()),
                _ => {}
            }
        }
        self.0.retain(|c| (&c.name, &c.domain, &c.path) != (&cookie.name, &cookie.domain, &cookie.path));
        if !gone && !cookie.name.is_empty() {
            self.0.push(cookie);
        }
    }

    fn fitting(&self, site: &Site<'_>) -> impl Iterator<Item = &Cookie> {
        let host = site.host.to_ascii_lowercase();
        let safe = site.https || is_own(&host);
        let path = site.path.to_owned();
        self.0.iter().filter(move |c| {
            let here = if c.host_only { host == c.domain } else { within(&host, &c.domain) };
            here && covers(&c.path, &path) && (safe || !c.secure)
        })
    }

    /// The `Cookie` header of a request, if there is anything to send.
    pub(super) fn header(&self, site: &Site<'_>) -> Option<String> {
        let mut fitting: Vec<&Cookie> = self.fitting(site).collect();
        fitting.sort_by_key(|c| std::cmp::Reverse(c.path.len()));
        let pairs: Vec<String> = fitting.iter().map(|c| format!("{}={}", c.name, c.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The value of a cookie that would be sent.
    pub(super) fn value(&self, name: &str, site: &Site<'_>) -> Option<&str> {
        self.fitting(site).find(|c| c.name == name).map(|c| c.value.as_str())
    }

    /// Whether there is one of that name, wherever it goes.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|c| c.name == name)
    }

    /// All values; who has one is logged in.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|c| c.value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site<'a>(host: &'a str, path: &'a str) -> Site<'a> {
        Site { host, path, https: host != "plain.test" }
    }

    fn with(headers: &[&str]) -> Cookies {
        let mut cookies = Cookies::default();
        for header in headers {
            cookies.set(header, &site("erp.acme.test", "/accounts/login/"));
        }
        cookies
    }

    #[test]
    fn a_cookie_goes_where_it_belongs() {
        let all = with(&[
            "session=s1; Path=/; HttpOnly; Secure; SameSite=Lax",
            "wide=w; Domain=.acme.test; Path=/",
            "deep=d",
            "foreign=f; Domain=other.test",
            "suffix=x; Domain=me.test",
            "bad",
        ]);
        let header = |host, path| all.header(&site(host, path)).unwrap_or_default();
        assert_eq!(header("erp.acme.test", "/"), "session=s1; wide=w");
        assert_eq!(header("erp.acme.test", "/accounts/login"), "deep=d; session=s1; wide=w");
        assert_eq!(header("www.acme.test", "/"), "wide=w");
        assert_eq!(header("acme.test.evil.test", "/"), "");
        let plain = Site { host: "erp.acme.test", path: "/", https: false };
        assert_eq!(all.header(&plain).unwrap(), "wide=w");
        let mut own = Cookies::default();
        let local = Site { host: "127.0.0.1", path: "/", https: false };
        own.set("s=1; Secure", &local);
        assert_eq!(own.header(&local).unwrap(), "s=1");
    }

    #[test]
    fn a_cookie_is_replaced_and_taken_back() {
        let mut all = with(&["s=1; Path=/", "s=2; Path=/", "t=1; Path=/"]);
        let root = site("erp.acme.test", "/");
        assert_eq!(all.header(&root).unwrap(), "s=2; t=1");
        all.set("s=; Path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT", &root);
        all.set("t=; Path=/; Expires=Thu, 01-Jan-1970 00:00:00 GMT", &root);
        assert_eq!(all.header(&root), None);
        all.set("u=1; Path=/; Max-Age=0", &root);
        assert!(!all.has("u"));
        all.set("u=1; Path=/; Max-Age=60", &root);
        assert!(all.has("u") && all.value("u", &root) == Some("1"));
    }
}
