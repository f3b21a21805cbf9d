//! Reaching a server: one set of settings, used by our own connections and by `pg_dump` and its kin.
//!
//! `sslmode` means what it means to libpq. The Rust client knows `require` with full verification only, so the
//! modes are mapped here: `require` checks nothing (unless there is a root certificate), `verify-ca` the chain,
//! `verify-full` the chain and the name.

use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::sources::url::decode;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server has it; checks nothing.
    Prefer,
    /// TLS; checks nothing unless there is a root certificate.
    Require,
    /// TLS with a certificate that the root signed.
    VerifyCa,
    /// The same, and the certificate is for this host.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Ok(match s {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => {
                return Err(Error::new(Kind::Config, format!("{s:?} is not an sslmode"))
                    .hint("Use disable, prefer, require, verify-ca or verify-full."));
            }
        })
    }
}

impl SslMode {
    fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// A server and who we are there.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host name, address, or directory of the socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// The database of the URL; also where one connects for questions about the cluster.
    pub database: String,
    /// Password, unless the server asks for none.
    pub password: Option<Secret>,
    /// Encryption.
    pub sslmode: SslMode,
    /// CA certificate.
    pub sslrootcert: Option<PathBuf>,
}

impl Server {
    /// Reads a `postgresql://` URL with libpq's parameters `sslmode`, `sslrootcert`, `host` and `port`.
    ///
    /// # Errors
    /// [`Kind::Config`]; the URL itself is not repeated, since it may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Kind::Config, format!("the PostgreSQL URL cannot be used: {why}"))
                .hint("Write postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full&sslrootcert=/path/ca.pem.")
        };
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or_else(|| bad("it does not begin with postgresql://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, hostport) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = userinfo.split_once(':').map_or((userinfo, None), |(u, p)| (u, Some(p)));
        let (host, port) = match hostport.rsplit_once(':') {
            Some((h, p)) if !p.contains(']') => (h, Some(p)),
            _ => (hostport, None),
        };
        let decode = |text: &str| decode(text).ok_or_else(|| bad("a %-escape is wrong"));
        let port = port.map(|p| p.parse().map_err(|_| bad("the port is no number"))).transpose()?;
        let mut server = Server {
            host: decode(host.trim_start_matches('[').trim_end_matches(']'))?,
            port: port.unwrap_or(5432),
            user: decode(user)?,
            database: decode(database)?,
            password: password.map(decode).transpose()?.map(Secret::new),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
        };
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| bad("a parameter has no value"))?;
            let value = decode(value)?;
            match key {
                "sslmode" => server.sslmode = value.parse()?,
                "sslrootcert" => server.sslrootcert = Some(value.into()),
                "host" => server.host = value,
                "port" => server.port = value.parse().map_err(|_| bad("the port is no number"))?,
                "user" => server.user = value,
                "dbname" => server.database = value,
                other => return Err(bad(&format!("the parameter {other} is not known"))),
            }
        }
        if server.host.is_empty() {
            server.host = "/var/run/postgresql".into();
        }
        if server.user.is_empty() {
            server.user = "postgres".into();
        }
        if server.database.is_empty() {
            server.database = "postgres".into();
        }
        Ok(server)
    }

    /// For messages: where, as whom, never the password.
    pub fn place(&self) -> String {
        format!("{}@{}:{}", self.user, self.host, self.port)
    }

    /// The environment that makes libpq's tools connect to the same place in the same way.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("PGHOST".to_owned(), self.host.clone()),
            ("PGPORT".to_owned(), self.port.to_string()),
            ("PGUSER".to_owned(), self.user.clone()),
            ("PGSSLMODE".to_owned(), self.sslmode.as_str().to_owned()),
            ("PGCONNECT_TIMEOUT".to_owned(), CONNECT_TIMEOUT.as_secs().to_string()),
            ("PGAPPNAME".to_owned(), "backstay".to_owned()),
        ];
        if let Some(root) = &self.sslrootcert {
            env.push(("PGSSLROOTCERT".to_owned(), root.display().to_string()));
        }
        if let Some(password) = &self.password {
            env.push(("PGPASSWORD".to_owned(), password.expose().to_owned()));
        }
        env
    }

    /// Connects to a database of the server. The connection ends when the client is dropped.
    ///
    /// # Errors
    /// [`Kind::Source`] with the server's own words.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::new(Kind::Source, format!("cannot connect to the database {database}"))
                .at(self.place())
                .because(e.to_string())
        };
        let mut config = tokio_postgres::Config::new();
        config
            .port(self.port)
            .user(&self.user)
            .dbname(database)
            .application_name("backstay")
            .connect_timeout(CONNECT_TIMEOUT);
        if self.host.starts_with('/') {
            config.host_path(&self.host)
        } else {
            config.host(&self.host)
        };
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        use tokio_postgres::config::SslMode as M;
        config.ssl_mode(match self.sslmode {
            SslMode::Disable => M::Disable,
            SslMode::Prefer => M::Prefer,
            _ => M::Require,
        });
        let explain = |e: tokio_postgres::Error| {
            let text = std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string());
            let error = failed(&text);
            match e.code().map(tokio_postgres::error::SqlState::code) {
                Some("28P01" | "28000") => error.hint("Check user, password and pg_hba.conf."),
                Some("3D000") => error.hint("Check the database's name."),
                _ => error.hint("Check that the server runs, and host, port and sslmode."),
            }
        };
        if self.sslmode == SslMode::Disable || self.host.starts_with('/') {
            let (client, connection) = config.connect(NoTls).await.map_err(explain)?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let (client, connection) = config.connect(self.tls().map_err(|e| failed(&e))?).await.map_err(explain)?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn tls(&self) -> std::result::Result<MakeTlsConnector, openssl::error::ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls())?;
        if let Some(root) = &self.sslrootcert {
            builder.set_ca_file(root)?;
        }
        // libpq: `require` with a root certificate at hand behaves like `verify-ca`.
        let verify_chain = matches!(self.sslmode, SslMode::VerifyCa | SslMode::VerifyFull)
            || (self.sslmode == SslMode::Require && self.sslrootcert.is_some());
        if !verify_chain {
            builder.set_verify(SslVerifyMode::NONE);
        }
        let verify_name = self.sslmode == SslMode::VerifyFull;
        let mut connector = MakeTlsConnector::new(builder.build());
        connector.set_callback(move |connection, _| {
            connection.set_verify_hostname(verify_name);
            Ok(())
        });
        Ok(connector)
    }
}

