//! What can be known to go wrong with a load and an exchange, before anything is made.

use super::connect::{Server, ident, literal};
use super::create;
use super::dropping::drop_database;
use super::facts::{self, DatabaseFacts};
use super::globals;
use super::lacking;
use super::leaving;
use super::load::{self, Options};
use super::pooler;
use super::room;
use super::session::{Session, SqlError};
use super::sessions;
use super::waiting;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Extensions whose databases cannot be renamed into place, or want steps of their own around a load.
const REFUSED: &[(&str, &str)] = &[
    (
        "pg_cron",
        "it works in one database only, the one that cron.database_name names, and cannot be made in a second one",
    ),
    ("timescaledb", "its tables want steps of its own before and after a load"),
];

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
    /// The data directory, or that of a tablespace.
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
    /// The oldest version of `pg_restore` that reads what is loaded; 0 for any.
    pub reads: u32,
    /// Free space where nobody can tell. Bytes.
    pub assume_space: Option<u64>,
    /// What is loaded of the databases when it is not all. Bytes.
    pub part: Option<u64>,
    /// True when the live databases are dropped before the load, and make room.
    pub dropped_first: bool,
}

/// Refuses extensions that want steps of their own.
///
/// # Errors
/// [`Kind::Refused`] by name.
pub fn refused_extensions(facts: &DatabaseFacts, scratch: bool) -> Result<()> {
    // A server that is made for one load and thrown away does without its jobs.
    let refused = |name: &str| !(scratch && name == "pg_cron") && facts.extensions.iter().any(|e| e.0 == name);
    let Some((name, why)) = REFUSED.iter().find(|(name, _)| refused(name)) else {
        return Ok(());
    };
    let what =
        format!("database {} uses the extension {name}, and cannot be staged beside the live one", facts.database);
    Err(Error::new(Kind::Refused, what)
        .because(*why)
        .hint("Write the archive out with `backstay cat`, and load it as the extension's manual says."))
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
                leaving::refuse(admin, live, leaving::For::Restore).await?;
            }
            self.extensions(admin, facts, &mut told.warnings).await?;
        }
        self.privileges(admin, targets, &mut told).await?;
        let missing = globals::missing(admin, roles).await?;
        // On a server of its own a drill makes them.
        if !self.options.no_owner && !self.options.scratch {
            self.owners(admin, targets, &missing).await?;
        }
        if !missing.is_empty() {
            self.may_make_roles(admin, &missing).await?;
            told.warnings.push(format!("roles that the server lacks will be made: {}", missing.join(", ")));
        }
        let tablespaces = self.tablespaces(admin).await?;
        for (live, facts) in targets {
            if let Some(t) = facts.attributes.tablespace.as_ref().filter(|t| !tablespaces.contains(*t)) {
                told.warnings.push(format!(
                    "database {live} was in tablespace {t}, which is not here: it goes into the default one"
                ));
            }
            for t in facts.tablespaces.keys().filter(|t| !tablespaces.contains(*t)) {
                told.warnings.push(format!(
                    "tables of database {live} were in tablespace {t}, which is not here: all of them go into its own one"
                ));
            }
        }
        let standbys = admin.row("count(*)", "FROM pg_stat_replication").await.map_err(failed)?.number(0);
        if standbys > 0 {
            told.warnings.push(format!("{standbys} standby servers will get all of the load, and keep their readers on the old database until it comes"));
        }
        told.space = room::look(self, admin, targets).await?;
        Ok(told)
    }

    /// Refuses a server that cannot take what the backup holds, or for which there is no program that would load it.
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
        load::is_possible(self.options.loader, here, self.reads, &self.server.place).await
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

    async fn extensions(&self, admin: &Session, facts: &DatabaseFacts, warnings: &mut Vec<String>) -> Result<()> {
        refused_extensions(facts, self.options.scratch)?;
        let missing = lacking::of(admin, facts).await?;
        if self.options.scratch {
            // They are left out of the load; that fails, and says so, if something needs them.
            let told =
                |name: &String| format!("database {}: the extension {name} is not installed there", facts.database);
            warnings.extend(missing.iter().map(told));
            return Ok(());
        }
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
        let live: Vec<&str> = targets.iter().filter(|_| self.part.is_none()).map(|(live, _)| *live).collect();
        let beyond = sessions::beyond(admin, &live).await.map_err(failed)?;
        told.warnings
            .extend(sessions::told(&beyond).map(|told| format!("{told}; while one is there the exchange fails")));
        if !self.options.no_owner {
            told.warnings.push(format!(
                "role {} is no superuser: objects of roles that it is not a member of make the load fail, unless --no-owner",
                self.server.user
            ));
        }
        Ok(())
    }

    async fn may_make_roles(&self, admin: &Session, missing: &[String]) -> Result<()> {
        let may = admin.row("rolsuper OR rolcreaterole", "FROM pg_roles WHERE rolname = current_user").await;
        if may.map_err(failed)?.truth(0) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Refused,
            format!("the server lacks roles of the backup, and role {} may not make them", self.server.user),
        )
        .at(self.server.place())
        .because(missing.join(", "))
        .hint(
            "Make them first, or ALTER ROLE … CREATEROLE. With --no-owner and --no-privileges together no role is needed, and \
             everything belongs to the connecting one.",
        ))
    }

    /// Refuses what belongs to roles that are nowhere: the load would fail half way.
    async fn owners(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)], made: &[String]) -> Result<()> {
        let there = globals::roles(admin).await?;
        for (live, facts) in targets {
            let lacks = |owner: &&String| !there.contains(*owner) && !made.contains(owner);
            let missing: Vec<&str> = facts.owners.iter().filter(lacks).map(String::as_str).collect();
            let Some(first) = missing.first() else { continue };
            return Err(Error::new(
                Kind::Refused,
                format!("the server lacks roles that own objects of database {live}: {}", missing.join(", ")),
            )
            .at(self.server.place())
            .because("the dump brings no roles along")
            .hint(format!(
                "Make each of them first: CREATE ROLE {} LOGIN PASSWORD '…'. Or give everything to the owner of the live database with --no-owner.",
                ident(first)
            )));
        }
        Ok(())
    }

    async fn tablespaces(&self, admin: &Session) -> Result<BTreeSet<String>> {
        let rows = admin.rows("spcname", "FROM pg_tablespace").await.map_err(failed)?;
        Ok(rows.iter().map(|r| r.text(0)).collect())
    }

    /// Makes, renames and drops an empty database like each target's: locale, privileges and pg_hba.conf are what the
    /// server says they are, not what its catalogs let one think.
    async fn probe(&self, admin: &Session, targets: &[(&str, &DatabaseFacts)]) -> Result<()> {
        waiting::refuse(admin, &self.server.place()).await?;
        let (first, second) =
            ("backstay_probe_staged_00000000".to_owned(), "backstay_probe_before_00000000".to_owned());
        let undropped =
            |e: SqlError| e.says("a database that was made to try cannot be dropped").at(self.server.place());
        let mut seen = BTreeSet::new();
        for (live, facts) in targets {
            let kind = (&facts.encoding, &facts.collate, &facts.ctype, &facts.locale, &facts.icu_rules);
            if !seen.insert(kind) {
                continue;
            }
            for name in [&first, &second] {
                drop_database(admin, name).await.map_err(undropped)?;
            }
            let refused = |e: SqlError, what: &str, hint: &str| {
                let error = e
                    .says(format!("database {live} cannot be restored here: {what}"))
                    .kind(Kind::Refused)
                    .at(self.server.place());
                error.hint(hint)
            };
            create::database(admin, &first, facts).await.map_err(|e| {
                refused(
                    e,
                    "an empty one like it cannot be made",
                    "The locale must exist on the server, and the role needs CREATEDB.",
                )
            })?;
            let connected = self.server.session(&first).await.map(|_| ());
            let renamed = admin.run(&format!("ALTER DATABASE {} RENAME TO {}", ident(&first), ident(&second))).await;
            for name in [&first, &second] {
                drop_database(admin, name).await.map_err(undropped)?;
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
