//! Looking at the server that is to be restored, running or not.

use super::Wanted;
use crate::error::{Error, Kind, Result};
use crate::host::service::Service;
use crate::model::size;
use crate::recovery::resource::{Findings, Space};
use crate::sources::redis::connect::{ACL_RESTORE, is_down};
use crate::sources::redis::facts::RedisFacts;
use crate::sources::redis::live::{self, Live, Settings};
use crate::sources::redis::rdb::versions::{self, Readable};
use crate::sources::redis::{RedisSource, conf, place};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where distributions keep the server's configuration.
const CONFIG_FILES: [&str; 4] =
    ["/etc/redis/redis.conf", "/etc/redis.conf", "/etc/valkey/valkey.conf", "/etc/valkey.conf"];

/// The server to restore to.
pub struct Target {
    /// Its directory on this host.
    pub dir: PathBuf,
    /// How it keeps its data after the next start.
    pub settings: Settings,
    /// Whether it keeps its append-only file in parts.
    pub parts: bool,
    /// What it said, when it runs.
    pub live: Option<Live>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Looks at the server and refuses what could not be restored to.
///
/// # Errors
/// [`Kind::Refused`] with what to do.
pub async fn look(source: &RedisSource, service: Option<&dyn Service>, facts: &RedisFacts) -> Result<Target> {
    let label = source.server.label();
    let refuse = |what: &str| Error::new(Kind::Refused, what.to_owned()).at(&label);
    let running = match service {
        Some(service) => service.is_running().await?,
        None => false,
    };
    let connected = match source.connect().await {
        Ok(connection) => Some(connection),
        Err(e) if running => return Err(e.kind(Kind::Refused)),
        // Its container does not run, or nobody listens.
        Err(e) if is_down(&e) || service.is_some() => None,
        Err(e) => return Err(e.kind(Kind::Refused)),
    };
    let mut warnings = Vec::new();
    let Some(mut connection) = connected else {
        let (settings, product, version) = down(source, facts, &mut warnings)?;
        suits(facts, &product, &version, &label, &mut warnings)?;
        let dir = place::data_dir(source, &settings.dir, None).await?;
        let parts = versions::parse(&version).is_none_or(|v| v >= (7, 0));
        return Ok(Target { dir, settings, parts, live: None, warnings });
    };
    if service.is_none() {
        return Err(refuse("the server runs, and it is not known how to stop and start it").hint(
            "Set `unit` or `container` of the source. Or stop the server by hand, restore, and start it again.",
        ));
    }
    let live = live::live(&mut connection).await.map_err(|e| e.kind(Kind::Refused))?;
    if live.mode != "standalone" {
        return Err(refuse(&format!("the server is of the mode {}", live.mode))
            .hint("Only a standalone server can be restored to."));
    }
    if live.role == "slave" {
        return Err(refuse("the server is a replica: it would drop what is restored and fetch its primary's data")
            .hint("Restore to the primary; its replicas follow."));
    }
    if live.loading {
        return Err(refuse("the server is still loading its data").hint("Try again when it is done."));
    }
    match live::watched_by_sentinel(&mut connection).await {
        Ok(false) => {}
        Ok(true) => {
            return Err(refuse("Sentinels watch this server: while it is stopped they would make a replica with the old data the primary")
                .hint("On each Sentinel: SENTINEL REMOVE NAME. Restore, and have it watched again."));
        }
        Err(e) if e.denied => {
            warnings.push(format!("it cannot be told whether Sentinels watch the server (ACL: {ACL_RESTORE})"));
        }
        Err(e) => return Err(e.kind(Kind::Refused)),
    }
    let mut settings = live::settings(&mut connection).await.map_err(|e| e.kind(Kind::Refused))?;
    suits(facts, &live.product, &live.version, &label, &mut warnings)?;
    let missing: Vec<&str> =
        facts.modules.keys().filter(|m| !live.modules.contains_key(*m)).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(refuse(&format!("the server lacks modules that the backup was made with: {}", missing.join(", ")))
            .hint(
                "Load them (loadmodule in redis.conf) first; without them the server may not start with this data.",
            ));
    }
    let dir = place::data_dir(source, &settings.dir, Some(&live)).await?;
    if place::in_dir(&dir).len() > 1 {
        return Err(Error::new(
            Kind::Refused,
            "several servers work in one directory, and only one of them is stopped",
        )
        .at(dir.display())
        .hint("Give each a directory of its own (`dir` in redis.conf)."));
    }
    agree(source, &live, &mut settings, &label)?;
    if live.replicas > 0 {
        warnings.push(format!("{} will fetch the restored data afterwards", size::plural(live.replicas, "replica")));
    }
    if settings.maxmemory > 0 && settings.maxmemory < facts.used_memory {
        warnings.push(format!(
            "the backup took {} of memory and the server may use {}: with the policy {} {}",
            size::human(facts.used_memory),
            size::human(settings.maxmemory),
            settings.maxmemory_policy,
            if settings.maxmemory_policy == "noeviction" { "it will refuse writes" } else { "it will throw keys out" }
        ));
    }
    let parts = !settings.appenddirname.is_empty();
    Ok(Target { dir, settings, parts, live: Some(live), warnings })
}