/// An SQL identifier, quoted; names from outside never become SQL otherwise.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL literal, quoted.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_parse_like_libpq_reads_them() {
        let s = Server::parse("postgresql://app:p%40ss@db.example:6432/erp?sslmode=verify-full&sslrootcert=/ca.pem")
            .unwrap();
        assert_eq!((s.host.as_str(), s.port, s.user.as_str(), s.database.as_str()), ("db.example", 6432, "app", "erp"));
        assert_eq!(s.password.as_ref().unwrap().expose(), "p@ss");
        assert_eq!(s.sslmode, SslMode::VerifyFull);
        assert!(!format!("{s:?}").contains("p@ss"));
        let s = Server::parse("postgresql:///erp?host=/run/pg&port=5433").unwrap();
        assert_eq!((s.host.as_str(), s.port, s.user.as_str()), ("/run/pg", 5433, "postgres"));
        let s = Server::parse("postgresql://u@[::1]:5432/x").unwrap();
        assert_eq!(s.host, "::1");
    }

    #[test]
    fn a_wrong_url_is_explained_without_its_password() {
        for url in ["mysql://u:hunter2@h/d", "postgresql://u:hunter2@h:x/d", "postgresql://u:hunter2@h/d?ssl=1"] {
            let e = Server::parse(url).unwrap_err();
            assert!(!e.to_string().contains("hunter2"), "{e}");
        }
    }

    #[test]
    fn odd_names_stay_names() {
        assert_eq!(ident("a\"b; drop"), "\"a\"\"b; drop\"");
        assert_eq!(literal("o'b"), "'o''b'");
    }
}
