//! The table of all metrics: the only place that spells their names. `docs/metrics.md` is checked against it, and so are
//! dashboards and rules.
//!
//! Times are Unix times in seconds and never ages: an age in a textfile would stand still together with the agent.
//! What has never happened is 0. Counters go on counting over restarts, since they live in run records.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Up and down.
    Gauge,
    /// Up only.
    Counter,
}

impl Type {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Type,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! table {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Metric = Metric { name: $name, kind: Type::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them, in the order of the documentation.
        pub static ALL: &[&Metric] = &[$(&$id),*];
    };
}

table! {
    BUILD_INFO = Gauge "backstay_build_info" ["version"] "Always 1; the label is the version of the agent.";
    METRICS_AT = Gauge "backstay_metrics_timestamp_seconds" ["host"] "When these metrics were made.";

    RUNS = Counter "backstay_runs_total" ["host", "verb", "plan", "result"] "Runs that ended, by result: success, failure, killed.";
    RUN_ATTEMPT = Gauge "backstay_run_last_attempt_timestamp_seconds" ["host", "verb", "plan"] "When a run was last begun; 0 when never.";
    RUN_SUCCESS = Gauge "backstay_run_last_success_timestamp_seconds" ["host", "verb", "plan"] "When a run last ended as it should, for a backup with all sources of the plan; 0 when never.";
    RUN_END = Gauge "backstay_run_last_end_timestamp_seconds" ["host", "verb", "plan"] "When a run last ended, however.";
    RUN_EXIT_CODE = Gauge "backstay_run_last_exit_code" ["host", "verb", "plan"] "Exit code of the last run that ended: 0 is success, -1 means that it was killed.";
    RUN_DURATION = Gauge "backstay_run_last_duration_seconds" ["host", "verb", "plan"] "How long the last run took; absent when it was killed.";
    RUN_WARNINGS = Gauge "backstay_run_last_warnings" ["host", "verb", "plan"] "Warnings of the last run.";
    RUN_ACTIVE = Gauge "backstay_run_active" ["host", "verb", "plan"] "1 while a run is under way.";

    SOURCE_ATTEMPT = Gauge "backstay_source_last_attempt_timestamp_seconds" ["host", "plan", "source", "kind"] "When this host last began to back up the source; 0 when never.";
    SOURCE_SUCCESS = Gauge "backstay_source_last_success_timestamp_seconds" ["host", "plan", "source", "kind"] "When a backup with the source complete was last committed by this host; 0 when never.";
    SOURCE_FAILED = Gauge "backstay_source_failed" ["host", "plan", "source", "kind"] "1 when the source failed the last time.";
    SOURCE_DURATION = Gauge "backstay_source_last_duration_seconds" ["host", "plan", "source", "kind"] "How long the source took, the last time it was complete.";
    SOURCE_BYTES = Gauge "backstay_source_last_bytes" ["host", "plan", "source", "kind"] "Bytes of the source, the last time it was complete.";
    SOURCE_FILES = Gauge "backstay_source_last_files" ["host", "plan", "source", "kind"] "Files of the source, the last time it was complete; for kinds that have files.";

    BACKUP_BYTES = Gauge "backstay_backup_last_bytes" ["host", "plan"] "Bytes of all data of the last backup that was committed.";
    BACKUP_READ = Gauge "backstay_backup_last_read_bytes" ["host", "plan"] "Bytes that the last backup read from its sources.";
    BACKUP_NEW = Gauge "backstay_backup_last_new_bytes" ["host", "plan"] "Bytes of the last backup that were not stored before, uncompressed.";
    BACKUP_SHIPPED = Gauge "backstay_backup_last_shipped_bytes" ["host", "plan"] "Bytes that the last backup stored, compressed and sealed.";
    BACKUP_PACKS = Gauge "backstay_backup_last_packs" ["host", "plan"] "Packs that the last backup stored.";
    BACKUP_REPAIRED = Gauge "backstay_backup_last_repaired_packs" ["host", "plan"] "Damaged packs that the last backup stored again.";
    BACKUP_DEDUPLICATED = Gauge "backstay_backup_last_deduplicated_ratio" ["host", "plan"] "Share of the data of the last backup that was stored already, 0 to 1.";
    BACKUP_STOOD_STILL = Gauge "backstay_backup_last_stood_still_seconds" ["host", "plan"] "The longest moment in which the last backup kept an application still; absent when none.";
    BACKUP_READ_TOTAL = Counter "backstay_backup_read_bytes_total" ["host", "plan"] "Bytes that backups read from their sources.";
    BACKUP_SHIPPED_TOTAL = Counter "backstay_backup_shipped_bytes_total" ["host", "plan"] "Bytes that backups stored.";

    PLAN_MAX_AGE = Gauge "backstay_plan_max_age_seconds" ["host", "plan"] "The goal: how old the newest complete backup of the plan may be.";
    REPOSITORY_NEWEST = Gauge "backstay_repository_newest_complete_timestamp_seconds" ["host", "plan"] "When the newest complete backup of the plan that the repository has was begun; 0 when it has none.";
    REPOSITORY_OLDEST = Gauge "backstay_repository_oldest_timestamp_seconds" ["host", "plan"] "When the oldest backup of the plan that the repository has was begun.";
    REPOSITORY_BACKUPS = Gauge "backstay_repository_backups" ["host", "plan", "state"] "Backups of the plan that the repository has, by state: complete, partial, unreadable.";
    REPOSITORY_SOURCE_NEWEST = Gauge "backstay_repository_source_newest_timestamp_seconds" ["host", "plan", "source", "kind"] "When the newest backup was begun that has the source complete, as the repository has it.";
    REPOSITORY_SOURCE_BYTES = Gauge "backstay_repository_source_newest_bytes" ["host", "plan", "source", "kind"] "Bytes of the source in that backup.";
    REPOSITORY_SOURCE_USUAL = Gauge "backstay_repository_source_usual_bytes" ["host", "plan", "source", "kind"] "Bytes of the source in the seven complete backups before, their median; absent when there is none.";
    REPOSITORY_MISSING = Gauge "backstay_repository_missing_predecessors" ["host"] "Backups that a later one names, that are gone, and that nobody forgot.";
    REPOSITORY_DAMAGED = Gauge "backstay_repository_damaged_marks" ["host"] "Objects that are marked as damaged, that a backup needs, and that are not stored again yet.";
    REPOSITORY_SEEN = Gauge "backstay_repository_seen_timestamp_seconds" ["host"] "When the repository was last looked at for these figures; 0 when never.";
    REPOSITORY_PROVEN = Gauge "backstay_repository_proven_timestamp_seconds" ["host", "plan"] "When a drill, wherever it was done, last proved a backup of the plan, as the repository records it; 0 when never.";
    REPOSITORY_BYTES = Gauge "backstay_repository_bytes" ["host"] "Bytes that backups use in the repository, as the last prune or check found.";
    REPOSITORY_OBJECTS = Gauge "backstay_repository_objects" ["host"] "Objects that backups use, as the last prune or check found.";
    REPOSITORY_MEASURED = Gauge "backstay_repository_measured_timestamp_seconds" ["host"] "When that was.";
    KEY_PROVEN = Gauge "backstay_key_proven_timestamp_seconds" ["host", "key", "role"] "When it was last proven that the key opens the vault; 0 when never.";

    CHECK_BACKUPS = Gauge "backstay_check_last_backups" ["host", "plan", "state"] "Backups that the last check looked at, by state: whole, broken.";
    CHECK_DAMAGED = Gauge "backstay_check_last_damaged_objects" ["host", "plan"] "Objects that the last check found damaged or missing.";
    CHECK_MISSING = Gauge "backstay_check_last_missing_predecessors" ["host", "plan"] "Missing predecessors that the last check found.";
    CHECK_PACKS = Gauge "backstay_check_last_packs" ["host", "plan", "state"] "Packs of the last check, by state: named by backups, read.";
    FORGET_BACKUPS = Gauge "backstay_forget_last_backups" ["host", "state"] "What became of backups the last time that retention was applied: removed, or retained by a lock of the store or by credentials that may not delete.";
    FORGET_KEPT = Gauge "backstay_forget_last_kept_backups" ["host", "plan"] "Backups that the rules of the plan kept the last time.";
    PRUNE_OBJECTS = Gauge "backstay_prune_last_objects" ["host", "state"] "Objects of the last prune, by state: live, condemned, waiting, deleted, retained.";
    PRUNE_BYTES = Gauge "backstay_prune_last_bytes" ["host", "state"] "Bytes of the last prune, by state: live, condemned.";

    RESTORE_STEP = Gauge "backstay_restore_last_step_duration_seconds" ["host", "verb", "plan", "step"] "How long each step of the last restore, rollback or drill took.";
    RESTORE_OUTAGE = Gauge "backstay_restore_last_outage_seconds" ["host", "verb", "plan"] "How long the last one kept the application from its data; absent when it did not.";
    RESTORE_ROWS = Gauge "backstay_restore_last_verified_rows" ["host", "verb", "plan"] "Rows of tables that the last one compared with the backup.";
    RESTORE_COMPARED = Gauge "backstay_restore_last_verified_facts" ["host", "verb", "plan"] "Facts of the backup that the last one compared.";
    RESTORE_BYTES = Gauge "backstay_restore_last_bytes" ["host", "verb", "plan"] "Bytes of data that the last one brought back.";
    RESTORE_PROVEN = Gauge "backstay_restore_proven_timestamp_seconds" ["host", "plan"] "When it was last proven that the plan can be restored, by a drill or a restore; 0 when never.";
    RESTORE_OPEN = Gauge "backstay_restore_open" ["host"] "1 when a restore of this host was begun and neither finished nor taken back.";
    RESTORE_OPEN_SINCE = Gauge "backstay_restore_open_since_timestamp_seconds" ["host"] "When that restore was begun; absent when none is open.";
    RESTORE_KEPT = Gauge "backstay_restore_kept_previous" ["host", "plan"] "Restores of which what was there before is still kept.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let names: BTreeSet<&str> = ALL.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let Metric { name, kind, labels, help } = metric;
            assert!(name.starts_with("backstay_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Type::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
            let spelt: BTreeSet<&&str> = labels.iter().collect();
            assert_eq!(spelt.len(), labels.len(), "{name}");
            assert!(labels.first() == Some(&"host") || *name == "backstay_build_info", "{name}");
        }
    }
}
