//! Findings, short and on one line.

/// A text with its white space joined, cut to so many characters.
pub(super) fn excerpt(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if length > 0 {
            out.push(' ');
            length += 1;
        }
        for c in word.chars() {
            if length >= most {
                out.push('…');
                return out;
            }
            out.push(c);
            length += 1;
        }
    }
    out
}

/// Items with commas.
pub(super) fn listed<T: std::fmt::Display>(items: impl IntoIterator<Item = T>, between: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_lines_joined() {
        assert_eq!(excerpt("  a\n b\t\u{7}c  ", 20), "a b c");
        assert_eq!(excerpt("ääää bb", 6), "ääää b…");
        assert_eq!(excerpt(&"x".repeat(1000), 10).chars().count(), 11);
    }
}
