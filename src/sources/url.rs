//! What the URLs of all kinds of servers have in common.

/// Who and where: what stands between the scheme and the path of a URL, `USER:PASSWORD@HOST:PORT`. As it is
/// written, with its %-escapes. It does not print, since it may hold a password.
pub struct Authority<'a> {
    /// Empty when none is named.
    pub user: &'a str,
    /// Nothing when there is no colon behind the user.
    pub password: Option<&'a str>,
    /// Without the brackets of an IPv6 address. Empty when none is named.
    pub host: &'a str,
    /// What stands behind the host's colon; it need not be a number.
    pub port: Option<&'a str>,
}

impl<'a> Authority<'a> {
    /// Reads it.
    pub fn of(text: &'a str) -> Self {
        // The last one separates: a password may hold others.
        let (who, place) = text.rsplit_once('@').unwrap_or(("", text));
        let (user, password) = who.split_once(':').map_or((who, None), |(user, password)| (user, Some(password)));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (place, None),
        };
        Authority { user, password, host: host.trim_matches(['[', ']']), port }
    }
}

/// The scheme of a URL, and who and where it names; `None` for a text without `://`.
pub fn who_and_where(url: &str) -> Option<(&str, Authority<'_>)> {
    let (scheme, rest) = url.split_once("://")?;
    Some((scheme, Authority::of(rest.split(['/', '?']).next().unwrap_or_default())))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_who_and_where_and_a_password_may_hold_what_separates() {
        for (url, user, password, host, port) in [
            ("postgresql://erp:p@s:s@db:5432/erp?x=a:b@c", "erp", Some("p@s:s"), "db", Some("5432")),
            ("redis://:p%40ss@cache", "", Some("p%40ss"), "cache", None),
            ("https://key@[::1]:9000/42", "key", None, "::1", Some("9000")),
            ("http://[::1]", "", None, "::1", None),
            ("http://u:@h:x?a@b", "u", Some(""), "h", Some("x")),
            ("unix:///run/a:b@c", "", None, "", None),
        ] {
            let (scheme, found) = who_and_where(url).unwrap();
            assert!(url.starts_with(scheme) && !scheme.contains(':'), "{url}");
            assert_eq!((found.user, found.password, found.host, found.port), (user, password, host, port), "{url}");
        }
        assert!(who_and_where("u:p@h").is_none());
    }
}
