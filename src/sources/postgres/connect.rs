//! Reaching a server: one set of settings, used by our own connections and by `pg_dump` and its kin.

use super::pooler;
use super::session::Session;
use super::sslmode::SslMode;
use super::tools;
use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Place, Program};
use crate::sources::url::{Authority, decode};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::Client;

/// How long a connection may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What every session of ours begins with: its commits are on the server's own disk, and wait for no standby. A synchronous
/// one that is away would keep a restore waiting without end and without a word, with the application down.
const SETTINGS: &str = "-c synchronous_commit=local";

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
    /// Client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Password file in libpq's format; else the usual places.
    pub passfile: Option<PathBuf>,
    /// Where clients run: here, as another user of the operating system, or in a container. Elsewhere than here,
    /// everything goes through `psql` and its kin.
    pub place: Place,
}

impl Server {
    /// Reads a `postgresql://` URL with libpq's parameters `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `passfile`,
    /// `host` and `port`.
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
        let Authority { user, password, host, port } = Authority::of(authority);
        let decode = |text: &str| decode(text).ok_or_else(|| bad("a %-escape is wrong"));
        let port = port.map(|p| p.parse().map_err(|_| bad("the port is no number"))).transpose()?;
        let mut server = Server {
            host: decode(host)?,
            port: port.unwrap_or(5432),
            user: decode(user)?,
            database: decode(database)?,
            password: password.map(decode).transpose()?.map(Secret::new),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            client_certificate: None,
            passfile: None,
            place: Place::Host,
        };
        let (mut certificate, mut private) = (None, None);
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| bad("a parameter has no value"))?;
            let value = decode(value)?;
            match key {
                "sslmode" => server.sslmode = value.parse()?,
                "sslrootcert" => server.sslrootcert = Some(value.into()),
                "sslcert" => certificate = Some(PathBuf::from(value)),
                "sslkey" => private = Some(PathBuf::from(value)),
                "passfile" => server.passfile = Some(value.into()),
                "host" => server.host = value,
                "port" => server.port = value.parse().map_err(|_| bad("the port is no number"))?,
                "user" => server.user = value,
                "dbname" => server.database = value,
                other => return Err(bad(&format!("the parameter {other} is not known"))),
            }
        }
        server.client_certificate = match (certificate, private) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(bad("sslcert and sslkey go together")),
        };
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
        let there = format!("{}@{}:{}", self.user, self.host, self.port);
        match &self.place {
            Place::Host => there,
            Place::User(user) => format!("{there} as {user}"),
            Place::Container(inside) => format!("{} in container {}", self.user, inside.container),
        }
    }

    /// Whether its name is one of this host's own. A forwarded port has such a name too.
    pub fn is_local(&self) -> bool {
        self.host.starts_with('/') || ["localhost", "127.0.0.1", "::1"].contains(&self.host.as_str())
    }

    /// True when we connect ourselves; else `psql` does it for us.
    pub fn is_direct(&self) -> bool {
        matches!(self.place, Place::Host)
    }

    /// One of libpq's own programs, so that it connects to the same place in the same way.
    pub fn program(&self, path: &Path, args: impl IntoIterator<Item = impl Into<String>>) -> Program {
        let mut env = self.env();
        env.push(("PGOPTIONS".to_owned(), SETTINGS.to_owned()));
        Program::new(path, args).env(env).at(self.place.clone())
    }

    /// A `psql` that runs statements one by one and stops at the first error.
    pub fn psql<'a>(
        &self,
        path: &Path,
        database: &str,
        statements: impl IntoIterator<Item = &'a str>,
        quiet: bool,
    ) -> Program {
        // Verbose, so that an error is said with its code.
        let mut args: Vec<String> =
            ["-XAtw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose"].map(str::to_owned).into();
        if quiet {
            args.push("-q".into());
        }
        args.push(format!("--dbname=dbname={}", conninfo_value(database)));
        args.extend(statements.into_iter().flat_map(|s| ["-c".to_owned(), s.to_owned()]));
        self.program(path, args)
    }

    /// Where and as whom, as libpq's environment; may hold the password. Programs of the operator's get it too, and how their
    /// sessions are set is theirs.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = vec![
            ("PGUSER".to_owned(), self.user.clone()),
            ("PGCONNECT_TIMEOUT".to_owned(), CONNECT_TIMEOUT.as_secs().to_string()),
            ("PGAPPNAME".to_owned(), "backstay".to_owned()),
            // Names travel as UTF-8, wherever psql runs.
            ("PGCLIENTENCODING".to_owned(), "UTF8".to_owned()),
        ];
        let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
        // In a container the client's own defaults are right: its socket, wherever its packager put it.
        if !matches!(self.place, Place::Container(_)) {
            set("PGHOST", self.host.clone());
            set("PGPORT", self.port.to_string());
            set("PGSSLMODE", self.sslmode.as_str().to_owned());
        }
        if let Some(root) = &self.sslrootcert {
            set("PGSSLROOTCERT", root.display().to_string());
        }
        if let Some((certificate, key)) = &self.client_certificate {
            set("PGSSLCERT", certificate.display().to_string());
            set("PGSSLKEY", key.display().to_string());
        }
        if let Some(passfile) = &self.passfile {
            set("PGPASSFILE", passfile.display().to_string());
        }
        if let Some(password) = &self.password {
            set("PGPASSWORD", password.expose().to_owned());
        }
        env
    }

    /// A session with a database of the server.
    ///
    /// # Errors
    /// [`Kind::Source`] with the server's own words.
    pub async fn session(&self, database: &str) -> Result<Session> {
        if self.is_direct() {
            return Ok(Session::direct(self.client(database).await?));
        }
        let psql = tools::any("psql", &self.place).await?;
        let mut program = self.psql(&psql, database, [], true);
        // Unlike a list of statements, a conversation goes on after a refusal.
        program.args.extend(["-v".into(), "ON_ERROR_STOP=0".into()]);
        let (running, input, output) = program.duplex().await?;
        let session = Session::psql(running, input, output);
        session.run("SELECT 1 WHERE false").await.map_err(|e| match pooler::takes_no_settings(&e.text) {
            true => pooler::refused(self, e.text),
            false => self.unreachable(database, &e.text),
        })?;
        Ok(session)
    }

    pub(super) fn unreachable(&self, database: &str, why: &str) -> Error {
        Error::new(Kind::Source, format!("cannot connect to the database {database}")).at(self.place()).because(why)
    }

    /// A session for questions about the cluster. The database of the URL may be the one that is lost.
    ///
    /// # Errors
    /// [`Kind::Source`] with the server's own words.
    pub async fn admin(&self) -> Result<Session> {
        match self.session("postgres").await {
            Ok(session) => Ok(session),
            Err(_) => self.session("template1").await,
        }
    }

    /// The same, with a database that is not this one.
    ///
    /// # Errors
    /// [`Kind::Source`] with the server's own words.
    pub async fn admin_beside(&self, database: &str) -> Result<Session> {
        if database == "postgres" { self.session("template1").await } else { self.admin().await }
    }

    /// A connection of our own. It ends when the client is dropped.
    ///
    /// # Errors
    /// [`Kind::Source`] with the server's own words.
    pub async fn client(&self, database: &str) -> Result<Client> {
        let e = match self.connect(database, Some(SETTINGS)).await? {
            Ok(client) => return Ok(client),
            Err(e) => e,
        };
        let text = std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string());
        if pooler::takes_no_settings(&text) {
            // It may say which one it is.
            pooler::refuse(self).await?;
            return Err(pooler::refused(self, text));
        }
        let error = self.unreachable(database, &text);
        Err(match e.code().map(tokio_postgres::error::SqlState::code) {
            Some("28P01" | "28000") => error.hint("Check user, password and pg_hba.conf."),
            Some("3D000") => error.hint("Check the database's name."),
            Some("0A000") => {
                error.hint("A proxy may stand there that takes no settings of a session: name the server itself.")
            }
            None if text.contains("does not support TLS") => error.hint("Switch `ssl` on in the server's configuration. Where the connection does not leave this host, sslmode=prefer goes without."),
            _ => error.hint("Check that the server runs, and host, port and sslmode."),
        })
    }
}

/// A value in a libpq connection string: so a database named `a=b` or `postgresql://x` stays a name.
pub fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// An SQL identifier, quoted; names from outside never become SQL otherwise.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL literal, quoted so that it means the same whatever `standard_conforming_strings` is.
pub fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { " E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
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
        assert_eq!(literal("o\\'b"), " E'o\\\\''b'");
        assert_eq!(conninfo_value("a'b\\c"), "'a\\'b\\\\c'");
    }
}
