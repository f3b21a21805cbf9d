//! Commands that are printed for somebody to run: quoted as a shell wants it.

use std::path::Path;

/// A text as one word of a shell.
pub fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@:,=%".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A path as one.
pub fn quoted(path: &Path) -> String {
    word(&path.to_string_lossy())
}

/// Removes a tree.
pub fn remove(path: &Path) -> String {
    format!("rm -rf -- {}", quoted(path))
}

/// Moves a path to where nothing is.
pub fn rename(from: &Path, to: &Path) -> String {
    format!("mv -nT -- {} {}", quoted(from), quoted(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_path_for_one_word() {
        for path in ["/opt/app", "/a b", "/it's", "/$(x)`y`", "/new\nline"] {
            let mut shell = std::process::Command::new("sh");
            let out = shell.args(["-c", &format!("printf %s {}", quoted(Path::new(path)))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), path);
        }
    }
}
