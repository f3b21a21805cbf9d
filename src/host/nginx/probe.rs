//! Asking as a client would, and what the answer is: the maintenance page, or something else.
//!
//! It connects to where nginx listens and names the host that is meant, in TLS too. Certificates are not looked at: what
//! counts is who answers, and that is known from the address.

use super::processes;
use super::servers::At;
use super::targets::Target;
use crate::error::{Error, Kind, Result};
use crate::host::netns;
use futures::{StreamExt, stream};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use rustix::fs::OFlags;
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The header that tells our 503 from one of the application.
pub const HEADER: &str = "X-Backstay-Maintenance";
/// How long connecting may take, and how long an answer may.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of an answer is read for its head.
const HEAD: usize = 64 * 1024;
/// How many are asked at once.
const AT_ONCE: usize = 16;
/// A pause before those are asked again that did not answer as wanted.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Our page, with the id of what shows it.
    Page(String),
    /// Another answer.
    Other(u16),
    /// Connected, and no answer in time. Our page would be there at once.
    Silent,
    /// No connection, or no HTTP.
    Unreachable(String),
}

impl Answer {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Answer::Page(id) => format!("503, maintenance {id}"),
            Answer::Other(status) => format!("{status}, not the maintenance page"),
            Answer::Silent => format!("no answer within {} seconds", PATIENCE.as_secs()),
            Answer::Unreachable(why) => why.clone(),
        }
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Our page of this id.
    Page(&'a str),
    /// Anything else than our page.
    NoPage,
}

impl Wanted<'_> {
    /// Whether an answer is what is wanted.
    pub fn is(self, answer: &Answer) -> bool {
        match self {
            Wanted::Page(id) => matches!(answer, Answer::Page(found) if found == id),
            Wanted::NoPage => matches!(answer, Answer::Other(_) | Answer::Silent),
        }
    }
}

/// One who was asked, and the answer.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Who.
    pub target: String,
    /// What came.
    pub answer: Answer,
}

/// Asks everybody once, in a container whose first process is given or on the host.
pub async fn ask_all(targets: &[Target], inside: Option<u32>) -> Vec<Asked> {
    let one = |target: Target| async move {
        let label = target.label();
        let answer = tokio::task::spawn_blocking(move || ask(&target, inside)).await;
        let answer = answer.unwrap_or_else(|e| Answer::Unreachable(e.to_string()));
        Asked { target: label, answer }
    };
    stream::iter(targets.to_vec()).map(one).buffered(AT_ONCE).collect().await
}

