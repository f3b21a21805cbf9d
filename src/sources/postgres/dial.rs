//! One connection of our own, made as libpq makes one: to each address of a name in turn, encrypted as `sslmode` says,
//! and nobody is waited for without end.

use super::connect::{CONNECT_TIMEOUT, Server};
use super::passfile;
use super::sslmode::SslMode;
use crate::error::Result;
use postgres_openssl::MakeTlsConnector;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::config::SslMode as Encryption;
use tokio_postgres::{Client, Config, Connection, NoTls};

/// What is read from a socket at once. The client itself reads 8 KiB, which for rows is a call of the system each.
const READ_AT_ONCE: usize = 256 << 10;

/// A client, or the refusal as it is.
type Connected = std::result::Result<Client, tokio_postgres::Error>;

impl Server {
    /// A client with these settings of the session, with the refusal as it is. It ends when it is dropped.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) when certificates are missing or cannot be read, or nobody answers
    /// in time.
    pub(super) async fn connect(&self, database: &str, settings: Option<&str>) -> Result<Connected> {
        self.connect_within(CONNECT_TIMEOUT, database, settings).await
    }

    /// The same with another time for each address.
    async fn connect_within(&self, limit: Duration, database: &str, settings: Option<&str>) -> Result<Connected> {
        let config = self.settings(limit, database, settings);
        if self.host.starts_with('/') {
            return self.in_time(limit, database, self.over_socket(&config)).await;
        }
        let failed = |why: String, hint: &str| self.unreachable(database, &why).hint(hint);
        let tls = match self.sslmode {
            SslMode::Disable => None,
            mode if self.lacks_root() => {
                let why = format!("sslmode={} needs a root certificate, and there is none", mode.as_str());
                let hint = "Name one with sslrootcert=/path/ca.pem, or put it into ~/.postgresql/root.crt. Those of \
                            the system are named by sslrootcert=system, which libpq knows from version 16 on.";
                return Err(failed(why, hint));
            }
            _ => {
                let hint = "Check sslrootcert, sslcert and sslkey, and libpq's own files in ~/.postgresql.";
                Some(self.tls().map_err(|e| failed(e.to_string(), hint))?)
            }
        };
        let found = lookup_host((self.host.as_str(), self.port)).await.map(|found| found.collect::<Vec<_>>());
        let addresses = found.map_err(|e| failed(e.to_string(), "Check the name of the host."))?;
        let mut last = Err(self.unreachable(database, "its name has no address"));
        for address in addresses {
            let mut config = config.clone();
            config.hostaddr(address.ip());
            match self.in_time(limit, database, self.over_tcp(&config, tls.clone())).await {
                Err(silent) => last = Err(silent),
                // Whoever says why is the server; else the next address may have it.
                Ok(Err(e)) if e.code().is_none() => last = Ok(Err(e)),
                answered => return answered,
            }
        }
        last
    }

    fn settings(&self, limit: Duration, database: &str, settings: Option<&str>) -> Config {
        let mut config = Config::new();
        config.port(self.port).user(&self.user).dbname(database).application_name("backstay").connect_timeout(limit);
        let socket = self.host.starts_with('/');
        if socket {
            config.host_path(&self.host);
        } else {
            config.host(&self.host);
        }
        let password = match &self.password {
            Some(password) => Some(password.clone()),
            None => passfile::password(self, database),
        };
        if let Some(password) = &password {
            config.password(password.expose());
        }
        if let Some(settings) = settings {
            config.options(settings);
        }
        config.ssl_mode(match self.sslmode {
            // libpq, too, asks for no TLS on a socket, whatever the mode.
            SslMode::Disable => Encryption::Disable,
            _ if socket => Encryption::Disable,
            SslMode::Prefer => Encryption::Prefer,
            _ => Encryption::Require,
        });
        config
    }

    /// Also of a server that takes a connection and then says nothing, stopped in its tracks or behind a dead proxy: the
    /// client's own limit is for the connection alone.
    async fn in_time(
        &self,
        limit: Duration,
        database: &str,
        connecting: impl Future<Output = Connected>,
    ) -> Result<Connected> {
        timeout(limit, connecting).await.map_err(|_| {
            self.unreachable(database, &format!("there was no answer within {} s", limit.as_secs_f32()))
                .hint("Check that the server runs and answers, and what stands between: a proxy, a firewall.")
        })
    }

    async fn over_socket(&self, config: &Config) -> Connected {
        match UnixStream::connect(format!("{}/.s.PGSQL.{}", self.host, self.port)).await {
            Ok(socket) => {
                let socket = BufReader::with_capacity(READ_AT_ONCE, socket);
                config.connect_raw(socket, NoTls).await.map(attended)
            }
            // Why there is no socket says tokio-postgres.
            Err(_) => config.connect(NoTls).await.map(attended),
        }
    }

