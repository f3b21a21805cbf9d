use super::*;
use std::io::BufReader;

fn items(sql: &str, capacity: usize) -> Result<Vec<String>> {
    let mut lexer = Lexer::new(BufReader::with_capacity(capacity, sql.as_bytes()));
    let mut out = Vec::new();
    while let Some(item) = lexer.next_item()? {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match item {
            Item::Statement(s) => out.push(text(&s)),
            Item::Meta(m) => out.push(format!("META {}", text(&m))),
            Item::Comment(_) => {}
            Item::Copy(s) => {
                let mut rows = Vec::new();
                let n = lexer.rows(|r| {
                    rows.extend_from_slice(r);
                    Ok(())
                })?;
                out.push(format!("{} [{n}] {:?}", text(&s), text(&rows)));
            }
        }
    }
    Ok(out)
}

#[test]
fn a_script_is_cut_as_psql_cuts_it() {
    let sql = r#"-- a comment; with 'things'
SET x = 'a;b''c';
\restrict abc
SELECT E'a\';b', 'a\', "q;""q" /* c; /* d; */ ; */ -- e;
 , $$ ;' $$, $f$ \connect evil
$$ ; $f$;
CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);
CREATE FUNCTION f() RETURNS int
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT CASE WHEN true THEN 1 ELSE 2 END;
 SELECT 2;
END;
COPY public.t (a, b) FROM stdin;
1	\\.
\N	x
\.
COPY public.u (a) FROM stdin;
\.
SELECT a$b$c FROM t; SELECT 2;
\unrestrict abc
"#;
    for capacity in [1, 2, 3, 7, 64, 4096] {
        let found = items(sql, capacity).unwrap();
        assert_eq!(found.len(), 10, "{found:#?}");
        assert_eq!(found[0], "SET x = 'a;b''c';");
        assert_eq!(found[1], "META \\restrict abc");
        assert!(found[2].starts_with("SELECT E'a") && found[2].ends_with("; $f$;"), "{}", found[2]);
        assert!(found[3].ends_with("SELECT 2);"));
        assert!(found[4].ends_with("END;"), "{}", found[4]);
        assert!(found[5].ends_with("[2] \"1\\t\\\\\\\\.\\n\\\\N\\tx\\n\""), "{}", found[5]);
        assert!(found[6].ends_with("[0] \"\""));
        assert_eq!(found[7..], ["SELECT a$b$c FROM t;", "SELECT 2;", "META \\unrestrict abc"]);
    }
}

#[test]
fn what_ends_too_early_is_told() {
    for cut in
        ["SELECT 'a", "SELECT 1", "COPY t FROM stdin;\n1\n2", "SELECT $$ a", "/* b", "COPY t FROM stdin;\n1\n\\N"]
    {
        let e = items(cut, 64).unwrap_err();
        assert!(e.what.contains("ends within"), "{cut}: {e}");
    }
    assert!(items("SELECT 1 \\gset\n", 64).unwrap_err().what.contains("command of psql"));
}
