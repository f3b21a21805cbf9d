//! Names in statements of a dump.

/// Reads words and names from the front of a statement.
pub struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// Of a statement; bytes that are no UTF-8 stand in none of what is looked at here.
    pub fn new(text: &'a str) -> Self {
        Words(text.trim_start())
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        self.0
    }

    /// Passes over a word, in whatever case, when it comes next.
    pub fn skip(&mut self, word: &str) -> bool {
        let Some(head) = self.0.get(..word.len()) else { return false };
        let after = &self.0[word.len()..];
        if !head.eq_ignore_ascii_case(word) || after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return false;
        }
        self.0 = after.trim_start();
        true
    }

    /// Passes over all these words when they come next; over none of them otherwise.
    pub fn skip_all(&mut self, words: &str) -> bool {
        let before = self.0;
        let all = words.split(' ').all(|word| self.skip(word));
        if !all {
            self.0 = before;
        }
        all
    }

    /// A name, quoted or not.
    pub fn name(&mut self) -> Option<String> {
        if let Some(quoted) = self.0.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            while let Some((i, c)) = chars.next() {
                if c != '"' {
                    name.push(c);
                } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                    name.push('"');
                } else {
                    self.0 = quoted[i + 1..].trim_start();
                    return Some(name);
                }
            }
            return None;
        }
        let end = self.0.find(|c: char| !(c.is_alphanumeric() || "_$".contains(c))).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        (!name.is_empty()).then(|| name.to_lowercase())
    }

    /// A name, with the schema that stands before it, if one does.
    pub fn dotted(&mut self) -> Option<(Option<String>, String)> {
        let first = self.name()?;
        match self.0.strip_prefix('.') {
            Some(rest) => {
                self.0 = rest;
                Some((Some(first), self.name()?))
            }
            None => Some((None, first)),
        }
    }

    /// The same where no path is set ([`super::search_path`]): without a schema it is in `public`.
    pub fn qualified(&mut self) -> Option<(String, String)> {
        let (schema, name) = self.dotted()?;
        Some((schema.unwrap_or_else(|| "public".to_owned()), name))
    }

    /// A text in quotes.
    pub fn literal(&mut self) -> Option<String> {
        let escapes = self.0.starts_with(['E', 'e']);
        let text = if escapes { &self.0[1..] } else { self.0 }.strip_prefix('\'')?;
        let mut out = String::new();
        let mut chars = text.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' if escapes => out.extend(chars.next().map(|(_, c)| c)),
                '\'' if chars.next_if(|(_, next)| *next == '\'').is_some() => out.push('\''),
                '\'' => {
                    self.0 = text[i + 1..].trim_start();
                    return Some(out);
                }
                c => out.push(c),
            }
        }
        None
    }
}

/// The database that a line `\connect …` names; a `\connect` that only names somebody or something else is none of a dump.
pub fn connect(line: &str) -> Option<String> {
    let rest = line.strip_prefix("\\connect").or_else(|| line.strip_prefix("\\c"))?;
    let mut words = Words::new(rest.strip_prefix(' ')?);
    if let Some(rest) = words.rest().strip_prefix("-reuse-previous=on") {
        words = Words::new(rest);
    }
    let quoted = words.rest().starts_with('"');
    let before = words.rest();
    let name = if quoted { words.name()? } else { before.split_whitespace().next()?.to_owned() };
    match name.strip_prefix("dbname=") {
        Some(value) if quoted => conninfo(value),
        _ => Some(name),
    }
}

/// A value of a connection string.
fn conninfo(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('\'') else { return Some(value.to_owned()) };
    let mut out = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '\\' => out.push(chars.next()?),
            '\'' => return Some(out),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_quoted_or_not() {
        let mut w = Words::new("COPY \"We\"\"ird.S\".\"T a\" (x, y) FROM stdin;");
        assert!(w.skip("copy"));
        assert_eq!(w.qualified(), Some(("We\"ird.S".into(), "T a".into())));
        assert_eq!(w.rest(), "(x, y) FROM stdin;");
        assert_eq!(Words::new("Orders;").qualified(), Some(("public".into(), "orders".into())));
        assert_eq!(Words::new("Orders;").dotted(), Some((None, "orders".into())));
        assert!(!Words::new("DATABASES x").skip("DATABASE"));
        assert_eq!(Words::new("'a''b\\' x").literal(), Some("a'b\\".into()));
        assert_eq!(Words::new("E'a\\'b' x").literal(), Some("a'b".into()));
    }

    #[test]
    fn a_connect_names_its_database() {
        for (line, name) in [
            ("\\connect erp", "erp"),
            ("\\connect \"My DB\"", "My DB"),
            ("\\connect -reuse-previous=on \"dbname='we\\'i\"\"rd x'\"", "we'i\"rd x"),
            ("\\c erp", "erp"),
        ] {
            assert_eq!(connect(line).as_deref(), Some(name), "{line}");
        }
        assert_eq!(connect("\\connectx"), None);
    }
}
