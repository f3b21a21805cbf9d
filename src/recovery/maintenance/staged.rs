//! What a restored configuration of nginx would bring.
//!
//! When the directory of the configuration is itself restored, what is staged has the server blocks of the day of the
//! backup. Those from before `maintenance install` lack the include, and with them in place the page would go at the
//! next reload, while the application is stopped. This tells which do, before anything is swapped, and can put it in.

use super::Maintenance;
use super::install::additions;
use super::site::Site;
use crate::error::{Error, Kind, Result};
use crate::host::nginx::files::{Planned, Root};
use crate::host::nginx::servers::{self, Server};
use crate::host::nginx::targets::scope;
use std::path::PathBuf;

impl Maintenance {
    /// Server blocks that would lack the include with these trees in place, each with its names, file and line. A tree is
    /// given by the path that it will have, and by the path where it is staged.
    ///
    /// # Errors
    /// When nginx cannot be found, or a staged file cannot be understood.
    pub async fn would_lack(&self, staged: &[(PathBuf, PathBuf)]) -> Result<Vec<String>> {
        let site = self.site().await?;
        Ok(self.lacking(&site, staged)?.1.iter().map(Server::label).collect())
    }

    /// Puts the include into those, in the staged trees. The live ones are not touched. Gives what was changed.
    ///
    /// # Errors
    /// Those of [`Maintenance::would_lack`], and when a file cannot be written.
    pub async fn include_in_staged(&self, staged: &[(PathBuf, PathBuf)]) -> Result<Vec<String>> {
        let site = self.site().await?;
        let (planned, lacking) = self.lacking(&site, staged)?;
        // A block outside of the trees is live: nobody asked for a change there.
        let inside = |server: &&Server| {
            let place = planned.root.find(server.file.as_ref());
            place.is_some_and(|place| staged.iter().any(|(_, tree)| place.starts_with(tree)))
        };
        let inside: Vec<&Server> = lacking.iter().filter(inside).collect();
        for edit in additions(&site, &planned.root, &inside, &planned)? {
            std::fs::write(&edit.place, &edit.after).map_err(|e| {
                Error::io("a restored file of nginx's configuration cannot be written", &edit.place, e)
                    .kind(Kind::Restore)
            })?;
        }
        Ok(inside.iter().map(|s| s.label()).collect())
    }

    fn lacking<'a>(&self, site: &'a Site, staged: &[(PathBuf, PathBuf)]) -> Result<(Planned<'a>, Vec<Server>)> {
        let root = Root { moved: staged.to_vec(), ..site.nginx.root() };
        let planned = Planned { root, now: &site.told.dump };
        let ours = site.snippet.seen_file().display().to_string();
        let found = servers::read(&planned, site.told.dump.main(), &ours)?;
        let scope = scope(&found.servers, &self.settings.names, None, None);
        let lacking = scope.servers.into_iter().filter(|s| s.includes == 0).collect();
        Ok((planned, lacking))
    }
}
