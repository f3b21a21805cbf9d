//! What can be known to go wrong with a load and an exchange, before anything is made.

use super::connect::{Server, ident, literal};
use super::create;
use super::facts::{self, DatabaseFacts};
use super::globals;
use super::load::Options;
use super::pooler;
use super::session::{Session, SqlError};
use super::swap;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Place;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Extensions whose databases cannot be renamed into place, or want steps of their own around a load.
const REFUSED: &[(&str, &str)] = &[
    (
        "pg_cron",
        "it works in one database only, the one that cron.database_name names, and cannot be made in a second one",
    ),
    ("timescaledb", "its tables want steps of its own before and after a load"),
];
/// What a slow disk of WAL may take on top of the data, when the server does not tell. Bytes.
const WAL: u64 = 1 << 30;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Room.
    pub space: Vec<Room>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Room on one disk of the server.
#[derive(Clone, Debug)]
pub struct Room {
    /// The data directory.
    pub place: PathBuf,
    /// Bytes that staging takes.
    pub needed: u64,
    /// Bytes that are free; nothing when nobody can tell.
    pub free: Option<u64>,
}

/// A look at a server.
pub struct Look<'a> {
    /// The server.
    pub server: &'a Server,
    /// How the load will be.
    pub options: &'a Options,
    /// Free space where nobody can tell. Bytes.
    pub assume_space: Option<u64>,
    /// What is loaded of the databases when it is not all. Bytes.
    pub part: Option<u64>,
    /// True when the live databases are dropped before the load, and make room.
    pub dropped_first: bool,
}

fn failed(e: SqlError) -> Error {
    e.says("the server cannot be examined")
}

