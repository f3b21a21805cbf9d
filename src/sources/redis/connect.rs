//! Reaching a server: socket, TLS, password; and what its refusals mean.

use super::address::{Place, Server, Tls};
use super::resp::{Channel, PATIENCE, Reply, Wire};
use crate::error::{Error, Kind, Result};
use crate::host::netns;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a user of the server needs for a backup.
pub const ACL_BACKUP: &str = "+psync +replconf +info +config|get";
/// What a user needs besides, so that a restore can save what was there.
pub const ACL_RESTORE: &str = "+save +pubsub|numsub";

/// An open connection, with who we are already said.
pub struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects and logs in; with a process, from inside its container.
    ///
    /// # Errors
    /// [`Kind::Source`] with the system's or the server's own words. Whether nobody listens is [`is_down`].
    pub async fn open(server: &Server, inside: Option<u32>) -> Result<Self> {
        let label = server.label();
        let wire = tokio::time::timeout(CONNECT_TIMEOUT, wire(server, inside)).await.map_err(|_| {
            unreachable(&label).because(format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs()))
        })??;
        let mut connection = Connection { channel: Channel::new(wire, label) };
        if server.password.is_some() || server.user.is_some() {
            let mut login = vec!["AUTH"];
            login.extend(server.user.as_deref());
            // A user without a password (`nopass`) is logged in with any.
            login.push(server.password.as_ref().map_or("", |p| p.expose()));
            connection.ask(&login).await?;
        }
        Ok(connection)
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// [`Kind::Source`] with what to do when the server refuses it.
    pub async fn ask(&mut self, command: &[&str]) -> Result<Reply> {
        self.ask_patiently(command, PATIENCE).await
    }

    /// The same for a command that may take long.
    pub async fn ask_patiently(&mut self, command: &[&str], patience: Duration) -> Result<Reply> {
        self.channel.send(command).await?;
        match self.channel.reply(patience).await? {
            Reply::Error(text) => Err(self.refused(command, &text)),
            reply => Ok(reply),
        }
    }

    /// The bytes, for what is no command with one reply.
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// What a refusal means. Only the name of the command is told: its arguments may be a password.
    pub fn refused(&self, command: &[&str], text: &str) -> Error {
        let name = match command {
            [first, second, ..] if matches!(*first, "CONFIG" | "PUBSUB") => format!("{first} {second}"),
            [first, ..] => (*first).to_owned(),
            [] => String::new(),
        };
        let error = Error::new(Kind::Source, format!("the server refuses {name}"))
            .at(self.channel.label())
            .because(text.to_owned());
        let code = text.split(' ').next().unwrap_or_default();
        let grant = format!(
            "Let the user do what a backup needs: ACL SETUSER NAME {ACL_BACKUP}; for a restore also {ACL_RESTORE}."
        );
        match code {
            "NOAUTH" => error.hint("The server wants a password: set `password_file`, and the user in the URL if it is not the default one."),
            "WRONGPASS" => error.hint("Check the user in the URL and the password."),
            "NOPERM" => Error { denied: true, ..error.hint(grant) },
            "LOADING" => error.hint("The server is still loading its data; try again when it is done."),
            "NOMASTERLINK" => error.hint("The replica has lost its primary, so its data may be old. Back up the primary, or mend the link."),
            "MASTERDOWN" => error.hint("The replica has lost its primary. Back up the primary, or mend the link."),
            _ if text.contains("unknown command") || text.contains("unknown subcommand") => Error { denied: true, ..error.hint(format!(
                "The command is renamed or switched off (rename-command in redis.conf; many managed services do so). Allow it for this user, or use the provider's own backups. {grant}"
            )) },
            _ if text.starts_with("ERR AUTH") || text.contains("without any password configured") => {
                error.hint("The server has no password for this user: leave `password_file` out, or set a user in the URL.")
            }
            _ => error.hint("See the log of the server."),
        }
    }
}

fn unreachable(label: &str) -> Error {
    Error::new(Kind::Source, "cannot connect to the Redis server")
        .at(label)
        .hint("Check that the server runs, and `url`: host, port and scheme (rediss:// for TLS).")
}

/// Whether an error of [`Connection::open`] means that nobody listens there.
pub fn is_down(e: &Error) -> bool {
    let kind = e.cause.as_ref().and_then(|c| c.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    matches!(kind, Some(std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound))
}

async fn wire(server: &Server, inside: Option<u32>) -> Result<Box<dyn Wire>> {
    let label = server.label();
    let failed = |e: std::io::Error| unreachable(&label).because(e);
    let (host, port) = match &server.place {
        Place::Unix(path) => {
            let path = match (inside, path.strip_prefix("/")) {
                (Some(process), Ok(path)) => Path::new(&format!("/proc/{process}/root")).join(path),
                _ => path.clone(),
            };
            return Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?));
        }
        Place::Tcp { host, port } => (host, *port),
    };
    let stream = match inside {
        None => TcpStream::connect((host.as_str(), port)).await.map_err(failed)?,
        Some(process) => {
            let name = host.clone();
            let connecting = tokio::task::spawn_blocking(move || netns::connect(process, &name, port, CONNECT_TIMEOUT));
            let stream = connecting.await.map_err(Error::panicked("connecting"))?.map_err(failed)?;
            stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).map_err(failed)?
        }
    };
    let Some(tls) = &server.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.clone())
        .map_err(|e| Error::new(Kind::Config, "the host of the URL cannot be verified by TLS").at(&label).because(e))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client(tls)?));
    let stream = connector.connect(name, stream).await.map_err(|e| {
        Error::new(Kind::Source, "the server cannot be reached by TLS").at(&label).because(e).hint(
            "Check that this port speaks TLS, that `tls_ca` has signed the server's certificate and that the certificate is for the host of the URL.",
        )
    })?;
    Ok(Box::new(stream))
}

fn client(tls: &Tls) -> Result<rustls::ClientConfig> {
    let bad = |what: &str| Error::new(Kind::Config, what.to_owned());
    let mut roots = rustls::RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| bad("`tls_ca` cannot be used").at(path.display()).because(e))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate to verify the server by").hint("Set `tls_ca`."));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Internal, "TLS cannot be set up").because(e))?
        .with_root_certificates(roots);
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| bad("`tls_key` cannot be read").at(key.display()).because(e.to_string()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .map_err(|e| bad("`tls_cert` and `tls_key` cannot be used").at(cert.display()).because(e))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| Error::new(Kind::Config, "a certificate cannot be read").at(path.display()).because(e.to_string()))
}
