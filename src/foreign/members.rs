//! An archive of files, read to its end: what is in it, and a tar anew of those members that are wanted, under the names
//! that they will have.

use super::layout::{FileRule, MemberRule, MemberTarget};
use super::read::unreadable;
use crate::error::{Error, Kind, Result};
use crate::repository::segment::{Bytes, FileType};
use crate::sources::files::header;
use crate::sources::files::members::{Member, Members};
use crate::sources::files::repack::{kind_of, plain, stat_of};
use crate::sources::files::whole::Whole;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{Read, Write};

const BLOCK: u64 = 512;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sorted {
    /// Regular files that are wanted.
    pub files: u64,
    /// Directories that are wanted.
    pub dirs: u64,
    /// Links, devices and pipes that are wanted.
    pub others: u64,
    /// Bytes of content that are wanted.
    pub bytes: u64,
    /// Members that no rule wants.
    pub left_out: u64,
    /// Directories of a PostgreSQL server among those that are wanted.
    pub clusters: Vec<String>,
    /// Rules that no member fits.
    pub empty: Vec<String>,
}

/// Where members go: by the first rule that fits. With no rules at all everything is wanted, as it is.
pub struct Routes<'a> {
    rules: &'a [MemberRule],
    prefixes: Vec<Vec<u8>>,
}

impl<'a> Routes<'a> {
    /// By these rules.
    pub fn new(rules: &'a [MemberRule]) -> Self {
        let prefix = |rule: &MemberRule| plain(rule.prefix.as_bytes()).filter(|p| p != b".").unwrap_or_default();
        Routes { rules, prefixes: rules.iter().map(prefix).collect() }
    }

    /// The rule of a path, and the path below the rule's folder, `.` for that itself.
    fn of(&self, path: &[u8]) -> Option<(usize, Vec<u8>)> {
        self.prefixes.iter().enumerate().find_map(|(i, prefix)| {
            if prefix.is_empty() {
                return Some((i, path.to_vec()));
            }
            let rest = path.strip_prefix(prefix.as_slice())?;
            match rest.split_first() {
                None => Some((i, b".".to_vec())),
                Some((b'/', rest)) => Some((i, rest.to_vec())),
                Some(_) => None,
            }
        })
    }

    /// The name of a member in what is written: in a folder with the number of its rule. Nothing when it is not wanted.
    fn name(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.rules.is_empty() {
            return Some(path.to_vec());
        }
        let (i, below) = self.of(path)?;
        if self.rules[i].to == MemberTarget::Ignored {
            return None;
        }
        let mut name = i.to_string().into_bytes();
        if below != b"." {
            name.push(b'/');
            name.extend_from_slice(&below);
        }
        Some(name)
    }
}

/// Reads an archive and writes what is wanted of it.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole or leads out of itself, [`Kind::Refused`] when a link points at a file that is
/// not wanted.
pub fn sort(content: &mut dyn Read, rules: &[MemberRule], out: &mut dyn Write) -> Result<Sorted> {
    let routes = Routes::new(rules);
    let mut sorted = Sorted::default();
    let mut used = vec![false; rules.len()];
    let (mut versions, mut controls) = (BTreeSet::new(), BTreeSet::new());
    let mut members = Members::new(Whole::new(content));
    while let Some(member) = members.next_member().map_err(broken)? {
        let path = path_of(&member)?;
        if let Some((i, _)) = routes.of(&path) {
            used[i] = true;
        }
        let Some(name) = routes.name(&path) else {
            sorted.left_out += 1;
            continue;
        };
        let kind = kind_of(&member).ok_or_else(|| odd(&member, "an entry of unknown type"))?;
        if let Some(dir) = path.strip_suffix(b"PG_VERSION") {
            versions.insert(dir.to_vec());
        }
        if let Some(dir) = path.strip_suffix(b"global/pg_control") {
            controls.insert(dir.to_vec());
        }
        let link = match kind {
            FileType::Hardlink => Some(linked(&member, &routes)?),
            _ => member.link.clone(),
        };
        sorted.add(kind, member.stored);
        write(&member, kind, &name, link.as_deref(), &mut members, out).map_err(broken)?;
    }
    if !members.into_inner().ends().map_err(broken)? {
        return Err(Error::new(Kind::Damaged, "the archive of files is cut short")
            .because("its end is missing")
            .hint("tar did not come to its end, or the file was cut since; take another set."));
    }
    out.write_all(&header::END).map_err(unreadable)?;
    sorted.clusters = versions.intersection(&controls).map(|dir| Bytes(dir.clone()).display()).collect();
    sorted.empty = rules.iter().zip(used).filter(|(_, used)| !used).map(|(rule, _)| rule.prefix.clone()).collect();
    Ok(sorted)
}

fn odd(member: &Member, what: &str) -> Error {
    Error::new(Kind::Damaged, format!("the archive holds {what}")).because(Bytes(member.path.clone()).display())
}

