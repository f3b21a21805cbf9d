use super::*;

const CLUSTER: &str = "--
-- PostgreSQL database cluster dump
--

\\restrict aaa
SET default_transaction_read_only = off;
CREATE ROLE app;
ALTER ROLE app WITH LOGIN PASSWORD 'x;y';
\\unrestrict aaa
\\connect template1
--
-- PostgreSQL database dump
--
-- Dumped from database version 15.18 (Debian)
SET client_encoding = 'UTF8';
--
-- PostgreSQL database dump complete
--
CREATE DATABASE erp WITH TEMPLATE = template0 ENCODING = 'LATIN1' LOCALE_PROVIDER = libc LC_COLLATE = 'C' LC_CTYPE = 'de_DE';
ALTER DATABASE erp OWNER TO app;
ALTER DATABASE erp SET search_path TO 'a', 'b';
\\connect erp
CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;
CREATE TABLE public.\"Orders\" (
    id integer
);
ALTER TABLE public.\"Orders\" OWNER TO clerk;
CREATE TABLE public.parts (
    id integer
)
PARTITION BY HASH (id);
CREATE TABLE public.p0 (
    id integer
)
PARTITION BY RANGE (id);
CREATE TABLE public.p0_low (
    id integer
);
ALTER TABLE ONLY public.parts ATTACH PARTITION public.p0 FOR VALUES WITH (modulus 1, remainder 0);
ALTER TABLE ONLY public.p0 ATTACH PARTITION public.p0_low FOR VALUES FROM (0) TO (9);
COPY public.\"Orders\" (id) FROM stdin;
1
2
\\.
COPY public.p0_low (id) FROM stdin;
5
\\.
SELECT pg_catalog.setval('public.\"Orders_id_seq\"', 2, true);
SELECT pg_catalog.setval('public.other', 1, false);
--
-- PostgreSQL database dump complete
--
--
-- PostgreSQL database cluster dump complete
--
";

#[test]
fn a_cluster_is_described() {
    let scanned = scan(CLUSTER.as_bytes()).unwrap();
    assert_eq!(scanned.names(), ["erp"]);
    assert!(String::from_utf8_lossy(&scanned.globals).contains("PASSWORD 'x;y';"));
    let erp = scanned.database("erp").unwrap();
    let facts = erp.facts("erp", scanned.server_version);
    assert_eq!(
        (facts.server_version, facts.encoding.as_str(), facts.collate.as_str(), facts.ctype.as_str()),
        (150_018, "LATIN1", "C", "de_DE")
    );
    assert_eq!(facts.attributes.owner, "app");
    assert_eq!(facts.attributes.settings[0].value, "a, b");
    let tables: Vec<_> = facts.tables.iter().map(|t| (t.name.as_str(), t.rows)).collect();
    assert_eq!(tables, [("Orders", 2), ("parts", 1)]);
    assert_eq!(facts.sequences, [("public.\"Orders_id_seq\"".into(), Some(2)), ("public.other".into(), None)]);
    // Who owns the database itself need not be there: it is made by whoever restores it.
    assert_eq!(facts.owners.iter().collect::<Vec<_>>(), ["clerk"]);
    assert!(scanned.database("nothing").is_err());
}

#[test]
fn a_dump_without_its_end_marker_is_refused() {
    let cut = CLUSTER.replace("-- PostgreSQL database cluster dump complete", "--");
    let e = scan(cut.as_bytes()).unwrap_err();
    assert!(e.what.contains("end marker of a cluster dump"), "{e}");
    let plain = "--\n-- PostgreSQL database dump\n--\nSELECT 1;\n";
    assert!(scan(plain.as_bytes()).unwrap_err().what.contains("end marker"));
    let whole = format!("{plain}--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n");
    assert_eq!(scan(whole.as_bytes()).unwrap().databases.len(), 1);
    let more = format!("{whole}DROP TABLE x;\n");
    assert!(scan(more.as_bytes()).unwrap_err().what.contains("follows the end"));
    let evil = whole.replace("SELECT 1;", "\\! rm -rf /");
    assert_eq!(scan(evil.as_bytes()).unwrap_err().kind, Kind::Refused);
}

