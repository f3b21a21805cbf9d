//! What systemd wants to hear from a service of `Type=notify`: sd_notify(3). Without it, nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// The way to the service manager.
#[derive(Clone)]
pub struct Notify {
    socket: Option<Arc<UnixDatagram>>,
    /// The manager ends the service when it hears nothing for so long.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// The one that the environment names.
    pub fn from_environment() -> Self {
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| connect(&name).ok());
        let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let limit = std::env::var("WATCHDOG_USEC").ok().and_then(|n| n.parse().ok()).filter(|n| *n > 0 && ours);
        Notify { socket: socket.map(Arc::new), watchdog: limit.map(Duration::from_micros) }
    }

    /// Says something; a manager that does not listen fails nothing.
    pub fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.replace('\n', " ").as_bytes());
        }
    }
}

/// A path, or with an at sign a name that is not in the file system.
fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
