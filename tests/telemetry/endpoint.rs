//! A server that notes what it is sent, and one that accepts and never answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: String,
}

#[derive(Clone)]
pub struct Endpoint {
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Endpoint {
    /// Answers every request with the statuses in turn, the last one for ever.
    pub fn answering(statuses: &'static [u16]) -> Self {
        Self::start(move |n, mut stream| {
            let status = statuses[n.min(statuses.len() - 1)];
            let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
        })
    }

    /// Accepts, reads, and says nothing.
    pub fn silent() -> Self {
        let held = Mutex::new(Vec::new());
        Self::start(move |_, stream| held.lock().unwrap().push(stream))
    }

    fn start(answer: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (notes, answer) = (seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, answer) = (notes.clone(), answer.clone());
                std::thread::spawn(move || {
                    if let Some(request) = read(&stream) {
                        let n = {
                            let mut notes = notes.lock().unwrap();
                            notes.push(request);
                            notes.len() - 1
                        };
                        answer(n, stream);
                    }
                });
            }
        });
        Endpoint { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn dsn(&self) -> String {
        format!("http://0123456789abcdef0123456789abcdef@{}/42", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The items of all envelopes, as type and content.
    pub fn items(&self) -> Vec<(String, serde_json::Value)> {
        let mut items = Vec::new();
        for request in self.requests() {
            assert_eq!(request.path, "/api/42/envelope/");
            let mut lines = request.body.lines().skip(1);
            while let (Some(head), Some(item)) = (lines.next(), lines.next()) {
                let head: serde_json::Value = serde_json::from_str(head).unwrap();
                assert_eq!(head["length"].as_u64(), Some(item.len() as u64), "{head}");
                items.push((head["type"].as_str().unwrap().to_owned(), serde_json::from_str(item).unwrap()));
            }
        }
        items
    }

    /// The items of one type.
    pub fn of_type(&self, kind: &str) -> Vec<serde_json::Value> {
        self.items().into_iter().filter(|(k, _)| k == kind).map(|(_, item)| item).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Request { method, path, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Status, head and body of a GET.
pub fn get(address: &str, path: &str) -> Option<(u16, String, String)> {
    ask(address, "GET", path)
}

pub fn ask(address: &str, method: &str, path: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_owned(), body.to_owned()))
}

/// Waits for something, at most half a minute.
#[track_caller]
pub fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{what}: not within half a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}