impl Look<'_> {
    /// Looks at the targets: the live name and the facts of each.
    ///
    /// # Errors
    /// [`Kind::Refused`] for what would fail later, with what to do.
    pub async fn at(&self, targets: &[(&str, &DatabaseFacts)], roles: &[u8]) -> Result<Told> {
        let admin = self.server.admin().await?;
        let told = self.examine(&admin, targets, roles).await?;
        self.probe(&admin, targets).await?;
        Ok(told)
    }

    /// The same without the databases that are made to try: what the server says about itself, and nothing else.
    ///
    /// # Errors
    /// [`Kind::Refused`] for what would fail later, with what to do.
    pub async fn examine(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)], roles: &[u8]) -> Result<Told> {
        let mut told = Told::default();
        self.server_suits(admin, targets).await?;
        for (live, facts) in targets {
            self.name_suits(live)?;
            if self.part.is_none() {
                self.live_can_move(admin, live).await?;
            }
            self.extensions(admin, facts).await?;
        }
        self.privileges(admin, targets, &mut told).await?;
        let missing = globals::missing(admin, roles).await?;
        if !missing.is_empty() {
            told.warnings.push(format!("roles that the server lacks will be made: {}", missing.join(", ")));
        }
        let tablespaces = self.tablespaces(admin).await?;
        for (live, facts) in targets {
            if let Some(t) = facts.attributes.tablespace.as_ref().filter(|t| !tablespaces.contains(*t)) {
                told.warnings.push(format!(
                    "database {live} was in tablespace {t}, which is not here: it goes into the default one"
                ));
            }
        }
        let standbys = admin.row("count(*)", "FROM pg_stat_replication").await.map_err(failed)?.number(0);
        if standbys > 0 {
            told.warnings.push(format!("{standbys} standby servers will get all of the load, and keep their readers on the old database until it comes"));
        }
        if let Some(room) = self.room(admin, targets).await? {
            told.space.push(room);
        }
        Ok(told)
    }

    /// Refuses a server that cannot take what the backup holds.
    ///
    /// # Errors
    /// [`Kind::Refused`].
    pub async fn server_suits(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)]) -> Result<()> {
        pooler::refuse(self.server).await?;
        let row = admin.row("pg_is_in_recovery()", "").await.map_err(failed)?;
        if row.truth(0) {
            return Err(Error::new(Kind::Refused, "the server is a standby, which takes nothing but from its primary")
                .at(self.server.place())
                .hint("Restore on the primary."));
        }
        let here = facts::server_version(admin).await? / 10_000;
        if let Some((_, newer)) = targets.iter().find(|(_, f)| f.server_version / 10_000 > here) {
            return Err(Error::new(
                Kind::Refused,
                format!("the backup is of PostgreSQL {}, the server is {here}", newer.server_version / 10_000),
            )
            .at(self.server.place())
            .hint(
                "A dump does not go back to an older version. Restore to a server of the same version or a newer one.",
            ));
        }
        Ok(())
    }

    fn name_suits(&self, live: &str) -> Result<()> {
        if live.len() > 63 {
            return Err(Error::new(Kind::Usage, "a database name has at most 63 bytes")
                .at(live.to_owned())
                .hint("PostgreSQL would cut it silently; choose a shorter one."));
        }
        if ["template0", "template1"].contains(&live) {
            return Err(Error::new(Kind::Refused, format!("{live} is a template and is not exchanged"))
                .hint("Give it another name with --to."));
        }
        Ok(())
    }

    /// What stays with the old database when names are exchanged, and must not.
    async fn live_can_move(&self, admin: &Session, live: &str) -> Result<()> {
        let name = literal(live);
        let list = |rows: Vec<super::session::Row>| rows.iter().map(|r| r.text(0)).collect::<Vec<_>>().join(", ");
        let slots = admin
            .rows("slot_name", &format!("FROM pg_replication_slots WHERE database = {name}"))
            .await
            .map_err(failed)?;
        if !slots.is_empty() {
            return Err(Error::new(Kind::Refused, format!("database {live} has replication slots, which would stay with the old one and keep its log until the disk is full"))
                .because(list(slots))
                .hint("Drop them with pg_drop_replication_slot() and let their readers begin anew after the restore, or restore with --to."));
        }
        let prepared =
            admin.rows("gid", &format!("FROM pg_prepared_xacts WHERE database = {name}")).await.map_err(failed)?;
        if !prepared.is_empty() {
            return Err(Error::new(
                Kind::Refused,
                format!("database {live} has prepared transactions, which hold it where it is"),
            )
            .because(list(prepared))
            .hint("COMMIT PREPARED or ROLLBACK PREPARED them."));
        }
        // Readable by superusers only, and by name of the database it works in.
        let subscriptions = admin
            .rows(
                "s.subname",
                &format!("FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = {name}"),
            )
            .await;
        match subscriptions {
            Ok(rows) if !rows.is_empty() => Err(Error::new(
                Kind::Refused,
                format!("database {live} has subscriptions, which would go on writing into the old one"),
            )
            .because(list(rows))
            .hint("ALTER SUBSCRIPTION … DISABLE, SET (slot_name = NONE) and DROP them, restore, and subscribe anew.")),
            Ok(_) => Ok(()),
            Err(e) if e.is(super::session::INSUFFICIENT_PRIVILEGE) => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    async fn extensions(&self, admin: &Session, facts: &DatabaseFacts) -> Result<()> {
        if let Some((name, why)) = REFUSED.iter().find(|(name, _)| facts.extensions.iter().any(|e| e.0 == *name)) {
            return Err(Error::new(
                Kind::Refused,
                format!(
                    "database {} uses the extension {name}, and cannot be staged beside the live one",
                    facts.database
                ),
            )
            .because(*why)
            .hint("Write the archive out with `backstay cat`, and load it as the extension's manual says."));
        }
        let available = admin.rows("name", "FROM pg_available_extensions").await.map_err(failed)?;
        let available: BTreeSet<String> = available.iter().map(|r| r.text(0)).collect();
        let missing: Vec<&str> =
            facts.extensions.iter().map(|e| e.0.as_str()).filter(|e| !available.contains(*e)).collect();
        if !missing.is_empty() {
            return Err(Error::new(
                Kind::Refused,
                format!("the server lacks extensions that the backup uses: {}", missing.join(", ")),
            )
            .at(self.server.place())
            .hint("Install their packages on the server first."));
        }
        Ok(())
    }

    async fn privileges(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)], told: &mut Told) -> Result<()> {
        if globals::is_superuser(admin, &self.server.user).await? {
            return Ok(());
        }
        let row = admin.row("rolcreatedb", "FROM pg_roles WHERE rolname = current_user").await.map_err(failed)?;
        if !row.truth(0) {
            return Err(Error::new(
                Kind::Refused,
                format!("role {} may not create or rename databases", self.server.user),
            )
            .at(self.server.place())
            .hint(format!(
                "ALTER ROLE {} CREATEDB, or name a superuser in the source's url.",
                ident(&self.server.user)
            )));
        }
        for (live, _) in targets.iter().filter(|_| self.part.is_none()) {
            let owner = admin
                .rows(
                    "pg_get_userbyid(datdba)",
                    &format!("FROM pg_database WHERE datname = {} AND NOT pg_has_role(datdba, 'USAGE')", literal(live)),
                )
                .await
                .map_err(failed)?;
            if let Some(row) = owner.first() {
                return Err(Error::new(
                    Kind::Refused,
                    format!(
                        "database {live} belongs to {}, and role {} cannot rename it",
                        row.text(0),
                        self.server.user
                    ),
                )
                .at(self.server.place())
                .hint(format!(
                    "GRANT {} TO {}, or name another role in the source's url.",
                    ident(&row.text(0)),
                    ident(&self.server.user)
                )));
            }
        }
        if !self.options.no_owner {
            told.warnings.push(format!(
                "role {} is no superuser: objects of roles that it is not a member of make the load fail, unless --no-owner",
                self.server.user
            ));
        }
        Ok(())
    }

    async fn tablespaces(&self, admin: &Session) -> Result<BTreeSet<String>> {
        let rows = admin.rows("spcname", "FROM pg_tablespace").await.map_err(failed)?;
        Ok(rows.iter().map(|r| r.text(0)).collect())
    }

    /// Room in the data directory: what the databases took when they were backed up, and the log of loading them.
    async fn room(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)]) -> Result<Option<Room>> {
        let wal = admin
            .rows("setting::bigint * 1048576", "FROM pg_settings WHERE name = 'max_wal_size'")
            .await
            .map_err(failed)?
            .first()
            .map_or(WAL, |r| r.number(0));
        let mut needed = self.part.unwrap_or_else(|| targets.iter().map(|(_, f)| f.size).sum()) + wal;
        if self.dropped_first {
            let names: Vec<String> = targets.iter().map(|(live, _)| literal(live)).collect();
            let from = format!("FROM pg_database WHERE datname IN ({})", names.join(", "));
            let live = admin.row("coalesce(sum(pg_database_size(oid)), 0)::bigint", &from).await.map_err(failed)?;
            needed = needed.saturating_sub(live.number(0));
        }
        let directory =
            admin.rows("setting", "FROM pg_settings WHERE name = 'data_directory'").await.map_err(failed)?;
        let place = directory.first().map(|r| r.text(0)).filter(|d| !d.is_empty());
        let free = match (&place, self.assume_space) {
            (_, Some(assumed)) => Some(assumed),
            (Some(directory), None) => self.free(Path::new(directory)).await,
            (None, None) => None,
        };
        let room = Room { place: place.map_or_else(|| self.server.place().into(), PathBuf::from), needed, free };
        if room.free.is_some_and(|free| free < needed) {
            use crate::model::size::human;
            return Err(Error::new(
                Kind::Refused,
                format!(
                    "there is no room for a second copy: {} are needed, {} are free",
                    human(needed),
                    human(room.free.unwrap_or(0))
                ),
            )
            .at(room.place.display().to_string())
            .hint("Make room, for example with `backstay cleanup`; restore with --in-place, which drops the live database first; or tell --assume-space when this is wrong."));
        }
        Ok(Some(room))
    }

    /// Free bytes where the server keeps its data, when that is here or in a container.
    async fn free(&self, directory: &Path) -> Option<u64> {
        let local =
            self.server.host.starts_with('/') || ["localhost", "127.0.0.1", "::1"].contains(&self.server.host.as_str());
        match &self.server.place {
            Place::Container(_) => {
                let df = self.server.program(Path::new("df"), ["-Pk", &directory.display().to_string()]);
                let out = String::from_utf8(df.output().await.ok()?).ok()?;
                out.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok().map(|k| k * 1024)
            }
            // A server behind a forwarded port says a path that is not of this machine.
            _ if local && directory.join("PG_VERSION").exists() => {
                let stat = rustix::fs::statvfs(directory).ok()?;
                Some(stat.f_bavail * stat.f_frsize)
            }
            _ => None,
        }
    }

    /// Makes, renames and drops an empty database like each target's: locale, privileges and pg_hba.conf are what the
    /// server says they are, not what its catalogs let one think.
    async fn probe(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)]) -> Result<()> {
        let (first, second) =
            ("backstay_probe_staged_00000000".to_owned(), "backstay_probe_before_00000000".to_owned());
        let mut seen = BTreeSet::new();
        for (live, facts) in targets {
            let kind = (&facts.encoding, &facts.collate, &facts.ctype, &facts.locale);
            if !seen.insert(kind) {
                continue;
            }
            for name in [&first, &second] {
                admin.run(&format!("DROP DATABASE IF EXISTS {}", ident(name))).await.map_err(failed)?;
            }
            let refused = |e: SqlError, what: &str, hint: &str| {
                let error = e
                    .says(format!("database {live} cannot be restored here: {what}"))
                    .kind(Kind::Refused)
                    .at(self.server.place());
                error.hint(hint)
            };
            admin.run(&create::statement(&first, facts)).await.map_err(|e| {
                refused(
                    e,
                    "an empty one like it cannot be made",
                    "The locale must exist on the server, and the role needs CREATEDB.",
                )
            })?;
            let connected = self.server.session(&first).await.map(|_| ());
            let renamed = admin.run(&format!("ALTER DATABASE {} RENAME TO {}", ident(&first), ident(&second))).await;
            for name in [&first, &second] {
                if swap::oid(admin, name).await.map_err(failed)?.is_some() {
                    admin.run(&format!("DROP DATABASE {}", ident(name))).await.map_err(failed)?;
                }
            }
            connected.map_err(|e| {
                Error::new(
                    Kind::Refused,
                    format!("database {live} cannot be restored here: a new database may not be connected to"),
                )
                .at(self.server.place())
                .because(e.one_line())
                .hint("pg_hba.conf must let this role connect to all databases.")
            })?;
            renamed.map_err(|e| refused(e, "databases cannot be renamed", "The role needs CREATEDB."))?;
        }
        Ok(())
    }
}
