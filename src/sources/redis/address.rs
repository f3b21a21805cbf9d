//! Where a server is and who we are there.

use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::sources::url::{Authority, decode};
use std::path::PathBuf;

/// The port of Redis.
const PORT: u16 = 6379;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Unix socket.
    Unix(PathBuf),
}

/// How TLS is verified, and what we show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities, PEM; else those of the system.
    pub ca: Option<PathBuf>,
    /// Our certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// A server and who we are there.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub place: Place,
    /// With TLS.
    pub tls: Option<Tls>,
    /// ACL user; else the default one.
    pub user: Option<String>,
    /// Password, unless the server asks for none.
    pub password: Option<Secret>,
}

impl Server {
    /// Whether it is a server of this machine, by what is configured.
    pub fn is_here(&self) -> bool {
        match &self.place {
            Place::Unix(_) => true,
            Place::Tcp { host, .. } => ["localhost", "127.0.0.1", "::1"].contains(&host.as_str()),
        }
    }

    /// Reads `redis://`, `rediss://` and `unix://` URLs.
    ///
    /// # Errors
    /// [`Kind::Config`]; the URL itself is not repeated, since it may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Kind::Config, format!("the Redis URL cannot be used: {why}"))
                .hint("Write redis://USER@HOST:6379, rediss://USER@HOST:6379 for TLS, or unix:///run/redis/redis.sock.")
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        if rest.contains('?') {
            return Err(bad("it has parameters; each has a key of its own in the configuration"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let Authority { user, password, host, port } = Authority::of(authority);
        let decode = |text: &str| decode(text).ok_or_else(|| bad("a %-escape is wrong"));
        let user = Some(decode(user)?).filter(|u| !u.is_empty());
        let password = password.map(decode).transpose()?.map(Secret::new);
        let tls = match scheme {
            "rediss" => Some(Tls::default()),
            "redis" | "unix" => None,
            _ => return Err(bad("its scheme is none of redis, rediss and unix")),
        };
        if scheme == "unix" {
            if !host.is_empty() || port.is_some() || path.is_empty() {
                return Err(bad("a socket is named by its full path, after three slashes"));
            }
            return Ok(Server { place: Place::Unix(format!("/{}", decode(path)?).into()), tls, user, password });
        }
        if !matches!(path, "" | "0") {
            return Err(bad("it names a database, and a backup holds all of them"));
        }
        let port = port.map_or(Ok(PORT), |p| p.parse().map_err(|_| bad("the port is no number")))?;
        let host = decode(host)?;
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        Ok(Server { place: Place::Tcp { host, port }, tls, user, password })
    }

    /// For messages: where, as whom, never the password.
    pub fn label(&self) -> String {
        let user = self.user.as_deref().map(|u| format!("{u}@")).unwrap_or_default();
        match &self.place {
            Place::Tcp { host, port } => format!("{user}{host}:{port}"),
            Place::Unix(path) => format!("{user}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_who() {
        let s = Server::parse("rediss://back%40up:p%3Ass@cache.example:6380/0").unwrap();
        assert_eq!(s.place, Place::Tcp { host: "cache.example".into(), port: 6380 });
        assert_eq!((s.user.as_deref(), s.password.as_ref().unwrap().expose()), (Some("back@up"), "p:ss"));
        assert!(s.tls.is_some() && !format!("{s:?} {}", s.label()).contains("p:ss"));
        let s = Server::parse("redis://[::1]").unwrap();
        assert_eq!((s.label().as_str(), s.user), ("::1:6379", None));
        let s = Server::parse("redis://:hunter2@/").unwrap();
        assert_eq!((s.label().as_str(), s.user), ("localhost:6379", None));
        let s = Server::parse("unix://backup@/run/redis/redis.sock").unwrap();
        assert_eq!((s.place, s.user.as_deref()), (Place::Unix("/run/redis/redis.sock".into()), Some("backup")));
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for url in [
            "http://u:hunter2@h",
            "redis://u:hunter2@h:x",
            "redis://u:hunter2@h/3",
            "unix://u:hunter2@run/x",
            "redis://u:hunter2@h?db=1",
            "u:hunter2@h",
        ] {
            let e = Server::parse(url).unwrap_err();
            assert!(!e.to_string().contains("hunter2") && e.to_string().contains("do:"), "{e}");
        }
    }
}
