//! A check by a query, always in a transaction that can write nothing.

use super::Verdict;
use super::context::Context;
use super::wanted::{Rows, judge};
use crate::config::checks::Query;
use crate::sources::postgres::connect::literal;
use crate::sources::postgres::session::{Session, SqlResult};
use serde_json::Value;
use std::time::Duration;

/// Rows that are looked at; no check needs more.
const MOST: usize = 1000;
/// The columns of a row in order, as texts: then numbers keep all their digits.
const COLUMNS: &str = "(SELECT json_agg(c.value #>> '{}' ORDER BY c.ordinality) \
     FROM json_each(row_to_json(q)) WITH ORDINALITY AS c(key, value, ordinality))";

/// One look.
pub(super) async fn look(query: &Query, context: &Context, limit: Duration) -> Verdict {
    let place = &query.place;
    let Some(database) = context.name_of(&place.source, &place.database) else {
        return Verdict::Good(format!("not looked at: database {} is not restored", place.database));
    };
    let session = async { place.server.address.reach().await?.session(&database).await };
    let session = match session.await {
        Ok(session) => session,
        Err(e) => return Verdict::Unasked(e.one_line()),
    };
    let verdict = match ask(&session, query, context, limit).await {
        Ok(rows) => judge(&query.wanted, &rows),
        Err(e) => {
            let answered = e.code.as_deref().is_some_and(|code| !is_of_the_server(code));
            let code = e.code.map(|code| format!("{code}: ")).unwrap_or_default();
            let why = format!("the server refuses: {code}{}", e.text);
            if answered { Verdict::Bad(why) } else { Verdict::Unasked(why) }
        }
    };
    match verdict {
        // Nobody writes there any more.
        Verdict::Bad(why) if context.before_swap => Verdict::Final(why),
        // A drill may wait; a restore stands still meanwhile.
        Verdict::Unasked(why) if context.before_swap && !context.drill => Verdict::Final(why),
        other => other,
    }
}

/// Whether an SQLSTATE speaks of the server and of the time that it had, and not of what it was asked: a connection that is
/// lost, no room or memory, a query that was cancelled, a server that goes down.
fn is_of_the_server(code: &str) -> bool {
    code == "57014" || ["08", "53", "57P0", "58"].iter().any(|class| code.starts_with(class))
}

async fn ask(session: &Session, query: &Query, context: &Context, limit: Duration) -> SqlResult<Rows> {
    // For the session too: a query with a COMMIT in it would leave the transaction.
    session.run("SET default_transaction_read_only = on").await?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    if context.before_swap {
        as_live(session, &query.place.database).await?;
    }
    session.run(&format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1))).await?;
    // The line end is for a comment at the end of the query.
    let from = format!("FROM (\n{}\n) AS q LIMIT {}", query.query, MOST + 1);
    let rows = session.rows(COLUMNS, &from).await?;
    session.run("ROLLBACK").await?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let columns = |value: Value| value.as_array().map(|c| c.iter().map(text).collect()).unwrap_or_default();
    Ok(rows.iter().map(|row| columns(row.value(0))).collect())
}

/// Gives the transaction the settings of a live database, which what is staged gets with its name only: without its
/// `search_path` other tables would be meant. Those that need a new connection, or a right that we lack, are left out; so is
/// `synchronous_commit`: the restore waits for no standby.
///
/// # Errors
/// The server's refusal.
pub(in crate::recovery) async fn as_live(session: &Session, live: &str) -> SqlResult<()> {
    let from = format!(
        "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN unnest(s.setconfig) AS c \
         LEFT JOIN pg_settings p ON p.name = split_part(c, '=', 1) WHERE d.datname = {} AND s.setrole = 0 \
         AND split_part(c, '=', 1) <> 'synchronous_commit' \
         AND (p.context IS NULL OR p.context = 'user' \
              OR p.context = 'superuser' AND current_setting('is_superuser') = 'on')",
        literal(live)
    );
    session.rows("set_config(split_part(c, '=', 1), substr(c, strpos(c, '=') + 1), true)", &from).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_is_no_answer() {
        for code in ["57014", "57P01", "57P03", "08006", "53100", "53200", "58030"] {
            assert!(is_of_the_server(code), "{code}");
        }
        for code in ["42P01", "42703", "25006", "22012", "XX001"] {
            assert!(!is_of_the_server(code), "{code}");
        }
    }
}
