//! Databases of one server, as a restore replaces them: loaded under names of their own, held against the facts, and
//! exchanged with the live ones in one transaction.

use super::bare::{drop_roles, make_anew};
use super::checks::context::Renamed;
use super::chosen::Target;
use super::resource::{Class, Compared, Findings, Note, Previous, Resource, StagedAs, parse};
use crate::error::{Error, Kind, Result};
use crate::model::BackupId;
use crate::repository::manifest::{Artifact, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::archive::stored::{Archive, head};
use crate::sources::postgres::attributes::Attributes;
use crate::sources::postgres::connect::{Server, ident, literal};
use crate::sources::postgres::dropping::{drop_database, is_half_dropped};
use crate::sources::postgres::facts::{self, DatabaseFacts};
use crate::sources::postgres::hand_over::hand_over;
use crate::sources::postgres::load::{self, Loaded, Loader, Options, What};
use crate::sources::postgres::session::{Session, SqlError};
use crate::sources::postgres::swap::{self, Exchange};
use crate::sources::postgres::{GLOBALS, artifact_name, globals, lacking, leaving, preflight, sessions, sql};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Databases of one source.
pub struct Databases {
    /// The source.
    pub source: String,
    /// Its server.
    pub address: Address,
    /// What to restore.
    pub targets: Vec<Target>,
    /// What it was; empty when only undoing is asked for.
    pub facts: Vec<DatabaseFacts>,
    /// The restore: what it stages and keeps is named by it.
    pub id: BackupId,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
    /// How to load.
    pub options: Options,
    /// Tables above this size are not counted again when the load counted them. Bytes.
    pub count_rows_up_to: u64,
    /// Free space on a server of which nobody can tell. Bytes.
    pub assume_space: Option<u64>,
    /// True when the live ones are dropped before the load, and make room.
    pub dropped_first: bool,
}

/// What staging will make.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    databases: Vec<Staged>,
    /// Roles that the server lacks and that the backup has.
    roles: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Staged {
    live: String,
    staged: String,
    /// Rows of tables that the server counted while loading.
    #[serde(default)]
    loaded: Vec<(String, String, u64)>,
    /// What the tools said.
    #[serde(default)]
    warnings: Vec<String>,
    /// What only a superuser may make.
    #[serde(default)]
    left_out: Vec<String>,
}

impl Staged {
    pub(super) fn new(live: &str, staged: String) -> Self {
        Staged { live: live.to_owned(), staged, loaded: Vec::new(), warnings: Vec::new(), left_out: Vec::new() }
    }

    /// Its present name.
    pub(super) fn name(&self) -> &str {
        &self.staged
    }

    /// The same under its own name.
    pub(super) fn in_place(self) -> Self {
        Staged { staged: self.live.clone(), ..self }
    }
}

/// An archive in the repository.
pub(super) struct Stored<'a> {
    pub(super) reader: &'a Reader,
    pub(super) artifact: &'a Artifact,
}

impl Archive for Stored<'_> {
    fn range(&self, offset: u64, length: u64) -> mpsc::Receiver<Result<Bytes>> {
        self.reader.range(self.artifact, offset, length)
    }

    fn length(&self) -> u64 {
        self.artifact.bytes
    }
}

pub(super) fn failed(what: &str) -> impl Fn(SqlError) -> Error {
    let what = what.to_owned();
    move |e| e.says(what.clone()).kind(Kind::Restore)
}

impl Databases {
    /// The same on another server.
    pub(super) fn on(&self, address: Address) -> Self {
        Databases {
            source: self.source.clone(),
            address,
            targets: self.targets.clone(),
            facts: self.facts.clone(),
            id: self.id.clone(),
            from: self.from.clone(),
            options: self.options.clone(),
            count_rows_up_to: self.count_rows_up_to,
            assume_space: self.assume_space,
            dropped_first: self.dropped_first,
        }
    }

    pub(super) async fn globals(&self) -> Result<Vec<u8>> {
        // With neither owners nor grants nothing speaks of a role.
        let nobody = self.options.no_owner && self.options.no_privileges;
        let Some((reader, record)) = self.from.as_ref().filter(|_| !nobody) else { return Ok(Vec::new()) };
        match record.artifacts.iter().find(|a| a.name == GLOBALS) {
            Some(artifact) => reader.small(artifact).await,
            None => Ok(Vec::new()),
        }
    }

    /// The facts of the database that will have this name.
    pub(super) fn facts(&self, live: &str) -> Result<&DatabaseFacts> {
        let target = self.targets.iter().find(|t| t.live == live);
        target
            .and_then(|t| self.facts.iter().find(|f| f.database == t.database))
            .ok_or_else(|| Error::new(Kind::Internal, format!("database {live} is not one of this restore")))
    }

