//! Making a database as the backup's was: encoding and locale cannot be changed later.

use super::connect::{ident, literal};
use super::facts::DatabaseFacts;
use super::session::{Session, SqlResult};

/// From this version on a database says where its locale comes from.
const PROVIDERS: u64 = 150_000;

/// Makes it, in the tablespace that it was in when the server has that.
///
/// # Errors
/// The server's refusal.
pub async fn database(admin: &Session, name: &str, facts: &DatabaseFacts) -> SqlResult<()> {
    let version = admin.row("current_setting('server_version_num')::int", "").await?.number(0);
    let mut sql = statement(name, facts, version);
    if let Some(space) = facts.attributes.tablespace.as_ref().filter(|t| *t != "pg_default")
        && admin.any(&format!("FROM pg_tablespace WHERE spcname = {}", literal(space))).await?
    {
        sql.push_str(&format!(" TABLESPACE {}", ident(space)));
    }
    admin.run(&sql).await
}

/// `CREATE DATABASE` with the encoding and locale of the facts, from the template that holds nothing of this site. What
/// a dump of somebody else's does not tell is the server's own.
fn statement(name: &str, facts: &DatabaseFacts, server_version: u64) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING {}", ident(name), literal(&facts.encoding));
    for (option, value) in [("LC_COLLATE", &facts.collate), ("LC_CTYPE", &facts.ctype)] {
        if !value.is_empty() {
            sql.push_str(&format!(" {option} {}", literal(value)));
        }
    }
    match (facts.locale_provider.as_str(), &facts.locale) {
        ("icu", Some(locale)) => {
            sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale)));
            if let Some(rules) = &facts.icu_rules {
                sql.push_str(&format!(" ICU_RULES {}", literal(rules)));
            }
        }
        ("builtin", Some(locale)) => {
            sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale)));
        }
        // Unsaid, it would be the template's, which in a cluster made with ICU sorts in another way.
        ("libc", _) if server_version >= PROVIDERS && !facts.collate.is_empty() => {
            sql.push_str(" LOCALE_PROVIDER libc")
        }
        _ => {}
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(provider: &str, locale: Option<&str>, collate: &str) -> DatabaseFacts {
        let facts = serde_json::json!({
            "database": "erp", "server_version": 150000, "encoding": "UTF8", "collate": collate, "ctype": collate,
            "locale_provider": provider, "locale": locale, "size": 1, "tables": [], "extensions": [],
            "large_objects": 0, "sequences": [],
        });
        serde_json::from_value(facts).unwrap()
    }

    fn made(provider: &str, locale: Option<&str>, collate: &str, server_version: u64) -> String {
        statement("x", &facts(provider, locale, collate), server_version)
    }

    #[test]
    fn rules_that_icu_sorts_by_are_those_of_the_facts() {
        let ruled = DatabaseFacts { icu_rules: Some("&a < 'g'".to_owned()), ..facts("icu", Some("de"), "C") };
        assert!(statement("x", &ruled, 160_000).ends_with("ICU_LOCALE 'de' ICU_RULES '&a < ''g'''"));
        assert!(!made("icu", Some("de"), "C", 160_000).contains("RULES"));
        let known: DatabaseFacts = serde_json::from_value(serde_json::to_value(&ruled).unwrap()).unwrap();
        assert_eq!(known, ruled);
    }

    #[test]
    fn a_database_of_libc_is_made_as_one_whatever_the_template_is_where_the_server_knows_the_word() {
        assert!(made("libc", None, "C.UTF-8", 150_000).ends_with("LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER libc"));
        assert!(!made("libc", None, "C.UTF-8", 140_000).contains("PROVIDER"));
        // What is not known is not said.
        assert!(!made("libc", None, "", 150_000).contains("PROVIDER"));
        assert!(!made("", None, "C.UTF-8", 150_000).contains("PROVIDER"));
        assert!(made("icu", Some("de"), "C.UTF-8", 150_000).ends_with("LOCALE_PROVIDER icu ICU_LOCALE 'de'"));
        assert!(made("builtin", Some("C"), "C", 170_000).ends_with("LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'"));
    }
}
