//! The objects below `keys/`: can everything that is stored still be opened by somebody?
//!
//! A key file opens to its owner only. Its label, which the catalog identity opens, has the key file's hash, so that
//! damage to it is seen by everybody; of labels without one (made by older versions) only the header is looked at.

use super::{CheckReport, Finding, finding};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::access::{self, KeyLabel, MAX_KEY_FILE};
use crate::repository::layout;
use crate::repository::record::RecordKind;
use crate::repository::secrets::Epoch;
use crate::repository::vault::Vault;
use std::collections::{BTreeMap, BTreeSet};

/// Looks at the key files, labels and canary of every epoch that is stored or known.
pub(super) async fn keys(vault: &Vault, report: &mut CheckReport) -> Result<()> {
    let mut names: BTreeMap<u32, BTreeSet<Name>> = BTreeMap::new();
    for epoch in vault.epochs() {
        names.entry(epoch.number).or_default();
    }
    for object in vault.list(layout::KEYS).await? {
        if let Some(epoch) = layout::parse_epoch(&object.key) {
            let of_epoch = names.entry(epoch).or_default();
            let named = layout::parse_key_file(&object.key).or_else(|| layout::parse_key_label(&object.key));
            of_epoch.extend(named.map(|(_, name)| name));
        }
    }
    for (number, names) in names {
        let known = vault.epochs().iter().find(|e| e.number == number);
        if known.is_none() && names.is_empty() {
            report.keys.push(Finding {
                object: layout::epoch(number),
                what: "there is no key file and no label: a rotation was killed here, or somebody deleted them. When every backup can be listed, it was the former, and the folder can be deleted".to_owned(),
            });
            continue;
        }
        let mut open = 0;
        for name in names {
            report.key_files += 1;
            match key_file(vault, number, known, &name).await? {
                None => open += 1,
                Some(found) => report.keys.push(found),
            }
        }
        report.keys.extend(canary(vault, number, known).await?);
        if open == 0 {
            report.keys.push(Finding {
                object: layout::epoch(number),
                what: format!("no sound key file of key epoch {number} is left: nobody can open what is sealed to it"),
            });
            report.closed_epochs.push(number);
        }
    }
    Ok(())
}

/// What is wrong with a key file and its label.
async fn key_file(vault: &Vault, number: u32, known: Option<&Epoch>, name: &Name) -> Result<Option<Finding>> {
    let (file, label) = (layout::key_file(number, name), layout::key_label(number, name));
    let wrong = |object: &str, what: &str| Ok(Some(Finding { object: object.to_owned(), what: what.to_owned() }));
    let sealed = vault.get_raw(&file).await?;
    let described = match known {
        // Records of an epoch that is not known here cannot be opened.
        None => None,
        Some(epoch) => match vault.read_record::<KeyLabel>(RecordKind::KeyLabel, &label).await {
            Ok(found) => Some((epoch, found)),
            Err(e) if e.kind == Kind::Damaged => return Ok(Some(finding(label, &e))),
            Err(e) => return Err(e),
        },
    };
    let Some(sealed) = sealed else { return wrong(&file, "the key file is missing, and its label is there") };
    if let Some((epoch, found)) = described {
        let Some(found) = found else { return wrong(&label, "the label is missing: whose key this is cannot be told") };
        if found.name != *name {
            return wrong(&label, "the label speaks of another key");
        }
        if epoch.identity.is_some() && !found.is_vouched(vault.header.vault, epoch) {
            return wrong(
                &label,
                "nobody with an identity of the vault vouches for this key: who knows the vault secret only may have added it",
            );
        }
        if found.file.is_some_and(|hash| hash != blake3::hash(&sealed).to_hex().as_str()) {
            return wrong(&file, "the key file has other bytes than were stored");
        }
    }
    if sealed.len() > MAX_KEY_FILE || age::Decryptor::new(&sealed[..]).is_err() {
        return wrong(&file, "the key file cannot be read: it is no age file");
    }
    Ok(None)
}

/// What is wrong with the canary of an epoch.
async fn canary(vault: &Vault, number: u32, known: Option<&Epoch>) -> Result<Option<Finding>> {
    let key = layout::canary(number);
    let tried = match known {
        Some(epoch) if epoch.identity.is_some() => access::prove_epoch(vault, number).await,
        _ => vault.get_raw(&key).await.and_then(|found| match found {
            Some(_) => Ok(()),
            None => Err(Error::damaged(&key, "the canary is missing")),
        }),
    };
    match tried {
        Ok(()) => Ok(None),
        Err(e) if e.kind == Kind::Damaged => Ok(Some(finding(key, &e))),
        Err(e) => Err(e),
    }
}
