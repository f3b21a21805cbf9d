//! A small application: it shows a file and counts rows, and writes both: `/write/WORD` adds a row and a file of that name. The unit `app` of
//! the machine runs it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// The variable that makes a server of the test below.
pub const PORT: &str = "FLOW_APP_PORT";
const DATA: &str = "/srv/app/data/value";
/// Where it writes files.
pub const WRITTEN: &str = "/srv/app/data/written";

fn psql(statement: &str) -> Option<String> {
    let out = Command::new("/usr/lib/postgresql/15/bin/psql")
        .args(["-XAtq", "-U", "app", "-d", "app", "-c", statement])
        .output()
        .ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Both, or it was not accepted.
fn write_down(word: &str) -> Option<String> {
    assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    std::fs::create_dir_all(WRITTEN).ok()?;
    std::fs::write(format!("{WRITTEN}/{word}"), word).ok()?;
    psql(&format!("INSERT INTO entry (note) VALUES ('{word}') RETURNING id"))
}

/// Asks the database and the file for every answer: what is restored shows at once.
#[test]
fn server() {
    let Ok(port) = std::env::var(PORT) else { return };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let Ok(n) = stream.read(&mut request) else { return };
    let line = String::from_utf8_lossy(&request[..n]).lines().next().unwrap_or_default().to_owned();
    let value = std::fs::read_to_string(DATA).ok();
    let (status, body) = match line.split(' ').nth(1).unwrap_or_default() {
        path if path.starts_with("/write/") => match write_down(path.trim_start_matches("/write/")) {
            Some(id) => ("200 OK", id),
            None => ("500 Internal Server Error", "not written".into()),
        },
        "/health" => match (psql("SELECT count(*) FROM entry"), value) {
            (Some(_), Some(_)) => ("200 OK", r#"{"status":"ok"}"#.into()),
            _ => ("500 Internal Server Error", r#"{"status":"bad"}"#.into()),
        },
        _ => match (psql("SELECT count(*) FROM entry"), value) {
            (Some(rows), Some(value)) => ("200 OK", format!("{} {rows}", value.trim())),
            _ => ("500 Internal Server Error", "bad".into()),
        },
    };
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
}
