//! Where each object of a vault lies: the only place that spells keys. All keys are relative to the vault's
//! folder, so that a vault can be copied to another bucket, prefix or host name without losing its meaning.

use crate::model::{BackupId, Name, PackId, PackKey};

/// Format version, vault id and grace time; plain JSON, written once, last of `init`.
pub const VAULT: &str = "vault.json";

/// The probe object for conditional creates; its content never changes.
pub const PROBE: &str = "probe";

/// Folder of all key epochs.
pub const KEYS: &str = "keys/";
/// Folder of all manifests.
pub const BACKUPS: &str = "backups/";
/// Folder of all packs.
pub const PACKS: &str = "packs/";
/// Folder of all meta objects (index and recipe segments).
pub const META: &str = "meta/";
/// Folder of the records that condemn packs.
pub const CONDEMNED: &str = "condemned/";
/// Folder of the records that explain why a manifest is gone.
pub const FORGOTTEN: &str = "forgotten/";
/// Folder of the marks on damaged packs.
pub const DAMAGED: &str = "damaged/";
/// Folder of the holds on backups.
pub const HOLDS: &str = "holds/";
/// Folder of the records that acknowledge a suspiciously small backup.
pub const ACKNOWLEDGED: &str = "acknowledged/";
/// Folder of the records that say when an identity was proven.
pub const PROVEN: &str = "proven/";
/// Folder of the claims on the host's name.
pub const CLAIMS: &str = "claims/";

/// The claim of a generation.
pub fn claim(generation: u32) -> String {
    format!("{CLAIMS}{generation:08}")
}

/// The generation of a claim; `None` for anything else.
pub fn parse_claim(key: &str) -> Option<u32> {
    let generation = key.strip_prefix(CLAIMS)?.parse().ok()?;
    (claim(generation) == key).then_some(generation)
}

/// Folder of the records that say how drills ended.
pub const DRILLS: &str = "drills/";

/// Folder of one epoch.
pub fn epoch(epoch: u32) -> String {
    format!("{KEYS}{epoch:04}/")
}

/// The secrets of an epoch, sealed to one recovery recipient.
pub fn key_file(epoch_number: u32, name: &Name) -> String {
    format!("{}{name}.age", epoch(epoch_number))
}

/// Name and role of a key, beside its file.
pub fn key_label(epoch_number: u32, name: &Name) -> String {
    format!("{}{name}.label", epoch(epoch_number))
}

/// The canary of an epoch: what an identity must be able to open to count as proven.
pub fn canary(epoch_number: u32) -> String {
    format!("{}canary", epoch(epoch_number))
}

/// Says that somebody begins this epoch; removed when that is done. No name of a key has a `~` in it.
pub fn begun(epoch_number: u32, stamp: &BackupId) -> String {
    format!("{}begun~{stamp}", epoch(epoch_number))
}

/// Epoch and name of an object in a folder of [`KEYS`].
fn in_epoch(key: &str) -> Option<(u32, &str)> {
    let (text, name) = key.strip_prefix(KEYS)?.split_once('/')?;
    let number = text.parse().ok()?;
    (epoch(number) == format!("{KEYS}{text}/")).then_some((number, name))
}

/// The key epoch in whose folder a key lies; `None` for anything else.
pub fn parse_epoch(key: &str) -> Option<u32> {
    in_epoch(key).map(|(number, _)| number)
}

/// True for what says that somebody begins an epoch.
pub fn is_begun(key: &str) -> bool {
    in_epoch(key).is_some_and(|(_, name)| name.starts_with("begun~"))
}

/// Epoch and name of a key file; `None` for anything else.
pub fn parse_key_file(key: &str) -> Option<(u32, Name)> {
    let (number, name) = in_epoch(key)?;
    Some((number, name.strip_suffix(".age")?.parse().ok()?))
}

/// Epoch and name of a key's label; `None` for anything else.
pub fn parse_key_label(key: &str) -> Option<(u32, Name)> {
    let (number, name) = in_epoch(key)?;
    Some((number, name.strip_suffix(".label")?.parse().ok()?))
}

/// A manifest.
pub fn manifest(plan: &Name, id: &BackupId) -> String {
    format!("{BACKUPS}{plan}/{id}")
}

