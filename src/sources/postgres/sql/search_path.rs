//! Where a session looks for a name without a schema. A `pg_dump` before 10.3 says so before each group of objects, and
//! names them without one; a later one empties the path and names everything with its schema.

use super::names::Words;

/// The schemas of a path that may hold something of a dump, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath(Vec<String>);

impl Default for SearchPath {
    /// That of a new session.
    fn default() -> Self {
        SearchPath(vec!["public".to_owned()])
    }
}

impl SearchPath {
    /// Of these schemas. Those of the system hold nothing that is dumped, and which one `$user` is depends on who runs
    /// a dump: most often there is none, and a server passes over it.
    pub fn of(schemas: impl IntoIterator<Item = String>) -> Self {
        let counts = |schema: &String| !schema.is_empty() && schema != "$user" && !schema.starts_with("pg_");
        SearchPath(schemas.into_iter().filter(counts).collect())
    }

    /// Follows a statement, if it changes the path.
    pub fn follow(&mut self, sql: &str) {
        if let Some(path) = set_by(Words::new(sql)) {
            *self = path;
        }
    }

    /// Whether a statement leaves the path empty; nothing for one that does not change it.
    pub fn emptied(sql: &str) -> Option<bool> {
        set_by(Words::new(sql)).map(|path| path.0.is_empty())
    }

    /// What a name can mean, the likeliest first.
    pub fn candidates(&self, name: &str) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(move |schema| (schema.clone(), name.to_owned()))
    }

    /// The full name of what is made by this name. A server makes nothing where the path is empty; such a name is taken
    /// for one of `public`.
    pub fn made(&self, schema: Option<String>, name: String) -> (String, String) {
        let first = || self.0.first().map_or("public", String::as_str).to_owned();
        (schema.unwrap_or_else(first), name)
    }
}

/// The path that a statement sets for the rest of the session. `LOCAL` is only until the end of a transaction, and none
/// is open where a dump makes or fills tables.
fn set_by(mut words: Words<'_>) -> Option<SearchPath> {
    if ["RESET search_path", "RESET ALL", "DISCARD ALL"].iter().any(|reset| words.skip_all(reset)) {
        return Some(SearchPath::default());
    }
    if words.skip("SET") {
        words.skip("SESSION");
        if !words.skip("search_path") {
            return None;
        }
        if !words.skip("TO") {
            words = behind(&words, '=')?;
        }
        return match words.skip("DEFAULT") {
            true => Some(SearchPath::default()),
            false => Some(SearchPath::of(names(words)?)),
        };
    }
    if !words.skip("SELECT") {
        return None;
    }
    if words.skip("pg_catalog") {
        words = behind(&words, '.')?;
    }
    if !words.skip("set_config") {
        return None;
    }
    words = behind(&words, '(')?;
    if !words.literal()?.eq_ignore_ascii_case("search_path") {
        return None;
    }
    words = behind(&words, ',')?;
    let value = words.literal()?;
    if behind(&words, ',')?.skip("true") {
        return None;
    }
    let empty = value.trim().is_empty();
    Some(SearchPath::of(if empty { Vec::new() } else { names(Words::new(&value))? }))
}

fn behind<'a>(words: &Words<'a>, sign: char) -> Option<Words<'a>> {
    words.rest().strip_prefix(sign).map(Words::new)
}

/// Names with commas between them.
fn names(mut words: Words<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    loop {
        names.push(words.literal().or_else(|| words.name())?);
        match behind(&words, ',') {
            Some(rest) => words = rest,
            None => return Some(names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sql: &str) -> Vec<String> {
        let mut path = SearchPath::of(["before".to_owned()]);
        path.follow(sql);
        path.candidates("t").map(|(schema, _)| schema).collect()
    }

    #[test]
    fn the_path_is_followed_however_it_is_set() {
        for (sql, schemas) in [
            ("SET search_path = audit, pg_catalog;", vec!["audit"]),
            ("SET search_path TO \"My \"\"S\", Public;", vec!["My \"S", "public"]),
            ("set session SEARCH_PATH='a, b',\"$user\",c;", vec!["a, b", "c"]),
            ("SET search_path = '';", vec![]),
            ("SET search_path TO DEFAULT;", vec!["public"]),
            ("SET search_path TO \"DEFAULT\";", vec!["DEFAULT"]),
            ("RESET search_path;", vec!["public"]),
            ("DISCARD ALL;", vec!["public"]),
            ("SELECT pg_catalog.set_config('search_path', '', false);", vec![]),
            ("select set_config('search_path', 'a, \"B c\"', false);", vec!["a", "B c"]),
        ] {
            assert_eq!(after(sql), schemas, "{sql}");
        }
    }

    #[test]
    fn what_is_about_something_else_or_ends_with_its_transaction_leaves_the_path() {
        for sql in [
            "SET search_paths = x;",
            "SET LOCAL search_path = x;",
            "SET SESSION AUTHORIZATION x;",
            "SET client_encoding = 'UTF8';",
            "SELECT pg_catalog.set_config('search_path', 'x', true);",
            "SELECT pg_catalog.set_config('work_mem', '1MB', false);",
            "SELECT pg_catalog.setval('search_path', 1, false);",
            "ALTER DATABASE d SET search_path TO x;",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = x AS 'SELECT 1';",
        ] {
            assert_eq!(after(sql), ["before"], "{sql}");
        }
    }

    #[test]
    fn what_is_made_without_a_schema_is_made_in_the_first() {
        let mut path = SearchPath::of(["pg_catalog".to_owned(), "b".to_owned(), "a".to_owned()]);
        assert_eq!(path.made(None, "t".into()), ("b".into(), "t".into()));
        assert_eq!(path.made(Some("x".into()), "t".into()), ("x".into(), "t".into()));
        path.follow("SET search_path = '';");
        assert_eq!(SearchPath::emptied("SET search_path = '';"), Some(true));
        assert_eq!(path.made(None, "t".into()), ("public".into(), "t".into()));
    }
}
