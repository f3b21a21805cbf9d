//! What a dump in SQL holds: databases, tables with their rows, and what a restore of it can be held against.

use super::names::Words;
use super::search_path::SearchPath;
use super::walk::{Of, Visit, is_around, walk};
use crate::error::{Error, Kind, Result};
use crate::sources::postgres::attributes::{Attributes, Setting};
use crate::sources::postgres::connect::ident;
use crate::sources::postgres::facts::{DatabaseFacts, TableFacts};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufRead;

/// Definitions of roles are not larger.
const MAX_GLOBALS: usize = 64 << 20;

type Name = (String, String);

/// One database in a dump.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// `CREATE DATABASE` and what is said of the database as a whole.
    options: BTreeMap<String, String>,
    attributes: Attributes,
    tables: BTreeMap<Name, TableRows>,
    /// Partitions, with what they are part of and whether by hash.
    parts: HashMap<Name, (Name, bool)>,
    extensions: BTreeSet<String>,
    sequences: BTreeMap<String, Option<i64>>,
    /// Sequences that it makes, whether it says where they stand or not.
    made: BTreeSet<Name>,
    large_objects: u64,
    client_encoding: Option<String>,
    statements: u64,
    rows_bytes: u64,
    /// Roles that own something.
    pub owners: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct TableRows {
    rows: u64,
    estimated: bool,
    partitioned: bool,
}

/// What a whole dump holds.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    /// The databases by name; the only one of a plain dump may have none.
    pub databases: BTreeMap<Option<String>, Described>,
    /// Roles and what else is of the cluster, as statements.
    pub globals: Vec<u8>,
    /// `server_version_num` of the dumped server, when it says.
    pub server_version: Option<u32>,
    copying: Option<(Option<String>, Name)>,
    path: SearchPath,
}

/// Reads a dump to its end.
///
/// # Errors
/// As [`walk`].
pub fn scan(reader: impl BufRead) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    walk(reader, &mut scanned)?;
    // A dump of a cluster goes through databases that hold nothing of anybody's.
    let templates = [Some("template1".to_owned()), Some("template0".to_owned())];
    scanned.databases.retain(|name, d| !templates.contains(name) || !d.tables.is_empty());
    Ok(scanned)
}

impl Scanned {
    /// The names of the databases.
    pub fn names(&self) -> Vec<String> {
        self.databases.keys().flatten().cloned().collect()
    }

    /// The database that is meant: the one of this name, or the only one, whose own name is not told.
    ///
    /// # Errors
    /// [`Kind::NotFound`] with what there is.
    pub fn database(&self, name: &str) -> Result<&Described> {
        if let Some(found) = self.databases.get(&Some(name.to_owned())) {
            return Ok(found);
        }
        match self.databases.get(&None) {
            Some(only) if self.names().is_empty() => Ok(only),
            _ => Err(Error::new(Kind::NotFound, format!("the dump holds no database {name}"))
                .hint(format!("It holds: {}.", self.names().join(", ")))),
        }
    }

    /// Takes a statement that is known to be of this database, or about it as a whole. Names without a schema are in
    /// `schema`.
    pub fn look(&mut self, database: &str, schema: &str, sql: &str) {
        if is_around(sql.as_bytes()) {
            self.around(sql);
        } else {
            let path = SearchPath::of([schema.to_owned()]);
            self.databases.entry(Some(database.to_owned())).or_default().read(sql, &path);
        }
    }

    /// Takes the rows of a table, and their bytes.
    pub fn count(&mut self, database: &str, table: (String, String), rows: Option<u64>, bytes: u64) {
        let described = self.databases.entry(Some(database.to_owned())).or_default();
        let table = described.tables.entry(table).or_default();
        table.rows += rows.unwrap_or(0);
        table.estimated |= rows.is_none();
        described.rows_bytes += bytes;
    }

    /// The facts of a database.
    pub fn facts(&self, database: &str) -> DatabaseFacts {
        let described = self.databases.get(&Some(database.to_owned())).cloned().unwrap_or_default();
        described.facts(database, self.server_version)
    }
}

