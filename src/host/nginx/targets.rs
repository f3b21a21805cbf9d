//! Which server blocks are meant, and whom to ask to see what clients of each name get.

use super::servers::{At, Listen, Server};
use serde::Serialize;
use std::path::PathBuf;

/// Somebody to ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The name that is asked for; nothing for a request that names none.
    pub name: Option<String>,
    /// Where to connect.
    pub at: At,
    /// Whether by TLS.
    pub tls: bool,
    /// Whether a PROXY header is expected first.
    pub proxy_protocol: bool,
}

impl Target {
    /// For messages: `https://shop.example.com at 127.0.0.1:443`.
    pub fn label(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let name = self.name.as_deref().unwrap_or("(no name)");
        match &self.at {
            At::Tcp(host, port) if host.contains(':') => format!("{scheme}://{name} at [{host}]:{port}"),
            At::Tcp(host, port) => format!("{scheme}://{name} at {host}:{port}"),
            At::Unix(path) => format!("{scheme}://{name} at {}", path.display()),
        }
    }
}

/// Who is meant.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The server blocks.
    pub servers: Vec<Server>,
    /// Whom to ask.
    pub targets: Vec<Target>,
    /// What cannot be asked, and why.
    pub skipped: Vec<Skipped>,
    /// Names of the configuration that no server block has.
    pub unknown: Vec<String>,
}

/// Something that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Skipped {
    /// The server block.
    pub server: String,
    /// Why.
    pub why: String,
}

/// Scheme, and place of a base URL.
pub fn base(url: &str) -> Option<(bool, At)> {
    let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return None,
    };
    let rest = rest.trim_end_matches('/');
    let default = if tls { 443 } else { 80 };
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, port) = inner.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    let port = port.map_or(Some(default), |p| p.parse().ok())?;
    (!host.is_empty() && host.chars().all(plain)).then(|| (tls, At::Tcp(host.to_owned(), port)))
}

/// Decides who is meant by `names` (empty: everybody), and whom to ask; with `probe` all at that place.
pub fn scope(servers: &[Server], names: &[String], probe: Option<&str>, hostname: Option<&str>) -> Scope {
    let mut scope = Scope::default();
    if names.is_empty() {
        for server in servers {
            let asked: Vec<Option<String>> = server.names.iter().filter_map(|n| askable(n, hostname)).collect();
            if asked.len() < server.names.len() && asked.is_empty() {
                let why = "its names are patterns that no name can be made of; list some in `maintenance.names`";
                scope.skipped.push(Skipped { server: server.label(), why: why.into() });
            }
            scope.add(server, &asked, probe);
        }
    } else {
        for name in names {
            let mut having: Vec<&Server> = servers.iter().filter(|s| s.names.iter().any(|n| covers(n, name))).collect();
            if having.is_empty() {
                // A pattern may have it, or whoever takes what nobody has.
                having = servers.iter().filter(|s| takes_others(s)).collect();
            }
            if having.is_empty() {
                scope.unknown.push(name.clone());
            }
            having.into_iter().for_each(|server| scope.add(server, &[Some(name.clone())], probe));
        }
    }
    scope.targets.sort();
    scope.targets.dedup();
    scope.skipped.sort();
    scope.skipped.dedup();
    scope
}

impl Scope {
    fn add(&mut self, server: &Server, names: &[Option<String>], probe: Option<&str>) {
        if !self.servers.iter().any(|s| (&s.file, s.opened) == (&server.file, server.opened)) {
            self.servers.push(server.clone());
        }
        if let Some((tls, at)) = probe.and_then(base) {
            let target =
                |name: &Option<String>| Target { name: name.clone(), at: at.clone(), tls, proxy_protocol: false };
            self.targets.extend(names.iter().map(target));
            return;
        }
        for listen in &server.listens {
            let why = if listen.only_http2 {
                Some("it speaks HTTP/2 without TLS")
            } else if listen.tls && server.rejects_tls {
                Some("it ends every TLS handshake")
            } else if listen.tls && server.asks_certificate {
                Some("it asks clients for a certificate")
            } else {
                None
            };
            match why {
                Some(why) => self.skipped.push(Skipped { server: server.label(), why: why.into() }),
                None => self.targets.extend(names.iter().map(|name| target(name, listen))),
            }
        }
    }
}

fn target(name: &Option<String>, listen: &Listen) -> Target {
    let at = match &listen.at {
        At::Tcp(host, port) => {
            let host = match host.as_str() {
                "*" => "127.0.0.1",
                "::" => "::1",
                other => other,
            };
            At::Tcp(host.to_owned(), *port)
        }
        At::Unix(path) => At::Unix(PathBuf::from(path)),
    };
    Target { name: name.clone(), at, tls: listen.tls, proxy_protocol: listen.proxy_protocol }
}

