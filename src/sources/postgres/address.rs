//! A server as the configuration names it. What is in a container is looked up each time: it may be another one by now.

use super::connect::Server;
use super::sslmode::SslMode;
use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::exec::Inside;
use crate::host::exec::Place;
use std::path::Path;

/// Where a server is, and who we are there.
#[derive(Clone, Debug)]
pub struct Address {
    server: Server,
    container: Option<String>,
    os_user: Option<String>,
}

impl Address {
    /// An address from a URL.
    ///
    /// # Errors
    /// [`Kind::Config`], see [`Server::parse`].
    pub fn parse(url: &str) -> Result<Self> {
        Ok(Address { server: Server::parse(url)?, container: None, os_user: None })
    }

    /// The same in a container: its name, `PROJECT/SERVICE` of compose, or a swarm service.
    #[must_use]
    pub fn in_container(mut self, container: Option<String>) -> Self {
        self.container = container;
        self
    }

    /// The same with clients that run as this user of the operating system, for `peer` authentication.
    #[must_use]
    pub fn as_os_user(mut self, user: Option<String>) -> Self {
        self.os_user = user;
        self
    }

    /// The same with a password.
    #[must_use]
    pub fn with_password(mut self, password: Option<Secret>) -> Self {
        self.server.password = password.or(self.server.password);
        self
    }

    /// The password, if one is configured.
    pub fn password(&self) -> Option<&Secret> {
        self.server.password.as_ref()
    }

    /// The database of the URL.
    pub fn database(&self) -> &str {
        &self.server.database
    }

    /// A server of our own for a while: on a socket in this directory, which asks for no password.
    pub fn own(socket: &Path, port: u16, user: &str) -> Self {
        let server = Server {
            host: socket.display().to_string(),
            port,
            user: user.to_owned(),
            database: "postgres".to_owned(),
            password: None,
            sslmode: SslMode::Disable,
            sslrootcert: None,
            client_certificate: None,
            passfile: None,
            place: Place::Host,
        };
        Address { server, container: None, os_user: None }
    }

    /// Host name, address, or directory of the socket.
    pub fn host(&self) -> &str {
        &self.server.host
    }

    /// Role.
    pub fn user(&self) -> &str {
        &self.server.user
    }

    /// Whether it says that the server is on this host. A forwarded port says so too.
    pub fn is_local(&self) -> bool {
        self.server.is_local()
    }

    /// The container that it is in, as it is configured.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Whether it is a server of this machine, by what is configured; in a container it is.
    pub fn is_here(&self) -> bool {
        let host = self.server.host.as_str();
        self.container.is_some() || host.starts_with('/') || ["", "localhost", "127.0.0.1", "::1"].contains(&host)
    }

    /// Whether both name one server in the same way.
    pub fn is_same_server(&self, other: &Address) -> bool {
        let of = |a: &Address| (a.server.host.clone(), a.server.port, a.container.clone());
        of(self) == of(other)
    }

    /// The server, with its container found.
    ///
    /// # Errors
    /// [`Kind::Source`] when there is no such container, or it does not run.
    pub async fn reach(&self) -> Result<Server> {
        let mut server = self.server.clone();
        server.place = match (&self.container, &self.os_user) {
            (None, None) => Place::Host,
            (None, Some(user)) => Place::User(user.clone()),
            (Some(name), user) => {
                let docker = Docker::connect().await?;
                let found = docker.find(name).await.map_err(|e| match e.kind {
                    Kind::Source => Error { what: format!("the database server is not to be had: {}", e.what), ..e },
                    _ => e,
                })?;
                Place::Container(Inside { user: user.clone(), ..Inside::new(docker, found.name) })
            }
        };
        Ok(server)
    }
}