impl Described {
    /// Tables that hold rows.
    pub fn tables(&self) -> u64 {
        self.tables.values().filter(|t| !t.partitioned).count() as u64
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|t| t.rows).sum()
    }

    /// The facts, as those of a backup of ours; nothing is known of sizes on disk, so that of the dump stands for it.
    pub fn facts(&self, database: &str, server_version: Option<u32>) -> DatabaseFacts {
        let option = |key: &str| self.options.get(key).cloned();
        let locale = option("locale");
        let provider = option("locale_provider").unwrap_or_else(|| "libc".into());
        let mut tables: BTreeMap<Name, TableRows> = BTreeMap::new();
        for (name, rows) in self.tables.iter().filter(|(_, t)| !t.partitioned) {
            // A restore may put a row into another partition by hash, and is right: all below the root count as one.
            let (mut root, mut hashed) = (name, false);
            // What a dump says need not be true: two tables may be part of each other.
            for _ in 0..self.parts.len() {
                let Some((above, by_hash)) = self.parts.get(root) else { break };
                (root, hashed) = (above, hashed || *by_hash);
            }
            let whole = if hashed { root } else { name };
            let sum = tables.entry(whole.clone()).or_default();
            sum.rows += rows.rows;
            sum.estimated |= rows.estimated;
        }
        let table = |((schema, name), t): (Name, TableRows)| TableFacts {
            schema,
            name,
            rows: t.rows,
            estimated: t.estimated,
            oid: 0,
            size: 0,
            whole: None,
            parts: Vec::new(),
        };
        DatabaseFacts {
            database: database.to_owned(),
            server_version: server_version.unwrap_or(0),
            encoding: option("encoding").or_else(|| self.client_encoding.clone()).unwrap_or_else(|| "UTF8".into()),
            collate: option("lc_collate").or_else(|| locale.clone()).unwrap_or_default(),
            ctype: option("lc_ctype").or(locale).unwrap_or_default(),
            locale: match provider.as_str() {
                "icu" => option("icu_locale"),
                "builtin" => option("builtin_locale"),
                _ => None,
            },
            locale_provider: provider,
            icu_rules: option("icu_rules"),
            collation_version: None,
            attributes: self.attributes.clone(),
            size: self.rows_bytes,
            tablespaces: std::collections::BTreeMap::new(),
            tables: tables.into_iter().map(table).collect(),
            extensions: self.extensions.iter().map(|e| (e.clone(), "any".to_owned())).collect(),
            large_objects: self.large_objects,
            sequences: self.sequences.iter().map(|(name, value)| (name.clone(), *value)).collect(),
            owners: self.owners.clone(),
            archive: None,
        }
    }

    /// The table or sequence that is meant: the first on the path that the dump has, or else where it would be made.
    fn meant(&self, path: &SearchPath, (schema, name): (Option<String>, String)) -> Name {
        let is_there = |full: &Name| self.tables.contains_key(full) || self.made.contains(full);
        let found = if schema.is_none() { path.candidates(&name).find(is_there) } else { None };
        found.unwrap_or_else(|| path.made(schema, name))
    }

    fn read(&mut self, sql: &str, path: &SearchPath) {
        let mut words = Words::new(sql);
        if words.skip("CREATE") {
            self.created(words, path);
        } else if words.skip_all("INSERT INTO") {
            if let Some(name) = words.dotted() {
                let name = self.meant(path, name);
                let table = self.tables.entry(name).or_default();
                table.rows += 1;
                // One statement may hold several rows.
                table.estimated = true;
            }
        } else if words.skip_all("SELECT pg_catalog") {
            self.called(words.rest(), path);
        } else if words.skip_all("SET client_encoding") {
            self.client_encoding = Words::new(words.rest().trim_start_matches(['=', ' '])).literal();
        } else if words.skip_all("ALTER TABLE") {
            self.altered(words, path);
        }
        if let Some((_, owner)) = sql.rsplit_once(" OWNER TO ") {
            self.owners.extend(Words::new(owner).name());
        }
    }

    fn created(&mut self, mut words: Words<'_>, path: &SearchPath) {
        words.skip("UNLOGGED");
        if words.skip("TABLE") {
            words.skip_all("IF NOT EXISTS");
            if let Some((schema, name)) = words.dotted() {
                let table = self.tables.entry(path.made(schema, name)).or_default();
                table.partitioned = words.rest().contains("\nPARTITION BY ");
            }
        } else if words.skip("SEQUENCE") {
            words.skip_all("IF NOT EXISTS");
            self.made.extend(words.dotted().map(|(schema, name)| path.made(schema, name)));
        } else if words.skip("EXTENSION") {
            words.skip_all("IF NOT EXISTS");
            self.extensions.extend(words.name());
        }
    }

    fn called(&mut self, rest: &str, path: &SearchPath) {
        if let Some(args) = rest.strip_prefix(".setval(") {
            let mut words = Words::new(args);
            let (Some(name), numbers) = (words.literal(), words.rest()) else { return };
            let mut parts = numbers.trim_start_matches([',', ' ']).trim_end_matches([';', ')']).split(',');
            let value = parts.next().and_then(|v| v.trim().parse().ok());
            let called = parts.next().is_none_or(|c| c.trim() == "true");
            let mut words = Words::new(&name);
            if let Some(name) = words.dotted() {
                let (schema, name) = self.meant(path, name);
                let full = format!("{}.{}", quoted(&schema), quoted(&name));
                self.sequences.insert(full, value.filter(|_| called));
            }
        } else if rest.starts_with(".lo_create(") {
            self.large_objects += 1;
        }
    }

    fn altered(&mut self, mut words: Words<'_>, path: &SearchPath) {
        words.skip_all("IF EXISTS");
        words.skip("ONLY");
        let Some(whole) = words.dotted() else { return };
        if words.skip_all("ATTACH PARTITION")
            && let Some(part) = words.dotted()
        {
            let (whole, part) = (self.meant(path, whole), self.meant(path, part));
            self.parts.insert(part, (whole, words.rest().contains("modulus ")));
        }
    }
}

