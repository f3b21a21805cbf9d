//! Finding a hidden field in a page: enough HTML for tags and their attributes.

/// The value of `<input name=NAME value=…>` or `<meta name=NAME content=…>`.
pub(super) fn in_page(page: &str, name: &str) -> Option<String> {
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = &comment[comment.find("-->").map_or(comment.len(), |end| end + 3)..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let value = match rest[..end].to_ascii_lowercase().as_str() {
            "input" => "value",
            "meta" => "content",
            _ => continue,
        };
        let (attributes, after) = attributes(&rest[end..]);
        rest = after;
        let get = |key: &str| attributes.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        if get("name").as_deref() == Some(name) {
            return get(value);
        }
    }
    None
}

/// Whether a page asks for a password.
pub(super) fn asks_for_password(page: &str) -> bool {
    let page = page.to_ascii_lowercase();
    ["type=\"password\"", "type='password'", "type=password"].iter().any(|field| page.contains(field))
}

/// The attributes of a tag, and what is behind it.
fn attributes(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() || rest.starts_with('>') {
            return (found, rest.strip_prefix('>').unwrap_or(rest));
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=>/".contains(c)).unwrap_or(rest.len());
        // An equals sign with nothing before it belongs to the name.
        let end = if end == 0 { 1 } else { end };
        let key = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(behind) = rest.strip_prefix('=') {
            let behind = behind.trim_start();
            let quote = behind.chars().next().filter(|c| ['"', '\''].contains(c));
            (value, rest) = match quote {
                Some(quote) => {
                    let inner = &behind[1..];
                    match inner.find(quote) {
                        Some(end) => (&inner[..end], &inner[end + 1..]),
                        None => (inner, ""),
                    }
                }
                None => behind.split_at(behind.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(behind.len())),
            };
        }
        found.push((key, unescaped(value)));
    }
}

/// The few references that a token may have.
fn unescaped(text: &str) -> String {
    let mut out = text.to_owned();
    for (reference, c) in [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#x27;", "'"),
        ("&#39;", "'"),
        ("&#x2B;", "+"),
        ("&#43;", "+"),
        ("&#x3D;", "="),
        ("&#61;", "="),
        ("&#x2F;", "/"),
        ("&#47;", "/"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        out = out.replace(reference, c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_found_however_it_is_written() {
        for page in [
            "<form><input type=\"hidden\" name=\"tok\" value=\"a+b=\"></form>",
            "<INPUT value='a&#43;b&#61;'\n NAME='tok' type=hidden/>",
            "<input hidden value=a+b= name=tok>",
            "<!-- <input name=tok value=no> --><p a=1><meta content=\"a+b=\" name=\"tok\" />",
            "<input name=\"other\" value=\"x\"><input name=tok value=a+b= disabled>",
        ] {
            assert_eq!(in_page(page, "tok").as_deref(), Some("a+b="), "{page}");
        }
        for page in [
            "",
            "<",
            "<input",
            "<input name=",
            "<input name=\"tok",
            "<input = value=x>",
            "<input name=toke value=x>",
            "<!-- <input name=tok value=x>",
        ] {
            assert_eq!(in_page(page, "tok"), None, "{page}");
        }
        assert!(asks_for_password("<INPUT TYPE='Password'>") && !asks_for_password("<p>password"));
    }
}
