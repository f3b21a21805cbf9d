//! Files of a configuration: as `nginx -T` tells them, and as they lie on this machine.

use super::lexer;
use crate::error::{Error, Kind, Result};
use crate::host::docker::find::Container;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What begins the text of each file.
const HEAD: &[u8] = b"# configuration file ";
/// Symbolic links that are followed for one path, as the kernel does.
const LINKS: usize = 40;

/// Where the texts of a configuration come from. Paths are those that nginx sees.
pub trait Files {
    /// Files that a path or pattern of `include` means, in nginx's order.
    fn matching(&self, pattern: &str) -> Vec<String>;

    /// The text of a file; nothing when it is not known.
    fn text(&self, path: &str) -> Option<Vec<u8>>;
}

/// The configuration as a running nginx would take it up: the output of `nginx -T`.
#[derive(Clone)]
pub struct Dump {
    files: Vec<(String, Vec<u8>)>,
}

/// Names only: the texts may hold secrets.
impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.paths()).finish()
    }
}

impl Dump {
    /// Takes the output apart.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it is not such an output.
    pub fn parse(output: &[u8]) -> Result<Self> {
        let mut heads: Vec<(usize, usize, String)> = Vec::new();
        let mut at = 0;
        for line in output.split_inclusive(|b| *b == b'\n') {
            let path = line.strip_prefix(HEAD).and_then(|l| l.strip_suffix(b":\n")).filter(|p| p.starts_with(b"/"));
            if let Some(path) = path {
                heads.push((at, at + line.len(), String::from_utf8_lossy(path).into_owned()));
            }
            at += line.len();
        }
        if heads.is_empty() {
            return Err(Error::new(Kind::Restore, "nginx does not tell its configuration")
                .because("the output of `nginx -T` names no file")
                .hint("Backstay needs nginx 1.9.2 or newer; set `maintenance.command` when it is another program."));
        }
        let ends: Vec<usize> = heads.iter().skip(1).map(|h| h.0).chain([output.len()]).collect();
        let files = heads.into_iter().zip(ends).map(|((_, from, path), to)| {
            let text = &output[from..to];
            // nginx ends each text with a line end of its own.
            (path, text.strip_suffix(b"\n").unwrap_or(text).to_vec())
        });
        Ok(Dump { files: files.collect() })
    }

    /// The file that everything begins with.
    pub fn main(&self) -> &str {
        self.files.first().map_or("", |f| f.0.as_str())
    }

    /// Paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| f.0.as_str())
    }
}

impl Files for Dump {
    fn matching(&self, pattern: &str) -> Vec<String> {
        self.paths().filter(|path| fits(pattern, path)).map(str::to_owned).collect()
    }

    fn text(&self, path: &str) -> Option<Vec<u8>> {
        self.files.iter().find(|f| f.0 == path).map(|f| f.1.clone())
    }
}

/// Where paths of nginx are on this machine.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// The container in which nginx runs; nothing on the host.
    pub container: Option<Container>,
    /// Trees that are looked at as if they were elsewhere: the live path, and where its successor is staged.
    pub moved: Vec<(PathBuf, PathBuf)>,
}

impl Root {
    /// Where a path is, links not followed. Nothing for what lies in the image of a container.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let host = match &self.container {
            None => path.to_owned(),
            Some(container) => container.on_host(path.to_str()?)?,
        };
        let moved = self.moved.iter().find_map(|(live, staged)| Some(staged.join(host.strip_prefix(live).ok()?)));
        // Joining nothing leaves a slash at the end.
        Some(moved.map_or(host, |path| path.components().collect()))
    }

    /// Where a path is, links followed as nginx follows them: an absolute one begins at its own root.
    pub fn find(&self, path: &Path) -> Option<PathBuf> {
        let mut rest = parts_from_the_end(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_encoded_bytes() {
                b"/" => at = PathBuf::from("/"),
                b"." => {}
                b".." => {
                    at.pop();
                }
                _ => at.push(part),
            }
            if let Some(target) = self.place(&at).and_then(|place| std::fs::read_link(place).ok()) {
                links += 1;
                if links > LINKS {
                    return None;
                }
                at.pop();
                rest.extend(parts_from_the_end(&target));
            }
        }
        self.place(&at)
    }
}

fn parts_from_the_end(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|c| c.as_os_str().to_owned()).collect()
}

/// The configuration as it would be with other trees in place; what is not on this machine is as nginx told it.
pub struct Planned<'a> {
    /// Where files are.
    pub root: Root,
    /// The configuration now.
    pub now: &'a Dump,
}

impl Files for Planned<'_> {
    fn matching(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![String::new()];
        for part in pattern.split('/').skip(1) {
            found = found.into_iter().flat_map(|dir| self.within(&dir, part)).collect();
        }
        found
    }

    fn text(&self, path: &str) -> Option<Vec<u8>> {
        match self.root.find(Path::new(path)) {
            Some(place) => std::fs::read(place).ok(),
            None => self.now.text(path),
        }
    }
}