/// What is known of a server that is down: from its file, else from the backup.
fn down(source: &RedisSource, facts: &RedisFacts, warnings: &mut Vec<String>) -> Result<(Settings, String, String)> {
    let file = source.config_file.clone().or_else(|| {
        let known = || CONFIG_FILES.iter().map(PathBuf::from).find(|f| f.exists());
        if source.container.is_none() { known() } else { None }
    });
    let (product, version) = (facts.product.clone(), facts.server_version.clone());
    if let Some(file) = file {
        let conf = conf::read(&file).map_err(|e| e.kind(Kind::Refused))?;
        let refuse = |what: &str, hint: &str| {
            Err(Error::new(Kind::Refused, what.to_owned()).at(file.display()).hint(hint.to_owned()))
        };
        if conf.cluster {
            return refuse(
                "the server is configured as a node of a cluster",
                "Only a standalone server can be restored to.",
            );
        }
        if conf.replica {
            return refuse("the server is configured as a replica", "Restore to the primary; its replicas follow.");
        }
        warnings.push(format!(
            "the server does not run; where it keeps its data is taken from {}, and its version is taken to be that of the backup, {version}",
            file.display()
        ));
        return Ok((conf.settings, product, version));
    }
    let Some(settings) = facts.settings.clone() else {
        return Err(Error::new(Kind::Refused, "the server does not run, and nothing says where it keeps its data")
            .at(source.server.label())
            .hint("Start it, or set `config_file` to its redis.conf."));
    };
    warnings.push(format!(
        "the server does not run and no configuration file of it was found; it is taken to be as it was at the backup ({product} {version}, directory {})",
        settings.dir
    ));
    Ok((settings, product, version))
}

/// Whether the server reads the backup.
fn suits(facts: &RedisFacts, product: &str, version: &str, label: &str, warnings: &mut Vec<String>) -> Result<()> {
    // A server reads what it writes itself, and what it wrote before.
    let own = product == facts.product && versions::parse(version) >= versions::parse(&facts.server_version);
    if own {
        return Ok(());
    }
    match versions::readable(facts.rdb_version, product, version) {
        Readable::Yes => Ok(()),
        Readable::Unknown => {
            warnings
                .push(format!("it is not known whether {product} {version} reads RDB version {}", facts.rdb_version));
            Ok(())
        }
        Readable::No => Err(Error::new(
            Kind::Refused,
            format!(
                "the backup is of {} {} with RDB version {}, which the server, {product} {version}, cannot read",
                facts.product, facts.server_version, facts.rdb_version
            ),
        )
        .at(label)
        .hint(match versions::oldest_reader(facts.rdb_version, facts.rdb_valkey) {
            Some(oldest) => format!("Restore to {oldest} or newer."),
            None => "Restore to a server of the version of the backup or newer.".to_owned(),
        })),
    }
}

