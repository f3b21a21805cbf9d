//! What stands still only because a backup wants it to: its journal says so until it is put back.

use bollard::models::ServiceSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folder of the journals below the state directory.
pub const FOLDER: &str = "quiesce";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stilled {
    /// Names of containers that are stopped or paused.
    pub containers: BTreeSet<String>,
    /// Names of services that are scaled to 0, with the replicas that they are scaled back to.
    pub services: BTreeMap<String, i64>,
}

impl Stilled {
    /// What the journals in these state directories have. A line that is cut was never synced, so nothing was done.
    pub fn read(state_dirs: &[PathBuf]) -> Self {
        let mut found = Stilled::default();
        for text in state_dirs.iter().flat_map(|dir| texts(&dir.join(FOLDER))) {
            text.lines().for_each(|line| found.note(line));
        }
        found
    }

    fn note(&mut self, line: &str) {
        let Ok(did) = serde_json::from_str::<serde_json::Value>(line) else { return };
        let name = |key: &str| did.get(key).and_then(|name| name.as_str()).map(str::to_owned);
        self.containers.extend(name("container"));
        self.services.extend(name("service").zip(did.get("replicas").and_then(|n| n.as_i64())));
    }

    /// Adds what the journals have by now: something may have been stopped since, or put back.
    pub fn read_again(&mut self, state_dirs: &[PathBuf]) {
        let now = Stilled::read(state_dirs);
        self.containers.extend(now.containers);
        self.services.extend(now.services);
    }

    /// A service as it was asked for, and not as it is while it stands still.
    pub fn put_back(&self, mut spec: ServiceSpec) -> ServiceSpec {
        let then = spec.name.as_ref().and_then(|name| self.services.get(name));
        let now = spec.mode.as_mut().and_then(|mode| mode.replicated.as_mut());
        if let Some((then, now)) = then.zip(now)
            && now.replicas == Some(0)
        {
            now.replicas = Some(*then);
        }
        spec
    }
}

fn texts(folder: &Path) -> Vec<String> {
    let journals = std::fs::read_dir(folder).into_iter().flatten().flatten();
    journals.filter_map(|e| std::fs::read_to_string(e.path()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journal() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let dirs = vec![dir.path().join("none"), dir.path().to_owned()];
        assert_eq!(Stilled::read(&dirs), Stilled::default());
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let text = "{\"did\":\"paused\",\"container\":\"web\"}\n{\"did\":\"scaled\",\"service\":\"x\",\"replicas\":3}\n\
            {\"did\":\"stopped\",\"container\":\"db\",\"grace\":10}\n{\"did\":\"sto";
        std::fs::write(dir.path().join(FOLDER).join("1.journal"), text).unwrap();
        (dir, dirs)
    }

    #[test]
    fn containers_are_named_by_the_journals() {
        let (_dir, dirs) = journal();
        let mut stilled = Stilled::default();
        stilled.read_again(&dirs);
        assert_eq!(stilled, Stilled::read(&dirs));
        assert_eq!(stilled.containers.into_iter().collect::<Vec<_>>(), ["db", "web"]);
    }

    #[test]
    fn services_have_the_replicas_that_they_are_scaled_back_to() {
        let (_dir, dirs) = journal();
        let stilled = Stilled::read(&dirs);
        let replicas = |name: &str, replicas: i64| {
            let spec = json!({ "Name": name, "Mode": { "Replicated": { "Replicas": replicas } } });
            let spec = stilled.put_back(serde_json::from_value(spec).unwrap());
            spec.mode.unwrap().replicated.unwrap().replicas
        };
        assert_eq!(replicas("x", 0), Some(3));
        // Somebody has scaled it meanwhile; and one that no backup has touched.
        assert_eq!((replicas("x", 2), replicas("y", 0)), (Some(2), Some(0)));
        let global = serde_json::from_value(json!({ "Name": "x", "Mode": { "Global": {} } })).unwrap();
        assert!(stilled.put_back(global).mode.unwrap().global.is_some());
    }
}
