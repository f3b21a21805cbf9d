//! Fixtures of Django: one list of objects in JSON, each of which says of what model it is.

use crate::error::{Error, Kind, Result};
use crate::model::size::{count, plural};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, Read};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Models that are named in one line.
const NAMED: usize = 20;

/// Objects of each model, as `app.model` in lower case.
pub type Models = BTreeMap<String, u64>;

/// Counts the objects, one after the other, without keeping them.
///
/// # Errors
/// [`Kind::Damaged`] when it is cut short or is something else.
pub fn models(content: &mut dyn Read) -> Result<Models> {
    let mut models = Models::new();
    let mut parser = serde_json::Deserializer::from_reader(BufReader::with_capacity(PIECE, content));
    let parsed = serde::Deserializer::deserialize_seq(&mut parser, Counting(&mut models)).and_then(|()| parser.end());
    match parsed {
        Ok(()) => Ok(models),
        Err(e) if e.is_eof() => Err(Error::new(Kind::Damaged, "the fixture is cut short").because(e)),
        Err(e) => Err(Error::new(Kind::Damaged, "the fixture is no list of objects of Django").because(e)),
    }
}

/// For people: how many objects, and of what.
pub fn words(models: &Models) -> String {
    let all = plural(models.values().sum(), "object");
    if models.is_empty() {
        return all;
    }
    let named = models.iter().take(NAMED).map(|(model, n)| format!("{model} {}", count(*n)));
    let mut of = named.collect::<Vec<_>>().join(", ");
    if models.len() > NAMED {
        of = format!("{of} and {} more", plural((models.len() - NAMED) as u64, "model"));
    }
    format!("{all}: {of}")
}

#[derive(serde::Deserialize)]
struct Object {
    model: String,
}

struct Counting<'a>(&'a mut Models);

impl<'de> serde::de::Visitor<'de> for Counting<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(Object { model }) = seq.next_element::<Object>()? {
            *self.0.entry(model.to_ascii_lowercase()).or_default() += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_by_model_and_a_cut_fixture_is_told() {
        let text = r#"[{"model": "a.B", "pk": 1, "fields": {"x": [1, {"y": null}]}}, {"model": "a.c", "pk": "u"},
            {"pk": 2, "model": "a.b"}]"#;
        let found = models(&mut text.as_bytes()).unwrap();
        assert_eq!(words(&found), "3 objects: a.b 2, a.c 1");
        assert_eq!(words(&models(&mut &b"[]"[..]).unwrap()), "0 objects");
        assert!(models(&mut &text.as_bytes()[..60]).unwrap_err().what.contains("cut short"));
        for other in ["{\"a\": 1}", "[{\"pk\": 1}]", "[1]", "[]x"] {
            assert!(models(&mut other.as_bytes()).unwrap_err().what.contains("no list of objects"), "{other}");
        }
    }

    #[test]
    fn many_models_are_not_all_named() {
        let many: Models = (10..35).map(|n| (format!("a.m{n}"), 1)).collect();
        let words = words(&many);
        assert!(words.starts_with("25 objects: a.m10 1, ") && words.ends_with(" and 5 models more"), "{words}");
    }
}
