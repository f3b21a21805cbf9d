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
);
ALTER TABLE ONLY public.parts ATTACH PARTITION public.p0 FOR VALUES WITH (modulus 1, remainder 0);
COPY public.\"Orders\" (id) FROM stdin;
1
2
\\.
COPY public.p0 (id) FROM stdin;
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