impl Planned<'_> {
    /// Paths in a directory whose last part fits.
    fn within(&self, dir: &str, part: &str) -> Vec<String> {
        if !is_pattern(part) {
            return vec![format!("{dir}/{part}")];
        }
        let mut names: Vec<String> = match self.root.find(Path::new(if dir.is_empty() { "/" } else { dir })) {
            Some(place) => {
                let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
                entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
            }
            None => {
                let below = format!("{dir}/");
                let names = self.now.paths().filter_map(|p| p.strip_prefix(&below)?.split('/').next());
                names.map(str::to_owned).collect()
            }
        };
        names.retain(|name| fits(part, name));
        names.sort();
        names.dedup();
        names.into_iter().map(|name| format!("{dir}/{name}")).collect()
    }
}

/// Whether `include` takes it for a pattern.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether a path fits a pattern of `include`: `*`, `?` and `[…]` within a component, and none of them for a dot at
/// its beginning.
pub fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let hidden = part.starts_with('.') && !pattern.starts_with('.');
                if hidden || !part_fits(pattern.as_bytes(), part.as_bytes()) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn part_fits(pattern: &[u8], part: &[u8]) -> bool {
    match (pattern.first(), part.first()) {
        (None, None) => true,
        (Some(b'*'), _) => part_fits(&pattern[1..], part) || (!part.is_empty() && part_fits(pattern, &part[1..])),
        (Some(b'?'), Some(_)) => part_fits(&pattern[1..], &part[1..]),
        (Some(b'['), Some(b)) => match class(&pattern[1..], *b) {
            Some((within, length)) => within && part_fits(&pattern[1 + length..], &part[1..]),
            None => *b == b'[' && part_fits(&pattern[1..], &part[1..]),
        },
        (Some(b'\\'), Some(b)) if pattern.len() > 1 => pattern[1] == *b && part_fits(&pattern[2..], &part[1..]),
        (Some(p), Some(b)) => p == b && part_fits(&pattern[1..], &part[1..]),
        _ => false,
    }
}

/// Whether a byte is in the class that begins here, and how long the class is with its `]`.
fn class(pattern: &[u8], b: u8) -> Option<(bool, usize)> {
    let not = matches!(pattern.first(), Some(b'!' | b'^'));
    let from = usize::from(not);
    let end = from + 1 + pattern.get(from + 1..)?.iter().position(|b| *b == b']')?;
    let set = &pattern[from..end];
    let mut within = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            within |= (set[at]..=set[at + 2]).contains(&b);
            at += 3;
        } else {
            within |= set[at] == b;
            at += 1;
        }
    }
    Some((within != not, end + 1))
}

/// The directives of a file, or where it cannot be understood.
pub(super) fn directives(path: &str, text: &[u8]) -> Result<Vec<lexer::Directive>> {
    lexer::parse(text).map_err(|at| {
        Error::new(Kind::Restore, "a file of nginx's configuration cannot be understood")
            .at(format!("{path}:{}", lexer::line_of(text, at)))
            .hint("If `nginx -t` accepts it, please report this line.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_taken_apart_byte_for_byte() {
        let out = b"# configuration file /etc/nginx/nginx.conf:\nhttp {\n}\n\n# configuration file /a b:\nx;\n";
        let dump = Dump::parse(out).unwrap();
        assert_eq!(dump.main(), "/etc/nginx/nginx.conf");
        assert_eq!(dump.text("/etc/nginx/nginx.conf").unwrap(), b"http {\n}\n");
        assert_eq!(dump.text("/a b").unwrap(), b"x;");
        assert!(Dump::parse(b"nginx: whatever\n").is_err());
    }

    #[test]
    fn patterns_fit_as_the_shell_has_it() {
        for (pattern, path, expected) in [
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/a.conf", true),
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/.a.conf", false),
            ("/etc/nginx/conf.d/*.conf", "/etc/nginx/conf.d/x/a.conf", false),
            ("/etc/nginx/*", "/etc/nginx/.backstay", false),
            ("/a/[m-o]?[!x].con[f]", "/a/nay.conf", true),
            ("/a/[m-o]?[!x].con[f]", "/a/nax.conf", false),
            ("/a/b", "/a/b", true),
            ("/a/b*c*d", "/a/bxcxcd", true),
            ("/a/[b", "/a/[b", true),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_trees_that_would_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let (live, staged) = (dir.path().join("nginx"), dir.path().join("nginx.staged"));
        for root in [&live, &staged] {
            std::fs::create_dir_all(root.join("sites-available")).unwrap();
            std::fs::create_dir_all(root.join("sites-enabled")).unwrap();
            std::fs::write(root.join("sites-available/a"), root.display().to_string()).unwrap();
            // As the archive has it: the live path.
            std::os::unix::fs::symlink(live.join("sites-available/a"), root.join("sites-enabled/a")).unwrap();
            std::os::unix::fs::symlink("sites-enabled", root.join("enabled")).unwrap();
        }
        let dump = Dump::parse(b"# configuration file /x:\n\n").unwrap();
        let root = Root { container: None, moved: vec![(live.clone(), staged.clone())] };
        let planned = Planned { root, now: &dump };
        let found = planned.matching(&live.join("enabled/*").display().to_string());
        assert_eq!(found, [live.join("enabled/a").display().to_string()]);
        assert_eq!(planned.text(&found[0]).unwrap(), staged.display().to_string().into_bytes());
        let now = Planned { root: Root::default(), now: &dump };
        assert_eq!(now.text(&found[0]).unwrap(), live.display().to_string().into_bytes());
    }
}