    async fn over_tcp(&self, config: &Config, tls: Option<MakeTlsConnector>) -> Connected {
        let Some(tls) = tls else { return config.connect(NoTls).await.map(attended) };
        let refusal = match config.connect(tls).await {
            Ok(connected) => return Ok(attended(connected)),
            Err(e) => e,
        };
        if self.sslmode != SslMode::Prefer || !is_about_encryption(&refusal) {
            return Err(refusal);
        }
        let mut plain = config.clone();
        plain.ssl_mode(Encryption::Disable);
        // Of both refusals that of the encrypted one says more, unless only the other is the server's own.
        let connected = plain.connect(NoTls).await.map(attended);
        connected.map_err(|e| if refusal.code().is_none() && e.code().is_some() { e } else { refusal })
    }
}

/// Whether we may be let in without TLS: the handshake failed, or whoever came over it was refused. With `prefer` libpq,
/// too, tries again after both.
fn is_about_encryption(refusal: &tokio_postgres::Error) -> bool {
    match refusal.code() {
        Some(code) => code.code().starts_with("28"),
        // The error has no kind to ask for.
        None => refusal.to_string().contains("TLS handshake"),
    }
}

/// A client whose connection is seen to by a task of its own, until the client is dropped.
fn attended<S, T>((client, connection): (Client, Connection<S, T>)) -> Client
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(connection);
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    const SOON: Duration = Duration::from_millis(300);
    const LATE: Duration = Duration::from_secs(20);
    /// What asks for TLS, where a session would say its protocol.
    const SSL_REQUEST: u32 = 80_877_103;
    const PROTOCOL: u32 = 196_608;

    #[tokio::test]
    async fn a_server_that_takes_connections_and_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
        for url in [
            format!("postgresql://u@127.0.0.1:{port}/x?sslmode=disable"),
            format!("postgresql://u@127.0.0.1:{port}/x?sslmode=prefer"),
            format!("postgresql://u@/x?host={}&port=5432", directory.path().display()),
        ] {
            let server = Server::parse(&url).unwrap();
            let tried = timeout(LATE, server.connect_within(SOON, "x", None)).await;
            let Err(e) = tried.expect("it is waited for without end") else { panic!("{url} let us in") };
            assert!(e.to_string().contains("no answer within"), "{url}: {e}");
        }
    }

    #[tokio::test]
    async fn what_the_server_says_without_tls_counts_more_than_a_handshake_that_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (length, asks) = (socket.read_u32().await.unwrap(), socket.read_u32().await.unwrap());
                socket.read_exact(&mut vec![0; length as usize - 8]).await.unwrap();
                if asks == SSL_REQUEST {
                    socket.write_all(b"S").await.unwrap();
                    continue;
                }
                let says = b"SFATAL\0VFATAL\0C3D000\0Mthere is no such database\0\0";
                socket.write_u8(b'E').await.unwrap();
                socket.write_u32(says.len() as u32 + 4).await.unwrap();
                socket.write_all(says).await.unwrap();
            }
        });
        let url = format!("postgresql://u@127.0.0.1:{port}/x?sslmode=prefer");
        let tried = Server::parse(&url).unwrap().connect_within(LATE, "x", None).await.unwrap();
        let refusal = tried.expect_err("nobody lets us in");
        assert_eq!(refusal.code().map(|code| code.code()), Some("3D000"), "{refusal:?}");
        server.abort();
    }

    #[tokio::test]
    async fn after_a_handshake_that_fails_prefer_tries_without_tls_and_require_does_not() {
        for (mode, expected) in [("prefer", vec![SSL_REQUEST, PROTOCOL]), ("require", vec![SSL_REQUEST])] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let heard = asked.clone();
            let server = tokio::spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let (_, asks) = (socket.read_u32().await.unwrap(), socket.read_u32().await.unwrap());
                    heard.lock().unwrap().push(asks);
                    if asks == SSL_REQUEST {
                        socket.write_all(b"S").await.unwrap();
                    }
                }
            });
            let url = format!("postgresql://u@127.0.0.1:{port}/x?sslmode={mode}");
            let tried = Server::parse(&url).unwrap().connect_within(LATE, "x", None).await.unwrap();
            let refusal = tried.expect_err("nobody lets us in");
            assert!(is_about_encryption(&refusal), "{mode}: {refusal:?}");
            assert_eq!(*asked.lock().unwrap(), expected, "{mode}");
            server.abort();
        }
    }
}
