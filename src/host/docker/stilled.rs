//! Which containers stand still only because a backup wants them to: its journal says so until they are put back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folder of the journals below the state directory.
pub const FOLDER: &str = "quiesce";

/// The names that the journals in these state directories have. A line that is cut was never synced, so nothing was done.
pub fn names(state_dirs: &[PathBuf]) -> BTreeSet<String> {
    state_dirs.iter().flat_map(|dir| of(&dir.join(FOLDER))).collect()
}

fn of(folder: &Path) -> BTreeSet<String> {
    let journals = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let texts = journals.filter_map(|e| std::fs::read_to_string(e.path()).ok());
    let name = |line: &str| {
        let did: serde_json::Value = serde_json::from_str(line).ok()?;
        did.get("container")?.as_str().map(str::to_owned)
    };
    texts.flat_map(|text| text.lines().filter_map(name).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_by_the_journals() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().join("none"), dir.path().to_owned()];
        assert!(names(&dirs).is_empty());
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let text = "{\"did\":\"paused\",\"container\":\"web\"}\n{\"did\":\"scaled\",\"service\":\"x\",\"replicas\":1}\n\
            {\"did\":\"stopped\",\"container\":\"db\",\"grace\":10}\n{\"did\":\"sto";
        std::fs::write(dir.path().join(FOLDER).join("1.journal"), text).unwrap();
        assert_eq!(names(&dirs).into_iter().collect::<Vec<_>>(), ["db", "web"]);
    }
}
