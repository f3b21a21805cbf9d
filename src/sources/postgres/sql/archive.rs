//! A plain dump written again as an archive, so that its rows have the bytes that those of our own dumps have, and days share
//! them. It is an ordinary archive: `pg_restore` runs each statement in the order of the dump, and copies the rows in
//! between.
//!
//! The table of contents comes first, so the dump is gone through twice: for its statements, then for its rows. What an
//! archive cannot hold in such a way (rows as `INSERT`, large objects, changes of the session's role, names that rely on a path
//! in which they are looked for) stays SQL.

use super::super::archive::blocks::Framer;
use super::super::archive::entry::{Entry, Section, put_int};
use super::super::archive::head::Head;
use super::cut::{Leave, Verdict};
use super::lexer::starts;
use super::names::Words;
use super::search_path::SearchPath;
use std::io::Write;

/// The media type of an artifact that is such an archive. Parts of it cannot be picked: a statement does not say which
/// tables it is about.
pub const MEDIA: &str = "pg-custom-of-plain";
/// What an entry is that gives an object to its owner.
pub const OWNER: &str = "OWNER";
/// Statements beyond this stay SQL: a head is kept in memory. Bytes.
const MOST: usize = 64 << 20;
/// How the rows of a block end.
const END: &[u8] = b"\\.\n\n\n";

/// What one database of a dump holds besides rows.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pieces: Vec<Piece>,
    encoding: Option<String>,
    tablespace: String,
    access_method: String,
    bytes: usize,
    unfit: bool,
}

#[derive(Clone, Debug)]
struct Piece {
    desc: &'static str,
    tag: String,
    schema: String,
    sql: Vec<u8>,
}

impl Piece {
    fn is_data(&self) -> bool {
        matches!(self.desc, "TABLE DATA" | "SEQUENCE SET")
    }
}

impl Contents {
    /// Takes a statement.
    pub fn statement(&mut self, sql: &[u8]) {
        let head = String::from_utf8_lossy(&sql[..sql.len().min(400)]);
        // The archive empties the path by itself. Of an old `pg_dump`, names stand for what is in it.
        let emptied = SearchPath::emptied(&head);
        self.unfit |= emptied == Some(false);
        let mut words = Words::new(&head);
        if words.skip("SET") {
            self.set(words);
            return;
        }
        let rows: &[&[u8]] = &[b"INSERT INTO ", b"SELECT pg_catalog.lo_", b"BEGIN;", b"COMMIT;"];
        self.unfit |= rows.iter().any(|begin| starts(sql, begin));
        if emptied.is_some() || !matches!(Leave::default().verdict(sql), Verdict::Run) {
            return;
        }
        let (desc, tag) = kind(sql, &head);
        let sql = self.within_settings(desc, sql);
        self.put(Piece { desc, tag, schema: String::new(), sql });
    }

    /// Takes a `COPY`.
    pub fn copy(&mut self, sql: &[u8]) {
        let text = String::from_utf8_lossy(sql);
        let mut words = Words::new(&text);
        let named = if words.skip("COPY") { words.qualified() } else { None };
        let Some((schema, tag)) = named else {
            self.unfit = true;
            return;
        };
        let sql = [sql.trim_ascii_end(), b"\n"].concat();
        self.put(Piece { desc: "TABLE DATA", tag, schema, sql });
    }

    fn put(&mut self, piece: Piece) {
        self.bytes += piece.sql.len() + piece.tag.len();
        self.unfit |= self.bytes > MOST;
        if self.unfit {
            self.pieces = Vec::new();
        } else {
            self.pieces.push(piece);
        }
    }

