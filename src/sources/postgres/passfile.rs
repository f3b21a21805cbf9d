//! Passwords from libpq's password file, for connections of our own; libpq's programs look themselves.
//!
//! The format is that of "The Password File" in PostgreSQL's manual: `host:port:database:user:password` a line, `*` for
//! any, `\:` and `\\` within a field.

use super::connect::Server;
use super::home;
use crate::config::secret::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The password for a database of a server, from the file that the source names, `PGPASSFILE`, or `~/.pgpass`. A file
/// that others may read is passed over, as libpq does.
pub fn password(server: &Server, database: &str) -> Option<Secret> {
    let named = server.passfile.clone().or_else(|| std::env::var_os("PGPASSFILE").map(PathBuf::from));
    let file = named.or_else(|| Some(home::directory()?.join(".pgpass")))?;
    let open_to_others = std::fs::metadata(&file).ok()?.permissions().mode() & 0o077 != 0;
    let text = std::fs::read_to_string(&file).ok().filter(|_| !open_to_others)?;
    let host = if server.host == "/var/run/postgresql" || server.host == "/tmp" { "localhost" } else { &server.host };
    find(&text, [host, &server.port.to_string(), database, &server.user])
}

fn find(text: &str, wanted: [&str; 4]) -> Option<Secret> {
    let line = text.lines().filter(|l| !l.starts_with('#')).map(fields).find(|fields| {
        fields.len() == 5 && fields.iter().zip(wanted).all(|((field, star), wanted)| *star || field == wanted)
    });
    line.and_then(|mut fields| fields.pop()).map(|(password, _)| Secret::new(password))
}

/// The fields of a line, each with whether it stands for anything. The last one is taken as it is.
fn fields(line: &str) -> Vec<(String, bool)> {
    let mut out = vec![String::new()];
    let mut raw_star = vec![true];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let n = out.len() - 1;
        match c {
            ':' if n < 4 => {
                out.push(String::new());
                raw_star.push(true);
                continue;
            }
            '\\' => {
                raw_star[n] = false;
                out[n].extend(chars.next());
            }
            c => out[n].push(c),
        }
    }
    out.into_iter()
        .zip(raw_star)
        .map(|(field, raw)| {
            let star = raw && field == "*";
            (field, star)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let text = "# a comment\nother:5432:*:*:no\nlocalhost:*:erp:app:a\\:b\\\\c:d\n*:*:*:*:last\n";
        let of = |w: [&str; 4]| find(text, w).map(|s| s.expose().to_owned());
        assert_eq!(of(["localhost", "5432", "erp", "app"]).as_deref(), Some("a:b\\c:d"));
        assert_eq!(of(["localhost", "5432", "erp", "*"]).as_deref(), Some("last"));
        assert_eq!(find("localhost:5432:erp\n", ["localhost", "5432", "erp", "app"]).map(|_| ()), None);
    }
}
