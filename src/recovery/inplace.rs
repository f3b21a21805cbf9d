//! Databases where there is no room for two copies: the live one is dropped, and the backup loaded in its place.
//!
//! What makes this bearable is a *safety backup* of what is live, taken right before, whose id is in the journal: undoing
//! loads it. Where the live data cannot be dumped, a *cold copy* of the server's files stands for it: it is made when the
//! application is stopped, and undoing puts it back. A waiver instead of both means that there is no way back. While the load takes, the application has no
//! database; it never sees half of one, since the load goes into another name and takes the live one when it is whole.

use super::bare::drop_roles;
use super::cluster::cold::ColdCopy;
use super::cluster::written;
use super::database::{Databases, Staged, failed};
use super::dropped::{self, One, Plan};
use super::marked::{Put, is_dropping, mark_dropping, unmark};
use super::resource::{Class, Compared, Findings, Left, Live, Note, Previous, Resource, parse};
use crate::error::{Error, Kind, Result};
use crate::sources::postgres::attributes::Attributes;
use crate::sources::postgres::connect::{Server, ident, literal};
use crate::sources::postgres::dropping::{drop_database, is_half_dropped};
use crate::sources::postgres::session::{INSUFFICIENT_PRIVILEGE, OBJECT_IN_USE, Session};
use crate::sources::postgres::swap::{self, Exchange};
use crate::sources::postgres::{facts, globals, load, waiting};
use async_trait::async_trait;
use serde_json::json;

/// Stands for the names of a server's other databases when it does not tell them.
const UNTOLD: &str = "its other databases";

/// Databases of one source, replaced without a second copy.
pub struct InPlace {
    /// What is restored.
    pub new: Databases,
    /// What is live, as the safety backup has it; nothing when that was waived.
    pub safety: Option<Databases>,
    /// How the server's files are copied, when that stands for it.
    pub cold: Option<ColdCopy>,
}

impl InPlace {
    /// Puts a database of a backup in the place of the live one, and marks it as what it is.
    async fn put(&self, of: &Databases, one: &One, what: Put) -> Result<()> {
        // What cannot be loaded has nothing dropped for it.
        of.of_backup(&one.live)?;
        let server = of.address.reach().await?;
        let admin = server.admin_beside(&one.live).await?;
        let major = facts::server_version(&admin).await? / 10_000;
        let reads = of.oldest_reader().await?;
        load::is_possible(of.options.loader, major, reads, &server.place).await.map_err(|e| e.kind(Kind::Restore))?;
        // Hours may have passed since the first look, and a `DROP` that does not come to its end has lost the data too.
        let found = swap::oid(&admin, &one.live).await.map_err(failed("the databases cannot be looked at"))?;
        if found.is_some() {
            waiting::refuse(&admin, &server.place()).await.map_err(|e| e.kind(Kind::Restore))?;
        }
        let is_live = found.is_some() && found == one.live_oid;
        let first_try = is_live && mark_dropping(&admin, &one.live, &self.new.id).await?;
        if let Err(e) = drop_database(&admin, &one.live).await {
            // Refused before anything of it was touched. An earlier try may have come further.
            if first_try && [OBJECT_IN_USE, INSUFFICIENT_PRIVILEGE].iter().any(|code| e.is(code)) {
                let _ = unmark(&admin, &one.live, &self.new.id, one.attributes.comment.as_deref()).await;
            }
            return Err(failed("the live database cannot be dropped")(e));
        }
        let mut staged = Staged::new(&one.live, one.loading.clone());
        // The live one is gone by now, and nobody else knows any more whose it was.
        let owner = one.live_oid.map(|_| one.attributes.owner.as_str());
        of.stage_one(&server, &admin, &mut staged, owner).await?;
        let bad: Vec<String> = of
            .verify_one(&server, &staged)
            .await?
            .iter()
            .filter(|c| !c.good)
            .map(|c| format!("{}: {} instead of {}", c.what, c.found, c.expected))
            .collect();
        if !bad.is_empty() {
            return Err(Error::new(
                Kind::Mismatch,
                format!("database {} was loaded and differs from the facts of the backup", one.live),
            )
            .because(bad.join("\n")));
        }
        let found = swap::oid(&admin, &one.loading).await.map_err(failed("the loaded database cannot be found"))?;
        let staged_oid =
            found.ok_or_else(|| Error::new(Kind::Restore, "the loaded database is gone").at(&one.loading))?;
        let exchange = Exchange {
            live: one.live.clone(),
            live_oid: None,
            staged: one.loading.clone(),
            staged_oid,
            before: String::new(),
            attributes: Attributes { comment: Some(what.mark(&of.id)), ..one.attributes.clone() },
            left_out: Vec::new(),
        };
        swap::swap(&server, &[exchange]).await
    }