    /// Settings of a dump are those that `pg_restore` makes anyway, but for where the next tables and indexes go.
    fn set(&mut self, mut words: Words<'_>) {
        let Some(setting) = words.name() else { return };
        let mut value = Words::new(words.rest().trim_start_matches(['=', ' ']));
        let value = value.literal().or_else(|| value.name()).unwrap_or_default();
        match setting.as_str() {
            "client_encoding" => self.encoding = Some(value),
            "default_tablespace" => self.tablespace = value,
            "default_table_access_method" => self.access_method = value,
            // Whoever makes what follows.
            "session" | "role" => self.unfit = true,
            // Of an old `pg_dump`: texts in which a backslash is none.
            "standard_conforming_strings" if value == "off" => self.unfit = true,
            _ => {}
        }
    }

    /// A statement with the settings under which the dump has it, which must not outlast it.
    fn within_settings(&self, desc: &str, sql: &[u8]) -> Vec<u8> {
        let (mut before, mut after) = (String::new(), String::new());
        if desc == "SQL" && starts(sql, b"CREATE ") {
            let settings =
                [("default_tablespace", &self.tablespace), ("default_table_access_method", &self.access_method)];
            for (name, value) in settings.into_iter().filter(|(_, v)| !v.is_empty() && *v != "heap") {
                let quoted = value.replace('\'', "''");
                before.push_str(&format!("SET {name} = '{quoted}';\n"));
                after.push_str(&format!("RESET {name};\n"));
            }
        }
        [before.as_bytes(), sql.trim_ascii_end(), b"\n", after.as_bytes()].concat()
    }

    /// The head of the archive, and the numbers of the blocks in the order of the rows; nothing for what stays SQL.
    pub fn head(&self, database: &str, server_version: &str) -> Option<(Head, Vec<i32>)> {
        if self.unfit {
            return None;
        }
        let encoding = self.encoding.as_deref().unwrap_or("UTF8");
        let special = [
            ("ENCODING", format!("SET client_encoding = '{encoding}';\n")),
            ("STDSTRINGS", "SET standard_conforming_strings = 'on';\n".to_owned()),
            ("SEARCHPATH", "SELECT pg_catalog.set_config('search_path', '', false);\n".to_owned()),
        ];
        let mut id = 0;
        let mut next = || {
            id += 1;
            id
        };
        let mut entries: Vec<Entry> = special
            .into_iter()
            .map(|(desc, sql)| Entry::of_statement(next(), Section::PreData, desc, desc, sql.into_bytes(), Vec::new()))
            .collect();
        let first = self.pieces.iter().position(Piece::is_data).unwrap_or(self.pieces.len());
        let last = self.pieces.iter().rposition(Piece::is_data).unwrap_or(0);
        let mut blocks = Vec::new();
        // Indexes and constraints are built side by side unless one waits for the other; in a dump each may need those
        // before it.
        let mut behind: Option<i32> = None;
        for (n, piece) in self.pieces.iter().enumerate() {
            let id = next();
            if piece.desc == "TABLE DATA" {
                entries.push(Entry::of_rows(id, &piece.schema, &piece.tag, piece.sql.clone()));
                blocks.push(id);
                continue;
            }
            let section = match n {
                n if n < first => Section::PreData,
                n if n <= last => Section::Data,
                _ => Section::PostData,
            };
            let depends = if section == Section::PostData { behind.replace(id) } else { None };
            let section = if piece.desc == "COMMENT" { Section::None } else { section };
            let depends = depends.into_iter().collect();
            entries.push(Entry::of_statement(id, section, piece.desc, &piece.tag, piece.sql.clone(), depends));
        }
        Some((Head::of_entries(database, server_version, entries), blocks))
    }
}

