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
