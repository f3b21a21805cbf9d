//! A new cluster, made beside the place that it will take, and its server for the time while it is filled: on a socket
//! that only the cluster's owner can reach, with settings of its own.

use super::copy;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::host::processes;
use crate::host::service::Service;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::cluster::pgctl::PgCtl;
use crate::sources::postgres::cluster::{Owner, programs};
use crate::sources::postgres::facts::DatabaseFacts;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The port in the name of the socket; nobody listens on it.
const PORT: u16 = 5432;
/// How long processes may take to end when what started them is gone.
const TO_END: Duration = Duration::from_secs(60);
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Names of it, for the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    /// Its data directory.
    pub data: PathBuf,
    /// Where its server has its socket, settings and log.
    pub run: PathBuf,
    /// Major version.
    pub major: u32,
    /// The first superuser.
    pub user: String,
}

/// What must be chosen when a cluster is made, and cannot be changed later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    args: Vec<String>,
}

impl Shape {
    /// As the old cluster was, as far as its control file can still be read, with the encoding and locale of a database.
    pub async fn of(major: u32, old: &Path, owner: &Owner, facts: &DatabaseFacts) -> Result<Self> {
        let control =
            Program::new(programs(major)?.join("pg_controldata"), ["-D".to_owned(), old.display().to_string()])
                .at(owner.place())
                .output()
                .await
                .unwrap_or_default();
        Ok(Self::read(major, &String::from_utf8_lossy(&control), facts))
    }

    fn read(major: u32, control: &str, facts: &DatabaseFacts) -> Self {
        let value = |key: &str| {
            let line = control.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let mut args = vec![format!("--encoding={}", facts.encoding)];
        for (option, value) in [("collate", &facts.collate), ("ctype", &facts.ctype)] {
            if !value.is_empty() {
                args.push(format!("--lc-{option}={value}"));
            }
        }
        if let (Some(locale), provider @ ("icu" | "builtin")) = (&facts.locale, facts.locale_provider.as_str()) {
            args.push(format!("--locale-provider={provider}"));
            args.push(format!("--{provider}-locale={locale}"));
        }
        match value("Data page checksum version") {
            Some("0") if major >= 18 => args.push("--no-data-checksums".to_owned()),
            Some("0") => {}
            _ => args.push("--data-checksums".to_owned()),
        }
        let segment = value("Bytes per WAL segment").and_then(|v| v.parse::<u64>().ok());
        if let Some(segment) = segment.filter(|s| *s >= 1 << 20) {
            args.push(format!("--wal-segsize={}", segment >> 20));
        }
        Shape { args }
    }
}

/// A text in a file of settings.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

pub(super) fn cannot(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let (what, path) = (what.to_owned(), path.to_owned());
    move |e| Error::io(what.clone(), &path, e).kind(Kind::Restore)
}

/// Makes a directory that only the owner enters. One that is there must be his already.
fn private(path: &Path, owner: &Owner) -> Result<()> {
    let failed = cannot("a directory for the new cluster cannot be made", path);
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let meta = path.symlink_metadata().map_err(failed)?;
            if meta.is_dir() && meta.uid() == owner.uid && meta.mode() & 0o077 == 0 {
                return Ok(());
            }
            Err(Error::new(Kind::Restore, "somebody else has a directory of that name").at(path.display()))
        }
        Err(e) => Err(failed(e)),
    }
}

impl Made {
    /// Where its server is while it runs.
    pub fn address(&self) -> Address {
        Address::own(&self.run, PORT, &self.user)
    }

    fn server(&self, owner: &Owner) -> Result<PgCtl> {
        let (bin, log) = (programs(self.major)?, self.run.join("log"));
        Ok(PgCtl { bin, dir: self.run.clone(), place: owner.place(), log })
    }

    /// Makes the cluster, empty, in place of what an earlier try has left.
    ///
    /// # Errors
    /// [`Kind::Restore`] with the words of `initdb`.
    pub async fn make(&self, owner: &Owner, shape: &Shape) -> Result<()> {
        self.remove(owner).await?;
        private(&self.data, owner)?;
        let data = self.data.display().to_string();
        // Synced as a whole when it is filled.
        let mut args = vec!["-D".to_owned(), data, "--no-sync".to_owned(), format!("--username={}", self.user)];
        args.extend(["--auth-local=peer".to_owned(), "--auth-host=scram-sha-256".to_owned()]);
        args.extend(shape.args.iter().cloned());
        let initdb = Program::new(programs(self.major)?.join("initdb"), args).at(owner.place());
        initdb.output().await.map(drop).map_err(|e| match e.to_string().contains("locale") {
            true => e.kind(Kind::Restore).hint("`dpkg-reconfigure locales` makes one that this machine lacks."),
            false => e.kind(Kind::Restore),
        })
    }

