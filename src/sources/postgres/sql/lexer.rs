//! Statements, rows and meta-commands of a script, found by the rules of `psql`: quotes, dollar quotes, comments,
//! parentheses and bodies in standard SQL hide a semicolon.

use crate::error::{Error, Kind, Result};
use std::io::{BufRead, Read};

/// No statement of a dump is longer; a server would not take it.
const MAX_STATEMENT: usize = 1 << 30;
/// The identifiers at the beginning of a statement that are looked at.
const LEADING: usize = 4;

/// A piece of a script.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A statement with its semicolon.
    Statement(Vec<u8>),
    /// A `COPY … FROM stdin`; [`Lexer::rows`] must be called next.
    Copy(Vec<u8>),
    /// A line with a meta-command of `psql`, without its end.
    Meta(Vec<u8>),
    /// A comment between statements, without its end.
    Comment(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Quote {
    None,
    Single { escapes: bool },
    Double,
    Dollar(Vec<u8>),
    Block(u32),
}

/// The reader.
pub struct Lexer<R> {
    reader: R,
    /// The line that is being looked at, and where in it.
    line: Vec<u8>,
    at: usize,
    number: u64,
    statement: Vec<u8>,
    begun_at: u64,
    quote: Quote,
    parens: u32,
    begins: u32,
    leading: Vec<Vec<u8>>,
    /// Backslashes escape in ordinary quotes.
    old_strings: bool,
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

impl<R: BufRead> Lexer<R> {
    /// Reads from the beginning of a script.
    pub fn new(reader: R) -> Self {
        Lexer {
            reader,
            line: Vec::new(),
            at: 0,
            number: 0,
            statement: Vec::new(),
            begun_at: 0,
            quote: Quote::None,
            parens: 0,
            begins: 0,
            leading: Vec::new(),
            old_strings: false,
        }
    }

    /// The number of the line that was read last.
    pub fn line_number(&self) -> u64 {
        self.number
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::new(Kind::Damaged, what).because(format!("line {}", self.number))
    }

    fn cut_short(&self, where_: &str) -> Error {
        self.wrong(format!("the dump ends within {where_}"))
            .hint("It was not written to its end, or was cut short since; take another backup.")
    }

    /// The next item; nothing at the end of the script.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the script ends within a statement, or holds what no dump does.
    pub fn next_item(&mut self) -> Result<Option<Item>> {
        loop {
            if self.at >= self.line.len() && !self.read_line()? {
                if self.is_blank() && self.quote == Quote::None {
                    return Ok(None);
                }
                return Err(self.cut_short("a statement"));
            }
            if let Some(item) = self.scan()? {
                return Ok(Some(item));
            }
            if self.statement.len() > MAX_STATEMENT {
                return Err(self.wrong("a statement of the dump does not end"));
            }
        }
    }

    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        self.at = 0;
        let read = self.reader.by_ref().take(MAX_STATEMENT as u64 + 1).read_until(b'\n', &mut self.line);
        let n = read.map_err(|e| self.wrong("the dump cannot be read").because(e))?;
        self.number += u64::from(n > 0);
        Ok(n > 0)
    }

    fn is_blank(&self) -> bool {
        self.statement.iter().all(u8::is_ascii_whitespace)
    }

    /// Takes what is left of the line, up to the end of an item.
    fn scan(&mut self) -> Result<Option<Item>> {
        let line = std::mem::take(&mut self.line);
        let found = self.scan_line(&line);
        self.line = line;
        found
    }

    fn scan_line(&mut self, line: &[u8]) -> Result<Option<Item>> {
        let mut i = self.at;
        let from = i;
        while i < line.len() {
            match &mut self.quote {
                Quote::None => {}
                Quote::Single { escapes } => {
                    i = match memchr::memchr2(b'\'', b'\\', &line[i..]) {
                        None => line.len(),
                        Some(n) if line[i + n] == b'\\' => i + n + if *escapes { 2 } else { 1 },
                        // A doubled quote closes and opens again, which comes to the same; but for what escapes.
                        Some(n) if *escapes && line.get(i + n + 1) == Some(&b'\'') => i + n + 2,
                        Some(n) => {
                            self.quote = Quote::None;
                            i + n + 1
                        }
                    };
                    continue;
                }
                Quote::Double => {
                    i = match memchr::memchr(b'"', &line[i..]) {
                        None => line.len(),
                        Some(n) => {
                            self.quote = Quote::None;
                            i + n + 1
                        }
                    };
                    continue;
                }
                Quote::Dollar(tag) => {
                    i = match memchr::memmem::find(&line[i..], tag) {
                        None => line.len(),
                        Some(n) => {
                            let end = i + n + tag.len();
                            self.quote = Quote::None;
                            end
                        }
                    };
                    continue;
                }
                Quote::Block(depth) => {
                    if line[i..].starts_with(b"*/") {
                        *depth -= 1;
                        i += 2;
                        if *depth == 0 {
                            self.quote = Quote::None;
                        }
                    } else if line[i..].starts_with(b"/*") {
                        *depth += 1;
                        i += 2;
                    } else {
                        i += 1;
                    }
                    continue;
                }
            }
            let b = line[i];
            let blank = || self.is_blank() && line[from..i].iter().all(u8::is_ascii_whitespace);
            match b {
                b'-' if line[i..].starts_with(b"--") => {
                    if blank() {
                        self.at = line.len();
                        self.statement.clear();
                        return Ok(Some(Item::Comment(trimmed(&line[i..]))));
                    }
                    i = line.len();
                }
                b'\\' if blank() => {
                    self.at = line.len();
                    self.statement.clear();
                    return Ok(Some(Item::Meta(trimmed(&line[i..]))));
                }
                b'\\' => {
                    return Err(self.wrong("the dump holds a command of psql within a statement"));
                }
                b'/' if line[i..].starts_with(b"/*") => {
                    self.quote = Quote::Block(1);
                    i += 2;
                }
                b'\'' => {
                    let escaping = i > 0 && (line[i - 1] | 0x20) == b'e' && (i < 2 || !is_word(line[i - 2]));
                    self.quote = Quote::Single { escapes: escaping || self.old_strings };
                    i += 1;
                }
                b'"' => {
                    self.quote = Quote::Double;
                    i += 1;
                }
                b'$' if i == 0 || !is_word(line[i - 1]) => match dollar(&line[i..]) {
                    Some(length) => {
                        self.quote = Quote::Dollar(line[i..i + length].to_vec());
                        i += length;
                    }
                    None => i += 1,
                },
                b'(' => {
                    self.parens += 1;
                    i += 1;
                }
                b')' => {
                    self.parens = self.parens.saturating_sub(1);
                    i += 1;
                }
                b';' if self.parens == 0 && self.begins == 0 => {
                    i += 1;
                    self.begin_line(&line[from..i]);
                    self.at = i;
                    return Ok(Some(self.end_statement()));
                }
                b if is_word(b) && !b.is_ascii_digit() => {
                    let end = line[i..].iter().position(|b| !is_word(*b)).map_or(line.len(), |n| i + n);
                    self.word(&line[i..end]);
                    i = end;
                }
                _ => i += 1,
            }
        }
        self.begin_line(&line[from..]);
        self.at = line.len();
        Ok(None)
    }

    /// Adds text to the statement; white space before its beginning does not belong to it.
    fn begin_line(&mut self, text: &[u8]) {
        if self.statement.is_empty() {
            let Some(start) = text.iter().position(|b| !b.is_ascii_whitespace()) else { return };
            self.begun_at = self.number;
            self.statement.extend_from_slice(&text[start..]);
        } else {
            self.statement.extend_from_slice(text);
        }
    }

    /// A body in standard SQL has semicolons between `BEGIN` and `END`, and only functions and procedures have one.
    fn word(&mut self, word: &[u8]) {
        if self.leading.len() < LEADING {
            self.leading.push(word.to_ascii_lowercase());
        }
        let is = |n: usize, w: &[u8]| self.leading.get(n).is_some_and(|l| l == w);
        let at = if is(1, b"or") && is(2, b"replace") { 3 } else { 1 };
        if !is(0, b"create") || !(is(at, b"function") || is(at, b"procedure")) || self.parens > 0 {
            return;
        }
        if word.eq_ignore_ascii_case(b"begin") || (self.begins > 0 && word.eq_ignore_ascii_case(b"case")) {
            self.begins += 1;
        } else if word.eq_ignore_ascii_case(b"end") {
            self.begins = self.begins.saturating_sub(1);
        }
    }

    fn end_statement(&mut self) -> Item {
        self.parens = 0;
        self.leading.clear();
        let statement = std::mem::take(&mut self.statement);
        if starts(&statement, b"SET standard_conforming_strings") {
            self.old_strings = statement.windows(3).any(|w| w.eq_ignore_ascii_case(b"off"));
        }
        if starts(&statement, b"COPY ") && takes_rows(&statement) {
            self.at = self.line.len();
            return Item::Copy(statement);
        }
        Item::Statement(statement)
    }

    /// Gives the rows of a `COPY`, as they stand, and their number.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the script ends before the rows do; what `out` says.
    pub fn rows(&mut self, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        self.line.clear();
        self.at = 0;
        let mut rows = 0;
        let mut at_start = true;
        loop {
            let number = self.number;
            let failed =
                |e| Error::new(Kind::Damaged, "the dump cannot be read").because(format!("line {number}: {e}"));
            if at_start && self.reader.fill_buf().map_err(failed)?.first() == Some(&b'\\') {
                self.reader.consume(1);
                if self.reader.fill_buf().map_err(failed)?.first() == Some(&b'.') {
                    self.reader.skip_until(b'\n').map_err(failed)?;
                    self.number += 1;
                    return Ok(rows);
                }
                out(b"\\")?;
            }
            let bytes = self.reader.fill_buf().map_err(failed)?;
            if bytes.is_empty() {
                return Err(self.cut_short("the rows of a table"));
            }
            // As far as no line begins with a backslash.
            let (mut end, mut lines, mut found) = (0, 0, false);
            while let Some(n) = memchr::memchr(b'\n', &bytes[end..]) {
                end += n + 1;
                lines += 1;
                if bytes.get(end).is_none_or(|b| *b == b'\\') {
                    found = true;
                    break;
                }
            }
            if !found {
                end = bytes.len();
            }
            at_start = found;
            out(&bytes[..end])?;
            self.reader.consume(end);
            rows += lines;
            self.number += lines;
        }
    }
}

fn trimmed(line: &[u8]) -> Vec<u8> {
    line.trim_ascii_end().to_vec()
}

/// Whether a statement begins so, in whatever case.
pub fn starts(statement: &[u8], with: &[u8]) -> bool {
    statement.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with))
}

fn takes_rows(statement: &[u8]) -> bool {
    const FROM: &[u8] = b" FROM stdin";
    statement.windows(FROM.len()).any(|w| w.eq_ignore_ascii_case(FROM))
}

/// The length of a dollar quote's beginning.
fn dollar(text: &[u8]) -> Option<usize> {
    let end = text[1..].iter().position(|b| *b == b'$')? + 1;
    let tag = &text[1..end];
    let good = tag.iter().all(|b| is_word(*b)) && tag.first().is_none_or(|b| !b.is_ascii_digit());
    good.then_some(end + 1)
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