/// Splits a manifest's key into plan and id; `None` for anything else.
pub fn parse_manifest(key: &str) -> Option<(Name, BackupId)> {
    let (plan, id) = key.strip_prefix(BACKUPS)?.split_once('/')?;
    Some((plan.parse().ok()?, id.parse().ok()?))
}

/// A pack.
pub fn pack(pack: &PackKey) -> String {
    let name = pack.to_string();
    format!("{PACKS}{}/{name}", &name[..2])
}

/// The pack that a key names; `None` for anything else.
pub fn parse_pack(key: &str) -> Option<PackKey> {
    let (fan, name) = key.strip_prefix(PACKS)?.split_once('/')?;
    if !name.starts_with(fan) || fan.len() != 2 {
        return None;
    }
    name.parse().ok()
}

/// A meta object.
pub fn meta(object: &PackKey) -> String {
    let name = object.to_string();
    format!("{META}{}/{name}", &name[..2])
}

/// What the keys of all generations of a pack begin with.
pub fn pack_generations(id: &PackId) -> String {
    let name = id.to_string();
    format!("{PACKS}{}/{name}-", &name[..2])
}

/// What the keys of all generations of a meta object begin with.
pub fn meta_generations(id: &PackId) -> String {
    let name = id.to_string();
    format!("{META}{}/{name}-", &name[..2])
}

/// The meta object that a key names; `None` for anything else.
pub fn parse_meta(key: &str) -> Option<PackKey> {
    let (fan, name) = key.strip_prefix(META)?.split_once('/')?;
    name.parse().ok().filter(|_| fan.len() == 2 && name.starts_with(fan))
}

/// A record in one of the flat folders, named by time and chance.
pub fn record(folder: &str, id: &BackupId) -> String {
    format!("{folder}{id}")
}

/// The mark on a damaged pack.
pub fn damaged(pack: &PackKey) -> String {
    format!("{DAMAGED}{pack}")
}

/// A hold, an acknowledgement or a drill of a backup: `holds/PLAN/ID~STAMP`. A stamp per record, since a hold can be
/// set, released and set again, and no object is ever written twice.
pub fn about_backup(folder: &str, plan: &Name, id: &BackupId, stamp: &BackupId) -> String {
    format!("{folder}{plan}/{id}~{stamp}")
}

/// Plan and backup that such a record speaks of.
pub fn parse_about_backup(folder: &str, key: &str) -> Option<(Name, BackupId)> {
    let (plan, rest) = key.strip_prefix(folder)?.split_once('/')?;
    let (id, _) = rest.split_once('~')?;
    Some((plan.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_parse_back_and_strangers_do_not() {
        let key = PackKey { id: PackId([0xab; 32]), generation: 2 };
        assert_eq!(parse_pack(&pack(&key)), Some(key));
        assert_eq!(parse_pack(&pack(&key).replace("packs/ab", "packs/cd")), None);
        let plan: Name = "erp".parse().unwrap();
        assert_eq!(parse_key_file(&key_file(12, &plan)), Some((12, plan.clone())));
        assert_eq!(parse_key_label(&key_label(12345, &plan)), Some((12345, plan.clone())));
        assert_eq!(parse_epoch(&canary(3)), Some(3));
        assert_eq!((parse_claim(&claim(7)), parse_claim("claims/7"), parse_claim("claims/x")), (Some(7), None, None));
        for stranger in
            ["keys/3/erp.age", "keys/00003/erp.age", "keys/0003/a/erp.age", "keys/0003/.age", "keys/x/erp.age"]
        {
            assert_eq!(parse_key_file(stranger), None, "{stranger}");
        }
        let id = BackupId::new("2026-01-03T22:00:00Z".parse().unwrap());
        assert_eq!(parse_manifest(&manifest(&plan, &id)), Some((plan.clone(), id.clone())));
        assert_eq!(parse_manifest("backups/erp/latest"), None);
        let begun = begun(3, &id);
        assert_eq!((parse_epoch(&begun), parse_key_file(&begun), parse_key_label(&begun)), (Some(3), None, None));
        assert!(is_begun(&begun) && !is_begun(&canary(3)) && !is_begun("begun~x"));
        let hold = about_backup(HOLDS, &plan, &id, &BackupId::new(id.time()));
        assert_eq!(parse_about_backup(HOLDS, &hold), Some((plan, id)));
    }
}
