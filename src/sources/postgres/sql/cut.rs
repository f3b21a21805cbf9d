//! What of a dump goes on: one database after the other as a plain dump of its own, and of a plain dump what can be run
//! in a database that was just made.

use super::lexer::starts;
use super::names::Words;
use super::walk::{Of, Visit};
use crate::error::Result;

/// Where text goes.
pub trait Text {
    /// Takes some.
    ///
    /// # Errors
    /// When it cannot go on.
    fn put(&mut self, text: &[u8]) -> Result<()>;
}

/// Takes databases as they come out of a dump.
pub trait Databases {
    /// A database begins; those of one name come as one. The only one of a plain dump may have no name. False when it
    /// is not wanted.
    fn begin(&mut self, database: Option<&str>) -> Result<bool>;

    /// Its text.
    fn text(&mut self, text: &[u8]) -> Result<()>;

    /// It has ended.
    fn end(&mut self) -> Result<()>;
}

const HEAD: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n";
const TAIL: &[u8] = b"--\n-- PostgreSQL database dump complete\n--\n";

/// Makes a plain dump of each database of a dump.
pub struct Split<'a> {
    to: &'a mut dyn Databases,
    /// The database that is open, and whether it is wanted.
    open: Option<(Option<String>, bool)>,
}

impl<'a> Split<'a> {
    /// Gives them to `to`.
    pub fn new(to: &'a mut dyn Databases) -> Self {
        Split { to, open: None }
    }

    fn within(&mut self, of: Of<'_>) -> Result<bool> {
        let Of::In(database) = of else { return Ok(false) };
        if let Some((open, wanted)) = &self.open
            && open.as_deref() == database
        {
            return Ok(*wanted);
        }
        self.finish()?;
        let wanted = self.to.begin(database)?;
        self.open = Some((database.map(str::to_owned), wanted));
        if wanted {
            self.to.text(HEAD)?;
        }
        Ok(wanted)
    }

    /// Ends the last one; call it when the dump has come to its own end.
    ///
    /// # Errors
    /// What the taker says.
    pub fn finish(&mut self) -> Result<()> {
        if let Some((_, true)) = self.open.take() {
            self.to.text(TAIL)?;
            self.to.end()?;
        }
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        self.open.as_ref().is_some_and(|(_, wanted)| *wanted)
    }
}

impl Visit for Split<'_> {
    fn statement(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        if self.within(of)? {
            self.to.text(sql)?;
            self.to.text(b"\n\n")?;
        }
        Ok(())
    }

    fn copy(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        if self.within(of)? {
            self.to.text(sql)?;
            self.to.text(b"\n")?;
        }
        Ok(())
    }

    fn rows(&mut self, rows: &[u8]) -> Result<()> {
        if self.is_wanted() { self.to.text(rows) } else { Ok(()) }
    }

    fn copied(&mut self, _: u64) -> Result<()> {
        if self.is_wanted() { self.to.text(b"\\.\n\n") } else { Ok(()) }
    }
}

/// What is not to be run of a plain dump.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leave {
    /// Leave objects to the connecting role.
    pub owners: bool,
    /// Leave out grants.
    pub privileges: bool,
    /// The connecting role is no superuser.
    pub superuser_only: bool,
}

/// What becomes of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is run.
    Run,
    /// It is not.
    Leave,
    /// It is not, since only a superuser may; this is what it says.
    Reserved(String),
}

/// Gives a plain dump on as it can be run in a new database.
pub struct Runnable<'a> {
    to: &'a mut dyn Text,
    leave: Leave,
    /// What only a superuser may make.
    pub left_out: Vec<String>,
}

impl<'a> Runnable<'a> {
    /// Gives it to `to`.
    pub fn new(to: &'a mut dyn Text, leave: Leave) -> Self {
        Runnable { to, leave, left_out: Vec::new() }
    }
}

impl Leave {
    /// What becomes of a statement.
    pub fn verdict(&self, sql: &[u8]) -> Verdict {
        let head = String::from_utf8_lossy(&sql[..sql.len().min(400)]);
        let mut words = Words::new(&head);
        // A dump made with --clean drops first what is there; in a new database nothing is.
        if words.skip("DROP") || head.trim_end_matches(';') == "CREATE SCHEMA public" {
            return Verdict::Leave;
        }
        if words.skip_all("ALTER TABLE") {
            words.skip_all("IF EXISTS");
            words.skip("ONLY");
            let _ = words.qualified();
            let column = words.skip_all("ALTER COLUMN");
            if column {
                let _ = words.name();
            }
            if words.skip_all("DROP CONSTRAINT") || (column && words.skip_all("DROP DEFAULT")) {
                return Verdict::Leave;
            }
        }
        let tail = String::from_utf8_lossy(&sql[sql.len().saturating_sub(400)..]);
        if self.owners && starts(sql, b"ALTER ") && tail.contains(" OWNER TO ") {
            return Verdict::Leave;
        }
        let grants: &[&[u8]] = &[b"GRANT ", b"REVOKE ", b"ALTER DEFAULT PRIVILEGES "];
        if self.privileges && grants.iter().any(|g| starts(sql, g)) {
            return Verdict::Leave;
        }
        let reserved: &[&[u8]] = &[b"COMMENT ON EXTENSION ", b"CREATE EXTENSION IF NOT EXISTS plpgsql "];
        if self.superuser_only && reserved.iter().any(|r| starts(sql, r)) {
            return Verdict::Reserved(head.trim_end_matches(';').to_owned());
        }
        Verdict::Run
    }
}

