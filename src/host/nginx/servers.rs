//! The server blocks of a configuration: their names, where they listen, and whether they have our include.

use super::files::{Files, directives, fits, is_pattern};
use super::lexer::{Directive, line_of};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Files within files. nginx itself ends at the limit of open files.
const DEEPEST: usize = 32;

/// A place where nginx listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// Host or address, and port.
    Tcp(String, u16),
    /// A socket.
    Unix(PathBuf),
}

/// One `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub at: At,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// Whether a PROXY header comes first.
    pub proxy_protocol: bool,
    /// Whether requests for names that nobody has come here.
    pub default: bool,
    /// Whether HTTP/1 cannot be counted on: HTTP/2 without TLS.
    pub only_http2: bool,
}

/// A server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The file that it is in, as nginx has it.
    pub file: String,
    /// The line on which it begins.
    pub line: usize,
    /// Behind its `{`, in bytes.
    pub opened: usize,
    /// Its names as they are written; one empty name when it has none.
    pub names: Vec<String>,
    /// Where it listens over TCP or a socket. QUIC is left out.
    pub listens: Vec<Listen>,
    /// How often it includes what was asked for.
    pub includes: usize,
    /// Whether it ends every TLS handshake.
    pub rejects_tls: bool,
    /// Whether a client without a certificate gets nothing.
    pub asks_certificate: bool,
}

impl Server {
    /// For messages: `shop.example.com (/etc/nginx/sites-enabled/shop:3)`.
    pub fn label(&self) -> String {
        let names = self.names.iter().filter(|n| !n.is_empty()).map(String::as_str).collect::<Vec<_>>();
        let names = if names.is_empty() { "server without a name".to_owned() } else { names.join(" ") };
        format!("{names} ({}:{})", self.file, self.line)
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Server blocks, in order.
    pub servers: Vec<Server>,
    /// The argument of `pid`.
    pub pid: Option<String>,
}

/// Reads a configuration from its main file on. `ours` is the file whose includes are counted; it is not read.
///
/// # Errors
/// [`crate::error::Kind::Restore`] when a file cannot be understood.
pub fn read(files: &dyn Files, main: &str, ours: &str) -> Result<Found> {
    let prefix = Path::new(main).parent().unwrap_or(Path::new("/")).display().to_string();
    let mut walk = Walk { files, prefix, ours, found: Found::default(), http: Inherited::default(), own: Vec::new() };
    walk.file(main, Level::Main, 0)?;
    let Walk { mut found, http, own, .. } = walk;
    for (server, own) in found.servers.iter_mut().zip(own) {
        server.asks_certificate = own.asks_certificate.or(http.asks_certificate).unwrap_or(false);
        let tls = own.tls.or(http.tls).unwrap_or(false);
        server.listens.iter_mut().for_each(|l| l.tls |= tls);
    }
    share(&mut found.servers);
    Ok(found)
}

/// Two blocks that listen at one place share its socket, and with it what is spoken there.
fn share(servers: &mut [Server]) {
    let all: Vec<Listen> = servers.iter().flat_map(|s| s.listens.clone()).collect();
    for listen in servers.iter_mut().flat_map(|s| &mut s.listens) {
        for other in all.iter().filter(|l| l.at == listen.at) {
            listen.tls |= other.tls;
            listen.proxy_protocol |= other.proxy_protocol;
            listen.only_http2 |= other.only_http2;
        }
        listen.only_http2 &= !listen.tls;
    }
}

/// What a server block has from `http` unless it says otherwise.
#[derive(Clone, Copy, Default)]
struct Inherited {
    asks_certificate: Option<bool>,
    tls: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Main,
    Http,
    Server,
}

struct Walk<'a> {
    files: &'a dyn Files,
    prefix: String,
    ours: &'a str,
    found: Found,
    http: Inherited,
    own: Vec<Inherited>,
}

impl Walk<'_> {
    fn file(&mut self, path: &str, level: Level, depth: usize) -> Result<()> {
        let Some(text) = self.files.text(path).filter(|_| depth < DEEPEST) else { return Ok(()) };
        let read = directives(path, &text)?;
        self.block(&read, path, &text, level, depth)
    }

    fn block(&mut self, all: &[Directive], path: &str, text: &[u8], level: Level, depth: usize) -> Result<()> {
        for d in all {
            match (level, d.name(), &d.block) {
                (_, "include", None) => self.include(d, level, depth)?,
                (Level::Main, "http", Some(inner)) => self.block(inner, path, text, Level::Http, depth)?,
                (Level::Main, "pid", None) => self.found.pid = d.args().first().cloned(),
                (Level::Http, "server", Some(inner)) => {
                    self.found.servers.push(Server {
                        file: path.to_owned(),
                        line: line_of(text, d.start),
                        opened: d.end,
                        names: Vec::new(),
                        listens: Vec::new(),
                        includes: 0,
                        rejects_tls: false,
                        asks_certificate: false,
                    });
                    self.own.push(Inherited::default());
                    self.block(inner, path, text, Level::Server, depth)?;
                    self.complete();
                }
                (Level::Http | Level::Server, "ssl_verify_client", None) => {
                    let asks = d.args().first().is_some_and(|a| a == "on");
                    self.inherited(level).asks_certificate = Some(asks);
                }
                (Level::Http | Level::Server, "ssl", None) => {
                    self.inherited(level).tls = Some(d.args().first().is_some_and(|a| a == "on"));
                }
                (Level::Server, name, None) => self.of_server(name, d.args()),
                _ => {}
            }
        }
        Ok(())
    }

    fn inherited(&mut self, level: Level) -> &mut Inherited {
        match self.own.last_mut() {
            Some(own) if level == Level::Server => own,
            _ => &mut self.http,
        }
    }

    fn of_server(&mut self, name: &str, args: &[String]) {
        let Some(server) = self.found.servers.last_mut() else { return };
        match name {
            "server_name" => server.names.extend(args.iter().cloned()),
            "listen" => server.listens.extend(listen(args)),
            "ssl_reject_handshake" => server.rejects_tls = args.first().is_some_and(|a| a == "on"),
            _ => {}
        }
    }

    /// What a block has that says nothing of names and places.
    fn complete(&mut self) {
        let Some(server) = self.found.servers.last_mut() else { return };
        if server.names.is_empty() {
            server.names.push(String::new());
        }
        if server.listens.is_empty() {
            server.listens.extend(listen(&["80".to_owned()]));
        }
    }

    fn include(&mut self, d: &Directive, level: Level, depth: usize) -> Result<()> {
        let Some(pattern) = d.args().first() else { return Ok(()) };
        let pattern = if pattern.starts_with('/') { pattern.clone() } else { format!("{}/{pattern}", self.prefix) };
        if fits(&pattern, self.ours) {
            if level == Level::Server
                && let Some(server) = self.found.servers.last_mut()
            {
                server.includes += 1;
            }
            return Ok(());
        }
        let files = if is_pattern(&pattern) { self.files.matching(&pattern) } else { vec![pattern] };
        files.iter().try_for_each(|file| self.file(file, level, depth + 1))
    }
}

