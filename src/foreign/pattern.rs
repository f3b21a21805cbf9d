//! Names of files with a time and other words in them: `{timestamp}/postgres/postgres-{timestamp}.dump`.

use super::when::Clock;
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The word that stands for the time.
pub const TIMESTAMP: &str = "timestamp";
/// More of what may be of any length makes matching slow, and nobody's names are like that.
const MOST_OPEN: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    /// Anything within one folder.
    Star,
    /// A word within one folder, not empty; the same word again is the same text.
    Word(String),
}

/// A pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the words of a pattern stand for in a name.
pub type Words = BTreeMap<String, String>;

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`Kind::Config`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(Kind::Config, format!("the pattern {text:?} {what}"))
                .hint("Write a name like db_{timestamp}.dump; * stands for anything within a folder.")
        };
        if text.is_empty() || text.starts_with('/') || text.ends_with('/') || text.split('/').any(|p| p == "..") {
            return Err(wrong("is no path below `url`"));
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '{' {
                let end = rest.find('}').ok_or_else(|| wrong("has a { without a }"))?;
                let word = &rest[1..end];
                if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    return Err(wrong("has braces without a plain word in them"));
                }
                tokens.push(Token::Word(word.to_owned()));
                rest = &rest[end + 1..];
            } else if c == '*' {
                tokens.push(Token::Star);
                rest = &rest[1..];
            } else {
                let end = rest.find(['{', '*']).unwrap_or(rest.len());
                if rest[..end].contains('}') {
                    return Err(wrong("has a } without a {"));
                }
                tokens.push(Token::Text(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        let open = |t: &&Token| !matches!(t, Token::Text(_));
        if tokens.iter().filter(open).count() > MOST_OPEN {
            return Err(wrong("has too many words and stars"));
        }
        // Where one ends and the next begins could not be told.
        if tokens.windows(2).any(|t| open(&&t[0]) && open(&&t[1])) {
            return Err(wrong("has two words or stars with nothing between them"));
        }
        Ok(Pattern { text: text.to_owned(), tokens })
    }

    /// The words in it.
    pub fn words(&self) -> BTreeSet<&str> {
        self.tokens.iter().filter_map(|t| if let Token::Word(word) = t { Some(word.as_str()) } else { None }).collect()
    }

    /// True when one set may have several files of this pattern.
    pub fn is_open(&self) -> bool {
        self.tokens.contains(&Token::Star)
    }

    /// How every name begins that matches.
    pub fn prefix(&self) -> &str {
        match self.tokens.first() {
            Some(Token::Text(text)) => text,
            _ => "",
        }
    }

    /// The words of a name, if it matches.
    pub fn matches(&self, name: &str, clock: &Clock) -> Option<Words> {
        let mut words = Words::new();
        matches(&self.tokens, name, clock, &mut words).then_some(words)
    }

    /// The pattern with these words put in, for messages about what is not there.
    pub fn filled(&self, words: &Words) -> String {
        let text = |token: &Token| match token {
            Token::Text(text) => text.clone(),
            Token::Star => "*".to_owned(),
            Token::Word(word) => words.get(word).cloned().unwrap_or_else(|| format!("{{{word}}}")),
        };
        self.tokens.iter().map(text).collect()
    }
}

fn matches(tokens: &[Token], name: &str, clock: &Clock, words: &mut Words) -> bool {
    let Some((first, rest)) = tokens.split_first() else { return name.is_empty() };
    let (word, lengths) = match first {
        Token::Text(text) => return name.strip_prefix(text.as_str()).is_some_and(|n| matches(rest, n, clock, words)),
        Token::Star => (None, 0..=name.len()),
        Token::Word(word) => {
            if let Some(known) = words.get(word).cloned() {
                return name.strip_prefix(known.as_str()).is_some_and(|n| matches(rest, n, clock, words));
            }
            (Some(word), if word == TIMESTAMP { clock.lengths() } else { 1..=name.len() })
        }
    };
    for length in lengths {
        let Some(taken) = name.get(..length) else { continue };
        if taken.contains('/') {
            return false;
        }
        if let Some(word) = word {
            if word == TIMESTAMP && clock.read(taken).is_none() {
                continue;
            }
            words.insert(word.clone(), taken.to_owned());
        }
        if matches(rest, &name[length..], clock, words) {
            return true;
        }
        if let Some(word) = word {
            words.remove(word);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn clock(format: &str) -> Clock {
        Clock { format: format.into(), zone: TimeZone::UTC, zone_name: "UTC".into() }
    }

    fn words(pattern: &str, name: &str, format: &str) -> Option<Vec<(String, String)>> {
        Some(Pattern::parse(pattern).unwrap().matches(name, &clock(format))?.into_iter().collect())
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    #[test]
    fn names_of_the_common_scripts_match() {
        let usual = "%Y%m%d_%H%M%S";
        let stamp = pair("timestamp", "20251018_020000");
        assert_eq!(words("db_{timestamp}.dump", "db_20251018_020000.dump", usual), Some(vec![stamp.clone()]));
        assert_eq!(
            words(
                "backups/production/{app}_production_{timestamp}.sql.gz.enc",
                "backups/production/hima_lytix_production_20251018_020000.sql.gz.enc",
                usual
            ),
            Some(vec![pair("app", "hima_lytix"), stamp])
        );
        let folder = "{timestamp}/postgres/postgres-{timestamp}.dump";
        let dashed = "%Y%m%d-%H%M%S";
        assert!(words(folder, "20240215-020000/postgres/postgres-20240215-020000.dump", dashed).is_some());
        // A copy from another day is not of this set.
        assert!(words(folder, "20240215-020000/postgres/postgres-20240214-020000.dump", dashed).is_none());
        assert!(words(folder, "pre-restore-20240215-020000/postgres/postgres-20240215-020000.dump", dashed).is_none());
        assert!(
            words("{timestamp}/app/docker-image-*.tar.gz", "20240215-020000/app/docker-image-a:5000_b.tar.gz", dashed)
                .is_some()
        );
        assert!(
            words("{timestamp}/app/docker-image-*.tar.gz", "20240215-020000/app/x/docker-image-a.tar.gz", dashed)
                .is_none()
        );
    }

    #[test]
    fn what_only_looks_like_a_time_does_not_match() {
        assert!(words("db_{timestamp}.dump", "db_20251318_020000.dump", "%Y%m%d_%H%M%S").is_none());
        assert!(words("db_{timestamp}.dump", "db_20251018_020000.dump.part", "%Y%m%d_%H%M%S").is_none());
        assert!(words("db_{timestamp}.dump", "db_1767225600.dump", "%s").is_some());
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for bad in ["", "/abs/{timestamp}", "a/../{timestamp}", "{timestamp", "a}", "{}", "{a}{b}", "{a b}", "a/"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        let p = Pattern::parse("a/{timestamp}/b-{timestamp}-*.x").unwrap();
        assert_eq!((p.prefix(), p.is_open()), ("a/", true));
        assert_eq!(p.filled(&Words::from([pair("timestamp", "T")])), "a/T/b-T-*.x");
    }
}
