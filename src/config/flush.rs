//! `flush` of `[plans.NAME.restore]`: what is emptied when databases go back, from a text to the checked type.

use super::SourceConfig;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::sources::redis::RedisSource;
use std::collections::BTreeMap;

/// A Redis server, or one of its databases, that holds what was made of the data: a cache, a queue, sessions.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The `redis` source that knows the server. It need not be in any plan.
    pub source: Name,
    /// The number of the database; `None` is all of them.
    pub database: Option<u32>,
    /// How to reach it.
    pub server: RedisSource,
}

impl Flush {
    /// For plan, journal and messages: `cache`, `cache/1`.
    pub fn label(&self) -> String {
        match self.database {
            Some(number) => format!("{}/{number}", self.source),
            None => self.source.to_string(),
        }
    }

    /// The name of its step.
    pub fn step(&self) -> String {
        format!("flush {}", self.label())
    }
}

/// The entries of a list; `key` is its path.
///
/// # Errors
/// [`Kind::Config`] for one that names no `redis` source, or names something twice.
pub(super) fn flushes_of(texts: &[String], key: &str, sources: &BTreeMap<Name, SourceConfig>) -> Result<Vec<Flush>> {
    let mut all: Vec<Flush> = Vec::new();
    for text in texts {
        let wrong = |why: &str| {
            Error::new(Kind::Config, format!("`{key}` names {text:?}, {why}"))
                .hint("Write the name of a `redis` source for all of its databases, or NAME/2 for number 2 alone.")
        };
        let (name, number) = text.split_once('/').map_or((text.as_str(), None), |(name, number)| (name, Some(number)));
        let database =
            number.map(|n| n.parse::<u32>().map_err(|_| wrong("which is no number of a database"))).transpose()?;
        let source: Name = name.parse().map_err(|_| wrong("which is no name of a source"))?;
        let server = match sources.get(&source) {
            Some(SourceConfig::Redis(server)) => server.clone(),
            Some(other) => return Err(wrong(&format!("which is of kind {}", other.kind()))),
            None => return Err(wrong("and there is no such source")),
        };
        if all
            .iter()
            .any(|f| f.source == source && (f.database.is_none() || database.is_none() || f.database == database))
        {
            return Err(wrong("which another entry empties too"));
        }
        all.push(Flush { source, database, server });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::redis::address::Server;

    #[test]
    fn an_entry_is_a_server_or_one_of_its_databases_and_nothing_twice() {
        let redis = SourceConfig::Redis(RedisSource {
            server: Server::parse("redis://localhost:6379").unwrap(),
            unit: None,
            container: None,
            data_dir: None,
            config_file: None,
            include_aof: false,
        });
        let sources = BTreeMap::from([("cache".parse().unwrap(), redis)]);
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            flushes_of(&texts, "plans.p.restore.flush", &sources)
                .map(|all| all.iter().map(Flush::step).collect::<Vec<_>>().join(", "))
                .map_err(|e| e.to_string())
        };
        assert_eq!(of(&["cache"]).unwrap(), "flush cache");
        assert_eq!(of(&["cache/1", "cache/2"]).unwrap(), "flush cache/1, flush cache/2");
        for (texts, why) in [
            (&["other"][..], "no such source"),
            (&["cache/x"], "no number of a database"),
            (&["cache/1", "cache/1"], "another entry"),
            (&["cache/1", "cache"], "another entry"),
        ] {
            let e = of(texts).unwrap_err();
            assert!(e.contains(why) && e.contains("plans.p.restore.flush"), "{e}");
        }
    }
}
