//! Checksums that a script wrote beside its files.

use super::layout::{Field, SumFormat};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// No manifest of a set is larger.
pub const MAX_BYTES: u64 = 16 << 20;

/// What is written of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes, where they are written as a whole number.
    pub size: Option<u64>,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: Option<String>,
}

/// Reads a manifest that lies in `folder` (empty, or with a slash at its end): sums by name below the root of the layout.
///
/// # Errors
/// [`Kind::Damaged`] for a line with a checksum that is none, and when there is not one line with a file.
pub fn read(text: &[u8], format: &SumFormat, folder: &str) -> Result<BTreeMap<String, Sum>> {
    let mut sums = BTreeMap::new();
    for (n, line) in String::from_utf8_lossy(text).lines().enumerate() {
        let found = match format {
            SumFormat::Sha256sum => sha256sum(line),
            SumFormat::Fields(fields) => by_fields(line, fields),
        };
        let Some((name, sum)) =
            found.map_err(|what| Error::new(Kind::Damaged, format!("line {} of the checksums {what}", n + 1)))?
        else {
            continue;
        };
        let name = format!("{folder}{}", name.trim_start_matches("./"));
        if sums.insert(name.clone(), sum).is_some() {
            return Err(Error::new(Kind::Damaged, format!("the checksums name {name} twice")));
        }
    }
    if sums.is_empty() {
        return Err(Error::new(Kind::Damaged, "the checksums name no file")
            .hint("Correct `checksums.format`, or look whether the script was interrupted."));
    }
    Ok(sums)
}

type Line = std::result::Result<Option<(String, Sum)>, &'static str>;

fn hex(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// `HEX  NAME`, or `HEX *NAME`.
fn sha256sum(line: &str) -> Line {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    // A name with a backslash or a line end in it is escaped, and the line begins with one.
    let Some((sum, name)) = line.split_once(' ') else { return Err("is not as sha256sum writes it") };
    let sha256 = hex(sum).ok_or("has no SHA-256 checksum")?;
    let name = name.strip_prefix([' ', '*']).ok_or("is not as sha256sum writes it")?;
    Ok(Some((name.to_owned(), Sum { size: None, sha256: Some(sha256) })))
}

/// Headings and rules have another number of bars.
fn by_fields(line: &str, fields: &[Field]) -> Line {
    let values: Vec<&str> = line.split('|').map(str::trim).collect();
    if values.len() != fields.len() || line.starts_with('=') || line.starts_with('#') {
        return Ok(None);
    }
    let mut name = None;
    let mut sum = Sum::default();
    for (field, value) in fields.iter().zip(values) {
        match field {
            Field::File => name = Some(value.to_owned()),
            // Some scripts write what `du -h` says, which cannot be compared.
            Field::Size => sum.size = value.parse().ok(),
            Field::Sha256 => match hex(value) {
                Some(hex) => sum.sha256 = Some(hex),
                // The heading of the table.
                None if ["sha256", "checksum", "sum", "hash"].contains(&value.to_ascii_lowercase().as_str()) => {
                    return Ok(None);
                }
                None => return Err("has no SHA-256 checksum"),
            },
            Field::Any => {}
        }
    }
    Ok(name.filter(|n| !n.is_empty()).map(|name| (name, sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_manifest_with_bars_is_read_past_its_headings() {
        let fields = SumFormat::Fields(vec![Field::File, Field::Size, Field::Sha256]);
        let text = format!(
            "=== Backup manifest ===\nBackup ID: 20240215-020000\nfile|size|sha256\npostgres/a.dump|12|{}\n./redis/b.rdb|1.2M|{HEX}\n=====\n",
            HEX.to_uppercase()
        );
        let sums = read(text.as_bytes(), &fields, "20240215-020000/").unwrap();
        assert_eq!(sums["20240215-020000/postgres/a.dump"], Sum { size: Some(12), sha256: Some(HEX.into()) });
        assert_eq!(sums["20240215-020000/redis/b.rdb"].size, None);
        let e = read(b"a|1|zz\n", &fields, "").unwrap_err();
        assert!(e.what.contains("line 1"), "{e}");
        assert!(read(b"nothing here\n", &fields, "").is_err());
    }

    #[test]
    fn lines_of_sha256sum_are_read() {
        let text = format!("{HEX}  db.dump\n{HEX} *storage.tar.gz\n");
        let sums = read(text.as_bytes(), &SumFormat::Sha256sum, "").unwrap();
        assert_eq!(sums.keys().collect::<Vec<_>>(), ["db.dump", "storage.tar.gz"]);
        assert!(read(b"zz  a\n", &SumFormat::Sha256sum, "").is_err());
        assert!(read(format!("{HEX}  a\n{HEX}  a\n").as_bytes(), &SumFormat::Sha256sum, "").is_err());
    }
}