    /// The safety backup with the owners and grants that the live database had, whatever the restore leaves out: a superuser
    /// may set them.
    async fn as_it_was(&self, safety: &Databases, server: &Server, admin: &Session) -> Result<Databases> {
        let mut whole = safety.on(safety.address.clone());
        if globals::is_superuser(admin, &server.user).await? {
            (whole.options.no_owner, whole.options.no_privileges) = (false, false);
        }
        Ok(whole)
    }

    /// What a role that is no superuser should know of the way back.
    async fn goes_back_without(&self) -> Result<Option<String>> {
        let options = &self.new.options;
        if self.cold.is_some() || !(options.no_owner || options.no_privileges) {
            return Ok(None);
        }
        let server = self.new.address.reach().await?;
        if globals::is_superuser(&server.admin().await?, &server.user).await? {
            return Ok(None);
        }
        let what = match (options.no_owner, options.no_privileges) {
            (true, true) => "owners and grants",
            (true, false) => "owners",
            (false, _) => "grants",
        };
        Ok(Some(format!(
            "role {} is no superuser: when this is taken back, a safety backup too is loaded without {what}",
            server.user
        )))
    }

    /// Databases of the server that a cold copy takes back besides those that are restored.
    async fn others(&self, cold: &ColdCopy) -> Result<Vec<String>> {
        let mut names = written::databases(&cold.source).await?;
        names.retain(|name| !self.new.targets.iter().any(|t| t.live == *name));
        Ok(names)
    }

    /// What the live databases take. Bytes.
    async fn live_bytes(&self) -> Result<u64> {
        let admin = self.new.address.reach().await?.admin().await?;
        let names: Vec<String> = self.new.targets.iter().map(|t| literal(&t.live)).collect();
        let from = format!("FROM pg_database WHERE datname IN ({})", names.join(", "));
        let size = admin.row("coalesce(sum(pg_database_size(oid)), 0)::bigint", &from).await;
        Ok(size.map_err(failed("the live databases cannot be measured"))?.number(0))
    }

    /// Whether the live name has this already: a crash may have come right after the end. The facts alone would not tell: what
    /// was live may have as many rows as what is restored.
    async fn is_put(&self, of: &Databases, one: &One, what: Put) -> Result<bool> {
        let server = of.address.reach().await?;
        let admin = server.admin_beside(&one.live).await?;
        if !what.is_at(&admin, &one.live, &of.id).await? {
            return Ok(false);
        }
        let there = Staged::new(&one.live, one.live.clone());
        Ok(of.verify_one(&server, &there).await?.iter().all(|c| c.good))
    }

    /// Refuses to take anything back where another database than the one that was live has its name, and no copy of that is at
    /// hand. Before the copy is whole nothing is dropped, so that it is the live one.
    async fn is_live(&self, plan: &Plan) -> Result<()> {
        let admin = self.new.address.reach().await?.admin().await?;
        for one in &plan.databases {
            let found = swap::oid(&admin, &one.live).await.map_err(failed("the databases cannot be looked at"))?;
            if found != one.live_oid {
                return Err(Error::new(
                    Kind::Restore,
                    format!(
                        "database {} is not the one that was live, and the cold copy that has it is not there",
                        one.live
                    ),
                )
                .hint("Nothing was dropped. Somebody has removed the copy, or has made that database meanwhile."));
            }
        }
        Ok(())
    }

    /// Takes the marks off, when all databases are in place.
    async fn unmark(&self, plan: &Plan) -> Result<()> {
        let server = self.new.address.reach().await?;
        for one in &plan.databases {
            let admin = server.admin_beside(&one.live).await?;
            unmark(&admin, &one.live, &self.new.id, one.attributes.comment.as_deref()).await?;
        }
        Ok(())
    }
}

/// Drops what was made beside the live databases.
async fn drop_loading(admin: &Session, plan: &Plan) -> Result<()> {
    for one in &plan.databases {
        drop_database(admin, &one.loading).await.map_err(failed("what was being loaded cannot be dropped"))?;
    }
    Ok(())
}