/// What a `listen` says; nothing for QUIC, which nobody asks over TCP.
fn listen(args: &[String]) -> Option<Listen> {
    let (place, flags) = args.split_first()?;
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    if has("quic") || has("http3") {
        return None;
    }
    let tls = has("ssl");
    Some(Listen {
        at: place_of(place)?,
        tls,
        proxy_protocol: has("proxy_protocol"),
        default: has("default_server") || has("default"),
        only_http2: has("http2") && !tls,
    })
}

fn place_of(text: &str) -> Option<At> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(At::Unix(path.into()));
    }
    // Of a range of ports the first.
    let port = |text: &str| text.split('-').next().and_then(|p| p.parse::<u16>().ok());
    if let Some(port) = port(text) {
        return Some(At::Tcp("*".into(), port));
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match rest.strip_prefix(':') {
        Some(rest) => port(rest)?,
        None => 80,
    };
    let host = if host == "0.0.0.0" { "*" } else { host };
    Some(At::Tcp(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::super::files::Dump;
    use super::*;

    const OURS: &str = "/var/lib/backstay/nginx/maintenance.conf";

    fn of(files: &[(&str, &str)]) -> Found {
        let text: String = files.iter().map(|(p, t)| format!("# configuration file {p}:\n{t}\n")).collect();
        let dump = Dump::parse(text.as_bytes()).unwrap();
        read(&dump, dump.main(), OURS).unwrap()
    }

    #[test]
    fn servers_are_found_in_http_alone_through_includes() {
        const B: &str = "ssl_verify_client on;\nserver {\n server_name b *.c;\n include common;\n}\nserver { ssl_verify_client off; }";
        let found = of(&[
            (
                "/etc/nginx/nginx.conf",
                "pid /run/x.pid;\nstream { server { listen 1; } }\nhttp { upstream u { server a; }\n include conf.d/*.conf; }",
            ),
            ("/etc/nginx/conf.d/b.conf", B),
            ("/etc/nginx/common", "listen 8080 ssl; include /var/lib/backstay/nginx/*.conf;"),
        ]);
        let [b, other] = &found.servers[..] else { panic!("{found:?}") };
        assert_eq!((b.label().as_str(), b.includes), ("b *.c (/etc/nginx/conf.d/b.conf:2)", 1));
        assert!(b.listens[0].tls && b.asks_certificate && !other.asks_certificate);
        assert_eq!((other.names.as_slice(), &other.listens[0].at), (&[String::new()][..], &At::Tcp("*".into(), 80)));
        assert_eq!(
            (other.includes, other.opened, found.pid.as_deref()),
            (0, B.len() - " ssl_verify_client off; }".len(), Some("/run/x.pid"))
        );
    }

    #[test]
    fn an_include_of_ours_counts_however_it_is_written_and_not_outside_of_server_blocks() {
        let text = format!(
            "http {{ include {OURS}; server {{ include /var/lib/backstay/nginx/*; include {OURS}; location / {{ include {OURS}; }} }} }}"
        );
        assert_eq!(of(&[("/n.conf", &text)]).servers[0].includes, 2);
    }

    #[test]
    fn places_are_understood_and_shared() {
        let tcp = |host: &str, port| Some(At::Tcp(host.into(), port));
        for (text, expected) in [
            ("80", tcp("*", 80)),
            ("0.0.0.0:81", tcp("*", 81)),
            ("*:82", tcp("*", 82)),
            ("127.0.0.1", tcp("127.0.0.1", 80)),
            ("localhost:8000", tcp("localhost", 8000)),
            ("[::]:443", tcp("::", 443)),
            ("[::1]", tcp("::1", 80)),
            ("8000-8010", tcp("*", 8000)),
            ("unix:/run/a.sock", Some(At::Unix("/run/a.sock".into()))),
        ] {
            assert_eq!(place_of(text), expected, "{text}");
        }
        let found = of(&[(
            "/n.conf",
            "http { server { listen 443 ssl http2; } server { listen *:443; listen 80 http2; listen 443 quic; } }",
        )]);
        let listens = &found.servers[1].listens;
        assert_eq!(listens.iter().map(|l| (l.tls, l.only_http2)).collect::<Vec<_>>(), [(true, false), (false, true)]);
    }
}
