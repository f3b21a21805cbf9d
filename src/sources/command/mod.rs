//! The `command` source: the output of any program, and the program that takes it back.
//!
//! [`run`] has where and how the programs of a source run, [`pump`] hands one stream to several of them, [`dump`] is the
//! way out. The way back is `recovery/command`.

pub mod dump;
pub mod pump;
pub mod run;

use super::window::Window;
use super::{Delivered, Source};
use crate::error::Result;
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::sources::postgres::PostgresSource;
use crate::sources::postgres::connect::Server;
use crate::sources::postgres::facts::DatabaseFacts;
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use run::{Given, Runner};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Name of the artifact.
pub const OUTPUT: &str = "output";

/// A program whose output is the backup.
#[derive(Clone, Debug)]
pub struct CommandSource {
    /// The program with its arguments.
    pub dump: Vec<String>,
    /// How long it may take, what becomes of its output included.
    pub limit: Duration,
    /// Media type of the artifact.
    pub media: String,
    /// Whether no output at all is a good one.
    pub may_be_empty: bool,
    /// A program that reads the output and says whether it is whole.
    pub check: Option<Vec<String>>,
    /// Where all of these run.
    pub runner: Runner,
    /// The way back.
    pub back: Back,
}

/// What takes the output back.
#[derive(Clone, Debug)]
pub struct Back {
    /// The program that gets it on its input.
    pub load: Option<Vec<String>>,
    /// How long each program of a restore may take.
    pub limit: Duration,
    /// A program that says whether what was loaded is good, before it is swapped in.
    pub verify: Option<Vec<String>>,
    /// What it is loaded into.
    pub into: Target,
}

/// What an output is loaded into.
#[derive(Clone, Debug)]
pub enum Target {
    /// Nothing: it can only be written out.
    Nothing,
    /// A file or directory beside the live one.
    File(PathBuf),
    /// A database of its own on a server that a `postgres` source knows.
    Database(Box<Bound>),
    /// What is live, at once.
    InPlace {
        /// What puts it back.
        undo: Option<Vec<String>>,
    },
}

/// A database that a source is bound to.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The server's source.
    pub server: PostgresSource,
    /// The database.
    pub name: String,
    /// What makes it ready for the load: its tables.
    pub prepare: Option<Vec<String>>,
}

/// What was true at the backup. Arguments are not told: the operator may have put a secret into them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandFacts {
    /// The program.
    pub program: String,
    /// Bytes of its output.
    pub bytes: u64,
    /// Whether `check` found it whole.
    pub checked: bool,
    /// Mode and owner of the file that a restore replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Owned>,
    /// The database that it is loaded into. Its numbers of rows are of a moment before the program started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseFacts>,
}

/// To whom a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Permission bits.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl CommandSource {
    /// One of which nothing is known here but what it wrote.
    pub fn unknown() -> Self {
        CommandSource {
            dump: Vec::new(),
            limit: Duration::MAX,
            media: String::new(),
            may_be_empty: true,
            check: None,
            runner: Runner::default(),
            back: Back { load: None, limit: Duration::MAX, verify: None, into: Target::Nothing },
        }
    }
}

impl Bound {
    /// What a program gets that works on this database, or on one beside it.
    pub fn given(&self, server: &Server, database: &str) -> Given {
        let mut env = server.env();
        env.push(("PGDATABASE".to_owned(), database.to_owned()));
        Given { words: vec![("{database}", database.to_owned())], env, url: true }
    }
}

#[async_trait]
impl Source for CommandSource {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn needs(&self) -> Vec<String> {
        let mut needed: Vec<String> = self.runner.container.iter().cloned().collect();
        if let Target::Database(bound) = &self.back.into {
            needed.extend(bound.server.address.container().map(str::to_owned));
        }
        needed
    }

    async fn read(&self, _: &Name, writer: &BackupWriter, _: Arc<dyn Monitor>, window: &Window) -> Result<Delivered> {
        window.ready().await?;
        dump::dump(self, writer, window).await
    }
}