#[async_trait]
impl Resource for InPlace {
    fn label(&self) -> String {
        format!("{} in place", self.new.label())
    }

    fn class(&self) -> Class {
        Class::Database
    }

    async fn answers(&self) -> Result<()> {
        let answered = async { self.new.address.reach().await?.admin().await.map(drop) }.await;
        // Interrupted, it may be stopped because of us; the step that stopped it starts it.
        if answered.is_err()
            && let Some(cold) = &self.cold
            && !cold.source.runs().await
        {
            return Ok(());
        }
        answered
    }

    async fn preflight(&self) -> Result<Findings> {
        let mut found = self.new.preflight().await?;
        found.slow_swap = true;
        match &self.cold {
            Some(cold) => cold.preflight(&mut found, self.live_bytes().await?).await?,
            None => found.live = Live::Dropped,
        }
        found.warnings.extend(self.goes_back_without().await?);
        found.warnings.push("the live database is dropped before the load; until that ends there is none".to_owned());
        Ok(found)
    }

    /// A cold copy takes the other databases of the server along. The server need not run for that, so it is asked if it can be.
    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        let mut found = Findings::default();
        let kept = swap.map(parse::<Plan>).transpose()?.and_then(|plan| plan.cold);
        if let Some(home) = kept.as_ref().map(|cold| cold.gone_from()).transpose()?.flatten() {
            return Err(Error::new(Kind::Refused, "the cold copy that was kept is not there any more")
                .at(home.display())
                .hint("Bring it back to that place, or restore an older backup instead."));
        }
        if let Some(cold) = &kept
            && cold.is_lost()?
        {
            return Err(Error::new(Kind::Refused, "the data directory is not the one that the restore left in place")
                .at(cold.place()?.display())
                .because("it has another device or inode: it was moved, or its disk has another number since a boot")
                .hint("Take the copy back by hand: stop the server, bring the copy in the place of that directory, start the server."));
        }
        if let Some(cold) = &self.cold {
            let warning = match self.others(cold).await {
                Ok(others) if others.is_empty() => None,
                Ok(others) => Some(others.join(", ")),
                Err(_) => Some(format!("{UNTOLD}, which it does not tell now")),
            };
            found.warnings.extend(warning.map(|others| {
                format!(
                    "the cold copy takes back all of the server, with {others}; what was written there since is kept"
                )
            }));
        }
        Ok(found)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let server = self.new.address.reach().await?;
        let admin = server.admin().await?;
        let looked = failed("the databases cannot be looked at");
        let roles = globals::missing(&admin, &self.new.globals().await?).await?;
        let mut known = globals::roles(&admin).await?;
        known.extend(roles.iter().cloned());
        let mut databases = Vec::new();
        for target in &self.new.targets {
            let live_oid = swap::oid(&admin, &target.live).await.map_err(&looked)?;
            let (attributes, beyond) = match live_oid {
                Some(_) => (Attributes::read(&admin, &target.live).await.map_err(&looked)?, Vec::new()),
                None => self.new.attributes(&target.live)?.within_reach(&admin).await.map_err(&looked)?,
            };
            let (_, mut not_given) = attributes.statements(&target.live, &known);
            not_given.extend(beyond);
            let closed = format!("FROM pg_database WHERE datname = {} AND NOT datallowconn", literal(&target.live));
            let open = !admin.any(&closed).await.map_err(&looked)?;
            let loading = swap::beside(&target.live, "staged", self.new.id.as_str());
            databases.push(One { live: target.live.clone(), live_oid, open, attributes, not_given, loading });
        }
        let (cold, others) = match &self.cold {
            Some(cold) => (Some(cold.plan().await?), self.others(cold).await?),
            None => (None, Vec::new()),
        };
        Ok(json!(Plan { databases, roles, cold, others }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let plan: Plan = parse(staging)?;
        let admin = self.new.address.reach().await?.admin().await?;
        globals::make(&admin, &self.new.globals().await?, &plan.roles).await?;
        Ok(staging.clone())
    }

    /// Nothing is staged; what is loaded is compared before it takes the live name.
    async fn verify(&self, _: &Note) -> Result<Vec<Compared>> {
        Ok(Vec::new())
    }

    /// What other databases of the server have written is nobody's to throw away, but the operator's.
    async fn unstage(&self, staging: &Note) -> Result<()> {
        let plan: Plan = parse(staging)?;
        let admin = self.new.address.reach().await?.admin().await?;
        drop_loading(&admin, &plan).await?;
        drop_roles(&admin, &plan.roles).await?;
        plan.cold.as_ref().map_or(Ok(()), |cold| cold.remove(!plan.others.is_empty()))
    }

    fn kept_by_unstage(&self, staging: &Note) -> Vec<Left> {
        dropped::left(staging)
    }

    async fn drop_staged(&self, staging: &Note) -> Result<()> {
        let plan: Plan = parse(staging)?;
        let admin = self.new.address.reach().await?.admin().await?;
        drop_loading(&admin, &plan).await?;
        plan.cold.as_ref().map_or(Ok(()), |cold| cold.remove(true))
    }

    async fn drop_left(&self, staging: &Note) -> Result<()> {
        parse::<Plan>(staging)?.cold.map_or(Ok(()), |cold| cold.drop_set_aside())
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        Ok(staged.clone())
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        let plan: Plan = parse(swap)?;
        if let Some((copy, cold)) = plan.cold(self.cold.as_ref()) {
            copy.take(cold).await?;
        }
        for one in &plan.databases {
            if !self.is_put(&self.new, one, Put::Restored).await? {
                self.put(&self.new, one, Put::Restored).await?;
            }
        }
        self.unmark(&plan).await
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        let plan: Plan = parse(swap)?;
        if let Some((copy, cold)) = plan.cold(self.cold.as_ref()) {
            return match copy.put_back(cold).await? {
                true => Ok(()),
                false => self.is_live(&plan).await,
            };
        }
        for one in &plan.databases {
            let server = self.new.address.reach().await?;
            let admin = server.admin_beside(&one.live).await?;
            let cannot = failed("the databases cannot be looked at");
            let found = swap::oid(&admin, &one.live).await.map_err(&cannot)?;
            let gone = is_dropping(&admin, &one.live, &self.new.id).await.map_err(&cannot)?
                || is_half_dropped(&admin, &one.live).await.map_err(&cannot)?;
            if found.is_some() && found == one.live_oid && !gone {
                // Not dropped yet, but perhaps closed by us.
                if !one.open {
                    continue;
                }
                let open = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", ident(&one.live));
                admin.run(&open).await.map_err(failed("the live database cannot be opened again"))?;
                continue;
            }
            if one.live_oid.is_none() {
                drop_database(&admin, &one.live).await.map_err(failed("the restored database cannot be dropped"))?;
                continue;
            }
            let safety = self.safety.as_ref().ok_or_else(|| {
                Error::new(
                    Kind::Restore,
                    format!("database {} was dropped, and the safety backup was waived", one.live),
                )
                .hint("Restore another backup: the live data is gone, as the waiver said.")
            })?;
            let safety = self.as_it_was(safety, &server, &admin).await?;
            if !self.is_put(&safety, one, Put::Before).await? {
                self.put(&safety, one, Put::Before).await?;
            }
        }
        self.unmark(&plan).await
    }

    /// Other databases may have come and gone since the restore.
    async fn plan_unswap(&self, swap: &Note) -> Result<Note> {
        let mut plan: Plan = parse(swap)?;
        if let Some(cold) = &self.cold {
            plan.others = self.others(cold).await.unwrap_or_else(|_| vec![UNTOLD.to_owned()]);
        }
        Ok(json!(plan))
    }

    /// What stands in place is what the application works with: neither is it dropped, nor is anything loaded.
    async fn reswap(&self, swap: &Note) -> Result<Option<String>> {
        let plan: Plan = parse(swap)?;
        let none =
            || Error::new(Kind::Internal, "what was restored in place without a cold copy cannot be put there again");
        let (copy, cold) = plan.cold(self.cold.as_ref()).ok_or_else(none)?;
        copy.put_restored(cold).await.map(|()| None)
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let cold = parse::<Plan>(swap)?.cold;
        Ok(cold.map(|c| c.previous()).transpose()?.flatten().into_iter().collect())
    }

    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        let Ok(plan) = parse::<Plan>(swap) else { return vec![swap.to_string()] };
        match (&plan.cold, &self.safety) {
            (Some(cold), _) => cold.by_hand(),
            (None, Some(_)) => {
                vec!["restore the safety backup, whose id is in the journal, with --in-place".to_owned()]
            }
            (None, None) => vec![format!("restore {} from a backup", self.label())],
        }
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        parse::<Plan>(swap)?.cold.map_or(Ok(()), |c| c.drop_previous())
    }
}
