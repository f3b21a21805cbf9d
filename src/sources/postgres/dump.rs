//! The way out: for each database one exported snapshot, in which `pg_dump` writes and we count.

use super::connect::ident;
use super::facts::{self, DatabaseFacts, sql_error};
use super::{Databases, GLOBALS, PostgresSource, artifact_name, tools};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::Delivered;
use crate::telemetry::monitor::{Event, Monitor};
use std::sync::Arc;
use tokio_util::io::SyncIoBridge;

/// How often a dump is tried while somebody alters tables.
const TRIES: usize = 3;

/// Dumps the configured databases and the globals.
pub async fn dump(source: &PostgresSource, writer: &BackupWriter, monitor: Arc<dyn Monitor>) -> Result<Delivered> {
    let client = source.server.connect(&source.server.database).await?;
    let failed = sql_error("the server does not answer questions about itself");
    let version: i32 =
        client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.map_err(&failed)?.get(0);
    let major = version.unsigned_abs() / 10_000;
    let pg_dump = tools::find("pg_dump", major).await?;
    let pg_dumpall = tools::find("pg_dumpall", major).await?;
    let databases = match &source.databases {
        Databases::Named(names) => names.clone(),
        Databases::All => {
            let rows = client
                .query("SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1", &[])
                .await
                .map_err(&failed)?;
            rows.iter().map(|r| r.get(0)).collect()
        }
    };
    let superuser: bool = client
        .query_one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", &[])
        .await
        .map_err(&failed)?
        .get(0);
    drop(client);

    let mut warnings = Vec::new();
    let mut args =
        vec!["--globals-only".to_owned(), "--no-password".to_owned(), format!("--database={}", source.server.database)];
    if !superuser {
        args.push("--no-role-passwords".to_owned());
        warnings.push("roles are stored without their passwords: reading those needs a superuser".to_owned());
    }
    let globals = stream(writer, GLOBALS, "sql", Program::new(pg_dumpall, args).env(source.server.env())).await?;
    let mut artifacts = vec![globals];
    let mut all_facts = Vec::new();
    for database in &databases {
        let (artifact, facts) = database_dump(source, writer, &pg_dump, database)
            .await
            .map_err(|e| e.at(format!("database {database} on {}", source.server.place())))?;
        monitor.event(Event::Stage(format!(
            "database {database}: {}",
            crate::model::size::plural(facts.tables.iter().map(|t| t.rows).sum(), "row")
        )));
        artifacts.push(artifact);
        all_facts.push(facts);
    }
    Ok(Delivered { artifacts, facts: serde_json::json!({ "databases": all_facts }), warnings })
}

/// Dumps one database, again when a table was rewritten meanwhile: such a table may be empty in the dump.
async fn database_dump(
    source: &PostgresSource,
    writer: &BackupWriter,
    pg_dump: &std::path::Path,
    database: &str,
) -> Result<(PendingArtifact, DatabaseFacts)> {
    let mut rewritten = Vec::new();
    for _ in 0..TRIES {
        match one_dump(source, writer, pg_dump, database).await? {
            Ok(dumped) => return Ok(dumped),
            Err(tables) => rewritten = tables,
        }
    }
    Err(Error::new(Kind::Source, "tables were rewritten or truncated during each try, and may be empty in the dump")
        .because(rewritten.join(", "))
        .hint("Run the backup when nobody alters tables."))
}

/// One try; the inner error names the tables that were rewritten during it.
async fn one_dump(
    source: &PostgresSource,
    writer: &BackupWriter,
    pg_dump: &std::path::Path,
    database: &str,
) -> Result<std::result::Result<(PendingArtifact, DatabaseFacts), Vec<String>>> {
    let failed = sql_error("the snapshot for the dump cannot be taken");
    let mut client = source.server.connect(database).await?;
    // This connection is idle while the dump runs; the server must not end it.
    client
        .batch_execute("SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; SET lock_timeout = 0")
        .await
        .map_err(&failed)?;
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(&failed)?;
    let snapshot: String = transaction.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(&failed)?.get(0);
    let args = [
        "--format=custom",
        "--compress=0",
        "--no-password",
        &format!("--snapshot={snapshot}"),
        &format!("--dbname=dbname={}", conninfo_value(database)),
    ];
    let program = Program::new(pg_dump, args).env(source.server.env());
    let name = artifact_name(database);
    let dump = stream(writer, &name, "pg-custom", program);
    let facts = facts::read(transaction.client(), source.count_rows_up_to);
    // Both at once: the counts cost no extra time while the dump is being compressed.
    let (artifact, facts) = tokio::try_join!(dump, facts)?;
    let rewritten = facts::rewritten(transaction.client()).await?;
    transaction.rollback().await.map_err(&failed)?;
    Ok(if rewritten.is_empty() { Ok((artifact, facts)) } else { Err(rewritten) })
}

/// Streams a program's output into an artifact; it counts only when the program exited with 0.
async fn stream(writer: &BackupWriter, name: &str, media: &str, program: Program) -> Result<PendingArtifact> {
    let (running, stdout) = program.reading().await?;
    let mut artifact = writer.artifact(name, media);
    let reader = tokio::task::spawn_blocking(move || {
        let mut reader = SyncIoBridge::new(stdout);
        let result = artifact.stream(&mut reader);
        (result, artifact)
    });
    let (result, artifact) =
        reader.await.map_err(|_| Error::new(Kind::Internal, "the reading thread ended by a panic"))?;
    match result {
        // Dropping the child kills it: nobody reads its output any more.
        Err(e) => Err(e),
        Ok(()) => {
            running.finish(Kind::Source).await?;
            // Handing over the last pack may wait for the budget.
            let finished = tokio::task::spawn_blocking(move || artifact.finish());
            finished.await.map_err(|_| Error::new(Kind::Internal, "the reading thread ended by a panic"))?
        }
    }
}

/// A value in a libpq connection string: so a database named `a=b` or `postgresql://x` stays a name.
pub fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `CREATE DATABASE` with the encoding and locale of the facts, from the empty template.
pub fn create_database(name: &str, facts: &DatabaseFacts) -> String {
    use super::connect::literal;
    format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        ident(name),
        literal(&facts.encoding),
        literal(&facts.collate),
        literal(&facts.ctype)
    )
}