    /// What goes with the name of a database that is not there yet.
    pub(super) fn attributes(&self, live: &str) -> Result<Attributes> {
        let mut attributes = self.facts(live)?.attributes.clone();
        if self.options.no_owner {
            attributes.owner.clear();
        }
        if self.options.no_privileges {
            attributes.grants = None;
        }
        Ok(attributes)
    }

    /// The facts of one, and its archive: all that loading it needs.
    pub(super) fn of_backup(&self, live: &str) -> Result<(&DatabaseFacts, Stored<'_>)> {
        let facts = self.facts(live)?;
        let Some((reader, record)) = &self.from else {
            return Err(Error::new(Kind::Internal, "a restore without a backup cannot stage"));
        };
        let artifact = super::select::artifact(record, Some(&artifact_name(&facts.database)))?;
        Ok((facts, Stored { reader, artifact }))
    }

    /// The oldest version of `pg_restore` that reads the archives; 0 when any does, or another program loads them.
    ///
    /// # Errors
    /// When the beginning of an archive cannot be read.
    pub(super) async fn oldest_reader(&self) -> Result<u32> {
        let mut reads = 0;
        for target in self.targets.iter().filter(|_| self.from.is_some() && self.options.loader == Loader::PgRestore) {
            let (_, stored) = self.of_backup(&target.live)?;
            // One that others made may be in SQL beside some that are not.
            if stored.artifact.media != sql::MEDIA {
                reads = reads.max(head(&stored).await?.map_or(0, |(head, _)| head.oldest_reader()));
            }
        }
        Ok(reads)
    }

    /// Loads one. Without owners what is loaded goes to `owner`: that of the live database, if there was one.
    pub(super) async fn stage_one(
        &self,
        server: &Server,
        admin: &Session,
        staged: &mut Staged,
        owner: Option<&str>,
    ) -> Result<()> {
        let (facts, Stored { reader, artifact }) = self.of_backup(&staged.live)?;
        make_anew(admin, &staged.staged, facts).await?;
        let Loaded { rows, warnings, left_out } = match artifact.media.as_str() {
            sql::MEDIA => {
                let dump = reader.stream(artifact, |_| true);
                sql::load::load(server, &staged.staged, dump, &self.options).await?
            }
            sql::archive::MEDIA if self.options.what != What::All => return Err(sql::load::parts()),
            // What a statement of a dump needs is not known, so one comes after the other.
            sql::archive::MEDIA => {
                let options = Options { jobs: 1, ..self.options.clone() };
                load::load(server, &staged.staged, facts, &Stored { reader, artifact }, &options).await?
            }
            _ => load::load(server, &staged.staged, facts, &Stored { reader, artifact }, &self.options).await?,
        };
        staged.loaded = rows.into_iter().map(|((schema, name), rows)| (schema, name, rows)).collect();
        (staged.warnings, staged.left_out) = (warnings, left_out);
        if let Some(owner) = owner.filter(|_| self.options.no_owner && !self.targets.iter().any(|t| t.copy)) {
            staged.warnings.extend(hand_over_to(owner, server, admin, staged).await?);
        }
        Ok(())
    }

    /// What a staged database holds, held against the facts.
    pub(super) async fn verify_one(&self, server: &Server, staged: &Staged) -> Result<Vec<Compared>> {
        let expected = self.facts(&staged.live)?;
        let session = server.session(&staged.staged).await?;
        let mut found = facts::read(&session).await?;
        let loaded: BTreeMap<_, _> = staged.loaded.iter().map(|(s, n, rows)| ((s, n), *rows)).collect();
        for table in &mut found.tables {
            // Small ones are counted all the same: a count is worth more than what the load said.
            if table.size > self.count_rows_up_to
                && let Some(rows) = loaded.get(&(&table.schema, &table.name))
            {
                (table.rows, table.estimated) = (*rows, false);
            }
        }
        facts::count(&session, &mut found.tables, self.count_rows_up_to).await?;
        facts::join_hash_partitions(&mut found.tables);
        let expected = match self.options.what {
            What::Schema => expected.clone().emptied(),
            _ => expected.clone(),
        };
        let lines = facts::compare(&expected, &found);
        let compared = |l: facts::Line| {
            let left_out = l.what.strip_prefix("extension ").is_some_and(|e| lacking::is_left_out(e, &staged.left_out));
            Compared {
                what: format!("{}: {}", staged.live, l.what),
                expected: l.expected,
                found: if left_out { "not installed there".to_owned() } else { l.found },
                good: l.good || left_out,
            }
        };
        Ok(lines.into_iter().map(compared).collect())
    }

