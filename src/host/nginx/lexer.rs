//! The syntax of nginx's configuration: words, `;`, and blocks, with where each directive is in its file.
//!
//! What the words mean is not known here. Quotes, escapes, comments and `${name}` are read as nginx itself reads them;
//! the Lua blocks of OpenResty are passed over.

/// Blocks within blocks; nginx's own configurations have a handful.
const DEEPEST: usize = 64;

/// A directive, simple or with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its name and its arguments, without quotes.
    pub words: Vec<String>,
    /// Where its name begins, in bytes.
    pub start: usize,
    /// Behind its `;`, or behind the `{` of its block.
    pub end: usize,
    /// What is in its block.
    pub block: Option<Vec<Directive>>,
}

impl Directive {
    /// Its name.
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Its arguments.
    pub fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// Reads a whole file. The error is the offset where it cannot be understood.
pub fn parse(text: &[u8]) -> Result<Vec<Directive>, usize> {
    Reader { text, at: 0 }.directives(0)
}

/// The number of the line at an offset, from 1.
pub fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes over white space and comments. A comment begins where a word could.
    fn blank(&mut self) {
        while let Some(b) = self.peek() {
            match b {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'#' => self.line(),
                _ => return,
            }
        }
    }

    fn line(&mut self) {
        while self.peek().is_some_and(|b| b != b'\n') {
            self.at += 1;
        }
    }

    fn directives(&mut self, depth: usize) -> Result<Vec<Directive>, usize> {
        let mut found = Vec::new();
        loop {
            self.blank();
            match self.peek() {
                None if depth == 0 => return Ok(found),
                Some(b'}') if depth > 0 => {
                    self.at += 1;
                    return Ok(found);
                }
                None | Some(b'}' | b'{' | b';') => return Err(self.at),
                Some(_) => found.push(self.directive(depth)?),
            }
        }
    }

    fn directive(&mut self, depth: usize) -> Result<Directive, usize> {
        let start = self.at;
        let mut words: Vec<String> = Vec::new();
        loop {
            self.blank();
            match self.peek() {
                None | Some(b'}') => return Err(self.at),
                Some(b';') => {
                    self.at += 1;
                    return Ok(Directive { words, start, end: self.at, block: None });
                }
                Some(b'{') => {
                    self.at += 1;
                    let end = self.at;
                    if depth == DEEPEST {
                        return Err(start);
                    }
                    let block = if words.first().is_some_and(|name| name.ends_with("_by_lua_block")) {
                        self.lua()?;
                        Vec::new()
                    } else {
                        self.directives(depth + 1)?
                    };
                    return Ok(Directive { words, start, end, block: Some(block) });
                }
                Some(quote @ (b'"' | b'\'')) => words.push(self.quoted(quote)?),
                Some(_) => words.push(self.word()),
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, usize> {
        let start = self.at;
        self.at += 1;
        let mut word = Vec::new();
        loop {
            match self.peek() {
                None => return Err(start),
                Some(b) if b == quote => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&word).into_owned());
                }
                Some(b'\\') => self.escaped(&mut word),
                Some(b) => {
                    word.push(b);
                    self.at += 1;
                }
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = Vec::new();
        while let Some(b) = self.peek() {
            match b {
                b' ' | b'\t' | b'\r' | b'\n' | b';' => break,
                // Not that of a variable.
                b'{' if word.last() != Some(&b'$') => break,
                b'\\' => self.escaped(&mut word),
                _ => {
                    word.push(b);
                    self.at += 1;
                }
            }
        }
        String::from_utf8_lossy(&word).into_owned()
    }

    /// A backslash and what follows. Before anything else than these it stays.
    fn escaped(&mut self, word: &mut Vec<u8>) {
        let next = self.text.get(self.at + 1).copied();
        match next {
            Some(b @ (b'"' | b'\'' | b'\\')) => word.push(b),
            Some(b't') => word.push(b'\t'),
            Some(b'r') => word.push(b'\r'),
            Some(b'n') => word.push(b'\n'),
            Some(b) => word.extend([b'\\', b]),
            None => word.push(b'\\'),
        }
        self.at = (self.at + 2).min(self.text.len());
    }

    /// Passes over Lua up to the brace that ends its block.
    fn lua(&mut self) -> Result<(), usize> {
        let start = self.at;
        let mut open = 1;
        while let Some(b) = self.peek() {
            let rest = &self.text[self.at..];
            match b {
                b'{' => open += 1,
                b'}' => open -= 1,
                b'"' | b'\'' => {
                    self.quoted(b)?;
                    continue;
                }
                b'-' if rest.starts_with(b"--") => {
                    self.at += 2;
                    if !self.long_bracket()? {
                        self.line();
                    }
                    continue;
                }
                b'[' if self.long_bracket()? => continue,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Ok(());
            }
        }
        Err(start)
    }

    /// Passes over `[[ … ]]` or `[==[ … ]==]`, if there is one here.
    fn long_bracket(&mut self) -> Result<bool, usize> {
        let rest = &self.text[self.at..];
        if rest.first() != Some(&b'[') {
            return Ok(false);
        }
        let level = rest[1..].iter().take_while(|b| **b == b'=').count();
        if rest.get(1 + level) != Some(&b'[') {
            return Ok(false);
        }
        let mut end = vec![b']'];
        end.extend(std::iter::repeat_n(b'=', level));
        end.push(b']');
        let found = memchr::memmem::find(rest, &end).ok_or(self.at)?;
        self.at += found + end.len();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text.as_bytes()).unwrap().iter().map(|d| d.words.join("|")).collect()
    }

    #[test]
    fn words_are_read_as_nginx_reads_them() {
        assert_eq!(names("a b # c; {\n d 'e f;' \"g\\\"h\"; i ${j}k \\;l; # end"), ["a|b|d|e f;|g\"h", "i|${j}k|\\;l"]);
        assert_eq!(names("if ($a ~ \"^/x{2}$\") { return 1; } b#c d;"), ["if|($a|~|^/x{2}$|)", "b#c|d"]);
        assert_eq!(names("server_name ~^(?<n>.+)\\.example\\.org$;"), ["server_name|~^(?<n>.+)\\.example\\.org$"]);
    }

    #[test]
    fn blocks_know_where_they_open_and_lines_are_counted() {
        let text = b"http {\n  server{listen 80;}\n}\n";
        let http = &parse(text).unwrap()[0];
        let server = &http.block.as_ref().unwrap()[0];
        assert_eq!(&text[server.start..server.end], b"server{");
        assert_eq!((line_of(text, server.start), http.end), (2, 6));
    }

    #[test]
    fn lua_is_passed_over() {
        let lua = "content_by_lua_block { local t = { '}', \"}\" } -- }\n --[[ } ]] x = [=[ } ]=] y = t[1] } after it;";
        assert_eq!(names(lua), ["content_by_lua_block", "after|it"]);
    }

    #[test]
    fn what_does_not_end_is_told_with_its_place() {
        for (text, at) in [("a {", 3), ("a", 1), ("a b; }", 5), ("a \"b", 2), ("; ", 0), ("x_by_lua_block { '", 17)] {
            assert_eq!(parse(text.as_bytes()), Err(at), "{text}");
        }
    }
}
