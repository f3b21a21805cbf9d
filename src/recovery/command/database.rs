//! A database that programs make anew beside the live one, as frameworks do: tables by `prepare`, rows by `load`, a look
//! at both by `verify`. Everything around that is as for a dump of the server's own ([`Databases`]).

use super::Taking;
use crate::error::{Error, Kind, Result};
use crate::model::size::plural;
use crate::recovery::chosen::Target;
use crate::recovery::database::Databases;
use crate::recovery::resource::{Class, Compared, Findings, Note, Previous, Resource};
use crate::sources::command::Bound;
use crate::sources::command::run::Given;
use crate::sources::postgres::connect::{Server, ident};
use crate::sources::postgres::dropping::drop_database;
use crate::sources::postgres::facts::{self, DatabaseFacts, TableFacts};
use crate::sources::postgres::load::{Loader, Options, settle};
use crate::sources::postgres::session::{Session, SqlError};
use crate::sources::postgres::{create, globals};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;

/// See the module.
pub struct DatabaseCommand {
    taking: Taking,
    bound: Bound,
    /// The same database as a restore of a dump sees it: staged, exchanged and kept under the same names.
    databases: Databases,
}

fn failed(what: &'static str) -> impl Fn(SqlError) -> Error {
    move |e| e.says(what).kind(Kind::Restore)
}

/// The name that the staged database has.
fn staged_name(note: &Note) -> Result<&str> {
    let name = note.pointer("/databases/0/staged").and_then(Note::as_str);
    name.ok_or_else(|| Error::new(Kind::Internal, "a note of the restore cannot be read"))
}

impl DatabaseCommand {
    /// The database of a source that is bound to one, or with `to` another one beside it.
    pub fn new(taking: Taking, bound: Bound, to: Option<&str>) -> Self {
        let live = to.unwrap_or(&bound.name).to_owned();
        let target = Target { database: bound.name.clone(), live, copy: to.is_some() };
        // Without facts there is nothing but undoing, which needs the name alone.
        let facts = taking.facts.database.clone().map(|f| DatabaseFacts { database: bound.name.clone(), ..f });
        let databases = Databases {
            source: taking.source.to_string(),
            address: bound.server.address.clone(),
            targets: vec![target],
            facts: facts.into_iter().collect(),
            id: taking.id.clone(),
            from: None,
            options: Options { loader: Loader::Other, ..Options::whole(1) },
            dropped_first: false,
            count_rows_up_to: bound.server.count_rows_up_to,
            assume_space: None,
        };
        DatabaseCommand { taking, bound, databases }
    }

    fn facts(&self) -> Result<&DatabaseFacts> {
        self.databases.facts.first().ok_or_else(|| {
            Error::new(Kind::NotFound, format!("the backup does not say what database {} was like", self.bound.name))
                .hint("It was taken before the source was bound to a database. Take another one, or write it out with --to.")
        })
    }

    fn given(&self, server: &Server, staged: &str) -> Given {
        let mut given = self.bound.given(server, staged);
        given.words.extend(self.taking.given().words);
        given.words.push(("{staging}", staged.to_owned()));
        given
    }

    /// An empty database like that of the backup, in which whoever connects makes objects for its owner: with those of
    /// the connecting role the application would be locked out.
    async fn create(&self, server: &Server, admin: &Session, staged: &str) -> Result<()> {
        let facts = self.facts()?;
        let cannot = failed("the staging database cannot be made");
        drop_database(admin, staged).await.map_err(failed("an old staging database cannot be dropped"))?;
        create::database(admin, staged, facts).await.map_err(&cannot)?;
        let extensions = server.session(staged).await?;
        for (name, _) in &facts.extensions {
            // The owner may not be allowed to make it.
            let sql = format!("CREATE EXTENSION IF NOT EXISTS {}", ident(name));
            extensions.run(&sql).await.map_err(failed("an extension of the database cannot be made"))?;
        }
        let owner = &facts.attributes.owner;
        if *owner != server.user && globals::roles(admin).await?.contains(owner) {
            let (database, owner) = (ident(staged), ident(owner));
            admin.run(&format!("ALTER DATABASE {database} OWNER TO {owner}")).await.map_err(&cannot)?;
            admin.run(&format!("ALTER DATABASE {database} SET role TO {owner}")).await.map_err(&cannot)?;
        }
        Ok(())
    }
}

/// Numbers of rows as they were and as they are. They are told and decide nothing: the program that wrote the output may
/// leave tables out, and the facts are of a moment before it.
fn rows(expected: &DatabaseFacts, found: &DatabaseFacts) -> Vec<Compared> {
    let key = |t: &TableFacts| (t.schema.clone(), t.name.clone());
    let there: BTreeMap<_, _> = found.tables.iter().map(|t| (key(t), t.rows)).collect();
    let line = |t: &TableFacts| Compared {
        what: format!("{}: table {}", expected.database, t.full_name()),
        expected: plural(t.rows, "row"),
        found: there.get(&key(t)).map_or_else(|| "missing".to_owned(), |n| plural(*n, "row")),
        good: true,
    };
    expected.tables.iter().map(line).collect()
}

#[async_trait]
impl Resource for DatabaseCommand {
    fn label(&self) -> String {
        let live = self.databases.targets.first().map_or(&self.bound.name, |t| &t.live);
        format!("database {live} of source {}", self.taking.source)
    }

    fn class(&self) -> Class {
        Class::Database
    }

    async fn preflight(&self) -> Result<Findings> {
        self.facts()?;
        let back = &self.taking.configured.back;
        let programs = [back.load.as_ref(), back.verify.as_ref(), self.bound.prepare.as_ref()];
        self.taking.preflight(&programs, Path::new("/"))?;
        let mut found = self.databases.preflight().await?;
        found.warnings.push(
            "the tables are those that `prepare` makes, and their grants with them; the database's own grants and settings stay"
                .to_owned(),
        );
        Ok(found)
    }

    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        self.databases.used(swap).await
    }

    async fn plan_staging(&self) -> Result<Note> {
        self.databases.plan_staging().await
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let staged = staged_name(staging)?;
        let server = self.bound.server.address.reach().await?;
        let admin = server.admin().await?;
        self.create(&server, &admin, staged).await?;
        let given = self.given(&server, staged);
        if let Some(argv) = &self.bound.prepare {
            self.taking.call("prepare", argv, &given).await?.run(Kind::Restore).await?;
        }
        self.taking.load(&given).await?;
        let reset = format!("ALTER DATABASE {} RESET role", ident(staged));
        admin.run(&reset).await.map_err(failed("a setting of the staging database cannot be taken back"))?;
        settle(&server, staged).await?;
        Ok(staging.clone())
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staged = staged_name(staged)?;
        let server = self.bound.server.address.reach().await?;
        let verify = &self.taking.configured.back.verify;
        if let Some(argv) = verify {
            let given = self.given(&server, staged);
            self.taking.call("verify", argv, &given).await?.run(Kind::Mismatch).await?;
        }
        let session = server.session(staged).await?;
        let mut found = facts::read(&session).await?;
        facts::count(&session, &mut found.tables, self.bound.server.count_rows_up_to).await?;
        facts::join_hash_partitions(&mut found.tables);
        let mut lines = self.taking.said(verify.is_some());
        lines.extend(rows(self.facts()?, &found));
        Ok(lines)
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        self.databases.unstage(staging).await
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        self.databases.plan_swap(staged).await
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        self.databases.swap(swap).await
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        self.databases.unswap(swap).await
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        self.databases.previous(swap).await
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        self.databases.drop_previous(swap).await
    }
}
