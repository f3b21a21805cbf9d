//! What the URLs of all kinds of servers have in common.

/// Undoes %-escapes; `None` when one is wrong or the result is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let (high, low) = ((bytes.next()? as char).to_digit(16)?, (bytes.next()? as char).to_digit(16)?);
            out.push((high << 4 | low) as u8);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Writes what is neither a letter, a digit nor one of `-._~` as %-escapes.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(b as char),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