    /// What live databases have otherwise than the backup, and give to what takes their names.
    async fn kept_by_the_name(&self, admin: &Session) -> Result<Vec<String>> {
        let cannot = failed("the live databases cannot be looked at");
        let mut told = Vec::new();
        // What a server of a drill's own was made with has nobody's name.
        for target in self.targets.iter().filter(|_| !self.options.scratch) {
            if swap::oid(admin, &target.live).await.map_err(&cannot)?.is_none() {
                continue;
            }
            let live = Attributes::read(admin, &target.live).await.map_err(&cannot)?;
            let differ = self.facts(&target.live)?.attributes.differences(&live);
            if !differ.is_empty() {
                told.push(format!(
                    "database {} keeps what it has now and had otherwise in the backup: {}",
                    target.live,
                    differ.join(", ")
                ));
            }
        }
        Ok(told)
    }

    fn exchanges(note: &Note) -> Result<Vec<Exchange>> {
        #[derive(Deserialize)]
        struct Swap {
            exchanges: Vec<Exchange>,
        }
        Ok(parse::<Swap>(note)?.exchanges)
    }
}

/// Whose the live database is, if there is one.
async fn owner_of(admin: &Session, live: &str) -> Result<Option<String>> {
    let from = format!("FROM pg_database WHERE datname = {}", literal(live));
    let rows = admin.rows("pg_get_userbyid(datdba)", &from).await;
    let rows = rows.map_err(failed("the owner of the live database cannot be read"))?;
    Ok(rows.first().map(|r| r.text(0)))
}

/// Without owners everything belongs to the role that loaded it. The application works as the owner of the live database,
/// and would be locked out; so that role gets it. Told, where that cannot be.
async fn hand_over_to(owner: &str, server: &Server, admin: &Session, staged: &Staged) -> Result<Option<String>> {
    if owner == server.user {
        return Ok(None);
    }
    if !globals::is_superuser(admin, &server.user).await? {
        let told = format!(
            "everything belongs to role {}, and {owner}, to whom the database belongs, may not use it",
            server.user
        );
        return Ok(Some(told));
    }
    let session = server.session(&staged.staged).await?;
    let cannot = format!("what was loaded cannot be given to {owner}");
    hand_over(&session, owner).await.map_err(failed(&cannot))?;
    Ok(None)
}

#[async_trait]
impl Resource for Databases {
    fn label(&self) -> String {
        let names: Vec<&str> = self.targets.iter().map(|t| t.live.as_str()).collect();
        match &names[..] {
            [one] => format!("database {one}"),
            several => format!("databases {}", several.join(", ")),
        }
    }

    fn class(&self) -> Class {
        Class::Database
    }

    async fn answers(&self) -> Result<()> {
        self.address.reach().await?.admin().await.map(drop)
    }

    async fn preflight(&self) -> Result<Findings> {
        let server = self.address.reach().await?;
        let wanted: Vec<_> =
            self.targets.iter().map(|t| Ok((t.live.as_str(), self.facts(&t.live)?))).collect::<Result<_>>()?;
        let admin = server.admin().await?;
        for target in &self.targets {
            let cannot = failed("the server cannot be examined");
            // Before an exchange it could not even be closed.
            if is_half_dropped(&admin, &target.live).await.map_err(&cannot)? {
                let what = format!("a DROP of database {} was interrupted, and only its name is left", target.live);
                let hint = format!("In psql: DROP DATABASE {}; then run the same command again.", ident(&target.live));
                return Err(Error::new(Kind::Refused, what).at(server.place()).hint(hint));
            }
            let there = swap::oid(&admin, &target.live).await.map_err(&cannot)?;
            if target.copy && there.is_some() {
                return Err(Error::new(Kind::Refused, format!("database {} exists", target.live))
                    .at(server.place())
                    .hint("Give a name that is free with --to; without --to the live database is exchanged."));
            }
        }
        let look = preflight::Look {
            server: &server,
            options: &self.options,
            // What cannot be read is told by the load, which says what of it.
            reads: self.oldest_reader().await.unwrap_or(0),
            assume_space: self.assume_space,
            part: (self.options.what == What::Schema).then_some(0),
            dropped_first: self.dropped_first,
        };
        let mut told = look.at(&wanted, &self.globals().await?).await?;
        told.warnings.extend(self.kept_by_the_name(&admin).await?);
        Ok(Findings {
            space: told
                .space
                .into_iter()
                .map(|s| super::resource::Space { place: s.place, needed: s.needed, free: s.free })
                .collect(),
            warnings: told.warnings,
            ..Findings::default()
        })
    }

