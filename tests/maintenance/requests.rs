//! A small HTTP client, which sends just what it is told.

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Request {
    method: String,
    path: String,
    host: String,
    headers: Vec<String>,
    body: Vec<u8>,
    tls: bool,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines().filter_map(|l| l.split_once(':'));
        lines.into_iter().find_map(|(n, v)| n.eq_ignore_ascii_case(name).then(|| v.trim()))
    }

    pub fn maintenance(&self) -> Option<&str> {
        self.header("X-Backstay-Maintenance")
    }
}

impl Request {
    pub fn get(path: &str) -> Self {
        Request {
            method: "GET".into(),
            path: path.into(),
            host: "localhost".into(),
            headers: Vec::new(),
            body: Vec::new(),
            tls: false,
        }
    }

    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.into();
        self
    }

    pub fn header(mut self, line: &str) -> Self {
        self.headers.push(line.into());
        self
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    pub fn send(self, address: SocketAddr) -> std::io::Result<Reply> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        if !self.tls {
            return self.exchange(&mut stream);
        }
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        let configuration = connector.build().configure().unwrap().verify_hostname(false);
        let mut stream = configuration.connect(&self.host, stream).map_err(|e| std::io::Error::other(e.to_string()))?;
        self.exchange(&mut stream)
    }

    fn exchange(&self, stream: &mut (impl Read + Write)) -> std::io::Result<Reply> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.method, self.path, self.host);
        if !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for line in &self.headers {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        // The answer may come before all of it is taken.
        let _ = stream.write_all(&self.body);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            read?;
            return Err(std::io::Error::other(format!("no answer: {text:?}")));
        };
        let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok(Reply { status, headers: headers.into(), body: body.into() })
    }
}
