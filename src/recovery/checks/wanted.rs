//! Whether the answer of a query, or the output of a program, is what it should be.

use super::Verdict;
use super::words::{excerpt, listed};
use crate::config::checks::Wanted;
use serde_json::Value;
use std::fmt::Write;

/// Rows, each with its values as text; `None` is NULL.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// Characters of the answer that are told.
const TOLD: usize = 300;
/// As many digits as a binary number holds exactly.
const DIGITS: usize = 15;

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The rows that an expected value stands for.
fn rows(value: &Value) -> Rows {
    match value {
        Value::Array(rows) => rows
            .iter()
            .map(|row| match row {
                Value::Array(columns) => columns.iter().map(text).collect(),
                scalar => vec![text(scalar)],
            })
            .collect(),
        scalar => vec![vec![text(scalar)]],
    }
}

/// Whether two texts are one value: `7` is `7.0`.
fn same(a: &str, b: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().filter(|_| text.len() <= DIGITS);
    a == b || number(a).is_some_and(|a| number(b) == Some(a))
}

fn same_rows(expected: &Rows, found: &Rows) -> bool {
    let same_value = |(a, b): (&Option<String>, &Option<String>)| match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let same_row = |(a, b): (&Vec<_>, &Vec<_>)| a.len() == b.len() && a.iter().zip(b).all(same_value);
    expected.len() == found.len() && expected.iter().zip(found).all(same_row)
}

fn told(rows: &Rows) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    let row = |row: &Vec<Option<String>>| match &row[..] {
        [one] => value(one),
        many => format!("({})", listed(many.iter().map(value), ", ")),
    };
    match rows.len() {
        0 => "no row".to_owned(),
        1 => excerpt(&row(&rows[0]), TOLD),
        n => excerpt(&format!("{n} rows: {}", listed(rows.iter().map(row), ", ")), TOLD),
    }
}

/// What should be, in words; for nothing at all the words given.
pub(super) fn expected(wanted: &Wanted, nothing: &str) -> String {
    let mut out = wanted.equal.as_ref().map(|value| told(&rows(value))).unwrap_or_default();
    for (word, bound) in [("at least", wanted.min), ("at most", wanted.max)] {
        if let Some(bound) = bound {
            let and = if out.is_empty() { "" } else { " and " };
            let _ = write!(out, "{and}{word} {bound}");
        }
    }
    if out.is_empty() { nothing.to_owned() } else { out }
}

/// Compares.
pub(super) fn judge(wanted: &Wanted, found: &Rows) -> Verdict {
    let told = told(found);
    let good = match &wanted.equal {
        Some(value) => same_rows(&rows(value), found),
        None if wanted.is_empty() => {
            let first = found.first().and_then(|row| row.first());
            first.is_some_and(|value| value.as_deref().is_some_and(|value| value != "false"))
        }
        None => {
            let number = match &found[..] {
                [row] => match &row[..] {
                    [Some(one)] => one.trim().parse::<f64>().ok().filter(|n| !n.is_nan()),
                    _ => None,
                },
                _ => None,
            };
            let Some(number) = number else { return Verdict::Bad(format!("{told}, which is not one number")) };
            wanted.min.is_none_or(|min| number >= min) && wanted.max.is_none_or(|max| number <= max)
        }
    };
    if good { Verdict::Good(told) } else { Verdict::Bad(told) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Rows {
        vec![vec![Some(text.to_owned())]]
    }

    fn good(wanted: &Wanted, found: &Rows) -> bool {
        matches!(judge(wanted, found), Verdict::Good(_))
    }

    #[test]
    fn values_are_compared_as_values_and_big_numbers_as_texts() {
        let equal = |value: Value| Wanted { equal: Some(value), ..Wanted::default() };
        assert!(good(&equal(json!(7)), &one("7")) && good(&equal(json!(7.5)), &one("7.50")));
        assert!(good(&equal(json!("7")), &one("7")) && good(&equal(json!(true)), &one("true")));
        assert!(!good(&equal(json!(7)), &one("8")) && !good(&equal(json!(7)), &one("seven")));
        assert!(!good(&equal(json!("10000000000000001")), &one("10000000000000002")));
        assert!(good(&equal(json!(["a", null])), &vec![vec![Some("a".into())], vec![None]]));
        assert!(good(&equal(json!([["a", 1]])), &vec![vec![Some("a".into()), Some("1".into())]]));
        assert!(!good(&equal(json!([["a", 1]])), &vec![vec![Some("a".into())]]));
        assert!(good(&equal(json!([])), &vec![]) && !good(&equal(json!([])), &one("x")));
    }

    #[test]
    fn bounds_ask_for_one_number_and_nothing_asks_for_some_row() {
        let bounds = Wanted { equal: None, min: Some(1.0), max: Some(10.0) };
        assert!(good(&bounds, &one("1")) && good(&bounds, &one("10")) && good(&bounds, &one(" 4\n")));
        assert!(!good(&bounds, &one("0")) && !good(&bounds, &one("11")) && !good(&bounds, &one("NaN")));
        let Verdict::Bad(why) = judge(&bounds, &vec![vec![None]]) else { panic!() };
        assert_eq!(why, "NULL, which is not one number");
        assert_eq!(expected(&bounds, ""), "at least 1 and at most 10");
        let nothing = Wanted::default();
        assert!(good(&nothing, &one("x")) && !good(&nothing, &one("false")));
        assert!(!good(&nothing, &vec![]) && !good(&nothing, &vec![vec![None]]));
    }
}
