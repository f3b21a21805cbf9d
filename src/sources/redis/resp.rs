//! The protocol: requests as arrays of byte strings, replies of RESP version 2.

use crate::error::{Error, Kind, Result};
use bytes::{Buf, Bytes, BytesMut};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bounds of what a server may answer.
const LONGEST_LINE: usize = 64 << 10;
const LONGEST_BULK: usize = 64 << 20;
const MOST_ELEMENTS: usize = 1 << 20;
const READ_AT_ONCE: usize = 128 << 10;

/// What carries the bytes.
pub trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`
    Error(String),
    /// `:1`
    Number(i64),
    /// A byte string, or none.
    Bulk(Option<Vec<u8>>),
    /// An array.
    Array(Vec<Reply>),
}

impl Reply {
    /// As text; empty for what is none.
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) | Reply::Error(text) => text.clone(),
            Reply::Number(n) => n.to_string(),
            Reply::Bulk(bytes) => String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned(),
            Reply::Array(_) => String::new(),
        }
    }

    /// Its elements.
    pub fn elements(&self) -> &[Reply] {
        if let Reply::Array(elements) = self { elements } else { &[] }
    }
}

/// Bytes to and from a server.
pub struct Channel {
    wire: Box<dyn Wire>,
    buffer: BytesMut,
    label: String,
}

impl Channel {
    /// Over an open connection.
    pub fn new(wire: Box<dyn Wire>, label: String) -> Self {
        Channel { wire, buffer: BytesMut::new(), label }
    }

    /// The server, for messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    fn lost(&self, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::new(Kind::Source, "the connection to the server broke")
            .at(&self.label)
            .because(why)
            .hint("See the log of the server: it may have stopped, or closed the connection for one of its limits.")
    }

    fn nonsense(&self, what: &str) -> Error {
        Error::new(Kind::Source, "the server does not speak the protocol of Redis").at(&self.label).because(what)
    }

    /// Sends a request.
    pub async fn send(&mut self, args: &[&str]) -> Result<()> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n{arg}\r\n", arg.len()).as_bytes());
        }
        let sent = async {
            self.wire.write_all(&request).await?;
            self.wire.flush().await
        };
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.lost(e)),
            Err(_) => Err(self.lost("nothing was taken for a minute")),
        }
    }

    /// Waits until something has come; an error at the end of the connection.
    async fn more(&mut self, patience: Duration) -> Result<()> {
        self.buffer.reserve(READ_AT_ONCE);
        match tokio::time::timeout(patience, self.wire.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Err(self.lost("the server closed it")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(self.lost(e)),
            Err(_) => Err(self.lost(format!("nothing came for {} seconds", patience.as_secs()))),
        }
    }

    /// A line without its end.
    pub async fn line(&mut self, patience: Duration) -> Result<String> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let mut line = self.buffer.split_to(searched + end + 1);
                line.truncate(searched + end);
                let line = String::from_utf8_lossy(&line).into_owned();
                return Ok(line.strip_suffix('\r').map(str::to_owned).unwrap_or(line));
            }
            searched = self.buffer.len();
            if searched > LONGEST_LINE {
                return Err(self.nonsense("a line has no end"));
            }
            self.more(patience).await?;
        }
    }

    /// Whatever has come, at least a byte and at most so many.
    pub async fn piece(&mut self, most: usize) -> Result<Bytes> {
        if self.buffer.is_empty() {
            self.more(PATIENCE).await?;
        }
        let n = self.buffer.len().min(most);
        Ok(self.buffer.split_to(n).freeze())
    }

    /// A reply.
    pub async fn reply(&mut self, patience: Duration) -> Result<Reply> {
        self.nested(patience, 0).await
    }

    async fn nested(&mut self, patience: Duration, depth: usize) -> Result<Reply> {
        let line = self.line(patience).await?;
        let (mark, rest) = line.split_at_checked(1).ok_or_else(|| self.nonsense("an empty line"))?;
        let number = || rest.parse::<i64>().map_err(|_| self.nonsense(&format!("{line:?} where a number belongs")));
        match mark {
            "+" => Ok(Reply::Simple(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Number(number()?)),
            "$" => {
                let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Bulk(None)) };
                if length > LONGEST_BULK {
                    return Err(self.nonsense("an answer of an impossible length"));
                }
                while self.buffer.len() < length + 2 {
                    self.more(patience).await?;
                }
                let bytes = self.buffer.split_to(length).to_vec();
                self.buffer.advance(2);
                Ok(Reply::Bulk(Some(bytes)))
            }
            "*" => {
                let count = usize::try_from(number()?).unwrap_or(0);
                if count > MOST_ELEMENTS || depth > 8 {
                    return Err(self.nonsense("an answer of an impossible size"));
                }
                let mut elements = Vec::new();
                for _ in 0..count {
                    elements.push(Box::pin(self.nested(patience, depth + 1)).await?);
                }
                Ok(Reply::Array(elements))
            }
            _ => Err(self.nonsense(&format!("{:?}", line.chars().take(60).collect::<String>()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(bytes: &'static [u8]) -> Result<Reply> {
        let (ours, mut theirs) = tokio::io::duplex(64);
        tokio::spawn(async move {
            // In small pieces: a reply may be cut anywhere.
            for piece in bytes.chunks(3) {
                let _ = theirs.write_all(piece).await;
            }
        });
        Channel::new(Box::new(ours), "test".into()).reply(PATIENCE).await
    }

    #[tokio::test]
    async fn replies_are_read_whatever_their_pieces() {
        let nested = answer(b"*4\r\n$5\r\na\r\nbc\r\n:-7\r\n*1\r\n+OK\r\n$-1\r\n").await.unwrap();
        let expected = [
            Reply::Bulk(Some(b"a\r\nbc".to_vec())),
            Reply::Number(-7),
            Reply::Array(vec![Reply::Simple("OK".into())]),
            Reply::Bulk(None),
        ];
        assert_eq!(nested.elements(), expected);
        assert_eq!(answer(b"-NOAUTH no\r\n").await.unwrap(), Reply::Error("NOAUTH no".into()));
    }

    #[tokio::test]
    async fn what_is_no_redis_is_told() {
        for bad in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"$99999999999\r\n", b"$5\r\nab", b"\r\n", b"*1000000000\r\n"]
        {
            let e = answer(bad).await.unwrap_err();
            assert_eq!(e.kind, Kind::Source, "{e}");
        }
    }
}