/// The path of a member in its archive.
///
/// # Errors
/// [`Kind::Damaged`] when it leads out of it.
pub fn path_of(member: &Member) -> Result<Vec<u8>> {
    plain(&member.path).ok_or_else(|| odd(member, "a path that leads out of it"))
}

fn broken(e: std::io::Error) -> Error {
    if e.kind() == std::io::ErrorKind::UnexpectedEof {
        return Error::new(Kind::Damaged, "the archive of files is cut short")
            .because(e)
            .hint("tar did not come to its end, or the file was cut since; take another set.");
    }
    Error::new(Kind::Damaged, "the archive of files cannot be read").because(e)
}

fn linked(member: &Member, routes: &Routes<'_>) -> Result<Vec<u8>> {
    let to = plain(member.link.as_deref().unwrap_or_default()).unwrap_or_default();
    routes.name(&to).ok_or_else(|| {
        Error::new(Kind::Refused, "a hard link points at a file that is not restored")
            .because(format!("{} -> {}", Bytes(member.path.clone()).display(), Bytes(to.clone()).display()))
            .hint("Let `members` take both.")
    })
}

fn write(
    member: &Member,
    kind: FileType,
    name: &[u8],
    link: Option<&[u8]>,
    content: &mut dyn Read,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let stat = stat_of(member, kind);
    let size = if kind == FileType::File { member.stored } else { 0 };
    let header = header::encode(&header::Member {
        path: name,
        kind,
        stat: &stat,
        link,
        size,
        xattrs: &member.xattrs,
        sparse: member.sparse.as_ref(),
    })?;
    out.write_all(&header)?;
    if std::io::copy(&mut content.take(size), out)? != size {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let padding = (BLOCK - size % BLOCK) % BLOCK;
    out.write_all(&[0; BLOCK as usize][..padding as usize])
}

impl Sorted {
    /// What the layout expects and the archive lacks. An archive that is rooted at the machine need not have all paths of
    /// its source: others have them.
    pub fn lacks(&self, rule: &FileRule) -> Vec<String> {
        match &rule.source {
            Some(source) if rule.rooted && self.empty.len() == rule.members.len() => {
                vec![format!("it has nothing of the paths of source {source}")]
            }
            _ if rule.rooted => Vec::new(),
            _ => self.empty.iter().map(|prefix| format!("it has nothing in {prefix:?}")).collect(),
        }
    }

    fn add(&mut self, kind: FileType, bytes: u64) {
        match kind {
            FileType::File => self.files += 1,
            FileType::Dir => self.dirs += 1,
            _ => self.others += 1,
        }
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;
    use std::path::PathBuf;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn rules() -> Vec<MemberRule> {
        vec![
            MemberRule { prefix: "db".into(), to: MemberTarget::Ignored },
            MemberRule { prefix: "./static/".into(), to: MemberTarget::Volume(name("v"), "static".into()) },
            MemberRule { prefix: String::new(), to: MemberTarget::Path(name("f"), PathBuf::from("/srv")) },
        ]
    }

    #[test]
    fn members_go_where_the_first_rule_says() {
        let archive = tar(&[
            ("db/PG_VERSION", b"15"),
            ("db/global/pg_control", b"x"),
            ("static/a", b"aa"),
            ("other/b", b"b"),
            ("statics", b""),
        ]);
        let mut out = Vec::new();
        let sorted = sort(&mut &archive[..], &rules(), &mut out).unwrap();
        assert_eq!((sorted.files, sorted.left_out, sorted.bytes), (3, 2, 3));
        assert!(sorted.clusters.is_empty());
        let mut read = tar::Archive::new(&out[..]);
        let names: Vec<String> =
            read.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["1/a", "2/other/b", "2/statics"]);
    }

    #[test]
    fn a_server_in_it_is_found_and_a_cut_or_evil_archive_is_told() {
        let archive = tar(&[("db/PG_VERSION", b"15"), ("db/global/pg_control", b"x"), ("db/base/1/PG_VERSION", b"15")]);
        let sorted = sort(&mut &archive[..], &[], &mut std::io::sink()).unwrap();
        assert_eq!(sorted.clusters, ["db/"]);
        for cut in [archive.len() - 1024, 512, 700, 1024] {
            let e = sort(&mut &archive[..cut], &[], &mut std::io::sink()).unwrap_err();
            assert!(e.what.contains("cut short"), "{cut}: {e}");
        }
        let mut evil = tar(&[("aa/evil", b"x")]);
        evil[..2].copy_from_slice(b"..");
        let mut header = tar::Header::from_byte_slice(&evil[..512]).clone();
        header.set_cksum();
        evil[..512].copy_from_slice(header.as_bytes());
        assert!(sort(&mut &evil[..], &[], &mut std::io::sink()).unwrap_err().what.contains("leads out"));
    }
}
