//! What was asked for on the command line, and whether a recovery that goes on was begun with the same.

use super::Args;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::recovery::fresh::journal::Begin;

impl Args {
    /// The backups that are chosen, by plan.
    pub(super) fn backups(&self) -> Result<Vec<(Name, String)>> {
        let pair = |text: &String| -> Result<(Name, String)> {
            let (plan, id) = text.split_once('=').filter(|(_, id)| !id.is_empty()).ok_or_else(|| {
                Error::new(Kind::Usage, format!("{text:?} names no backup")).hint("Write --backup PLAN=ID.")
            })?;
            Ok((plan.parse().map_err(|e: Error| e.kind(Kind::Usage))?, id.to_owned()))
        };
        self.backup.iter().map(pair).collect()
    }

    /// What is given now is what the recovery was begun with; what is not given is as it was then. Packages and another
    /// backup may come later.
    pub(super) fn fits(&self, about: &Begin) -> Result<()> {
        let at = self.at.as_deref().map(time::parse_moment).transpose()?;
        let plans = || about.backups.iter().map(|(plan, _)| plan.as_str());
        let same_plans =
            self.plan.len() == about.backups.len() && plans().all(|p| self.plan.iter().any(|given| given == p));
        let differs = [
            ("--plan", !self.plan.is_empty() && !same_plans),
            ("--at", at.is_some() && at != about.at),
            ("--onto-existing", self.onto_existing && !about.onto_existing),
            ("--other-servers", self.other_servers && !about.other_servers),
            ("--keep-identity", self.keep_identity && !about.keep_identity),
            ("--start", !self.start.is_empty() && self.start != about.start),
        ];
        let differs: Vec<&str> =
            differs.into_iter().filter(|(_, differs)| *differs).map(|(option, _)| option).collect();
        if differs.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Usage,
            format!("the recovery that is open on this machine was begun otherwise: {}", differs.join(", ")),
        )
        .hint("Leave that out to finish it as it was begun, or give --start-over to begin anew."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackupId, VaultId};
    use crate::recovery::fresh::phase::Phase;
    use jiff::Timestamp;

    fn nothing() -> Args {
        Args {
            plan: Vec::new(),
            at: None,
            backup: Vec::new(),
            install: false,
            yes: false,
            dry_run: false,
            onto_existing: false,
            other_servers: false,
            exercise: false,
            start: Vec::new(),
            keep_identity: false,
            start_over: false,
        }
    }

    #[test]
    fn a_recovery_goes_on_with_the_options_that_it_was_begun_with() {
        let about = Begin {
            id: BackupId::new(Timestamp::UNIX_EPOCH),
            host: "erp-1".parse().unwrap(),
            vault: VaultId([7; 16]),
            backups: vec![("erp".parse().unwrap(), BackupId::new(Timestamp::UNIX_EPOCH))],
            exercise: false,
            onto_existing: true,
            other_servers: false,
            start: Vec::new(),
            keep_identity: false,
            enabled: Vec::new(),
            phases: vec![Phase::Config],
            at: None,
            notes: Vec::new(),
            elsewhere: Vec::new(),
        };
        let fits = [
            nothing(),
            Args { plan: vec!["erp".into()], ..nothing() },
            Args { onto_existing: true, install: true, backup: vec!["erp=2026".into()], ..nothing() },
        ];
        fits.iter().for_each(|args| args.fits(&about).unwrap());
        for (option, args) in [
            ("--plan", Args { plan: vec!["shop".into()], ..nothing() }),
            ("--at", Args { at: Some("2026-01-03 22:00".into()), ..nothing() }),
            ("--other-servers", Args { other_servers: true, ..nothing() }),
            ("--keep-identity", Args { keep_identity: true, ..nothing() }),
            ("--start", Args { start: vec!["nginx.service".into()], ..nothing() }),
        ] {
            let error = args.fits(&about).unwrap_err();
            assert!(error.kind == Kind::Usage && error.what.contains(option), "{error:?}");
        }
    }

    #[test]
    fn a_backup_is_chosen_by_plan_and_id() {
        let of =
            |texts: &[&str]| Args { backup: texts.iter().map(|t| (*t).to_owned()).collect(), ..nothing() }.backups();
        let chosen = of(&["erp=20260103T", "site=x"]).unwrap();
        assert_eq!(chosen[0], ("erp".parse().unwrap(), "20260103T".to_owned()));
        for wrong in ["erp", "erp=", "=x"] {
            assert_eq!(of(&[wrong]).unwrap_err().kind, Kind::Usage, "{wrong}");
        }
    }
}
