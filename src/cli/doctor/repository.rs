//! The store: whether it answers, what its clock says, and what it lets this host do.

use super::Patient;
use super::check::{Check, Outcome, of_files, within};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::systemd_timer::{Job, schedule};
use crate::model::{size, time};
use crate::storage::create_only::{Conditional, CreateOnly};
use crate::storage::open::{Location, open_raw};
use crate::storage::{DeleteOutcome, ErrorKind, ObjectStore, Versions};
use jiff::{SignedDuration, Timestamp};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A clock may be wrong by so much without a word: a request takes its time, and a store tells whole seconds.
const CLOSE: SignedDuration = SignedDuration::from_secs(30);
/// S3 refuses requests that are further off.
const REFUSED: SignedDuration = SignedDuration::from_mins(15);

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let answers = within("answers", answers(p)).await;
    if answers.outcome != Outcome::Good {
        return vec![answers];
    }
    let mut checks = vec![answers];
    checks.push(within("vault", vault(p)).await);
    checks.push(within("clock", clock(p)).await);
    match Location::parse(&p.config.storage.url) {
        Ok(Location::File(path)) => {
            let others = on_this_disk(p.config);
            checks.push(of_files("disk", move |name| disk(name, &path, &others)).await);
        }
        Ok(location) => {
            let known = matches!(location, Location::Gcs { .. }) && p.config.storage.endpoint.is_none();
            checks.push(within("create only", create_only(p, known)).await);
            checks.push(within("delete", delete(p)).await);
            checks.extend(versions(p).await);
        }
        Err(_) => {}
    }
    checks
}

async fn answers(p: &Patient<'_>) -> Result<Check> {
    let store = p.store().await?;
    store.list(&format!("{}/", p.config.host), None).await?;
    Ok(Check::good("answers", format!("{}, with these credentials", p.config.storage.url)))
}

async fn vault(p: &Patient<'_>) -> Result<Check> {
    let vault = p.vault().await?;
    let epoch = vault.epoch()?.number;
    Ok(Check::good("vault", format!("{} of host {}, key epoch {epoch}", vault.header.vault, vault.host())))
}

async fn clock(p: &Patient<'_>) -> Result<Check> {
    let store = p.store().await?;
    let before = Timestamp::now();
    let there = store.now().await?;
    let middle = before + Timestamp::now().duration_since(before) / 2;
    Ok(skew("clock", middle.duration_since(there)))
}

fn skew(name: &str, ahead: SignedDuration) -> Check {
    let off = ahead.abs();
    if off <= CLOSE {
        return Check::good(name, "that of this host and the store's agree");
    }
    let direction = if ahead.is_positive() { "ahead of" } else { "behind" };
    let detail = format!("that of this host is {} {direction} the store's", time::words(off));
    let mend = "Let a time service set this host's clock: `timedatectl set-ntp true`, or install chrony.";
    if off < REFUSED { Check::warning(name, detail, mend) } else { Check::bad(name, detail, mend) }
}

/// The store as it is, each call made once.
async fn raw(p: &Patient<'_>) -> Result<Arc<dyn ObjectStore>> {
    Ok(open_raw(&p.config.storage).await?)
}

/// Asks with the object by which the store was asked before the first backup; nothing else is written.
async fn create_only(p: &Patient<'_>, known: bool) -> Result<Check> {
    let name = "create only";
    if known {
        return Ok(Check::good(name, "the provider keeps what exists"));
    }
    let asking = CreateOnly::new(raw(p).await?, "", None);
    let asked = asking.probe(&format!("{}/probe", p.config.host)).await.map_err(|e| {
        let denied = e.kind == ErrorKind::Denied;
        let error = Error::from(e);
        if denied {
            error.do_instead(
                "These credentials may not write: no backup can be made. config/policies has what they need.",
            )
        } else {
            error
        }
    })?;
    Ok(match asked {
        Conditional::Enforced => Check::good(name, "the server refuses to overwrite what exists"),
        Conditional::Ignored => Check::warning(
            name,
            "the server overwrites although it is asked not to; Backstay looks before it writes",
            "Nothing can keep others with these credentials from overwriting: use a server that honours If-None-Match, or lock objects there.",
        ),
    })
}

