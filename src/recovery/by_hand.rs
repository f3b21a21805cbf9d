//! Commands that are printed for somebody to run: quoted as a shell wants it.

use std::path::Path;

/// A path as one word of a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
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