/// As `pg_dump` wrote them before 10.3.
const OLD: &str = "--
-- PostgreSQL database dump
--
-- Dumped from database version 9.6.5
SET client_encoding = 'UTF8';
CREATE SCHEMA audit;
SET search_path = audit, pg_catalog;
CREATE TABLE entries (
    id integer
);
ALTER TABLE audit.entries OWNER TO clerk;
CREATE SEQUENCE entries_id_seq;
SET search_path = public, pg_catalog;
CREATE TABLE entries (
    id integer
);
CREATE TABLE parts (
    id integer
)
PARTITION BY HASH (id);
CREATE TABLE p0 (
    id integer
);
ALTER TABLE ONLY parts ATTACH PARTITION p0 FOR VALUES WITH (modulus 1, remainder 0);
SET search_path = audit, pg_catalog;
COPY entries (id) FROM stdin;
1
2
\\.
SELECT pg_catalog.setval('entries_id_seq', 2, true);
SET search_path = public, pg_catalog;
INSERT INTO entries VALUES (1);
COPY p0 (id) FROM stdin;
5
\\.
-- PostgreSQL database dump complete
";

/// Schema, name and rows of each table.
fn tables(scanned: &Scanned, database: Option<&str>) -> Vec<(String, String, u64)> {
    let described = &scanned.databases[&database.map(str::to_owned)];
    described.facts("x", None).tables.into_iter().map(|t| (t.schema, t.name, t.rows)).collect()
}

#[test]
fn names_of_an_old_dump_are_in_the_schema_that_it_sets_before_them() {
    let scanned = scan(OLD.as_bytes()).unwrap();
    let full = |schema: &str, name: &str, rows: u64| (schema.to_owned(), name.to_owned(), rows);
    assert_eq!(
        tables(&scanned, None),
        [full("audit", "entries", 2), full("public", "entries", 1), full("public", "parts", 1)]
    );
    let sequences = scanned.databases[&None].facts("x", None).sequences;
    assert_eq!(sequences, [("audit.entries_id_seq".into(), Some(2))]);
}

#[test]
fn a_name_is_found_where_a_session_finds_it() {
    let of = |before: &str, table: &str| {
        let dump = format!("{before}\nCOPY {table} (id) FROM stdin;\n1\n\\.\n-- PostgreSQL database dump complete\n");
        let found = tables(&scan(dump.as_bytes()).unwrap(), before.contains("connect").then_some("b"));
        let filled = found.into_iter().find(|(_, _, rows)| *rows == 1).unwrap();
        format!("{}.{}", filled.0, filled.1)
    };
    for (before, table, expected) in [
        ("", "t", "public.t"),
        ("SET search_path = audit;", "public.t", "public.t"),
        // The first that has it.
        ("CREATE TABLE b.t (id int);\nSET search_path = a, b, c;", "t", "b.t"),
        // Rows alone: nobody knows which has it, and a dump has the schema first.
        ("SET search_path = a, b;", "t", "a.t"),
        ("SELECT pg_catalog.set_config('search_path', 'pg_catalog, \"A b\"', false);", "t", "A b.t"),
        // What is emptied for what comes behind: no server would take the name.
        ("SET search_path = a;\nSELECT pg_catalog.set_config('search_path', '', false);", "t", "public.t"),
        // Another session.
        ("\\connect a\nSET search_path = audit;\n\\connect b", "t", "public.t"),
    ] {
        assert_eq!(of(before, table), expected, "{before}");
    }
}

#[test]
fn a_statement_of_an_old_archive_is_about_the_schema_of_its_entry() {
    let mut scanned = Scanned::default();
    scanned.look("erp", "audit", "CREATE TABLE entries (\n    id integer\n);");
    scanned.look("erp", "audit", "SELECT pg_catalog.setval('entries_id_seq', 2, true);");
    scanned.look("erp", "", "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;");
    scanned.count("erp", ("audit".into(), "entries".into()), Some(3), 10);
    assert_eq!(tables(&scanned, Some("erp")), [("audit".to_owned(), "entries".to_owned(), 3)]);
    assert_eq!(scanned.facts("erp").sequences, [("audit.entries_id_seq".into(), Some(2))]);
}