/// As the server quotes a name in `%I`; names that it quotes for being key words are read from it, not from here.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { ident(name) }
}

impl Visit for Scanned {
    fn statement(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        // Long ones are rows or bodies; what is looked for stands at the beginning or at the very end.
        let text = String::from_utf8_lossy(sql);
        match of {
            Of::Globals => {
                if self.globals.len() + sql.len() > MAX_GLOBALS {
                    return Err(Error::new(Kind::Damaged, "the roles of the dump do not end"));
                }
                self.globals.extend_from_slice(sql);
                self.globals.push(b'\n');
            }
            Of::Around => self.around(&text),
            Of::In(database) => {
                self.path.follow(&text);
                let described = self.databases.entry(database.map(str::to_owned)).or_default();
                described.statements += 1;
                described.rows_bytes += sql.len() as u64;
                described.read(&text, &self.path);
            }
        }
        Ok(())
    }

    fn copy(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(sql);
        let mut words = Words::new(&text);
        words.skip("COPY");
        let name = words.dotted().ok_or_else(|| Error::new(Kind::Damaged, "a COPY of the dump names no table"))?;
        let Of::In(database) = of else { return Ok(()) };
        let described = self.databases.entry(database.map(str::to_owned)).or_default();
        let name = described.meant(&self.path, name);
        described.tables.entry(name.clone()).or_default();
        self.copying = Some((database.map(str::to_owned), name));
        Ok(())
    }

    fn rows(&mut self, rows: &[u8]) -> Result<()> {
        if let Some((database, _)) = &self.copying
            && let Some(described) = self.databases.get_mut(database)
        {
            described.rows_bytes += rows.len() as u64;
        }
        Ok(())
    }

    fn copied(&mut self, rows: u64) -> Result<()> {
        if let Some((database, name)) = self.copying.take()
            && let Some(table) = self.databases.get_mut(&database).and_then(|d| d.tables.get_mut(&name))
        {
            table.rows += rows;
        }
        Ok(())
    }

    fn connected(&mut self) {
        self.path = SearchPath::default();
    }

    fn server(&mut self, version: &str) {
        self.server_version = self.server_version.or_else(|| number(version));
    }
}

impl Scanned {
    fn around(&mut self, sql: &str) {
        let mut words = Words::new(sql.trim_end_matches(';'));
        let created = words.skip_all("CREATE DATABASE");
        let (altered, commented) = (words.skip_all("ALTER DATABASE"), words.skip_all("COMMENT ON DATABASE"));
        if !(created || altered || commented) {
            return;
        }
        let Some(name) = words.name() else { return };
        let described = self.databases.entry(Some(name)).or_default();
        if created {
            described.options = database_options(words.rest());
        } else if commented {
            words.skip("IS");
            described.attributes.comment = words.literal();
        } else if words.skip_all("OWNER TO") {
            described.attributes.owner = words.name().unwrap_or_default();
        } else if words.skip_all("CONNECTION LIMIT") {
            described.attributes.connection_limit = words.rest().trim_start_matches('=').trim().parse().ok();
        } else if words.skip("SET")
            && let Some(setting) = words.name()
        {
            let value = words.rest().trim_start_matches("TO").trim_start_matches('=').trim();
            let values: Vec<String> =
                value.split(", ").map(|v| Words::new(v).literal().unwrap_or_else(|| v.into())).collect();
            let (role, name, value) = (None, setting, values.join(", "));
            described.attributes.settings.push(Setting { role, name, value });
        }
    }
}

/// `WITH TEMPLATE = template0 ENCODING = 'UTF8' LC_COLLATE = 'C.UTF-8' …`
fn database_options(text: &str) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut words = Words::new(text);
    words.skip("WITH");
    while let Some(key) = words.name() {
        let Some(rest) = words.rest().strip_prefix('=') else { continue };
        words = Words::new(rest);
        let value = if words.rest().starts_with('\'') { words.literal() } else { words.name() };
        options.extend(value.map(|value| (key, value)));
    }
    options
}

/// `15.18` as 150018.
pub fn number(version: &str) -> Option<u32> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let major: u32 = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|p| p.parse::<u32>().ok()).unwrap_or(0);
    Some(if major >= 10 { major * 10_000 + minor } else { major * 10_000 + minor * 100 })
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