/// A running server may have other settings than it will start with.
fn agree(source: &RedisSource, live: &Live, settings: &mut Settings, label: &str) -> Result<()> {
    let file = source.config_file.clone().unwrap_or_else(|| live.config_file.clone().into());
    if source.container.is_some() && source.config_file.is_none() || file.as_os_str().is_empty() || !file.exists() {
        return Ok(());
    }
    let conf = conf::read(&file).map_err(|e| e.kind(Kind::Refused))?;
    // A relative `dir` is relative to where the server was started, which is not known.
    let dir = conf.settings.dir.starts_with('/').then_some(&conf.settings.dir);
    for (name, now, then) in [
        ("dir", &settings.dir, dir),
        ("dbfilename", &settings.dbfilename, Some(&conf.settings.dbfilename)),
        ("appendfilename", &settings.appendfilename, Some(&conf.settings.appendfilename)),
    ] {
        let same = |a: &str, b: &str| Path::new(a).components().eq(Path::new(b).components());
        if let Some(then) = then
            && !same(now, then)
        {
            return Err(Error::new(
                Kind::Refused,
                format!("the running server has {name} {now:?}, and after a restart it would have {then:?}"),
            )
            .at(format!("{label}, {}", file.display()))
            .hint("Make both agree: CONFIG REWRITE, or correct the file and restart the server. If it is started with options, set `config_file` to a file that says the same."));
        }
    }
    // With either it must be there: the parts are read if it starts with them, the RDB if not.
    settings.appendonly |= conf.settings.appendonly;
    Ok(())
}

impl Target {
    /// Paths that will change places.
    fn places(&self) -> Vec<PathBuf> {
        let rdb = self.dir.join(&self.settings.dbfilename);
        match (self.settings.appendonly, self.parts) {
            (false, _) => vec![rdb],
            (true, true) => vec![rdb, self.dir.join(&self.settings.appenddirname)],
            (true, false) => vec![self.dir.join(&self.settings.appendfilename)],
        }
    }

    /// What the flow should know; refuses what would fail later.
    pub fn findings(self, wanted: &Wanted) -> Result<Findings> {
        let refuse = |what: String, path: &Path| Error::new(Kind::Refused, what).at(path.display());
        let device = std::fs::metadata(&self.dir)
            .map_err(|e| {
                Error::io("the directory of the server cannot be looked at", &self.dir, e).kind(Kind::Refused)
            })?
            .dev();
        for path in self.places() {
            let mounted = mounts().contains(&path) || std::fs::metadata(&path).is_ok_and(|m| m.dev() != device);
            if mounted {
                return Err(refuse("a mount point cannot change places with a restored file".into(), &path)
                    .hint("Mount the directory of the server instead of a single file in it."));
            }
            if path.is_symlink() {
                return Err(refuse("a symbolic link is where the server's data should be".into(), &path)
                    .hint("Set `dir` and `dbfilename` of the server to where it leads."));
            }
        }
        let space = rustix::fs::statvfs(&self.dir)
            .map_err(|e| Error::io("the free space cannot be told", &self.dir, e.into()).kind(Kind::Refused))?;
        if space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(refuse("the file system of the server's data is read-only".into(), &self.dir));
        }
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        // A server without append-only file saves once more before it stops, beside its old file.
        let rdb = std::fs::metadata(self.dir.join(&self.settings.dbfilename)).map(|m| m.len());
        let saves = self.live.as_ref().filter(|_| !self.settings.appendonly);
        let saving = saves.map_or(0, |live| rdb.unwrap_or(live.used_memory));
        let needed = wanted.artifact.bytes + saving;
        if needed > free {
            return Err(refuse(
                format!("there is no room: {} are needed and {} free", size::human(needed), size::human(free)),
                &self.dir,
            )
            .hint("Make room on that file system."));
        }
        let mut warnings = self.warnings;
        if let (Some(all), Some(lasting)) = (wanted.facts.keys(), wanted.facts.lasting())
            && all > lasting
        {
            warnings.push(format!(
                "{} of the backup have a time of expiry; those whose time has passed are dropped at load",
                size::plural(all - lasting, "key")
            ));
        }
        Ok(Findings {
            space: vec![Space { place: self.dir, needed, free: Some(free) }],
            // The server itself is stopped by the swap.
            users: Vec::new(),
            lingering: Vec::new(),
            warnings,
            slow_swap: true,
            ..Findings::default()
        })
    }
}

/// Mount points of this machine as we see it.
fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|l| l.split(' ').nth(4)).map(|p| PathBuf::from(p.replace("\\040", " "))).collect()
}
