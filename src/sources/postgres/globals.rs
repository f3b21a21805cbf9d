//! Roles of a backup, out of what `pg_dumpall --globals-only` wrote.
//!
//! Only roles that a server lacks are made; those that exist are never altered, and what was made for a restore that
//! is undone is dropped again.

use super::connect::{ident, literal};
use super::session::{Session, SqlError, SqlResult};
use crate::error::{Kind, Result};
use std::collections::BTreeSet;

/// The roles of a server.
///
/// # Errors
/// The server's refusal.
pub async fn roles(admin: &Session) -> Result<BTreeSet<String>> {
    let rows = admin.rows("rolname", "FROM pg_roles").await.map_err(|e| e.says("the roles cannot be read"))?;
    Ok(rows.iter().map(|r| r.text(0)).collect())
}

/// The roles of a backup that a server does not have.
///
/// # Errors
/// The server's refusal.
pub async fn missing(admin: &Session, globals: &[u8]) -> Result<Vec<String>> {
    let there = roles(admin).await?;
    let all = statements(&String::from_utf8_lossy(globals));
    Ok(all.iter().filter_map(|s| role_name(s, "CREATE ROLE ")).filter(|name| !there.contains(name)).collect())
}

/// Makes roles, with their passwords, settings and memberships. One that is there by now is left as it is.
///
/// # Errors
/// The server's refusal, with the role; those before it are made.
pub async fn make(admin: &Session, globals: &[u8], names: &[String]) -> Result<()> {
    let all = statements(&String::from_utf8_lossy(globals));
    let there = roles(admin).await?;
    let wanted: BTreeSet<&String> = names.iter().filter(|n| !there.contains(*n)).collect();
    let superuser = admin.row("rolsuper", "FROM pg_roles WHERE rolname = current_user").await;
    let superuser = superuser.map_err(|e| e.says("the roles cannot be read"))?.truth(0);
    let failed = |name: &str| {
        let what = format!("role {name} of the backup cannot be made");
        move |e: SqlError| e.says(what.clone())
    };
    for verb in ["CREATE ROLE ", "ALTER ROLE "] {
        for statement in &all {
            if let Some(name) = role_name(statement, verb).filter(|n| wanted.contains(n)) {
                let modest = modest(statement, &name);
                admin.run(if superuser { statement } else { &modest }).await.map_err(failed(&name))?;
            }
        }
    }
    for statement in &all {
        // Memberships: only those that a new role is given.
        if statement.starts_with("GRANT ")
            && let Some((_, to)) = statement.rsplit_once(" TO ")
            && let Some(name) = role_name(&format!("TO {to}"), "TO ").filter(|n| wanted.contains(n))
        {
            grant(admin, statement).await.map_err(failed(&name))?;
        }
    }
    Ok(())
}

/// A statement about a new role without what only a superuser may say, and what every new role is.
fn modest(statement: &str, name: &str) -> String {
    let names = [ident(name), name.to_owned()];
    let begins = names.iter().find_map(|n| statement.find(n.as_str()).map(|at| at + n.len())).unwrap_or(0);
    let (head, rest) = statement.split_at(begins);
    let (words, password) = rest.split_once(" PASSWORD ").map_or((rest, None), |(words, p)| (words, Some(p)));
    let mut words = words.to_owned();
    for word in [" NOSUPERUSER", " NOREPLICATION", " NOBYPASSRLS"] {
        words = words.replacen(word, "", 1);
    }
    let password = password.map(|p| format!(" PASSWORD {p}")).unwrap_or_default();
    format!("{head}{words}{password}")
}

/// Who granted it may be nobody here; that it is granted is what counts.
async fn grant(admin: &Session, statement: &str) -> SqlResult<()> {
    match (admin.run(statement).await, statement.rsplit_once(" GRANTED BY ")) {
        (Err(_), Some((without, _))) => admin.run(without).await,
        (done, _) => done,
    }
}

/// Everything, on a server that is new: its roles are made as they were, the first superuser too.
///
/// # Errors
/// The server's refusal, with what it refused.
pub async fn all(admin: &Session, globals: &[u8]) -> Result<()> {
    let there = roles(admin).await?;
    for statement in statements(&String::from_utf8_lossy(globals)) {
        if role_name(&statement, "CREATE ROLE ").is_some_and(|name| there.contains(&name)) {
            continue;
        }
        let done = match statement.starts_with("GRANT ") {
            true => grant(admin, &statement).await,
            false => admin.run(&statement).await,
        };
        // A statement may hold a password.
        let what: Vec<&str> = statement.split_whitespace().take(3).collect();
        done.map_err(|e| e.says("roles of the backup cannot be made").kind(Kind::Restore).at(what.join(" ")))?;
    }
    Ok(())
}

/// The tablespaces that a backup speaks of.
pub fn tablespaces(globals: &[u8]) -> Vec<String> {
    let all = statements(&String::from_utf8_lossy(globals));
    all.iter().filter_map(|s| role_name(s, "CREATE TABLESPACE ")).collect()
}

/// Whether a backup knows the passwords of roles.
pub fn has_passwords(globals: &[u8]) -> bool {
    let all = statements(&String::from_utf8_lossy(globals));
    all.iter().any(|s| s.starts_with("ALTER ROLE ") && s.contains(" PASSWORD "))
}

