//! Making a database as the backup's was: encoding and locale cannot be changed later.

use super::connect::{ident, literal};
use super::facts::DatabaseFacts;
use super::session::{Session, SqlResult};

/// Makes it, in the tablespace that it was in when the server has that.
///
/// # Errors
/// The server's refusal.
pub async fn database(admin: &Session, name: &str, facts: &DatabaseFacts) -> SqlResult<()> {
    let mut sql = statement(name, facts);
    if let Some(space) = facts.attributes.tablespace.as_ref().filter(|t| *t != "pg_default")
        && admin.any(&format!("FROM pg_tablespace WHERE spcname = {}", literal(space))).await?
    {
        sql.push_str(&format!(" TABLESPACE {}", ident(space)));
    }
    admin.run(&sql).await
}

/// `CREATE DATABASE` with the encoding and locale of the facts, from the template that holds nothing of this site. What
/// a dump of somebody else's does not tell is the server's own.
fn statement(name: &str, facts: &DatabaseFacts) -> String {
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
