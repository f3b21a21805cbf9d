//! Room for a staged restore: the newest backup of each plan beside what is live, file system by file system.

use super::Patient;
use super::check::{Check, of_files, within};
use crate::config::{Config, Plan, SourceConfig};
use crate::error::Result;
use crate::host::docker::Docker;
use crate::model::{Name, size};
use crate::repository::manifest::Manifest;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for plan in p.config.plans.values() {
        let name = plan.name.to_string();
        let newest = p.newest(&plan.name).await;
        let manifest = match newest {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let mend = format!("backstay backup {}", plan.name);
                checks.push(Check::unknown(name, "there is no complete backup to measure by", mend));
                continue;
            }
            Err(e) => {
                let mend = e.hint.clone().unwrap_or_else(|| "Mend the repository first.".to_owned());
                checks.push(Check::unknown(name, e.one_line(), mend));
                continue;
            }
        };
        let mut places = None;
        let asked = within(name.clone(), async {
            places = Some(of_plan(p.config, plan, &manifest).await?);
            Ok(Check::good(name.clone(), "its places are known"))
        })
        .await;
        checks.push(match places {
            Some(places) => of_files(name, move |name| Ok(measured(name, &places, free))).await,
            None => asked,
        });
    }
    checks
}

/// What is staged where. Databases are asked about where they are; images and Redis need a share of what is told here.
async fn of_plan(config: &Config, plan: &Plan, manifest: &Manifest) -> Result<Vec<(PathBuf, u64)>> {
    let bytes = |name: &Name| manifest.sources.iter().find(|s| s.name == *name).map_or(0, |s| s.bytes());
    let mut places = Vec::new();
    for name in &plan.sources {
        match config.sources.get(name) {
            Some(SourceConfig::Files(files)) => {
                places.extend(files.paths.first().map(|path| (path.clone(), bytes(name))));
            }
            Some(SourceConfig::Volume(_) | SourceConfig::Image(_)) => {
                let docker = Docker::connect().await?;
                if docker.is_here().await? {
                    places.push((docker.root_dir().await?, bytes(name)));
                }
            }
            Some(SourceConfig::Redis(source)) => {
                places.extend(source.data_dir.clone().map(|dir| (dir, bytes(name))));
            }
            _ => {}
        }
    }
    Ok(places)
}

/// The file system of a path, by its device, and the bytes that are free there.
fn free(path: &Path) -> Option<(u64, u64)> {
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some((std::fs::metadata(there).ok()?.dev(), stat.f_bavail * stat.f_frsize))
}

fn measured(name: &str, places: &[(PathBuf, u64)], free: impl Fn(&Path) -> Option<(u64, u64)>) -> Check {
    let mut disks: BTreeMap<u64, (u64, u64, &Path)> = BTreeMap::new();
    for (path, needed) in places {
        let Some((device, free)) = free(path) else {
            let detail = format!("the free space at {} is not told", path.display());
            return Check::unknown(name, detail, "Mount it, or correct the source's path.");
        };
        disks.entry(device).or_insert((0, free, path)).0 += needed;
    }
    let human = |(needed, free, path): &(u64, u64, &Path)| {
        format!("{}: {} needed, {} free", path.display(), size::human(*needed), size::human(*free))
    };
    let short: Vec<String> = disks.values().filter(|(needed, free, _)| free < needed).map(human).collect();
    if !short.is_empty() {
        let mend = "Make room (`backstay cleanup` drops what earlier restores kept), or enlarge the disk: a restore stages the backup beside what is live.";
        return Check::bad(name, format!("no room for a second copy at {}", short.join("; ")), mend);
    }
    match disks.is_empty() {
        true => Check::good(name, "nothing is staged in files of this host"),
        false => Check::good(name, disks.values().map(human).collect::<Vec<_>>().join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    #[test]
    fn what_lies_on_one_disk_is_added_up() {
        let places = [("/a", 60), ("/b", 50), ("/other", 10)].map(|(path, n)| (PathBuf::from(path), n));
        let disks = |path: &Path| Some(if path == Path::new("/other") { (2, 10) } else { (1, 100) });
        let check = measured("p", &places, disks);
        assert_eq!(check.outcome, Outcome::Bad);
        assert!(check.detail.contains("/a: 110 B needed, 100 B free") && !check.detail.contains("/other"), "{check:?}");
        assert_eq!(measured("p", &places[1..], disks).outcome, Outcome::Good);
        assert_eq!(measured("p", &places, |_| None).outcome, Outcome::Unknown);
        assert_eq!(measured("p", &[], disks).outcome, Outcome::Good);
    }
}
