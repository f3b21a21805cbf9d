//! Printing: the only file that writes to standard output and standard error (beside the progress bar).
#![allow(clippy::print_stdout, clippy::print_stderr)]

use super::journal;
use crate::error::{Error, Kind, Result};
use console::{measure_text_width, style};
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table whose columns line up.
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(head: &[(&'static str, Align)]) -> Self {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints head and rows.
    pub fn print(&self) -> Result<()> {
        let width = |i: usize| {
            self.rows.iter().map(|r| measure_text_width(&r[i])).chain([self.head[i].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let mut out = String::new();
            for (i, cell) in cells.iter().enumerate() {
                let pad = " ".repeat(widths[i] - measure_text_width(cell));
                let last = i + 1 == cells.len();
                match self.head[i].1 {
                    Align::Right => out.push_str(&format!("{pad}{cell}")),
                    Align::Left if last => out.push_str(cell),
                    Align::Left => out.push_str(&format!("{cell}{pad}")),
                }
                if !last {
                    out.push_str("  ");
                }
            }
            out
        };
        let head: Vec<String> = self.head.iter().map(|h| h.0.to_owned()).collect();
        say(&style(line(&head)).bold().to_string())?;
        self.rows.iter().try_for_each(|r| say(&line(r)))
    }
}

/// Whether what is said is not the result.
static ASIDE: AtomicBool = AtomicBool::new(false);

/// While it lives, what is said goes to standard error: commands that are a part of another one do not mix with its result.
pub struct Aside(());

/// Begins that.
pub fn aside() -> Aside {
    ASIDE.store(true, Ordering::Relaxed);
    Aside(())
}

impl Drop for Aside {
    fn drop(&mut self) {
        ASIDE.store(false, Ordering::Relaxed);
    }
}

/// Prints a line of the result.
pub fn say(line: &str) -> Result<()> {
    raw(format!("{line}\n").as_bytes())
}

/// Writes bytes of the result. A reader that went away ends the program quietly, as is the custom.
pub fn raw(bytes: &[u8]) -> Result<()> {
    if ASIDE.load(Ordering::Relaxed) {
        // Who does not read it does not want it.
        let _ = std::io::stderr().lock().write_all(bytes);
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::new(Kind::Internal, "standard output cannot be written").because(e)),
    }
}

/// Asks on the terminal; nothing when there is none.
pub fn ask(question: &str) -> Result<Option<String>> {
    if !console::user_attended() || !console::user_attended_stderr() {
        return Ok(None);
    }
    eprint!("{question}");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|e| Error::new(Kind::Usage, "the answer cannot be read").because(e))?;
    Ok(Some(answer))
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    say(&pretty(value)?)
}

fn pretty(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(Kind::Internal, "the result cannot be written as JSON").because(e))
}

/// Prints an array of JSON values one by one, for more of them than should be in memory together. The text is that of
/// [`json`].
#[derive(Default)]
pub struct JsonArray {
    begun: bool,
}

impl JsonArray {
    /// Prints the next value.
    pub fn push(&mut self, value: &impl Serialize) -> Result<()> {
        raw(self.element(value)?.as_bytes())
    }

    /// Prints the end.
    pub fn end(self) -> Result<()> {
        say(self.closing())
    }

    fn element(&mut self, value: &impl Serialize) -> Result<String> {
        let before = if std::mem::replace(&mut self.begun, true) { ",\n" } else { "[\n" };
        // A line break within a string is escaped: those that are there are the layout's.
        Ok(format!("{before}  {}", pretty(value)?.replace('\n', "\n  ")))
    }

    fn closing(&self) -> &'static str {
        if self.begun { "\n]" } else { "[]" }
    }
}

/// Something that went as it should.
pub fn good(text: &str) -> String {
    style(text).green().to_string()
}

/// Something to look at.
pub fn notice(text: &str) -> String {
    style(text).yellow().to_string()
}

/// Something wrong.
pub fn bad(text: &str) -> String {
    style(text).red().to_string()
}

/// What stands above a part of the output.
pub fn title(text: &str) -> String {
    style(text).bold().to_string()
}

/// Something less important.
pub fn dim(text: &str) -> String {
    style(text).dim().to_string()
}

/// A line beside the result, on standard error. Its colours are those of a result: they go where only that is a terminal.
pub fn remark(text: &str) {
    match console::colors_enabled_stderr() {
        true => eprintln!("{text}"),
        false => eprintln!("{}", console::strip_ansi_codes(text)),
    }
}

/// Something that the operator should know, on standard error.
pub fn warning(text: &str) {
    if journal::reads_us() {
        return leveled(4, &format!("warning: {text}"));
    }
    remark(&format!("{} {text}", style("warning").yellow().for_stderr()));
}

/// Lines that the journal takes at this level of syslog's.
fn leveled(level: u8, text: &str) {
    text.lines().for_each(|line| eprintln!("<{level}>{line}"));
}

/// That an application stood still for a backup.
pub fn stood_still(who: &str, seconds: f64) -> String {
    format!("{who}: the application stood still for {seconds:.1} s")
}

/// That a restore kept the data from its application.
pub fn outage(seconds: f64) -> String {
    format!("the data was out of the application's reach for {seconds:.1} s")
}

/// Prints an error for people or machines.
pub fn error(e: &Error, as_json: bool) {
    if as_json {
        let value = serde_json::json!({
            "error": {
                "kind": e.kind.name(), "exit_code": e.kind.exit_code(), "what": e.what, "where": e.place,
                "why": e.cause.as_ref().map(ToString::to_string), "do": e.hint,
            }
        });
        eprintln!("{value}");
    } else if journal::reads_us() {
        leveled(3, &format!("error: {e}"));
    } else {
        eprintln!("{} {e}", style("error:").red().bold().for_stderr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_one_by_one_has_the_text_of_the_whole() {
        let values =
            [serde_json::json!({ "a": [1, {}], "b": "two\nlines" }), serde_json::json!([]), serde_json::json!(3)];
        for n in 0..=values.len() {
            let mut array = JsonArray::default();
            let mut text: String = values[..n].iter().map(|v| array.element(v).unwrap()).collect();
            text.push_str(array.closing());
            assert_eq!(text, pretty(&&values[..n]).unwrap());
        }
    }
}
