//! Making a database as the backup's was: encoding and locale cannot be changed later.

use super::connect::{ident, literal};
use super::facts::DatabaseFacts;

/// `CREATE DATABASE` with the encoding and locale of the facts, from the template that holds nothing of this site.
pub fn statement(name: &str, facts: &DatabaseFacts) -> String {
    let mut sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        ident(name),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype)
    );
    if let Some(locale) = &facts.locale {
        match facts.locale_provider.as_str() {
            "icu" => sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", literal(locale))),
            "builtin" => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(locale))),
            _ => {}
        }
    }
    sql
}
