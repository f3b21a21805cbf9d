//! The page that clients see, and how it gets into nginx's configuration.
//!
//! It stands in the snippet itself, not in a file beside it: nginx's workers need no right to read it, no rule about
//! access comes between, and in a container there is nothing else to mount. nginx takes words of at most 4 KiB, so the
//! page is cut; and it has no way to write a `$` in a word.

use crate::error::{Error, Kind, Result};
use std::path::Path;

/// The page of ours.
const OURS: &str = include_str!("page.html");
/// Bytes of a page of the operator's: it is in the memory of nginx once for each server block.
const MOST: u64 = 64 * 1024;
/// Bytes of one piece, quoted.
const PIECE: usize = 3000;

/// The page that is configured, or ours.
///
/// # Errors
/// [`Kind::Refused`] when it cannot be shown.
pub fn page(file: Option<&Path>, retry_after: u32) -> Result<String> {
    let Some(file) = file else {
        // A browser that asks every second helps nobody.
        return Ok(OURS.replace("@retry@", &retry_after.max(5).to_string()));
    };
    let refused = |what: &str| Error::new(Kind::Refused, what.to_owned()).at(file.display());
    let hint = "Correct `maintenance.page`, or leave it out for the page of Backstay.";
    let unreadable =
        |e: std::io::Error| Error::io("the maintenance page cannot be read", file, e).kind(Kind::Refused).hint(hint);
    if std::fs::metadata(file).map_err(unreadable)?.len() > MOST {
        return Err(refused("the maintenance page is too large")
            .because(format!("more than {} KiB", MOST / 1024))
            .hint("Make its images smaller, or have them loaded from elsewhere."));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    if text.trim().is_empty() || text.contains('\0') {
        return Err(refused("the maintenance page is empty or no text").hint(hint));
    }
    without_dollars(&text).ok_or_else(|| {
        refused("the maintenance page has a `$` within <style> or <script>")
            .because("nginx would take it for a variable, and has no way to write one")
            .hint("Write it otherwise there; in the text of the page a `$` is no problem.")
    })
}

/// The page with each `$` as a character reference; nothing when one is where those are not known.
fn without_dollars(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut raw = Vec::new();
    for name in ["style", "script"] {
        let mut at = 0;
        while let Some(begin) = lower[at..].find(&format!("<{name}")) {
            let begin = at + begin;
            let end = lower[begin..].find(&format!("</{name}")).map_or(lower.len(), |n| begin + n);
            raw.push(begin..end);
            at = end;
        }
    }
    let within = |at: usize| raw.iter().any(|r| r.contains(&at));
    if text.match_indices('$').any(|(at, _)| within(at)) { None } else { Some(text.replace('$', "&#36;")) }
}

/// A text as words of nginx's configuration, in quotes, each short enough.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            word.push('\\');
        }
        word.push(c);
        if word.len() >= PIECE {
            words.push(format!("\"{word}\""));
            word.clear();
        }
    }
    if !word.is_empty() || words.is_empty() {
        words.push(format!("\"{word}\""));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nginx::lexer;

    #[test]
    fn a_page_comes_through_the_words_of_nginx_unchanged() {
        let text = "a \"quoted\" \\n and \\ end; { } # \u{1f600} 'x'\n".repeat(300);
        let words = words(&text);
        assert!(words.len() > 3 && words.iter().all(|w| w.len() < 4000));
        let line = format!("x {};", words.join(" "));
        assert_eq!(lexer::parse(line.as_bytes()).unwrap()[0].args().concat(), text);
        assert_eq!(super::words(""), ["\"\""]);
    }

    #[test]
    fn dollars_become_references_where_they_can() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page.html");
        std::fs::write(&file, "<style>a{}</style>costs $5").unwrap();
        assert_eq!(page(Some(&file), 1).unwrap(), "<style>a{}</style>costs &#36;5");
        std::fs::write(&file, "<p>$</p><SCRIPT>`${x}`</SCRIPT>").unwrap();
        let e = page(Some(&file), 1).unwrap_err();
        assert!(e.kind == Kind::Refused && e.to_string().contains("<script>"), "{e}");
        for bad in [String::new(), "x".repeat(70_000)] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(page(Some(&file), 1).unwrap_err().kind, Kind::Refused);
        }
        assert!(page(Some(&dir.path().join("none")), 1).unwrap_err().to_string().contains("maintenance.page"));
    }

    #[test]
    fn our_page_is_small_and_needs_nothing_else() {
        let page = page(None, 120).unwrap();
        assert!(page.len() < 4096 && page.contains("content=\"120\"") && !page.contains("@retry@"));
        for foreign in ["http://", "https://", "<script", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
