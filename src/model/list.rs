//! Lists as the configuration writes them.

use serde::{Deserialize, Deserializer};

/// A list, or from the environment one text with commas. For `deserialize_with`.
///
/// # Errors
/// Those of the deserializer, when it is neither.
pub fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Either::deserialize(d)? {
        Either::Text(text) => text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect(),
        Either::List(list) => list,
    })
}