impl Visit for Runnable<'_> {
    fn statement(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        if !matches!(of, Of::In(_)) {
            return Ok(());
        }
        match self.leave.verdict(sql) {
            Verdict::Run => {
                self.to.put(sql)?;
                self.to.put(b"\n")?;
            }
            Verdict::Leave => {}
            Verdict::Reserved(what) => self.left_out.push(what),
        }
        Ok(())
    }

    fn copy(&mut self, _: Of<'_>, sql: &[u8]) -> Result<()> {
        self.to.put(sql)?;
        self.to.put(b"\n")
    }

    fn rows(&mut self, rows: &[u8]) -> Result<()> {
        self.to.put(rows)
    }

    fn copied(&mut self, _: u64) -> Result<()> {
        self.to.put(b"\\.\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::walk;
    use super::*;

    #[derive(Default)]
    struct Kept(Vec<(Option<String>, String)>, &'static str);

    impl Databases for Kept {
        fn begin(&mut self, database: Option<&str>) -> Result<bool> {
            self.0.push((database.map(str::to_owned), String::new()));
            Ok(database != Some(self.1))
        }
        fn text(&mut self, text: &[u8]) -> Result<()> {
            self.0.last_mut().unwrap().1.push_str(std::str::from_utf8(text).unwrap());
            Ok(())
        }
        fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }

    impl Text for Vec<u8> {
        fn put(&mut self, text: &[u8]) -> Result<()> {
            self.extend_from_slice(text);
            Ok(())
        }
    }

    const CLUSTER: &str = "--\n-- PostgreSQL database cluster dump\n--\nCREATE ROLE x;\n\\connect a\nSET x = 1;\nCOPY public.t (a) FROM stdin;\n1\n\\.\n\
        CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$\n\\connect evil\n$$;\n\\connect template1\nSET q = 1;\n\\connect b\nSELECT 2;\n\
        -- PostgreSQL database dump complete\n-- PostgreSQL database cluster dump complete\n";

    #[test]
    fn each_database_is_cut_out_as_a_whole_plain_dump() {
        let mut kept = Kept(Vec::new(), "template1");
        let mut split = Split::new(&mut kept);
        walk(CLUSTER.as_bytes(), &mut split).unwrap();
        split.finish().unwrap();
        let names: Vec<_> = kept.0.iter().map(|(n, _)| n.as_deref().unwrap()).collect();
        assert_eq!(names, ["a", "template1", "b"]);
        assert!(kept.0[1].1.is_empty());
        assert!(kept.0[0].1.contains("\\connect evil") && !kept.0[0].1.contains("CREATE ROLE"));
        for (_, text) in kept.0.iter().filter(|(_, t)| !t.is_empty()) {
            let mut again = Vec::new();
            walk(text.as_bytes(), &mut Runnable::new(&mut again, Leave::default())).unwrap();
            assert!(!again.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_run_in_a_new_database_is_left_out() {
        let sql = "ALTER TABLE IF EXISTS ONLY public.a DROP CONSTRAINT b;\nALTER TABLE public.a ALTER COLUMN id DROP DEFAULT;\n\
            DROP TABLE public.a;\nDROP SCHEMA public;\nCREATE SCHEMA public;\nCREATE SCHEMA publicity;\nALTER TABLE public.a OWNER TO x;\n\
            GRANT ALL ON TABLE public.a TO x;\nCOMMENT ON EXTENSION plpgsql IS 'x';\nALTER TABLE ONLY public.a ADD CONSTRAINT b CHECK (true);\n\
            -- PostgreSQL database dump complete\n";
        let run = |leave| {
            let mut out = Vec::new();
            let mut runnable = Runnable::new(&mut out, leave);
            walk(sql.as_bytes(), &mut runnable).unwrap();
            let left_out = runnable.left_out.len();
            (String::from_utf8(out).unwrap().lines().count(), left_out)
        };
        assert_eq!(run(Leave::default()), (5, 0));
        assert_eq!(run(Leave { owners: true, privileges: true, superuser_only: true }), (2, 1));
    }
}