    /// Starts its server. While it is `filling` nothing waits for the disk.
    ///
    /// # Errors
    /// [`Kind::Restore`] with the end of its log.
    pub async fn start(&self, owner: &Owner, filling: bool) -> Result<()> {
        private(&self.run, owner)?;
        let at = |name: &str| quoted(&self.run.join(name).display().to_string());
        let settings = [
            format!("data_directory = {}", quoted(&self.data.display().to_string())),
            format!("hba_file = {}", at("pg_hba.conf")),
            format!("ident_file = {}", at("pg_ident.conf")),
            format!("unix_socket_directories = {}", quoted(&self.run.display().to_string())),
            "unix_socket_permissions = 0700\nlisten_addresses = ''".to_owned(),
            format!("port = {PORT}"),
            "wal_level = minimal\nmax_wal_senders = 0\nautovacuum = off".to_owned(),
            match filling {
                // A crash makes it anew; what is filled is synced before it counts.
                true => "fsync = off\nfull_page_writes = off".to_owned(),
                false => String::new(),
            },
        ]
        .join("\n");
        for (name, text) in [
            ("postgresql.conf", format!("{settings}\n")),
            ("pg_hba.conf", "local all all trust\n".to_owned()),
            ("pg_ident.conf", String::new()),
        ] {
            let path = self.run.join(name);
            let failed = cannot("settings of the new cluster cannot be written", &path);
            std::fs::write(&path, text)
                .and_then(|()| chown(&path, Some(owner.uid), Some(owner.gid)))
                .map_err(failed)?;
        }
        self.server(owner)?.start().await
    }

    /// Stops its server, and syncs all of it.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn finish(&self, owner: &Owner) -> Result<()> {
        self.server(owner)?.stop().await?;
        let args = ["--sync-only".to_owned(), "-D".to_owned(), self.data.display().to_string()];
        let synced = Program::new(programs(self.major)?.join("initdb"), args).at(owner.place()).output().await;
        synced.map(drop).map_err(|e| e.kind(Kind::Restore))
    }

    /// Stops its server, whatever it does. Nothing to do when there is none.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn abandon(&self, owner: &Owner) -> Result<()> {
        // Without one of both the program could not even say that there is none.
        if self.data.join("postmaster.pid").exists() && self.run.join("postgresql.conf").exists() {
            self.server(owner)?.abandon().await?;
        }
        // Killed, we may have left programs that go on making it. What they started themselves ends with them.
        let left = [&self.data, &self.run].into_iter().flat_map(|path| processes::with_argument(path));
        left.for_each(processes::end);
        let deadline = Instant::now() + TO_END;
        while let Some(pid) = processes::named_in(&self.data, "postgres").first() {
            if Instant::now() > deadline {
                return Err(Error::new(Kind::Restore, "a server that was to end still runs")
                    .at(self.data.display())
                    .because(format!("process {pid}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Removes all of it.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub async fn remove(&self, owner: &Owner) -> Result<()> {
        let deadline = Instant::now() + TO_END;
        loop {
            self.abandon(owner).await?;
            match copy::remove(&self.run).and_then(|()| copy::remove(&self.data)) {
                // What was asked to end may write a last file until it has.
                Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
                done => return done,
            }
        }
    }

    /// Removes what was for its server alone.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn tidy(&self) -> Result<()> {
        copy::remove(&self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(locale: Option<&str>, provider: &str) -> DatabaseFacts {
        let facts = serde_json::json!({
            "database": "erp", "server_version": 150000, "encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8",
            "locale_provider": provider, "locale": locale, "size": 1, "tables": [], "extensions": [], "large_objects": 0,
            "sequences": [],
        });
        serde_json::from_value(facts).unwrap()
    }

    #[test]
    fn the_shape_is_that_of_the_old_cluster_as_far_as_it_can_be_read() {
        let control = "Bytes per WAL segment:                67108864\nData page checksum version:           0\n";
        let shape = Shape::read(15, control, &facts(None, "libc"));
        assert_eq!(shape.args, ["--encoding=UTF8", "--lc-collate=C.UTF-8", "--lc-ctype=C.UTF-8", "--wal-segsize=64"]);
        assert!(Shape::read(18, control, &facts(None, "libc")).args.contains(&"--no-data-checksums".to_owned()));
        let unknown = Shape::read(17, "", &facts(Some("de"), "icu")).args;
        for arg in ["--locale-provider=icu", "--icu-locale=de", "--data-checksums"] {
            assert!(unknown.contains(&arg.to_owned()), "{unknown:?}");
        }
    }
}
