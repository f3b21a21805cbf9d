//! Statements of a hook, in one transaction.
//!
//! All of them go to the server as one text within a `DO` block: so `psql` on the way takes none of it for a command
//! of its own, the server tells where one statement ends, and none of them can end the transaction.

use super::once::Once;
use super::{HookContext, Target, role_of};
use crate::config::checks::{Hook, InDatabase, Text, When};
use crate::error::{Error, Kind, Result};
use crate::recovery::checks::as_live;
use crate::sources::postgres::connect::ident;
use crate::sources::postgres::session::SqlError;

/// SQLSTATE of what cannot be done within a block.
const FEATURE_NOT_SUPPORTED: &str = "0A000";

fn refused(e: SqlError) -> Error {
    let error = e.says("the server refuses it").kind(Kind::Restore);
    if e.is(FEATURE_NOT_SUPPORTED) {
        return error.hint("All statements run in one transaction: take BEGIN, COMMIT and COPY FROM STDIN out.");
    }
    error.hint("Nothing of it was done. `role` says as whom it runs; the default is the owner of the database.")
}

/// Quotes a text whatever is in it.
fn quoted(text: &str) -> String {
    loop {
        let tag = format!("$backstay_{:016x}$", rand::random::<u64>());
        if !text.contains(&tag) {
            return format!("{tag}{text}{tag}");
        }
    }
}

/// The block that runs these statements.
fn block(text: &str) -> String {
    // A comment at the end must not reach what follows.
    format!("DO {}", quoted(&format!("BEGIN EXECUTE {}; END", quoted(&format!("{text}\n")))))
}

/// Runs the statements, unless that was done already.
pub(super) async fn run(
    hook: &Hook,
    place: &InDatabase,
    target: &Target,
    text: &Text,
    role: Option<&str>,
    context: &HookContext,
) -> Result<()> {
    let text = text.read()?;
    let server = place.server.address.reach().await?;
    let session = server.session(&target.now).await?;
    let once = Once::new(&context.state_dir, &context.restore, &hook.step());
    if once.is_done(&session).await? {
        return Ok(());
    }
    let role = role_of(&session, target, role, &server.user).await?;
    session.run("BEGIN").await.map_err(refused)?;
    if hook.when == When::AfterStage {
        as_live(&session, &target.live).await.map_err(refused)?;
    }
    session.run(&format!("SET LOCAL statement_timeout = {}", hook.timeout.as_millis())).await.map_err(refused)?;
    if let Some(role) = role {
        session.run(&format!("SET LOCAL ROLE {}", ident(&role))).await.map_err(refused)?;
    }
    session.run(&block(&text)).await.map_err(refused)?;
    once.keep(&session).await?;
    session.run("COMMIT").await.map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_own_quotes() {
        let text = "SELECT $$a$$; -- $backstay_1$ 'x";
        let block = block(text);
        let tag = &block[3..block[3..].find(' ').map_or(0, |n| n + 3)].trim_end_matches("BEGIN");
        assert!(block.starts_with("DO $backstay_") && block.contains(&format!("{text}\n$backstay_")), "{block}");
        assert_eq!(block.matches(*tag).count(), 2, "{block}");
    }
}