/// What an entry is, as far as somebody may want to leave it out; all else is SQL.
fn kind(sql: &[u8], head: &str) -> (&'static str, String) {
    let named = |words: &mut Words<'_>| words.name().unwrap_or_default();
    let mut words = Words::new(head);
    if words.skip("GRANT") || words.skip("REVOKE") {
        return ("ACL", "grant".to_owned());
    }
    if words.skip_all("ALTER DEFAULT PRIVILEGES") {
        return ("DEFAULT ACL", "grant".to_owned());
    }
    if words.skip_all("COMMENT ON EXTENSION") {
        return ("COMMENT", format!("EXTENSION {}", named(&mut words)));
    }
    if words.skip_all("CREATE EVENT TRIGGER") {
        return ("EVENT TRIGGER", named(&mut words));
    }
    if words.skip_all("CREATE PUBLICATION") {
        return ("PUBLICATION", named(&mut words));
    }
    if starts(sql, b"SELECT pg_catalog.setval(") {
        return ("SEQUENCE SET", "sequence".to_owned());
    }
    let tail = String::from_utf8_lossy(&sql[sql.len().saturating_sub(400)..]);
    if starts(sql, b"ALTER ") && tail.contains(" OWNER TO ") {
        return (OWNER, "owner".to_owned());
    }
    ("SQL", "statement".to_owned())
}

/// The rows of one `COPY` as a block: each in a chunk of its own, as `pg_dump` writes them, or a large table as our own dumps frame
/// one.
pub struct Block {
    frame: Frame,
    /// The beginning of a row whose end has not come.
    row: Vec<u8>,
}

enum Frame {
    Rows,
    Large(Framer),
}

impl Block {
    /// Begins it.
    ///
    /// # Errors
    /// What `out` says.
    pub fn begin(entry: i32, large: bool, out: &mut dyn Write) -> std::io::Result<Self> {
        let frame = match large {
            true => Frame::Large(Framer::new(entry)),
            false => {
                let mut begin = vec![1];
                put_int(&mut begin, entry);
                out.write_all(&begin)?;
                Frame::Rows
            }
        };
        Ok(Block { frame, row: Vec::new() })
    }

    /// Takes bytes of rows, cut wherever.
    ///
    /// # Errors
    /// What `out` says.
    pub fn rows(&mut self, mut bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
        while let Some(n) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(n + 1);
            bytes = rest;
            if self.row.is_empty() {
                self.frame.row(line, out)?;
            } else {
                self.row.extend_from_slice(line);
                self.frame.row(&self.row, out)?;
                self.row.clear();
            }
        }
        self.row.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// What `out` says.
    pub fn end(self, out: &mut dyn Write) -> std::io::Result<()> {
        match self.frame {
            Frame::Large(framer) => out.write_all(&framer.finish()),
            Frame::Rows => {
                chunk(END, out)?;
                let mut end = Vec::new();
                put_int(&mut end, 0);
                out.write_all(&end)
            }
        }
    }
}

impl Frame {
    fn row(&mut self, row: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
        match self {
            Frame::Rows => chunk(row, out),
            Frame::Large(framer) => {
                framer.row(row);
                out.write_all(&framer.take())
            }
        }
    }
}

fn chunk(bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
    let mut length = Vec::with_capacity(5);
    put_int(&mut length, i32::try_from(bytes.len()).map_err(std::io::Error::other)?);
    out.write_all(&length)?;
    out.write_all(bytes)
}

