//! The layer of the environment: `BACKSTAY__REPOSITORY__URL` says `repository.url`. What is wrong in it is said to be there.

use crate::error::{Error, Kind, Result};
use config::Environment;
use std::collections::HashMap;

/// Sections that nobody names other variables after. `metrics` and `serve` are not among them: container platforms make some
/// like BACKSTAY_SERVE_PORT for services.
const SECTIONS: &[&str] =
    &["REPOSITORY", "KEYS", "BACKUP", "MAINTENANCE", "SOURCES", "PLANS", "FOREIGN", "SENTRY", "WEBHOOKS"];
/// What hooks get.
const BACKUP_ID: &str = "BACKSTAY_BACKUP_ID";

/// The layer.
pub(super) fn layer(environment: Option<HashMap<String, String>>) -> Environment {
    Environment::with_prefix("BACKSTAY").prefix_separator("__").separator("__").ignore_empty(true).source(environment)
}

/// The names of the variables that say keys.
pub(super) fn keys(environment: Option<&HashMap<String, String>>) -> Vec<String> {
    let mut names = names(environment);
    names.retain(|name| name.starts_with("BACKSTAY__"));
    names.sort();
    names
}

/// Refuses a variable that is meant for the configuration and would not be read.
///
/// # Errors
/// [`Kind::Config`] with its name.
pub(super) fn refuse_misspelt(environment: Option<&HashMap<String, String>>) -> Result<()> {
    match names(environment).into_iter().filter(|name| is_misspelt(name)).min() {
        None => Ok(()),
        Some(name) => Err(Error::new(Kind::Config, format!("{name} would not be read"))
            .at(format!("the environment: {name}"))
            .because("two underscores stand before a section, and before a key in it")
            .hint("Name it like BACKSTAY__REPOSITORY__URL or BACKSTAY__KEYS__IDENTITY_FILE, or unset it.")),
    }
}

/// An error of the file and of what these keys say over it, placed where the fault is. `without` is the error of the file alone.
pub(super) fn blamed(error: Error, without: Option<Error>, keys: &[String]) -> Error {
    let text = error.to_string().to_lowercase();
    let last = |name: &&String| name.rsplit("__").next().is_some_and(|key| text.contains(&key.to_lowercase()));
    let meant: Vec<&str> = keys.iter().filter(last).map(String::as_str).collect();
    let names = match without {
        None if meant.is_empty() => keys.iter().map(String::as_str).collect(),
        None => meant,
        // Without it something else is wrong, which the environment may well supply.
        Some(e) if e.what != error.what && !meant.is_empty() => meant,
        Some(_) => return error,
    };
    Error { place: Some(format!("the environment: {}", names.join(", "))), ..error }
}

/// The names of all variables that are not empty. Their values may be secrets.
fn names(environment: Option<&HashMap<String, String>>) -> Vec<String> {
    match environment {
        Some(given) => given.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.clone()).collect(),
        None => std::env::vars_os()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, _)| name.into_string().ok())
            .collect(),
    }
}

/// Whether this is a key with too few underscores. Other names that begin so are not ours to judge: hooks have some, and
/// so may the scripts of a host.
fn is_misspelt(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("BACKSTAY_").filter(|_| name != BACKUP_ID) else { return false };
    let one = |text: &str| text.starts_with('_') && !text.starts_with("__");
    match rest.strip_prefix('_') {
        Some(key) => SECTIONS.iter().any(|section| key.strip_prefix(section).is_some_and(one)),
        None => rest.contains("__") || SECTIONS.iter().any(|section| rest.strip_prefix(section).is_some_and(one)),
    }
}
