//! Databases on a server of the drill's own. They are staged and verified as by any restore; what else belongs to them (owner,
//! grants, settings, roles) is set and looked at too, since nothing live is there to have it. They go with their server.

use super::aside::Aside;
use crate::error::{Error, Kind, Result};
use crate::recovery::database::Databases;
use crate::recovery::resource::{Class, Compared, Findings, Note, Resource, StagedAs, parse};
use crate::sources::postgres::connect::ident;
use crate::sources::postgres::session::SqlError;
use crate::sources::postgres::{facts, globals};
use async_trait::async_trait;
use serde::Deserialize;

/// See the module.
pub struct ScratchDatabases(pub Databases);

/// What of the note of staging is looked at here.
#[derive(Deserialize)]
struct Staged {
    roles: Vec<String>,
}

fn failed(what: String) -> impl Fn(SqlError) -> Error {
    move |e| e.says(what.clone()).kind(Kind::Restore)
}

impl ScratchDatabases {
    /// Makes the roles that own something in a dump of another script and that it does not bring along. A restore asks
    /// somebody to make them first; nobody works on this server, so that names are enough.
    async fn owners(&self) -> Result<()> {
        let admin = self.0.address.reach().await?.admin().await?;
        let mut known = globals::roles(&admin).await?;
        known.extend(globals::missing(&admin, &self.0.globals().await?).await?);
        for owner in self.0.facts.iter().flat_map(|f| &f.owners) {
            if known.insert(owner.clone()) {
                let what = format!("role {owner} cannot be made");
                admin.run(&format!("CREATE ROLE {} NOLOGIN", ident(owner))).await.map_err(failed(what))?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Aside for ScratchDatabases {
    fn label(&self) -> String {
        self.0.label()
    }

    fn class(&self) -> Class {
        self.0.class()
    }

    async fn preflight(&self) -> Result<Findings> {
        let admin = self.0.address.reach().await?.admin().await?;
        let here = facts::server_version(&admin).await? / 10_000;
        let recorded = self.0.facts.iter().map(|f| f.server_version / 10_000).max().unwrap_or(here);
        if here != recorded {
            return Err(Error::new(
                Kind::Refused,
                format!("the scratch server is PostgreSQL {here}, the backup is of {recorded}"),
            )
            .hint("Name an image of that version with `image` or --image."));
        }
        self.0.preflight().await
    }

    async fn plan_staging(&self) -> Result<Note> {
        self.0.plan_staging().await
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        self.owners().await?;
        self.0.stage(staging).await
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let mut lines = self.0.verify(staged).await?;
        let admin = self.0.address.reach().await?.admin().await?;
        let there = globals::roles(&admin).await?;
        // Not before: with a time limit of the application's a count might not end.
        for database in self.0.staged_as(staged)?.databases {
            let attributes = &self.0.facts(&database.live)?.attributes;
            for statement in attributes.statements(&database.staging, &there).0 {
                let what = format!("what belongs to database {} cannot be set", database.live);
                admin.run(&statement).await.map_err(failed(what))?;
            }
        }
        let made = parse::<Staged>(staged)?.roles;
        if !made.is_empty() {
            let found = made.iter().filter(|role| there.contains(*role)).count();
            lines.push(Compared {
                what: "roles".to_owned(),
                expected: made.len().to_string(),
                found: found.to_string(),
                good: found == made.len(),
            });
        }
        Ok(lines)
    }

    fn staged_as(&self, staged: &Note) -> Result<StagedAs> {
        self.0.staged_as(staged)
    }
}