/// Whether these credentials may delete: tried on an object that there is not.
async fn delete(p: &Patient<'_>) -> Result<Check> {
    let name = "delete";
    let absent = format!("{}/doctor-{:016x}", p.config.host, rand::random::<u64>());
    let may = match raw(p).await?.delete(&absent).await {
        Ok(DeleteOutcome::Gone) => true,
        Ok(DeleteOutcome::Retained) => false,
        Err(e) if e.kind == ErrorKind::Denied => false,
        Err(e) => return Err(e.into()),
    };
    let prunes = schedule(&Job::Prune).await.is_ok_and(|timer| timer.enabled || timer.active);
    Ok(deleting(name, may, prunes, p.config.identity_file.is_none()))
}

/// What is deleted and stays is paid for. Nothing when the store does not tell.
async fn versions(p: &Patient<'_>) -> Option<Check> {
    let name = "versions";
    let asked =
        tokio::time::timeout(p.config.storage.timeout, async { raw(p).await?.versions().await.map_err(Error::from) });
    match asked.await.ok()?.ok()?? {
        Versions::None => Some(Check::good(name, "the bucket keeps none: what prune deletes is gone")),
        Versions::Expiring => {
            Some(Check::good(name, "the bucket keeps what is deleted, until a lifecycle rule takes it away"))
        }
        Versions::Kept => Some(Check::warning(
            name,
            "the bucket keeps what is deleted for ever: prune frees nothing",
            "Add a lifecycle rule with NoncurrentVersionExpiration, and one for expired delete markers; docs/storage.md.",
        )),
    }
}

/// A host that prunes has to delete. Any other should not be able to: least of all a sealed one, which is sealed because
/// somebody may break in.
fn deleting(name: &str, may: bool, prunes: bool, sealed: bool) -> Check {
    let append_only =
        "Give this host append-only credentials (config/policies, docs/storage.md), and prune from another machine.";
    match (may, prunes) {
        (true, true) => Check::good(name, "allowed, as the prune timer of this host needs"),
        (false, true) => Check::bad(
            name,
            "refused, and the prune timer of this host is enabled: it can free nothing",
            "Disable it here (`backstay timer disable --job prune`) and prune where credentials may delete.",
        ),
        (false, false) => Check::good(name, "refused: whoever breaks into this host cannot delete its backups"),
        (true, false) if sealed => Check::bad(
            name,
            "allowed, on a host that is sealed and does not prune: whoever breaks in can delete all backups",
            append_only,
        ),
        (true, false) => Check::warning(
            name,
            "allowed, and nothing prunes here: whoever breaks in can delete all backups",
            append_only,
        ),
    }
}

/// Places whose loss a backup is for.
fn on_this_disk(config: &Config) -> Vec<PathBuf> {
    let files = config.sources.values().filter_map(|source| match source {
        crate::config::SourceConfig::Files(files) => Some(files.paths.clone()),
        _ => None,
    });
    files.flatten().chain([PathBuf::from("/")]).collect()
}

/// A directory on the disk that may break is no backup of it.
fn disk(name: &str, repository: &Path, others: &[PathBuf]) -> Result<Check> {
    let device = |path: &Path| path.ancestors().find_map(|p| std::fs::metadata(p).ok()).map(|m| m.dev());
    let there = device(repository);
    if let Some(same) = others.iter().find(|path| device(path) == there) {
        let detail = format!("it is on the same disk as {}: what breaks that breaks both", same.display());
        let mend = "Use a bucket, or a directory of another disk or machine; or copy the repository away.";
        return Ok(Check::warning(name, detail, mend));
    }
    let stat =
        rustix::fs::statvfs(repository).map_err(|e| Error::io("its free space is not told", repository, e.into()))?;
    Ok(Check::good(name, format!("another one than the data's, {} free", size::human(stat.f_bavail * stat.f_frsize))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_before_the_store_refuses() {
        for (seconds, outcome, word) in [
            (5, Outcome::Good, "agree"),
            (-29, Outcome::Good, "agree"),
            (90, Outcome::Warning, "1 min 30 s ahead of"),
            (-1000, Outcome::Bad, "16 min 40 s behind"),
        ] {
            let check = skew("clock", SignedDuration::from_secs(seconds));
            assert!(check.outcome == outcome && check.detail.contains(word), "{check:?}");
        }
    }

    #[test]
    fn who_does_not_prune_should_not_be_able_to_delete() {
        for (may, prunes, sealed, outcome) in [
            (true, true, false, Outcome::Good),
            (false, true, false, Outcome::Bad),
            (false, false, true, Outcome::Good),
            (true, false, true, Outcome::Bad),
            (true, false, false, Outcome::Warning),
        ] {
            assert_eq!(deleting("delete", may, prunes, sealed).outcome, outcome, "{may} {prunes} {sealed}");
        }
    }
}
