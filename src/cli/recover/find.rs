//! Which host is meant.

use crate::cli::context::Context;
use crate::cli::output::remark;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::layout;
use crate::storage::{ObjectStore, list_all};

/// The host that is named, or the only one. Of several each is shown with its plans.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Usage`] when there are several and none is named.
pub async fn host(context: &Context, store: &dyn ObjectStore) -> Result<Name> {
    let hosts = store.folders("").await?;
    match (&context.global.host, &hosts[..]) {
        (Some(name), _) if hosts.contains(name) => name.parse(),
        (None, [only]) => only.parse(),
        (_, []) => Err(Error::new(Kind::NotFound, "the repository holds no vault")
            .at(store.url())
            .hint("Look at the URL: its prefix belongs to it.")),
        (Some(name), several) => {
            Err(Error::new(Kind::NotFound, format!("the repository holds no vault of host {name}"))
                .at(store.url())
                .hint(format!("There are: {}.", several.join(", "))))
        }
        (None, several) => {
            remark(&format!("{} holds these hosts:", store.url()));
            for name in several {
                remark(&format!("  {name}: {}", plans(store, name).await?));
            }
            Err(Error::new(Kind::Usage, "the repository holds vaults of several hosts")
                .hint(format!("Name the lost one with --host: {}.", several.join(", "))))
        }
    }
}

/// Plans of a host with the newest backup of each, as names tell without any key.
async fn plans(store: &dyn ObjectStore, host: &str) -> Result<String> {
    let folder = format!("{host}/{}", layout::BACKUPS);
    let mut told = Vec::new();
    for plan in store.folders(&folder).await? {
        let listed = list_all(store, &format!("{folder}{plan}/")).await?;
        let newest = listed.iter().filter_map(|o| o.key.rsplit('/').next()).max().unwrap_or("none");
        told.push(format!("plan {plan}, newest backup {newest}"));
    }
    Ok(if told.is_empty() { "no backup".to_owned() } else { told.join("; ") })
}
