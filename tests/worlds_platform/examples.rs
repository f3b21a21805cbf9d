//! The worked examples: read as they are, and with the addresses of a test.

use backstay::config::load::load_with;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name)
}

/// An example, with other addresses; each must be in it.
#[track_caller]
pub fn with(name: &str, replaced: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(file(name)).unwrap();
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    text
}

#[test]
fn they_are_read_as_they_are() {
    for (name, sources, layouts) in [("erp.toml", 2, 2), ("hosting.toml", 6, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let secrets = format!("{}/", folder.path().display());
        // Secrets are where an operator would put them, which is not here.
        let text = with(name, &[("_file = \"/etc/backstay/", &format!("_file = \"{secrets}"))]);
        for secret in text.split("password_file = \"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            std::fs::write(secret, "secret\n").unwrap();
        }
        let path = folder.path().join("backstay.toml");
        std::fs::write(&path, text).unwrap();
        let config = load_with(&path, Some(Default::default())).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((config.sources.len(), config.foreign.len(), config.plans.len()), (sources, layouts, 1), "{name}");
        assert!(!config.plans.values().next().unwrap().restore.checks.is_empty(), "{name}");
    }
}
