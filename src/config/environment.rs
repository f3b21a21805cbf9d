//! The layer of the environment: `BACKSTAY__REPOSITORY__URL` says `repository.url`. What is wrong in it is said to be there.

use crate::error::{Error, Kind, Result};
use config::Environment;
use std::collections::HashMap;

/// Sections that no other variable of ours is named after, as BACKSTAY_BACKUP_ID is, which hooks get.
const SECTIONS: &[&str] =
    &["REPOSITORY", "KEYS", "MAINTENANCE", "SOURCES", "PLANS", "FOREIGN", "METRICS", "SENTRY", "WEBHOOKS", "SERVE"];

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
            .because("two underscores stand before each word of a key")
            .hint("Name it like BACKSTAY__REPOSITORY__URL or BACKSTAY__SOURCES__DB__PASSWORD, or unset it.")),
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

/// The names of all variables. Their values may be secrets.
fn names(environment: Option<&HashMap<String, String>>) -> Vec<String> {
    match environment {
        Some(given) => given.keys().cloned().collect(),
        None => std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect(),
    }
}

/// Whether this is a key with too few underscores. Other names that begin so are not ours to judge: hooks have some, and
/// so may the scripts of a host.
fn is_misspelt(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("BACKSTAY_").filter(|rest| !rest.starts_with('_')) else { return false };
    rest.contains("__") || SECTIONS.iter().any(|s| rest.strip_prefix(s).is_some_and(|rest| rest.starts_with('_')))
}
