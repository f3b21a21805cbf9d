//! Which databases of a server somebody may have written to while one of them was restored: files of the whole server hold
//! all of them.

use crate::error::Result;
use crate::sources::postgres::PostgresSource;

/// The database that every server has, mostly with nothing in it.
const EVERYWHERE: &str = "postgres";
/// What somebody has made in a database and may write to. Numbers below are those of what a server is made with.
const MADE: &str = "FROM (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p', 'm', 'S') AND relpersistence <> 't' \
                    UNION ALL SELECT oid FROM pg_largeobject_metadata) made WHERE oid >= 16384";

/// Databases of a server that are open to somebody; the one that every server has when there is something in it.
///
/// # Errors
/// When the server does not tell them.
pub async fn databases(source: &PostgresSource) -> Result<Vec<String>> {
    let server = source.address.reach().await?;
    let admin = server.admin().await?;
    let rows = admin
        .rows("datname", "FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname")
        .await
        .map_err(|e| e.says("the server does not tell its databases"))?;
    let mut names: Vec<String> = rows.iter().map(|r| r.text(0)).collect();
    // Nobody knows what is in one that does not let us in.
    if let Ok(session) = server.session(EVERYWHERE).await
        && !session.any(MADE).await.map_err(|e| e.says("the server does not tell its tables"))?
    {
        names.retain(|name| name != EVERYWHERE);
    }
    Ok(names)
}