/// The head without what gives objects to their owners: of such an archive `pg_restore` does not know which statements those
/// are.
pub fn without_owners(head: &Head) -> Head {
    let mut head = head.clone();
    head.entries.retain(|e| !e.is(OWNER));
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(statements: &[&str]) -> Contents {
        let mut contents = Contents::default();
        for sql in statements {
            match sql.starts_with("COPY ") {
                true => contents.copy(sql.as_bytes()),
                false => contents.statement(sql.as_bytes()),
            }
        }
        contents
    }

    #[test]
    fn statements_and_rows_keep_their_order_and_what_may_be_left_out_is_known() {
        let (head, blocks) = contents(&[
            "SET client_encoding = 'LATIN1';",
            "SELECT pg_catalog.set_config('search_path', '', false);",
            "SET default_tablespace = 'fast disk';",
            "CREATE TABLE public.a (x int);",
            "ALTER TABLE public.a OWNER TO app;",
            "SET default_tablespace = '';",
            "CREATE TABLE public.b (x int);",
            "COPY public.a (x) FROM stdin;",
            "SELECT pg_catalog.setval('public.s', 3, true);",
            "COPY public.\"B b\" (x) FROM stdin;",
            "ALTER TABLE ONLY public.a ADD CONSTRAINT k PRIMARY KEY (x);",
            "COMMENT ON EXTENSION plpgsql IS 'x';",
            "GRANT ALL ON TABLE public.a TO app;",
        ])
        .head("erp", "15.18")
        .unwrap();
        let again = Head::read(&mut &head.encode()[..]).unwrap();
        assert_eq!(again, head);
        let text = |t: &Option<Vec<u8>>| String::from_utf8(t.clone().unwrap_or_default()).unwrap();
        let told: Vec<String> =
            head.entries.iter().map(|e| format!("{} {:?} {}", text(&e.desc), e.section(), text(&e.tag))).collect();
        assert_eq!(
            told,
            [
                "ENCODING PreData ENCODING",
                "STDSTRINGS PreData STDSTRINGS",
                "SEARCHPATH PreData SEARCHPATH",
                "SQL PreData statement",
                "OWNER PreData owner",
                "SQL PreData statement",
                "TABLE DATA Data a",
                "SEQUENCE SET Data sequence",
                "TABLE DATA Data B b",
                "SQL PostData statement",
                "COMMENT None EXTENSION plpgsql",
                "ACL PostData grant",
            ]
        );
        assert_eq!(blocks, [7, 9]);
        assert!(text(&head.entries[0].defn).contains("LATIN1"));
        let table = text(&head.entries[3].defn);
        assert!(
            table.starts_with("SET default_tablespace = 'fast disk';\nCREATE TABLE public.a")
                && table.ends_with("RESET default_tablespace;\n")
        );
        assert_eq!(text(&head.entries[5].defn), "CREATE TABLE public.b (x int);\n");
        assert_eq!(without_owners(&head).entries.len(), head.entries.len() - 1);
    }

    #[test]
    fn rows_as_statements_and_large_objects_stay_sql() {
        for sql in ["INSERT INTO public.a VALUES (1);", "SELECT pg_catalog.lo_create('5');"] {
            assert!(contents(&["CREATE TABLE public.a (x int);", sql]).head("erp", "15").is_none(), "{sql}");
        }
    }

    #[test]
    fn what_relies_on_settings_of_an_old_pg_dump_stays_sql() {
        let path = "SELECT pg_catalog.set_config('search_path', 'audit', false);";
        for set in [path, "SET search_path = public, pg_catalog;", "SET standard_conforming_strings = off;"] {
            assert!(contents(&[set, "CREATE TABLE a (x int);"]).head("erp", "9.6").is_none(), "{set}");
        }
        for set in ["SET search_path = '';", "SET standard_conforming_strings = on;"] {
            assert!(contents(&[set, "CREATE TABLE public.a (x int);"]).head("erp", "15").is_some(), "{set}");
        }
    }

    #[test]
    fn a_block_is_as_pg_dump_writes_it_however_the_rows_come() {
        let rows = b"1\ta\n2\tb\n";
        for cut in 0..rows.len() {
            let mut out = Vec::new();
            let mut block = Block::begin(7, false, &mut out).unwrap();
            block.rows(&rows[..cut], &mut out).unwrap();
            block.rows(&rows[cut..], &mut out).unwrap();
            block.end(&mut out).unwrap();
            let expected = b"\x01\0\x07\0\0\0\0\x04\0\0\x001\ta\n\0\x04\0\0\x002\tb\n\0\x05\0\0\0\\.\n\n\n\0\0\0\0\0";
            assert_eq!(out, expected, "cut at {cut}");
        }
    }
}
