//! A server that says it is newer than any, and sends what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What it sends as a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A whole one of a newer version, ended by a mark.
    Whole,
    /// The same with its length in front, as servers do that save to disk first.
    Length,
    /// One with a type that nobody knows.
    Unknown,
    /// One with a flipped bit.
    Flipped,
    /// One that ends too early, in a connection that ends well.
    Short,
    /// One whose connection breaks in the middle.
    Broken,
    /// One without end mark, whose connection breaks behind it.
    NoMark,
    /// One without a checksum.
    NoChecksum,
    /// None: an error while it prepares.
    Error,
}

pub struct Fake {
    port: u16,
}

/// An RDB with one key in database 0, and behind it what is given.
fn rdb(tail: &[u8], checksum: bool) -> Vec<u8> {
    let mut file = [b"REDIS0077\xfe\x00\x00\x01k\x05value", tail, b"\xff"].concat();
    let crc = if checksum { crc64(&file) } else { 0 };
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

/// The checksum of Redis, bit by bit.
fn crc64(data: &[u8]) -> u64 {
    data.iter().fold(0, |mut crc, byte| {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x95ac_9329_ac4b_c9b5 } else { 0 };
        }
        crc
    })
}

impl Fake {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let manner = Arc::new(manner);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let manner = manner.clone();
                std::thread::spawn(move || serve(stream, *manner));
            }
        });
        Fake { port }
    }

    pub fn body(&self) -> String {
        format!("url = \"redis://127.0.0.1:{}\"\n", self.port)
    }
}

fn request(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let mut word = vec![0; line.trim().strip_prefix('$')?.parse::<usize>().ok()? + 2];
        reader.read_exact(&mut word).ok()?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Some(words)
}

fn serve(stream: TcpStream, manner: Manner) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(words) = request(&mut reader) {
        let answer = match words[0].as_str() {
            "INFO" => {
                let info = "redis_version:99.1.0\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\nused_memory:1000000\r\n";
                format!("${}\r\n{info}\r\n", info.len())
            }
            "CONFIG" => "*0\r\n".to_owned(),
            "REPLCONF" => "+OK\r\n".to_owned(),
            "PSYNC" => {
                let _ = snapshot(&mut writer, manner);
                return;
            }
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        let _ = writer.write_all(answer.as_bytes());
    }
}

fn snapshot(to: &mut TcpStream, manner: Manner) -> std::io::Result<()> {
    const MARK: &[u8; 40] = b"0123456789abcdef0123456789abcdef01234567";
    to.write_all(b"\n+FULLRESYNC 8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb 0\r\n\n\n")?;
    let mut file = match manner {
        Manner::Unknown => rdb(&[&[200, 1, b'k'][..], &[7; 100_000]].concat(), true),
        Manner::NoChecksum => rdb(b"", false),
        _ => rdb(b"", true),
    };
    match manner {
        Manner::Error => return to.write_all(b"-ERR Can't save in background: fork: Cannot allocate memory\r\n"),
        Manner::Flipped => file[16] ^= 4,
        Manner::Short => file.truncate(file.len() - 12),
        _ => {}
    }
    if manner == Manner::Length {
        to.write_all(format!("${}\r\n", file.len()).as_bytes())?;
        to.write_all(&file)?;
        // What a real server would go on with.
        return to.write_all(b"*1\r\n$4\r\nPING\r\n");
    }
    to.write_all(b"$EOF:")?;
    to.write_all(MARK)?;
    to.write_all(b"\r\n")?;
    match manner {
        Manner::Broken => return to.write_all(&file[..15]),
        Manner::NoMark => return to.write_all(&file),
        _ => {}
    }
    to.write_all(&file)?;
    // The mark comes in two pieces.
    to.write_all(&MARK[..13])?;
    to.flush()?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    to.write_all(&MARK[13..])?;
    // The connection stays open, as a server's would.
    std::thread::sleep(std::time::Duration::from_secs(5));
    Ok(())
}
