//! An append-only file of Redis, read to its end: the snapshot that it may begin with, and every command behind that.
//!
//! A server that is copied while it writes leaves half a command at the end; a server that loads the copy leaves it out
//! (`aof-load-truncated`, its default), and so does this. Anything else that is no command is damage.

use super::read::unreadable;
use crate::error::{Error, Kind, Result};
use crate::sources::redis::rdb::{self, Fault, Summary};
use std::io::{BufRead, BufReader, ErrorKind, Read};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// A line with a number, or an annotation, is not longer.
const LINE: usize = 1024;
/// A name of a command, or the number of a database, is not longer.
const WORD: usize = 32;

/// What an append-only file holds.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// The snapshot at its beginning.
    pub snapshot: Option<Summary>,
    /// Commands, behind the snapshot if there is one.
    pub commands: u64,
    /// One more than the highest number of a database.
    pub databases: u64,
    /// It ends in the middle of a command.
    pub cut: bool,
}

/// Reads one to its end. With something in its snapshot that is newer than this program, the commands behind it cannot be
/// found, and what is left is not read.
///
/// # Errors
/// [`Kind::Damaged`] when something in it is no command.
pub fn read(content: &mut dyn Read) -> Result<Looked> {
    let mut reader = BufReader::with_capacity(PIECE, content);
    let mut looked = Looked::default();
    if reader.fill_buf().map_err(unreadable)?.first().is_some_and(|b| b"RV".contains(b)) {
        let (summary, rest) = rdb::read_head(reader).map_err(no_snapshot)?;
        looked.databases = summary.databases.iter().map(|d| d.db + 1).max().unwrap_or(0);
        looked.snapshot = Some(summary);
        if let Some(rest) = rest {
            commands(BufReader::with_capacity(PIECE, rest), &mut looked)?;
        }
    } else {
        commands(reader, &mut looked)?;
    }
    Ok(looked)
}

fn no_snapshot(fault: Fault) -> Error {
    match fault {
        Fault::Read(e) => unreadable(e),
        fault => Error::new(Kind::Damaged, "the append-only file does not begin with a whole snapshot")
            .because(fault.to_string()),
    }
}

/// Where reading broke off.
enum Stop {
    /// At the end of the file, in the middle of something.
    Cut,
    Failed(Error),
}

fn odd(n: u64, what: impl std::fmt::Display) -> Stop {
    Stop::Failed(
        Error::new(Kind::Damaged, "the append-only file holds something that is no command")
            .because(format!("behind command {n}: {what}"))
            .hint("Take another set; `redis-check-aof` on a copy says more."),
    )
}

fn commands(mut reader: impl BufRead, looked: &mut Looked) -> Result<()> {
    loop {
        match command(&mut reader, looked) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Stop::Cut) => {
                looked.cut = true;
                return Ok(());
            }
            Err(Stop::Failed(e)) => return Err(e),
        }
    }
}

/// One command, or one annotation; false at the end.
fn command(reader: &mut impl BufRead, looked: &mut Looked) -> std::result::Result<bool, Stop> {
    let Some(first) = reader.fill_buf().map_err(|e| Stop::Failed(unreadable(e)))?.first().copied() else {
        return Ok(false);
    };
    let line = text(reader, looked.commands)?;
    if first == b'#' {
        return Ok(true);
    }
    let words = number(&line, b'*', looked.commands)?;
    let mut head: Vec<Vec<u8>> = Vec::new();
    for n in 0..words {
        let length = text(reader, looked.commands)?;
        let length = number(&length, b'$', looked.commands)?;
        let kept = if n < 2 && length <= WORD as u64 { Some(Vec::new()) } else { None };
        head.extend(bytes(reader, length, kept)?);
        if bytes(reader, 2, Some(Vec::new()))?.as_deref() != Some(b"\r\n") {
            return Err(odd(looked.commands, "an argument is not as long as it says"));
        }
    }
    if let [name, db] = &head[..]
        && name.eq_ignore_ascii_case(b"SELECT")
    {
        let db: u64 = std::str::from_utf8(db).ok().and_then(|d| d.parse().ok()).unwrap_or(0);
        looked.databases = looked.databases.max(db.saturating_add(1));
    }
    looked.commands += 1;
    Ok(true)
}

/// A line without its end.
fn text(reader: &mut impl BufRead, n: u64) -> std::result::Result<Vec<u8>, Stop> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(LINE as u64).read_until(b'\n', &mut line);
    read.map_err(|e| Stop::Failed(unreadable(e)))?;
    match line.strip_suffix(b"\n") {
        Some(line) => Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec()),
        None if line.len() >= LINE => Err(odd(n, "a line is too long")),
        None => Err(Stop::Cut),
    }
}

fn number(line: &[u8], mark: u8, n: u64) -> std::result::Result<u64, Stop> {
    let text = line.strip_prefix(&[mark]).and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|digits| digits.parse().ok())
        .ok_or_else(|| odd(n, format!("{:?}", String::from_utf8_lossy(&line[..line.len().min(40)]))))
}

/// So many bytes, kept or passed over.
fn bytes(
    reader: &mut impl BufRead,
    length: u64,
    mut kept: Option<Vec<u8>>,
) -> std::result::Result<Option<Vec<u8>>, Stop> {
    let mut left = length;
    while left > 0 {
        let there = match reader.fill_buf() {
            Ok(there) => there,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(Stop::Failed(unreadable(e))),
        };
        if there.is_empty() {
            return Err(Stop::Cut);
        }
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(there.len());
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&there[..n]);
        }
        reader.consume(n);
        left -= n as u64;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n";

    #[test]
    fn commands_are_counted_and_half_of_one_is_left_out() {
        let select = b"#TS:1700000000\r\n*2\r\n$6\r\nselect\r\n$2\r\n17\r\n";
        let whole = [&select[..], SET, SET].concat();
        let looked = read(&mut &whole[..]).unwrap();
        assert_eq!((looked.commands, looked.databases, looked.cut, looked.snapshot.is_some()), (3, 18, false, false));
        for end in whole.len() - SET.len() + 1..whole.len() {
            let looked = read(&mut &whole[..end]).unwrap();
            assert_eq!((looked.commands, looked.cut), (2, true), "{end}");
        }
        assert_eq!(read(&mut &b""[..]).unwrap().commands, 0);
    }

    #[test]
    fn what_is_no_command_is_told() {
        for bad in [&b"hello\r\n"[..], b"*1\r\n$3\r\nSETX\r\n", b"*x\r\n", b"*1\r\nSET\r\n", &[b'*'; 2000]] {
            let e = read(&mut &[SET, bad].concat()[..]).map(|l| (l.commands, l.cut));
            assert!(e.is_err(), "{e:?} for {}", String::from_utf8_lossy(bad));
        }
        assert!(read(&mut &b"REDIS0011\xff"[..]).is_err());
    }
}