    /// What others have bound to the restored databases since would go along with them.
    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        let mut found = Findings::default();
        let Some(swap) = swap else { return Ok(found) };
        let exchanges = Self::exchanges(swap)?;
        let admin = self.address.reach().await?.admin().await?;
        for x in &exchanges {
            swap::refuse_back(&admin, x).await?;
            leaving::refuse(&admin, &x.live, leaving::For::Rollback).await?;
        }
        let live: Vec<&str> = exchanges.iter().map(|x| x.live.as_str()).collect();
        let beyond = sessions::beyond(&admin, &live).await.map_err(failed("the sessions cannot be looked at"))?;
        found
            .warnings
            .extend(sessions::told(&beyond).map(|told| format!("{told}; while one is there the exchange fails")));
        Ok(found)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        let id = self.id.as_str();
        let staged = |t: &Target| Staged::new(&t.live, swap::beside(&t.live, "staged", id));
        let roles = globals::missing(&admin, &self.globals().await?).await?;
        Ok(json!(Staging { databases: self.targets.iter().map(staged).collect(), roles }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut staging: Staging = parse(staging)?;
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        globals::make(&admin, &self.globals().await?, &staging.roles).await?;
        for staged in &mut staging.databases {
            let owner = match self.options.no_owner {
                true => owner_of(&admin, &staged.live).await?,
                false => None,
            };
            self.stage_one(&server, &admin, staged, owner.as_deref()).await?;
        }
        Ok(json!(staging))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staging: Staging = parse(staged)?;
        let server = self.address.reach().await?;
        let mut compared = Vec::new();
        for staged in &staging.databases {
            compared.extend(self.verify_one(&server, staged).await?);
        }
        Ok(compared)
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        self.drop_staged(staging).await?;
        let staging: Staging = parse(staging)?;
        let admin = self.address.reach().await?.admin().await?;
        drop_roles(&admin, &staging.roles).await
    }

    async fn drop_staged(&self, staging: &Note) -> Result<()> {
        let staging: Staging = parse(staging)?;
        let admin = self.address.reach().await?.admin().await?;
        for staged in &staging.databases {
            let name = &staged.staged;
            drop_database(&admin, name).await.map_err(|e| {
                failed("the staging database cannot be dropped")(e).hint(format!("DROP DATABASE {}", ident(name)))
            })?;
        }
        Ok(())
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let staging: Staging = parse(staged)?;
        let admin = self.address.reach().await?.admin().await?;
        let mut exchanges = Vec::new();
        for staged in &staging.databases {
            let attributes = self.attributes(&staged.live)?;
            exchanges.push(swap::plan(&admin, &staged.live, &staged.staged, self.id.as_str(), &attributes).await?);
        }
        Ok(json!({ "exchanges": exchanges }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        swap::swap(&self.address.reach().await?, &Self::exchanges(swap)?).await
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        swap::unswap(&self.address.reach().await?, &Self::exchanges(swap)?).await
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let admin = self.address.reach().await?.admin().await?;
        let mut previous = Vec::new();
        for x in Self::exchanges(swap)?.into_iter().filter(|x| x.live_oid.is_some()) {
            let size = admin
                .rows("pg_database_size(oid)", &format!("FROM pg_database WHERE oid = {}", x.live_oid.unwrap_or(0)))
                .await
                .map_err(failed("the previous database cannot be looked at"))?;
            if let Some(row) = size.first() {
                previous.push(Previous { name: format!("database {}", x.before), bytes: Some(row.number(0)) });
            }
        }
        Ok(previous)
    }

    fn staged_as(&self, staged: &Note) -> Result<StagedAs> {
        let staging: Staging = parse(staged)?;
        let renamed = |s: Staged| Renamed { source: self.source.clone(), live: s.live, staging: s.staged };
        let databases = staging.databases.into_iter().map(renamed).collect();
        Ok(StagedAs { databases, ..StagedAs::default() })
    }

    fn unstage_by_hand(&self, staging: &Note) -> Vec<String> {
        let staged = parse::<Staging>(staging).map(|s| s.databases).unwrap_or_default();
        staged.iter().map(|s| format!("in psql: DROP DATABASE IF EXISTS {};", ident(&s.staged))).collect()
    }

    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        let mut left = Vec::new();
        for x in Self::exchanges(swap).unwrap_or_default() {
            left.push(format!(
                "in psql, when database {} has the OID {}: ALTER DATABASE {} RENAME TO {};",
                x.live,
                x.staged_oid,
                ident(&x.live),
                ident(&x.staged)
            ));
            if let Some(oid) = x.live_oid {
                left.push(format!(
                    "in psql, for the database with the OID {oid}: ALTER DATABASE {} RENAME TO {}; ALTER DATABASE {1} ALLOW_CONNECTIONS true;",
                    ident(&x.before),
                    ident(&x.live)
                ));
            }
        }
        left
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        let admin = self.address.reach().await?.admin().await?;
        for x in Self::exchanges(swap)? {
            let there = swap::oid(&admin, &x.before).await.map_err(failed("the previous database cannot be found"))?;
            if there.is_some() && there == x.live_oid {
                drop_database(&admin, &x.before).await.map_err(failed("the previous database cannot be dropped"))?;
            }
        }
        Ok(())
    }
}
