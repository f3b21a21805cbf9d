//! A new cluster in the place of one whose server does not start.
//!
//! It is made beside the old one, with the same major version, filled with the roles and all databases of the backup
//! and held against the facts, before the old one is touched. Then the two directories take turns: the old one stays
//! beside, whatever is wrong with it, and a rollback puts it back.

use super::copy;
use super::made::{Made, Shape};
use super::pair::{Pair, Which, arrange};
use super::settings;
use crate::error::{Error, Kind, Result};
use crate::host::holders::is_mount_point;
use crate::model::size::human;
use crate::recovery::database::{Databases, Staged, failed};
use crate::recovery::exchange::{Identity, identity};
use crate::recovery::resource::parse;
use crate::recovery::resource::{Class, Compared, Findings, Note, Previous, Resource, Space};
use crate::sources::postgres::cluster::{Cluster, Owner, programs};
use crate::sources::postgres::dropping::drop_database;
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::{PostgresSource, globals, load, preflight, swap};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What the log of the load may take on top of the data, and an empty cluster. Bytes.
const BESIDES: u64 = (1 << 30) + (64 << 20);

/// A cluster that is made anew.
pub struct FreshCluster {
    /// Its source.
    pub server: PostgresSource,
    /// What it will hold.
    pub new: Databases,
}

/// What staging makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    made: Made,
    /// The data directory of the server.
    place: PathBuf,
    /// What was loaded, each under its own name.
    #[serde(default)]
    databases: Vec<Staged>,
}

/// What takes turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Turn {
    made: Made,
    pair: Pair,
    /// What the new directory is.
    second: Identity,
    databases: Vec<String>,
}

fn refused(what: impl Into<String>, place: &Path) -> Error {
    Error::new(Kind::Refused, what).at(place.display())
}

impl FreshCluster {
    fn newest(&self) -> u32 {
        self.new.facts.iter().map(|f| f.server_version / 10_000).max().unwrap_or(0)
    }

    /// The database whose encoding and locale those of the cluster are.
    fn model(&self) -> Result<&DatabaseFacts> {
        let facts = &self.new.facts;
        let found = facts.iter().find(|f| f.database == "postgres").or_else(|| facts.first());
        found.ok_or_else(|| Error::new(Kind::Internal, "a restore without a backup cannot stage"))
    }

    async fn owner(&self, place: &Path, made: &Made) -> Result<Owner> {
        Ok(self.server.cluster_at(place, Some(made.major)).await?.owner)
    }

    /// Refuses a server that runs: what it holds can be backed up, and exchanged database by database.
    async fn is_down(&self, cluster: &Cluster) -> Result<()> {
        let answers = match self.server.address.reach().await {
            Ok(server) => server.admin().await.is_ok(),
            Err(_) => false,
        };
        let Some(found) = cluster.processes().first().map(|pid| format!("process {pid}")) else {
            return match answers {
                true => Err(refused("a server answers, and it is not the one of this directory", &cluster.data)
                    .hint("Correct `url` or `data_dir` of the source: both must mean one server.")),
                false => Ok(()),
            };
        };
        Err(refused("the server runs, and only one that does not start is made anew", &cluster.data)
            .because(found)
            .hint(
                "Leave out --fresh-cluster. If its data is past saving: --in-place with --cold-copy. Or stop it first.",
            ))
    }

    /// Roles, and every database with what belongs to its name.
    async fn fill(&self, made: &Made) -> Result<Vec<Staged>> {
        let on = self.new.on(made.address());
        let server = on.address.reach().await?;
        globals::all(&server.admin().await?, &on.globals().await?).await?;
        let mut filled = Vec::new();
        for target in &on.targets {
            let live = &target.live;
            let admin = server.admin_beside(live).await?;
            // One that `initdb` has made.
            drop_database(&admin, live).await.map_err(failed("an empty database cannot be dropped"))?;
            let mut staged = Staged::new(live, swap::beside(live, "staged", on.id.as_str()));
            on.stage_one(&server, &admin, &mut staged, None).await?;
            let attributes = on.attributes(live)?;
            let exchange = swap::plan(&admin, live, staged.name(), on.id.as_str(), &attributes).await?;
            swap::swap(&server, &[exchange]).await?;
            filled.push(staged.in_place());
        }
        Ok(filled)
    }
}

#[async_trait]
impl Resource for FreshCluster {
    fn label(&self) -> String {
        format!("cluster of source {}", self.new.source)
    }

    fn class(&self) -> Class {
        Class::Database
    }