/// Asks until everybody answers as is wanted.
///
/// # Errors
/// [`Kind::Restore`] with those who do not, when the time is over.
pub async fn until(targets: &[Target], inside: Option<u32>, wanted: Wanted<'_>, limit: Duration) -> Result<Vec<Asked>> {
    let started = Instant::now();
    loop {
        let asked = ask_all(targets, inside).await;
        let bad: Vec<String> = asked
            .iter()
            .filter(|a| !wanted.is(&a.answer))
            .map(|a| format!("{}: {}", a.target, a.answer.words()))
            .collect();
        if bad.is_empty() {
            return Ok(asked);
        }
        if started.elapsed() > limit {
            let what = match wanted {
                Wanted::Page(_) => "the maintenance page is not shown everywhere",
                Wanted::NoPage => "the maintenance page is still shown, or nginx does not answer",
            };
            return Err(Error::new(Kind::Restore, what).because(bad.join("\n")).hint(
                "Ask there yourself (`curl -ki --resolve`). A name that clients do not use can be left out: `maintenance.names` lists those that count.",
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

trait Wire: Read + Write + std::fmt::Debug {}
impl<T: Read + Write + std::fmt::Debug> Wire for T {}

fn ask(target: &Target, inside: Option<u32>) -> Answer {
    match exchange(target, inside) {
        Ok(head) => understand(&head),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => Answer::Silent,
        Err(e) => Answer::Unreachable(e.to_string()),
    }
}

/// Connects, asks, and gives the head of the answer. Running out of time before there is a connection is no silence.
fn exchange(target: &Target, inside: Option<u32>) -> std::io::Result<Vec<u8>> {
    let unreachable = |e: std::io::Error| std::io::Error::other(format!("no connection: {e}"));
    let mut wire = connect(&target.at, inside).map_err(unreachable)?;
    if target.proxy_protocol {
        wire.write_all(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n")?;
    }
    if target.tls {
        wire = handshake(wire, target.name.as_deref())
            .map_err(|e| std::io::Error::other(format!("no TLS connection: {e}")))?;
    }
    // HTTP/1.1 demands a name.
    let (version, host) = match &target.name {
        Some(name) => ("1.1", format!("Host: {name}\r\n")),
        None => ("1.0", String::new()),
    };
    let request =
        format!("GET / HTTP/{version}\r\n{host}User-Agent: backstay\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    wire.write_all(request.as_bytes())?;
    wire.flush()?;
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while head.len() < HEAD && memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        match wire.read(&mut piece)? {
            0 => break,
            n => head.extend_from_slice(&piece[..n]),
        }
    }
    Ok(head)
}

fn connect(at: &At, inside: Option<u32>) -> std::io::Result<Box<dyn Wire>> {
    Ok(match at {
        At::Tcp(host, port) => {
            let stream = match inside {
                Some(process) => netns::connect(process, host, *port, PATIENCE)?,
                None => {
                    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
                    let mut found = None;
                    for address in (host.as_str(), *port).to_socket_addrs()? {
                        match TcpStream::connect_timeout(&address, PATIENCE) {
                            Ok(stream) => {
                                found = Some(stream);
                                break;
                            }
                            Err(e) => last = e,
                        }
                    }
                    found.ok_or(last)?
                }
            };
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
        At::Unix(path) => {
            // By its descriptor: a path through the container's root could lead out of it.
            let socket = processes::open_in(inside, path, OFlags::PATH)?;
            let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
    })
}

/// Any version and cipher will do: the page is public.
fn handshake(wire: Box<dyn Wire>, name: Option<&str>) -> std::io::Result<Box<dyn Wire>> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(None)?;
    builder.set_cipher_list("ALL:@SECLEVEL=0")?;
    let configuration = builder
        .build()
        .configure()?
        .verify_hostname(false)
        .use_server_name_indication(name.is_some_and(|n| n.parse::<std::net::IpAddr>().is_err()));
    let stream =
        configuration.connect(name.unwrap_or_default(), wire).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(Box::new(stream))
}

fn understand(head: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|l| l.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse::<u16>().ok());
    let Some(status) = status else {
        return Answer::Unreachable(if head.is_empty() {
            "the connection was closed without an answer".to_owned()
        } else {
            "what answers does not speak HTTP/1".to_owned()
        });
    };
    let id = lines
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case(HEADER).then(|| value.trim().to_owned()));
    match id {
        Some(id) if status == 503 => Answer::Page(id),
        _ => Answer::Other(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_page_is_told_from_other_answers() {
        let page = b"HTTP/1.1 503 Service Temporarily Unavailable\r\nServer: x\r\nx-backstay-maintenance: id-1\r\n\r\n";
        assert_eq!(understand(page), Answer::Page("id-1".into()));
        assert_eq!(understand(b"HTTP/1.0 503 Gone\r\n\r\nX-Backstay-Maintenance: no"), Answer::Other(503));
        assert_eq!(understand(b"HTTP/1.1 200 OK\r\nX-Backstay-Maintenance: id\r\n\r\n"), Answer::Other(200));
        assert!(matches!(understand(b"\0\0\x12\x04"), Answer::Unreachable(_)));
        assert!(Wanted::Page("id-1").is(&understand(page)) && !Wanted::Page("id-2").is(&understand(page)));
        assert!(Wanted::NoPage.is(&Answer::Silent) && !Wanted::NoPage.is(&Answer::Unreachable(String::new())));
    }
}
