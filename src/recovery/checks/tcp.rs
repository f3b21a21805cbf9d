//! A check of a port: that it takes connections, and how it answers.

use super::Verdict;
use super::words::excerpt;
use crate::config::checks::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Characters of the answer that are told.
const TOLD: usize = 100;

/// What should be, in words.
pub(super) fn expected(port: &Port) -> String {
    match &port.begins {
        None => "a connection".to_owned(),
        Some(text) => format!("an answer that begins with {text:?}"),
    }
}

/// One connection.
pub(super) async fn look(port: &Port) -> Verdict {
    let mut stream = match TcpStream::connect(&port.address).await {
        Ok(stream) => stream,
        Err(e) => return Verdict::Bad(format!("no connection: {e}")),
    };
    if let Some(text) = &port.send
        && let Err(e) = stream.write_all(text.as_bytes()).await
    {
        return Verdict::Bad(format!("the connection ended: {e}"));
    }
    let Some(begins) = &port.begins else { return Verdict::Good("a connection".to_owned()) };
    let mut answer = Vec::new();
    // No more than is compared: a server may go on talking for ever.
    let read = stream.take(begins.len() as u64).read_to_end(&mut answer).await;
    let told = format!("{:?}", excerpt(&String::from_utf8_lossy(&answer), TOLD));
    match read {
        _ if answer == begins.as_bytes() => Verdict::Good(told),
        Ok(0) => Verdict::Bad("no answer: the connection was closed".to_owned()),
        Ok(_) => Verdict::Bad(told),
        Err(e) => Verdict::Bad(format!("{told}, and then the connection ended: {e}")),
    }
}