    async fn preflight(&self) -> Result<Findings> {
        if let Some(container) = self.server.address.container() {
            return Err(Error::new(Kind::Refused, "a cluster in a container is made by its image, not by us")
                .at(format!("container {container}"))
                .hint(
                    "Stop it, move the data in its volume aside, and start it: its image makes a new cluster there. Then \
                     restore without --fresh-cluster.",
                ));
        }
        self.server.may_handle_files().await?;
        let cluster = self.server.cluster(Some(self.newest())).await?;
        let data = &cluster.data;
        self.is_down(&cluster).await?;
        let major = cluster.major.unwrap_or_else(|| self.newest());
        if self.newest() > major {
            return Err(refused(
                format!("the backup is of PostgreSQL {}, the cluster is {major}", self.newest()),
                data,
            )
            .hint(
                "A dump does not go back to an older version. Make a cluster of the newer one, and restore into that.",
            ));
        }
        programs(major)?;
        // What cannot be read is told by the load, which says what of it.
        let reads = self.new.oldest_reader().await.unwrap_or(0);
        load::is_possible(self.new.options.loader, major, reads, &cluster.owner.place()).await?;
        if is_mount_point(data) {
            return Err(refused("the data directory is a mount point and cannot change its place", data).hint(
                "Mount its disk one directory higher. Or make a new cluster there by hand, and restore into that.",
            ));
        }
        let parent = data.parent().filter(|p| p.is_dir());
        let parent = parent.ok_or_else(|| refused("the directory above the data directory is not there", data))?;
        rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).map_err(|e| {
            Error::io("the data directory cannot change its place", parent, e.into()).kind(Kind::Refused)
        })?;
        let globals = self.new.globals().await?;
        let spaces = globals::tablespaces(&globals);
        if !spaces.is_empty() {
            return Err(refused("the old cluster has tablespaces, whose directories a new one cannot take over", data)
                .because(spaces.join(", "))
                .hint("Make a cluster with its tablespaces by hand, and restore into that without --fresh-cluster."));
        }
        self.new.facts.iter().try_for_each(|facts| preflight::refused_extensions(facts, false))?;
        let needed = self.new.facts.iter().map(|f| f.size).sum::<u64>() + BESIDES;
        let free = self.new.assume_space.or_else(|| copy::free(parent));
        if let Some(free) = free.filter(|free| *free < needed) {
            return Err(refused(
                format!(
                    "there is no room for a second cluster: {} are needed, {} are free",
                    human(needed),
                    human(free)
                ),
                parent,
            )
            .hint("Make room; what is in the old directory must stay until the new one is proven."));
        }
        let names: Vec<&str> = self.new.targets.iter().map(|t| t.live.as_str()).collect();
        let mut warnings = vec![
            format!(
                "the new cluster holds what the backup has: {}; whatever else the old one had is in its directory only, which is kept",
                names.join(", ")
            ),
            match cluster.settings_inside {
                true => "settings and access rules are taken over from the old directory, as far as they are there"
                    .to_owned(),
                false => "settings and access rules in /etc stay as they are; what ALTER SYSTEM has set is taken over, as far as it is there"
                    .to_owned(),
            },
            "standbys and replication slots of the old cluster do not know the new one".to_owned(),
        ];
        warnings.extend(settings::warnings(data)?);
        if let Some(names) = cluster.setting("synchronous_standby_names").await {
            warnings.push(format!(
                "the settings have synchronous_standby_names = {names}, and no standby follows the new cluster: commits of the application \
                 would wait for one without end; empty it first"
            ));
        }
        if !globals::has_passwords(&globals) {
            warnings.push("the backup has no passwords of roles: they must be set again".to_owned());
        }
        let space = vec![Space { place: parent.to_owned(), needed, free }];
        Ok(Findings { space, warnings, ..Findings::default() })
    }

    async fn plan_staging(&self) -> Result<Note> {
        let cluster = self.server.cluster(Some(self.newest())).await?;
        let name = cluster.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let made = Made {
            data: cluster.data.with_file_name(format!("{name}_staged_{}", self.new.id)),
            // Names of sockets are short.
            run: std::env::temp_dir().join(format!("backstay-{:016x}", rand::random::<u64>())),
            major: cluster.major.unwrap_or_else(|| self.newest()),
            user: globals::first_superuser(&self.new.globals().await?, self.server.address.user()),
        };
        Ok(json!(Staging { made, place: cluster.data, databases: Vec::new() }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut staging: Staging = parse(staging)?;
        let cluster = self.server.cluster_at(&staging.place, Some(staging.made.major)).await?;
        let (made, owner) = (&staging.made, &cluster.owner);
        let shape = Shape::of(made.major, &staging.place, owner, self.model()?).await?;
        made.make(owner, &shape).await?;
        made.start(owner, true).await?;
        let filled = self.fill(made).await;
        if filled.is_err() {
            made.abandon(owner).await?;
        }
        let databases = filled?;
        made.finish(owner).await?;
        staging.databases = databases;
        Ok(json!(staging))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staging: Staging = parse(staged)?;
        let owner = self.owner(&staging.place, &staging.made).await?;
        staging.made.start(&owner, false).await?;
        let compared = async {
            let on = self.new.on(staging.made.address());
            let server = on.address.reach().await?;
            let mut all = Vec::new();
            for database in &staging.databases {
                all.extend(on.verify_one(&server, database).await?);
            }
            Ok::<_, Error>(all)
        };
        let compared = compared.await;
        staging.made.finish(&owner).await?;
        compared
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let staging: Staging = parse(staging)?;
        staging.made.remove(&self.owner(&staging.place, &staging.made).await?).await
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let Staging { made, place, databases } = parse(staged)?;
        let second = identity(&made.data)?
            .ok_or_else(|| Error::new(Kind::Restore, "the new cluster is not there").at(made.data.display()))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pair = Pair {
            first: identity(&place)?,
            first_home: place.with_file_name(format!("{name}_before_{}", self.new.id)),
            second_home: made.data.clone(),
            elsewhere: false,
            place,
        };
        let databases = databases.iter().map(|d| d.name().to_owned()).collect();
        Ok(json!(Turn { made, pair, second, databases }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        let turn: Turn = parse(swap)?;
        let cluster = self.server.cluster_at(&turn.pair.place, Some(turn.made.major)).await?;
        turn.made.abandon(&cluster.owner).await?;
        if turn.pair.in_place()? != Some(Which::Second) {
            if identity(&turn.made.data)? != Some(turn.second) {
                return Err(Error::new(Kind::Restore, "the new cluster is not there").at(turn.made.data.display()));
            }
            cluster.stopped().await?;
            // Between the two renames there is no old one to take anything from, and it was taken before.
            if turn.pair.in_place()? == Some(Which::First) || turn.pair.first.is_none() {
                let (inside, listens) = (cluster.settings_inside, &self.server.address);
                settings::adopt(&turn.pair.place, &turn.made.data, inside, listens)?;
            }
            arrange(std::slice::from_ref(&turn.pair), Which::Second)?;
        } else if identity(&turn.pair.place)? != Some(turn.second) {
            return Err(Error::new(Kind::Restore, "the data directory is neither the old nor the new one")
                .at(turn.pair.place.display())
                .hint("Somebody has put it there meanwhile. Look at it, and move it by hand."));
        }
        turn.made.tidy()?;
        // Who it is depends on what is there by now.
        let cluster = self.server.cluster_at(&turn.pair.place, Some(turn.made.major)).await?;
        self.server.started_anew(&cluster).await?;
        let server = self.server.address.reach().await?;
        for database in &turn.databases {
            server.session(database).await.map_err(|e| {
                e.kind(Kind::Restore).hint("The new cluster runs, and its access rules do not let this role in.")
            })?;
        }
        Ok(())
    }

    /// The old one did not start before, and nobody starts it now.
    async fn unswap(&self, swap: &Note) -> Result<()> {
        let turn: Turn = parse(swap)?;
        let cluster = self.server.cluster_at(&turn.pair.place, Some(turn.made.major)).await?;
        if turn.pair.in_place()? == Some(Which::Second) {
            cluster.stopped().await?;
        }
        arrange(std::slice::from_ref(&turn.pair), Which::First)
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let pair = parse::<Turn>(swap)?.pair;
        if pair.first.is_none() || identity(&pair.first_home)? != pair.first {
            return Ok(Vec::new());
        }
        let bytes = Some(copy::bytes(&pair.first_home));
        Ok(vec![Previous { name: format!("cluster {}", pair.first_home.display()), bytes }])
    }

    fn unstage_by_hand(&self, staging: &Note) -> Vec<String> {
        let Ok(staging) = parse::<Staging>(staging) else { return vec![staging.to_string()] };
        let (run, data) = (staging.made.run.display().to_string(), staging.made.data.display().to_string());
        vec![format!("stop the server of {run}, if it runs (pg_ctl -D {run} stop), and remove {run} and {data}")]
    }

    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        let Ok(turn) = parse::<Turn>(swap) else { return vec![swap.to_string()] };
        let pair = turn.pair;
        vec![format!(
            "when {} is there: stop the server, move {} to {}, and {0} to {1}",
            pair.first_home.display(),
            pair.place.display(),
            pair.second_home.display()
        )]
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        let pair = parse::<Turn>(swap)?.pair;
        match pair.first.is_some() && identity(&pair.first_home)? == pair.first {
            true => copy::remove(&pair.first_home),
            false => Ok(()),
        }
    }
}
