//! Heads of archives that no `pg_dump` wrote: of statements that are at hand as SQL, and of rows that follow.

use super::entry::{Entry, NOT_SET, Section, Text};
use super::head::Head;

/// Every `pg_restore` of a supported server reads it, and it says the method of access of tables by itself.
const MINOR: u8 = 14;
/// State of the data offset of an entry without data.
const NO_DATA: u8 = 3;

fn text(text: &str) -> Text {
    Some(text.as_bytes().to_vec())
}

impl Section {
    fn number(self) -> i32 {
        match self {
            Section::None => 1,
            Section::PreData => 2,
            Section::Data => 3,
            Section::PostData => 4,
        }
    }
}

impl Entry {
    /// An entry that is made by a statement, after those that it depends on.
    pub fn of_statement(
        dump_id: i32,
        section: Section,
        desc: &str,
        tag: &str,
        defn: Vec<u8>,
        depends: Vec<i32>,
    ) -> Self {
        Entry {
            dump_id,
            has_data: false,
            table_oid: text("0"),
            oid: text("0"),
            tag: text(tag),
            desc: text(desc),
            section: section.number(),
            defn: Some(defn),
            drop: text(""),
            copy: text(""),
            // Without them nothing is said before the statement: it says itself where its object belongs.
            namespace: text(""),
            tablespace: None,
            table_am: None,
            relkind: 0,
            owner: text(""),
            with_oids: text("false"),
            depends,
            data_state: NO_DATA,
            data_offset: 0,
        }
    }

    /// An entry for the rows that a `COPY` takes.
    pub fn of_rows(dump_id: i32, schema: &str, table: &str, copy: Vec<u8>) -> Self {
        Entry {
            has_data: true,
            copy: Some(copy),
            namespace: text(schema),
            data_state: NOT_SET,
            ..Entry::of_statement(dump_id, Section::Data, "TABLE DATA", table, Vec::new(), Vec::new())
        }
    }
}

impl Head {
    /// The head of an archive of these entries, whose blocks are not compressed.
    pub fn of_entries(database: &str, server_version: &str, entries: Vec<Entry>) -> Self {
        Head {
            minor: MINOR,
            revision: 0,
            compression: 0,
            // When it was made is the backup's to tell, and equal dumps are to give equal bytes.
            created: [0, 0, 0, 1, 0, 100, 0],
            database: text(database),
            server_version: text(server_version),
            dump_version: text(server_version),
            entries,
        }
    }
}
