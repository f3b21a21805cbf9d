//! One way through a dump: which statement is of which database, and whether the dump is whole.

use super::lexer::{Item, Lexer, starts};
use super::names::{Words, connect};
use crate::error::{Error, Kind, Result};
use std::io::BufRead;

const DATABASE_ENDS: &[u8] = b"-- PostgreSQL database dump complete";
const CLUSTER_BEGINS: &[u8] = b"-- PostgreSQL database cluster dump";
const CLUSTER_ENDS: &[u8] = b"-- PostgreSQL database cluster dump complete";
const SERVER_VERSION: &[u8] = b"-- Dumped from database version ";

/// Where a statement belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// To the whole cluster: roles, tablespaces.
    Globals,
    /// It makes or changes a database as a whole.
    Around,
    /// It runs in this database; without a name in the only one.
    In(Option<&'a str>),
}

/// Who looks at a dump.
pub trait Visit {
    /// A statement.
    fn statement(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()>;

    /// A `COPY` whose rows follow.
    fn copy(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()>;

    /// Rows of it.
    fn rows(&mut self, rows: &[u8]) -> Result<()>;

    /// All of them came.
    fn copied(&mut self, rows: u64) -> Result<()>;

    /// Another session begins: none of the settings before it count any more.
    fn connected(&mut self) {}

    /// The version of the server that was dumped, as it says it.
    fn server(&mut self, _version: &str) {}
}

/// Goes through a dump to its end marker and to the end of the file.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole; [`Kind::Refused`] for a command of `psql` that no dump holds; what `visit` says.
pub fn walk(reader: impl BufRead, visit: &mut dyn Visit) -> Result<()> {
    let mut lexer = Lexer::new(reader);
    let mut database: Option<String> = None;
    let (mut cluster, mut ended, mut anything) = (false, false, false);
    while let Some(item) = lexer.next_item()? {
        match item {
            Item::Comment(line) => match &line[..] {
                CLUSTER_BEGINS => cluster = true,
                CLUSTER_ENDS => ended = true,
                DATABASE_ENDS if !cluster => ended = true,
                line => {
                    if let Some(version) = line.strip_prefix(SERVER_VERSION) {
                        visit.server(String::from_utf8_lossy(version).split(' ').next().unwrap_or_default());
                    }
                }
            },
            Item::Meta(line) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                // The random word of the first two keeps a dump from giving commands to psql; none is given to it here.
                // The third stands before an odd name of a database; the encoding is set again in it.
                if ["\\restrict ", "\\unrestrict ", "\\encoding "].iter().any(|known| line.starts_with(known)) {
                    continue;
                }
                let Some(name) = connect(&line) else {
                    return Err(Error::new(Kind::Refused, "the dump holds a command of psql, which is not run")
                        .because(format!("line {}: {line}", lexer.line_number()))
                        .hint("pg_dump writes none but \\connect; look at who wrote this file."));
                };
                database = Some(name);
                visit.connected();
            }
            Item::Statement(sql) => {
                if ended {
                    return Err(behind(&lexer));
                }
                anything = true;
                let of = place(cluster, database.as_deref(), &sql);
                visit.statement(of, &sql)?;
            }
            Item::Copy(sql) => {
                if ended {
                    return Err(behind(&lexer));
                }
                anything = true;
                visit.copy(Of::In(database.as_deref()), &sql)?;
                let rows = lexer.rows(|rows| visit.rows(rows))?;
                visit.copied(rows)?;
            }
        }
    }
    if ended {
        return Ok(());
    }
    let what = match (anything, cluster) {
        (false, _) => "this is no dump of PostgreSQL: it holds no statement",
        (true, true) => "the dump is cut short: the end marker of a cluster dump is missing",
        (true, false) => "the dump is cut short: its end marker is missing",
    };
    Err(Error::new(Kind::Damaged, what)
        .because(format!("it ends after line {}", lexer.line_number()))
        .hint("pg_dump did not come to its end, or the file was cut since; take another backup."))
}

fn behind<R: BufRead>(lexer: &Lexer<R>) -> Error {
    Error::new(Kind::Damaged, "something follows the end of the dump")
        .because(format!("line {}", lexer.line_number()))
        .hint("Give several dumps as several files.")
}

fn place<'a>(cluster: bool, database: Option<&'a str>, sql: &[u8]) -> Of<'a> {
    if is_around(sql) {
        return Of::Around;
    }
    match database {
        None if cluster => Of::Globals,
        database => Of::In(database),
    }
}

/// Statements about a database as a whole.
pub(super) fn is_around(sql: &[u8]) -> bool {
    const BEGIN: &[&[u8]] = &[b"CREATE DATABASE ", b"ALTER DATABASE ", b"DROP DATABASE ", b"COMMENT ON DATABASE "];
    if BEGIN.iter().any(|with| starts(sql, with)) {
        return true;
    }
    let head = String::from_utf8_lossy(&sql[..sql.len().min(300)]);
    let mut words = Words::new(&head);
    if words.skip("GRANT") || words.skip("REVOKE") {
        return head.contains(" ON DATABASE ");
    }
    if words.skip_all("ALTER ROLE") {
        let _ = words.name();
        return words.skip_all("IN DATABASE");
    }
    false
}
