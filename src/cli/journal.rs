//! systemd's journal, in its own protocol, so that a line keeps its level and its fields: `journalctl -p warning` finds
//! what matters, `journalctl BACKSTAY_SOURCE=db` what a source did.

use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

/// Where the journal takes entries with fields.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Whether standard error is read by the journal, which says so by device and inode: a program that was started by a unit
/// may have been redirected since.
pub fn reads_us() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}

/// The way to it.
pub struct Journal(Option<UnixDatagram>);

impl Journal {
    /// The one that reads our standard error, if one does.
    pub fn open() -> Option<Self> {
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            socket.connect(SOCKET)?;
            // Nobody waits for a log.
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        reads_us().then(|| Journal(connect().ok()))
    }

    /// Hands over an entry, and tells whether it was taken: an entry can be too large, and the journal too busy.
    pub fn send(&self, level: u8, message: &str, fields: &Value) -> bool {
        self.0.as_ref().is_some_and(|socket| socket.send(&entry(level, message, fields)).is_ok())
    }
}

/// An entry as systemd's "Native Journal Protocol" describes it.
fn entry(level: u8, message: &str, fields: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, "MESSAGE", message);
    put(&mut bytes, "PRIORITY", &level.to_string());
    put(&mut bytes, "SYSLOG_IDENTIFIER", "backstay");
    for (name, value) in fields.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(&mut bytes, &format!("BACKSTAY_{}", name.to_ascii_uppercase()), &value);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend((value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_has_level_and_fields_and_lines_of_any_length() {
        let told = entry(3, "gone", &json!({ "source": "db", "stood_still_seconds": 1.5 }));
        let text = "MESSAGE=gone\nPRIORITY=3\nSYSLOG_IDENTIFIER=backstay\nBACKSTAY_SOURCE=db\nBACKSTAY_STOOD_STILL_SECONDS=1.5\n";
        assert_eq!(String::from_utf8(told).unwrap(), text);
        let two = entry(6, "a\nb", &json!({}));
        assert!(two.starts_with(b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\nPRIORITY=6\n"), "{two:?}");
    }
}