/// The role with which a cluster of these roles is made: `postgres`, which most are made with; else the one that asks, if it
/// may do anything, or the first that may.
pub fn first_superuser(globals: &[u8], asking: &str) -> String {
    let all = statements(&String::from_utf8_lossy(globals));
    let may = |s: &&String| s.contains(" WITH SUPERUSER ");
    let superusers: Vec<String> = all.iter().filter(may).filter_map(|s| role_name(s, "ALTER ROLE ")).collect();
    let found = ["postgres", asking].into_iter().find(|name| superusers.iter().any(|s| s == name));
    found.map(str::to_owned).or_else(|| superusers.first().cloned()).unwrap_or_else(|| "postgres".to_owned())
}

/// Drops roles that were made, those that are still there.
///
/// # Errors
/// When something of theirs is still there.
pub async fn drop(admin: &Session, names: &[String]) -> SqlResult<()> {
    for name in names {
        admin.run(&format!("DROP ROLE IF EXISTS {}", ident(name))).await?;
    }
    Ok(())
}

/// True when the role of the session may do anything.
///
/// # Errors
/// The server's refusal.
pub async fn is_superuser(admin: &Session, role: &str) -> Result<bool> {
    let rows = admin.rows("rolsuper", &format!("FROM pg_roles WHERE rolname = {}", literal(role))).await;
    Ok(rows.map_err(|e| e.says("the roles cannot be read"))?.first().is_some_and(|r| r.truth(0)))
}

/// Splits what `pg_dumpall --globals-only` writes into statements, minding quotes and comments. Lines that are
/// meta-commands of psql (`\restrict` of recent versions) are left out.
fn statements(sql: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let mut quote: Option<char> = None;
    let mut chars = sql.chars().peekable();
    let mut line_start = true;
    while let Some(c) = chars.next() {
        let at_start = std::mem::replace(&mut line_start, c == '\n');
        match quote {
            Some(q) => {
                current.push(c);
                // A doubled quote closes and opens again, which comes to the same.
                if c == q {
                    quote = None;
                }
            }
            None => match c {
                '\'' | '"' => {
                    quote = Some(c);
                    current.push(c);
                }
                '-' if chars.peek() == Some(&'-') => {
                    for d in chars.by_ref() {
                        if d == '\n' {
                            break;
                        }
                    }
                    line_start = true;
                }
                '\\' if at_start && current.trim().is_empty() => {
                    for d in chars.by_ref() {
                        if d == '\n' {
                            break;
                        }
                    }
                    line_start = true;
                }
                ';' => {
                    let statement = std::mem::take(&mut current).trim().to_owned();
                    if !statement.is_empty() {
                        out.push(statement);
                    }
                }
                _ => current.push(c),
            },
        }
    }
    out
}

/// The role that a statement speaks of.
fn role_name(statement: &str, verb: &str) -> Option<String> {
    let rest = statement.strip_prefix(verb)?;
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if chars.peek() == Some(&'"') => {
                    chars.next();
                    name.push('"');
                }
                '"' => return Some(name),
                c => name.push(c),
            }
        }
        return None;
    }
    Some(rest.split([' ', ';']).next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_superuser_may_say_is_left_out_and_nothing_else() {
        let name = "a NOSUPERUSER b";
        let all = format!(
            "ALTER ROLE \"{name}\" WITH NOSUPERUSER INHERIT LOGIN NOREPLICATION NOBYPASSRLS PASSWORD ' NOBYPASSRLS'"
        );
        assert_eq!(modest(&all, name), format!("ALTER ROLE \"{name}\" WITH INHERIT LOGIN PASSWORD ' NOBYPASSRLS'"));
        assert_eq!(modest("CREATE ROLE x", "x"), "CREATE ROLE x");
        assert_eq!(modest("ALTER ROLE x WITH SUPERUSER", "x"), "ALTER ROLE x WITH SUPERUSER");
    }

    #[test]
    fn a_new_cluster_begins_with_a_superuser_that_the_old_one_had() {
        let of = |names: &[&str]| {
            let one = |n: &&str| format!("CREATE ROLE {n};\nALTER ROLE {n} WITH SUPERUSER LOGIN PASSWORD 'x';\n");
            names.iter().map(one).collect::<String>() + "CREATE ROLE app;\nALTER ROLE app WITH NOSUPERUSER;\n"
        };
        for (roles, asking, found) in [
            (&["admin", "postgres"][..], "admin", "postgres"),
            (&["admin", "boss"], "boss", "boss"),
            (&["admin", "boss"], "app", "admin"),
            (&[], "app", "postgres"),
        ] {
            assert_eq!(first_superuser(of(roles).as_bytes(), asking), found);
        }
        assert!(has_passwords(of(&["a"]).as_bytes()) && !has_passwords(of(&[]).as_bytes()));
        let spaces = "CREATE TABLESPACE \"a b\" OWNER postgres LOCATION '/ts';\n";
        assert_eq!(tablespaces(spaces.as_bytes()), ["a b"]);
    }

    #[test]
    fn globals_are_split_by_statements_not_by_lines() {
        let sql = "--\n-- Roles; all\n--\n\\restrict abc\nCREATE ROLE \"a;\"\"b\";\nALTER ROLE \"a;\"\"b\" WITH LOGIN PASSWORD 'x''y;z\n\\q';\n\\unrestrict abc\nCREATE ROLE app;\n";
        let s = statements(sql);
        assert_eq!(s.len(), 3, "{s:?}");
        assert_eq!(role_name(&s[0], "CREATE ROLE ").unwrap(), "a;\"b");
        assert!(s[1].contains("\\q'"));
        assert_eq!(role_name(&s[2], "CREATE ROLE ").unwrap(), "app");
    }
}
