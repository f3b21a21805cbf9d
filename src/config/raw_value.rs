//! Values as they are written, where the config crate does not convert them. For `deserialize_with`.

use crate::model::list::list;
use serde::{Deserialize, Deserializer};
use std::fmt::Display;
use std::str::FromStr;

/// A list that may be missing.
pub(super) fn some_list<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    list(d).map(Some)
}

/// A boolean or a number, or from the environment its text. Needed within `[sources.NAME]` and `encryption` only: a
/// tagged enum keeps values as they came, and elsewhere the config crate converts. (It could parse everything from the
/// environment, and would turn the password 0123 into a number.)
pub(super) fn loose<'de, D: Deserializer<'de>, T>(d: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + FromStr<Err: Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Own(T),
        Text(String),
    }
    match Either::deserialize(d)? {
        Either::Own(value) => Ok(value),
        Either::Text(text) => text.trim().parse().map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}"))),
    }
}

/// The same that may be missing.
pub(super) fn some_loose<'de, D: Deserializer<'de>, T>(d: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + FromStr<Err: Display>,
{
    loose(d).map(Some)
}
