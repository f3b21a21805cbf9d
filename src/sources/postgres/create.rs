//! Making a database as the backup's was: encoding and locale cannot be changed later.

use super::connect::{ident, literal};
use super::facts::DatabaseFacts;

/// `CREATE DATABASE` with the encoding and locale of the facts, from the template that holds nothing of this site. What
/// a dump of somebody else's does not tell is the server's own.
pub fn statement(name: &str, facts: &DatabaseFacts) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING {}", ident(name), literal(&facts.encoding));
    for (option, value) in [("LC_COLLATE", &facts.collate), ("LC_CTYPE", &facts.ctype)] {
        if !value.is_empty() {
            sql.push_str(&format!(" {option} {}", literal(value)));
        }
    }
    if let Some(locale) = &facts.locale {
        match facts.locale_provider.as_str() {
            "icu" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale))),
            "builtin" => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale))),
            _ => {}
        }
    }
    sql
}
