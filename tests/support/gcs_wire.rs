//! What the imitation of Cloud Storage reads and writes on the wire.

use axum::http::HeaderMap;
use bytes::Bytes;

/// The parts of a multipart body, without their headers.
pub(super) fn multipart(headers: &HeaderMap, body: &Bytes) -> Vec<Bytes> {
    let kind = headers["content-type"].to_str().unwrap();
    let boundary = kind.split_once("boundary=").unwrap().1.trim_matches('"');
    let mark = format!("\r\n--{boundary}");
    let mut rest = body.slice(mark.len() - 2..);
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let start = find(&rest, b"\r\n\r\n").unwrap() + 4;
        let end = find(&rest[start..], mark.as_bytes()).unwrap() + start;
        parts.push(rest.slice(start..end));
        rest = rest.slice(end + mark.len()..);
    }
    parts
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut at = 0;
    loop {
        at += haystack[at..].iter().position(|byte| *byte == first)?;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

/// A path without its escapes.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The CRC32C sum in base64, big endian, as the API writes it.
pub(super) fn crc(body: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sum = u64::from(crc32c::crc32c(body)) << 4;
    let digits = (0..6).rev().map(|place| char::from(DIGITS[(sum >> (6 * place)) as usize & 63]));
    digits.chain("==".chars()).collect()
}
