//! Putting a directive into server blocks, and taking it out again. The rest of a file stays as it is, byte for byte.

use super::files::directives;
use super::lexer::Directive;
use crate::error::Result;

/// Puts a directive at the beginning of the blocks that open at these offsets, on a line of its own with a comment where
/// the line of the block allows it.
pub fn add(text: &[u8], opened: &[usize], directive: &str, comment: &str) -> Vec<u8> {
    let mut opened: Vec<usize> = opened.to_vec();
    opened.sort_unstable();
    opened.dedup();
    let mut out = Vec::with_capacity(text.len() + opened.len() * (directive.len() + comment.len() + 16));
    let mut done = 0;
    for at in opened {
        let end = text[at..].iter().position(|b| *b == b'\n').map_or(text.len(), |n| at + n);
        let rest = &text[at..end];
        let first = rest.iter().find(|b| !b.is_ascii_whitespace());
        if end < text.len() && matches!(first, None | Some(b'#')) {
            let return_too = if rest.last() == Some(&b'\r') { "\r" } else { "" };
            out.extend_from_slice(&text[done..=end]);
            out.extend_from_slice(&indent(text, at, end + 1));
            out.extend_from_slice(format!("{directive} # {comment}{return_too}\n").as_bytes());
            done = end + 1;
        } else {
            out.extend_from_slice(&text[done..at]);
            out.extend_from_slice(format!(" {directive}").as_bytes());
            done = at;
        }
    }
    out.extend_from_slice(&text[done..]);
    out
}

/// The indentation of the next line, or four more than that of the block.
fn indent(text: &[u8], opened: usize, next: usize) -> Vec<u8> {
    let blank =
        |from: usize| -> Vec<u8> { text[from..].iter().copied().take_while(|b| matches!(b, b' ' | b'\t')).collect() };
    let line = text[..opened].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let (own, following) = (blank(line), blank(next));
    if following.len() > own.len() { following } else { [&own[..], b"    "].concat() }
}

/// Takes out every `include` that means one of these arguments, with the line when nothing else but our comment is on it.
/// Nothing when there is none.
///
/// # Errors
/// [`crate::error::Kind::Restore`] when the text cannot be understood.
pub fn remove(path: &str, text: &[u8], means: &dyn Fn(&str) -> bool, comment: &str) -> Result<Option<Vec<u8>>> {
    let mut places = Vec::new();
    collect(&directives(path, text)?, means, &mut places);
    if places.is_empty() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in places {
        let line = text[..start].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        let line_end = text[end..].iter().position(|b| *b == b'\n').map_or(text.len(), |n| end + n + 1);
        let before = &text[line..start];
        let after = String::from_utf8_lossy(&text[end..line_end]);
        let after = after.trim();
        let alone = before.iter().all(u8::is_ascii_whitespace) && (after.is_empty() || after == format!("# {comment}"));
        let (from, to) = if alone {
            (line, line_end)
        } else {
            // The one blank that `add` puts before it.
            (start - usize::from(text[..start].ends_with(b" ")), end)
        };
        out.extend_from_slice(&text[done..from.max(done)]);
        done = to;
    }
    out.extend_from_slice(&text[done..]);
    Ok(Some(out))
}

fn collect(all: &[Directive], means: &dyn Fn(&str) -> bool, places: &mut Vec<(usize, usize)>) {
    for d in all {
        match &d.block {
            Some(inner) => collect(inner, means, places),
            None if d.name() == "include" && d.args().first().is_some_and(|a| means(a)) => {
                places.push((d.start, d.end));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::parse;
    use super::*;

    const LINE: &str = "include /x/*.conf;";

    fn opened(text: &str) -> Vec<usize> {
        parse(text.as_bytes()).unwrap().iter().filter(|d| d.name() == "server").map(|d| d.end).collect()
    }

    #[test]
    fn what_was_put_in_comes_out_and_leaves_every_byte() {
        for text in [
            "server {\n    listen 80;\n}\nserver {\n\tlisten 81;\n}\n",
            "server { listen 80; }",
            "server {listen 80;}\nserver\n{ # the second\n  listen 81; }\n",
            "server {\r\n  listen 80;\r\n}\r\n",
            "server {\n}\n",
            "server { # x",
        ] {
            let Ok(_) = parse(text.as_bytes()) else { continue };
            let with = add(text.as_bytes(), &opened(text), LINE, "ours");
            let read = parse(&with).unwrap();
            for server in read.iter().filter(|d| d.name() == "server") {
                let first = &server.block.as_ref().unwrap()[0];
                assert_eq!(first.words, ["include", "/x/*.conf"], "{text}");
            }
            let without = remove("f", &with, &|a| a == "/x/*.conf", "ours").unwrap().unwrap();
            assert_eq!(String::from_utf8(without).unwrap(), text);
        }
    }

    #[test]
    fn the_line_has_the_indentation_of_its_block() {
        let text = "http {\n  server {\n      listen 80;\n  }\n}\n";
        let at = text.find("r {").unwrap() + 3;
        let with = String::from_utf8(add(text.as_bytes(), &[at], LINE, "ours")).unwrap();
        assert!(with.contains("  server {\n      include /x/*.conf; # ours\n      listen 80;\n"), "{with}");
    }

    #[test]
    fn what_somebody_wrote_by_hand_goes_too_and_his_comment_stays() {
        let text = "server { listen 1; include /x/*.conf; # mine\n}\n";
        let out = remove("f", text.as_bytes(), &|a| a == "/x/*.conf", "ours").unwrap().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "server { listen 1; # mine\n}\n");
        assert_eq!(remove("f", text.as_bytes(), &|a| a == "/y", "ours").unwrap(), None);
    }
}
