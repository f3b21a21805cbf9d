//! Whether a restore of each plan would get to its end: what it stops and starts, the page of nginx, checks, hooks, and the
//! servers that it restores to. All of it is what the restore itself looks at first.

use super::Patient;
use super::check::{Check, within};
use crate::config::{Plan, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::host::systemd;
use crate::model::{Name, size};
use crate::recovery::chosen::{facts_of, loader};
use crate::recovery::flow::decide::{self, Restored};
use crate::recovery::maintenance::Maintenance;
use crate::recovery::reload::Reload;
use crate::repository::manifest::Manifest;
use crate::sources::postgres::PostgresSource;
use crate::sources::postgres::load::Options;
use crate::sources::postgres::preflight::Look;
use std::path::PathBuf;

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for plan in p.config.plans.values() {
        checks.extend(around(p, plan).await);
        checks.extend(targets(p, plan).await);
    }
    checks
}

/// What is done around the exchange. Each part by itself, so that one that is wrong does not hide another.
async fn around(p: &Patient<'_>, plan: &Plan) -> Vec<Check> {
    let label = |what: &str| format!("{}, {what}", plan.name);
    let section = &plan.restore;
    let paths: Vec<PathBuf> = plan
        .sources
        .iter()
        .filter_map(|source| match p.config.sources.get(source) {
            Some(SourceConfig::Files(files)) => Some(files.paths.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let restored = Restored { sources: &plan.sources, paths: &paths, keep_on_failed_check: false, rollback: false };
    let mut flow = None;
    let decided = within(label("what is stopped"), async {
        flow = Some(decide::flow(p.config, plan, &restored).await?);
        Ok(Check::good(label("what is stopped"), "it is decided"))
    })
    .await;
    let Some(flow) = flow else { return vec![decided] };
    let mut checks = Vec::new();
    if let Some(application) = &flow.application {
        let name = label("what is stopped");
        let look = async {
            let lines = application.preflight().await?.lines();
            let list = lines.iter().map(|line| line.split(':').next().unwrap_or(line)).collect::<Vec<_>>().join(", ");
            Ok(Check::good(name.clone(), list))
        };
        checks.push(within(name.clone(), look).await);
    }
    if let Some(settings) = &flow.maintenance {
        let name = label("maintenance page");
        let look = async {
            let maintenance = Maintenance::new(settings.clone(), &p.config.state_dir);
            let warnings = maintenance.preflight(&paths).await?;
            Ok(match warnings.is_empty() {
                true => Check::good(name.clone(), "every server block of nginx includes it"),
                false => {
                    let mend = "`backstay maintenance status` shows who answers what; docs/maintenance.md.";
                    Check::warning(name.clone(), warnings.join("; "), mend)
                }
            })
        };
        checks.push(within(name.clone(), look).await);
    }
    if flow.reload.contains(&Reload::Nginx) && flow.maintenance.is_none() {
        checks.push(within(label("nginx"), nginx(label("nginx"))).await);
    }
    for check in &section.checks {
        let name = label(&format!("check {}", check.name));
        let look = async { check.preflight().await.map(|()| Check::good(name.clone(), "it can be carried out")) };
        checks.push(within(name.clone(), look).await);
    }
    for hook in section.after_stage.iter().chain(&section.after_swap) {
        let name = label(&format!("hook {}", hook.step()));
        let look = async { hook.preflight().await.map(|()| Check::good(name.clone(), "it can be carried out")) };
        checks.push(within(name.clone(), look).await);
    }
    checks
}

/// An nginx whose files the plan restores, and which takes them up then. Where it is not installed, nothing does.
async fn nginx(name: String) -> Result<Check> {
    if !systemd::look("nginx.service").await?.exists() {
        return Ok(Check::good(name, "it is not run by systemd here"));
    }
    Program::new("nginx", ["-t", "-q"]).output().await.map_err(|e| {
        e.hint("Mend its configuration: a restore has nginx read its files again, and it refuses what is broken.")
    })?;
    Ok(Check::good(name, "its configuration is good"))
}

/// The servers that databases of the newest backup go back to.
async fn targets(p: &Patient<'_>, plan: &Plan) -> Vec<Check> {
    let servers: Vec<(&Name, &PostgresSource)> = plan
        .sources
        .iter()
        .filter_map(|name| match p.config.sources.get(name) {
            Some(SourceConfig::Postgres(source)) => Some((name, &**source)),
            _ => None,
        })
        .collect();
    if servers.is_empty() {
        return Vec::new();
    }
    let newest = match p.newest(&plan.name).await {
        Ok(Some(manifest)) => manifest,
        // The areas of the repository and of proofs say so.
        Ok(None) | Err(_) => return Vec::new(),
    };
    let mut checks = Vec::new();
    for (name, source) in servers {
        let label = format!("{}, databases of {name}", plan.name);
        checks.push(within(label.clone(), databases(label, name, source, &newest)).await);
    }
    checks
}

async fn databases(label: String, name: &Name, source: &PostgresSource, newest: &Manifest) -> Result<Check> {
    let record = newest.sources.iter().find(|s| s.name == *name);
    let Some(record) = record else {
        let detail = format!("backup {} does not have the source", newest.id);
        return Ok(Check::unknown(label, detail, format!("backstay backup {}", newest.plan)));
    };
    let facts = facts_of(record)?;
    let targets: Vec<_> = facts.iter().map(|f| (f.database.as_str(), f)).collect();
    let server = source.address.reach().await?;
    let loader = loader(record, facts.iter().map(|f| f.database.as_str()));
    let options = Options { loader, ..Options::whole(source.jobs) };
    let look =
        Look { server: &server, options: &options, reads: 0, assume_space: None, part: None, dropped_first: false };
    let admin = server.admin().await?;
    let told = look.examine(&admin, &targets, b"").await?;
    if let Some(room) = told.space.iter().find(|room| room.free.is_none()) {
        let detail = format!("staging needs {}, and the server does not tell its free space", size::human(room.needed));
        return Ok(Check::unknown(label, detail, "Look there, and restore with --assume-space."));
    }
    if !told.warnings.is_empty() {
        let mend = "A restore tells the same; docs/postgres.md.";
        return Ok(Check::warning(label, told.warnings.join("; "), mend));
    }
    let room = told.space.first().and_then(|room| Some((room.needed, room.free?)));
    let (needed, free) = room.ok_or_else(|| Error::new(Kind::Internal, "nothing was found out about its space"))?;
    Ok(Check::good(label, format!("can be staged there: {} needed, {} free", size::human(needed), size::human(free))))
}
