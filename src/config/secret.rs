//! Secrets as a type: never printed, wiped when dropped.

use crate::error::{Error, Kind, Result};
use crate::telemetry::scrub::register;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A password, key or token. Whatever becomes one is taken out of all that is told elsewhere from then on.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(d).map(Secret::new)
    }
}

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        register(&text);
        Secret(Zeroizing::new(text))
    }

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where a secret's file is: a name without a slash is a systemd credential when there is one of that name, and
/// else lies beside the configuration file.
pub fn resolve(file: &Path, config_dir: &Path) -> PathBuf {
    if file.is_absolute() {
        return file.to_owned();
    }
    if let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        let path = Path::new(&credentials).join(file);
        if path.exists() {
            return path;
        }
    }
    config_dir.join(file)
}

/// A secret that is given directly or as a file; both at once is an error.
///
/// # Errors
/// [`Kind::Config`] with the option's name.
pub fn either(direct: Option<Secret>, file: Option<&Path>, option: &str, config_dir: &Path) -> Result<Option<Secret>> {
    match (direct, file) {
        (Some(_), Some(_)) => {
            Err(Error::new(Kind::Config, format!("both `{option}` and `{option}_file` are set"))
                .hint("Keep one of them."))
        }
        (Some(secret), None) => Ok(Some(secret)),
        (None, None) => Ok(None),
        (None, Some(file)) => {
            let path = resolve(file, config_dir);
            let text = std::fs::read_to_string(&path).map_err(|e| {
                Error::io(format!("the file of `{option}_file` cannot be read"), &path, e).kind(Kind::Config)
            })?;
            Ok(Some(Secret::new(text.trim_end_matches(['\n', '\r']).to_owned())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed_and_files_lose_their_line_end() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pw"), "0123\n").unwrap();
        let secret = either(None, Some(Path::new("pw")), "password", dir.path()).unwrap().unwrap();
        assert_eq!(secret.expose(), "0123");
        assert!(either(Some(secret), Some(Path::new("pw")), "password", dir.path()).is_err());
    }
}
