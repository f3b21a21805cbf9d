//! What is said of a configuration that cannot be used: which key, and which one may be meant.

use crate::error::{Error, Kind};
use config::ConfigError;
use std::path::Path;

/// The crate's message, with the nearest known key for an unknown one.
pub(super) fn explain(e: ConfigError, file: &Path) -> Error {
    let text = e.to_string();
    let error = Error::new(Kind::Config, "the configuration cannot be used").at(file.display()).because(text.clone());
    let mut quoted = text.split('`').skip(1).step_by(2);
    if (text.contains("unknown field") || text.contains("unknown variant"))
        && let Some(unknown) = quoted.next()
    {
        let nearest = quoted.map(|known| (distance(unknown, known), known)).min();
        let mut error = Error::new(Kind::Config, format!("the configuration has an unknown key or value `{unknown}`"))
            .at(file.display())
            .because(text.clone());
        error.hint = Some(match nearest {
            Some((d, known)) if d <= known.len().max(3) / 2 => format!("Did you mean `{known}`?"),
            _ => "docs/configuration.md lists all keys.".to_owned(),
        });
        return error;
    }
    error.hint("docs/configuration.md lists all keys.")
}

/// Edit distance of two short words; two letters that changed places are one edit.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut edits = (rows[i][j] + usize::from(a[i] != b[j])).min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                edits = edits.min(rows[i - 1][j - 1] + 1);
            }
            row.push(edits);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The same error with the key that it is about.
pub(super) fn named(e: Error, key: &str) -> Error {
    let what = format!("`{key}`: {}", e.what);
    Error { what, ..e }
}
