//! Telling the service manager how we are: the protocol of sd_notify(3), which is a datagram to a socket.
//!
//! For services of `Type=notify` ([`Manager::ready`], [`Manager::keep_alive`]) and for the status line of any service with
//! `NotifyAccess=`. Started otherwise there is no socket, and nothing happens. Nothing here can fail the work: what
//! the manager does not hear, it finds out by itself.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// The service manager that started us, if it wants to hear from us.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

/// Pings the watchdog until it is dropped.
pub struct KeepAlive(Option<tokio::task::JoinHandle<()>>);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Manager {
    /// As the environment tells.
    pub fn from_env() -> Self {
        let of = |name: &str| std::env::var_os(name);
        Self::new(of("NOTIFY_SOCKET"), of("WATCHDOG_USEC"), of("WATCHDOG_PID"))
    }

    fn new(socket: Option<OsString>, usec: Option<OsString>, pid: Option<OsString>) -> Self {
        let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
        // Who inherits the variables of another process is not watched.
        let ours = pid.is_none_or(|pid| number(pid) == Some(u64::from(std::process::id())));
        let watchdog = usec.filter(|_| ours).and_then(number).filter(|n| *n > 0).map(Duration::from_micros);
        Manager { socket: socket.and_then(|s| open(&s).ok()).map(Arc::new), watchdog }
    }

    /// Whether anybody listens.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// The service is up: whoever waits for its start goes on.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// What `systemctl status` shows, in one line.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Pings the watchdog, if there is one, twice in its time. A runtime that hangs pings no more. To be called
    /// within a runtime.
    pub fn keep_alive(&self) -> KeepAlive {
        let Some(every) = self.watchdog.map(|w| w / 2).filter(|_| self.listens()) else { return KeepAlive(None) };
        let manager = self.clone();
        KeepAlive(Some(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                manager.send("WATCHDOG=1");
            }
        })))
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.0.send_to_addr(message.as_bytes(), &socket.1);
        }
    }
}

/// A path, or with `@` a name in the abstract namespace.
fn open(socket: &OsString) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let ours = UnixDatagram::unbound()?;
    // A manager that does not read must not hold us up.
    ours.set_nonblocking(true)?;
    Ok((ours, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 4096];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::new(Some(path.into_os_string()), None, None);
        manager.ready();
        manager.status("source erpdb\nstarted");
        manager.stopping();
        assert_eq!(
            [heard(&named), heard(&named), heard(&named)],
            ["READY=1", "STATUS=source erpdb started", "STOPPING=1"]
        );
        let name = format!("backstay-notify-{}", std::process::id());
        let hidden = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::new(Some(format!("@{name}").into()), None, None).ready();
        assert_eq!(heard(&hidden), "READY=1");
    }

    #[tokio::test]
    async fn the_watchdog_is_pinged_when_it_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let watched = |pid: u32| {
            Manager::new(Some(path.clone().into()), Some("20000".into()), Some(pid.to_string().into())).keep_alive()
        };
        let another = watched(std::process::id() + 1);
        assert!(another.0.is_none(), "the watchdog of another process");
        let ours = watched(std::process::id());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!([heard(&socket), heard(&socket)], ["WATCHDOG=1", "WATCHDOG=1"]);
        drop(ours);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let manager = Manager::new(None, Some("20000".into()), None);
        manager.ready();
        assert!(!manager.listens());
        assert!(Manager::new(Some("/nowhere".into()), None, None).listens(), "nobody is there, and nothing fails");
        Manager::new(Some("/nowhere".into()), None, None).ready();
    }
}
