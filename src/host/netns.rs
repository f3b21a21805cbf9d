//! Connecting from where a container is, so that a port need not be published.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

/// Connects as a process of this machine would. Blocks.
///
/// The network namespace is one of the thread: a thread is made for it, enters, connects, and ends. The socket stays
/// where it was made.
///
/// # Errors
/// Those of the connection, or permission denied: entering a namespace needs root.
pub fn connect(pid: u32, host: &str, port: u16, timeout: Duration) -> Result<TcpStream> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let host = host.to_owned();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let mut last = Error::from(ErrorKind::NotFound);
        for address in (host.as_str(), port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            }
        }
        Err(last)
    });
    thread.join().unwrap_or_else(|_| Err(Error::other("the connecting thread ended by a panic")))
}
