//! Which backup a drill restores.

use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::select;
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;

/// Finds the backup: `newest`, `oldest`, `random`, or an id. Of the first three only a complete one is taken: one in which a
/// source failed was told when it did. One that cannot be read is an error, since that is what a drill is for.
///
/// # Errors
/// [`Kind::NotFound`] with what there is, [`Kind::Damaged`].
pub async fn backup(catalog: &Catalog, plan: &Name, which: &str) -> Result<Manifest> {
    let mut ids = match which {
        "newest" | "latest" => return select::backup(catalog, plan, "latest", None, &[]).await,
        "oldest" | "random" => catalog.ids(Some(plan)).await?,
        id => return select::backup(catalog, plan, id, None, &[]).await,
    };
    while !ids.is_empty() {
        let n = if which == "random" { rand::random::<u64>() as usize % ids.len() } else { 0 };
        let (plan, id) = ids.remove(n);
        let manifest = catalog.manifest(&plan, &id).await?;
        if manifest.is_complete() {
            return Ok(manifest);
        }
    }
    Err(Error::new(Kind::NotFound, format!("plan {plan} of host {} has no complete backup", catalog.vault().host()))
        .hint("`backstay list` shows what there is."))
}