/// A name that a client could ask for, for one as it is written. The inner `None` is no name at all; the outer one
/// stands for a pattern.
fn askable(written: &str, hostname: Option<&str>) -> Option<Option<String>> {
    if written.is_empty() {
        return Some(None);
    }
    if written == "$hostname" {
        return hostname.map(|name| Some(name.to_lowercase()));
    }
    if written.starts_with('~') || written.contains('$') {
        return None;
    }
    let name = match (written.strip_prefix("*."), written.strip_prefix('.'), written.strip_suffix(".*")) {
        (Some(domain), ..) => format!("backstay-probe.{domain}"),
        (_, Some(domain), _) => domain.to_owned(),
        (_, _, Some(host)) => format!("{host}.backstay-probe"),
        _ => written.to_owned(),
    };
    Some(Some(name))
}

/// Whether a name as it is written is, or covers, another.
fn covers(written: &str, name: &str) -> bool {
    let (written, name) = (written.to_ascii_lowercase(), name.to_ascii_lowercase());
    if let Some(domain) = written.strip_prefix("*.") {
        return name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    }
    if let Some(domain) = written.strip_prefix('.') {
        return name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    }
    if let Some(host) = written.strip_suffix(".*") {
        return name.strip_prefix(host).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
    }
    written == name
}

/// Whether a block may answer for names that are not written anywhere.
fn takes_others(server: &Server) -> bool {
    server.listens.iter().any(|l| l.default)
        || server.names.iter().any(|n| n.is_empty() || n == "_" || n.starts_with('~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(names: &[&str], listens: &[Listen]) -> Server {
        Server {
            file: format!("/{}", names.join("-")),
            line: 1,
            opened: 8,
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            listens: listens.to_vec(),
            includes: 1,
            rejects_tls: false,
            asks_certificate: false,
        }
    }

    fn tcp(host: &str, port: u16, tls: bool) -> Listen {
        Listen { at: At::Tcp(host.into(), port), tls, proxy_protocol: false, default: false, only_http2: false }
    }

    fn labels(scope: &Scope) -> Vec<String> {
        scope.targets.iter().map(Target::label).collect()
    }

    #[test]
    fn every_name_and_place_is_asked_and_patterns_by_a_name_that_they_have() {
        let servers = [
            server(&["a.example", "*.b.example", ".c.example", "www.*"], &[tcp("*", 80, false)]),
            server(&["", "$hostname"], &[tcp("::", 443, true)]),
            server(&["~^x"], &[tcp("10.0.0.1", 80, false)]),
        ];
        let scope = scope(&servers, &[], None, Some("Box"));
        assert_eq!(
            labels(&scope),
            [
                "https://(no name) at [::1]:443",
                "http://a.example at 127.0.0.1:80",
                "http://backstay-probe.b.example at 127.0.0.1:80",
                "https://box at [::1]:443",
                "http://c.example at 127.0.0.1:80",
                "http://www.backstay-probe at 127.0.0.1:80",
            ]
        );
        assert!(scope.skipped[0].server.starts_with("~^x") && scope.servers.len() == 3);
    }

    #[test]
    fn names_choose_the_blocks_that_have_them_or_may() {
        let mut other = server(&["other.example"], &[tcp("*", 80, false)]);
        other.listens[0].default = true;
        let servers =
            [server(&["*.example.com"], &[tcp("*", 443, true)]), server(&["~^y"], &[tcp("*", 81, false)]), other];
        let of =
            |names: &[&str]| scope(&servers, &names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), None, None);
        assert_eq!(labels(&of(&["shop.example.com"])), ["https://shop.example.com at 127.0.0.1:443"]);
        assert_eq!(of(&["shop.example.com"]).servers.len(), 1);
        assert_eq!(labels(&of(&["yes"])), ["http://yes at 127.0.0.1:80", "http://yes at 127.0.0.1:81"]);
        let only = scope(&servers[..1], &["example.com".into()], None, None);
        assert_eq!((only.unknown, only.servers.len()), (vec!["example.com".to_owned()], 0));
    }

    #[test]
    fn with_a_base_url_all_are_asked_there() {
        let servers = [server(&["a"], &[tcp("*", 80, false), tcp("*", 443, true)])];
        assert_eq!(labels(&scope(&servers, &[], Some("http://127.0.0.1:8080/"), None)), ["http://a at 127.0.0.1:8080"]);
        assert_eq!(base("https://[::1]"), Some((true, At::Tcp("::1".into(), 443))));
        assert_eq!((base("http://a b"), base("http://:80"), base("x"), base("http://a:b")), (None, None, None, None));
    }
}
