//! `backstay ls`, `find` and `cat`

use super::context::Context;
use super::output::{self, json, say};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, PackKey, size, time};
use crate::recovery::select;
use crate::repository::catalog::Catalog;
use crate::repository::keyring;
use crate::repository::manifest::{Artifact, Manifest};
use crate::repository::reader::Reader;
use crate::repository::segment::{FileEntry, FileType};
use crate::repository::selection::Selection;
use crate::sources::files::members::Members;
use futures::StreamExt;
use globset::GlobBuilder;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;

/// Arguments of `ls`.
#[derive(clap::Args, Debug)]
pub struct LsArgs {
    /// `latest`, an id, or the beginning of one
    #[arg(default_value = "latest")]
    backup: String,
    /// Show what is in this directory; without it, everything
    path: Option<String>,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Arguments of `find`.
#[derive(clap::Args, Debug)]
pub struct FindArgs {
    /// Name, path or pattern (`*.conf`, `/etc/nginx/**`)
    pattern: String,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

/// Arguments of `cat`.
#[derive(clap::Args, Debug)]
pub struct CatArgs {
    /// `latest`, an id, or the beginning of one
    #[arg(default_value = "latest")]
    backup: String,
    /// Source
    #[arg(long, value_name = "NAME")]
    source: String,
    /// Artifact of the source (`tree`, `globals`, `db:NAME`); may be left out when there is one
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    artifact: Option<String>,
    /// A single file of a `files` source
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

fn letter(kind: FileType) -> char {
    match kind {
        FileType::File | FileType::Hardlink => '-',
        FileType::Dir => 'd',
        FileType::Symlink => 'l',
        FileType::Char => 'c',
        FileType::Block => 'b',
        FileType::Fifo => 'p',
    }
}

fn line(f: &FileEntry) -> String {
    let bit = |shift: u32, set: char| if f.mode >> shift & 1 == 1 { set } else { '-' };
    let mode: String = (0..9).rev().map(|i| bit(i, ['x', 'w', 'r'][(i % 3) as usize])).collect();
    let at = Timestamp::from_nanosecond(i128::from(f.mtime)).unwrap_or(Timestamp::UNIX_EPOCH);
    let link = f.link.as_ref().map_or(String::new(), |l| format!(" -> {}", l.display()));
    format!(
        "{}{mode} {:>5} {:>5} {:>9} {} /{}{link}",
        letter(f.kind),
        f.uid,
        f.gid,
        size::human(f.size),
        time::local(at),
        f.path.display()
    )
}

fn tree<'a>(m: &'a Manifest, source: Option<&Name>) -> Result<Vec<&'a Artifact>> {
    let chosen = match source {
        Some(name) => vec![select::source(m, name)?],
        None => m.sources.iter().filter(|s| s.is_complete()).collect(),
    };
    let trees: Vec<&Artifact> = chosen.into_iter().flat_map(|s| &s.artifacts).filter(|a| a.media == "tar").collect();
    if trees.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("backup {} has no file tree there", m.id))
            .hint("`backstay show` lists its sources."));
    }
    Ok(trees)
}

/// Lists files.
pub async fn ls(context: &Context, args: LsArgs) -> Result<ExitCode> {
    let (config, vault) = context.vault(false).await?;
    let catalog = context.catalog(config.as_ref(), vault);
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let m = select::backup(&catalog, &plan, &args.backup, None, &[]).await?;
    let source = args.source.as_deref().map(str::parse).transpose()?;
    let dir = args.path.as_deref().map(|p| p.trim_matches('/').as_bytes().to_vec());
    let mut shown = 0u64;
    let selection = Selection::of(dir.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| b".".to_vec()));
    for artifact in tree(&m, source.as_ref())? {
        let mut segments = pin!(catalog.read(selection.segments(&artifact.segments)));
        while let Some((_, segment)) = segments.next().await {
            for f in segment?.entries.iter().filter_map(|e| e.file.as_ref()) {
                let inside = dir.as_ref().is_none_or(|d| {
                    d.is_empty()
                        || f.path.0 == *d
                        || f.path
                            .0
                            .strip_prefix(&d[..])
                            .is_some_and(|rest| rest.first() == Some(&b'/') && !rest[1..].contains(&b'/'))
                });
                if inside {
                    shown += 1;
                    if context.global.json {
                        say(&serde_json::to_string(f).unwrap_or_default())?
                    } else {
                        say(&line(f))?
                    }
                }
            }
        }
    }
    if shown == 0 && dir.is_some() {
        return Err(Error::new(Kind::NotFound, format!("backup {} does not hold that path", m.id))
            .at(args.path.unwrap_or_default())
            .hint("`backstay find` searches all backups."));
    }
    Ok(ExitCode::SUCCESS)
}

/// What tells two versions of a file apart: path, modification time, size.
type Version = (Vec<u8>, i64, u64);

/// The directory (or the path itself) that everything lies in that a pattern can match.
fn literal_root(pattern: &str) -> &str {
    let root = match pattern.find(['*', '?', '[', '{', '\\']) {
        None => pattern,
        Some(special) => pattern[..special].rsplit_once('/').map_or("", |(folder, _)| folder),
    };
    if root.is_empty() { "." } else { root }
}

/// Finds files in every backup of a plan, and tells which backups hold which version.
pub async fn find(context: &Context, args: FindArgs) -> Result<ExitCode> {
    let (config, vault) = context.vault(false).await?;
    let catalog = context.catalog(config.as_ref(), vault);
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let text = args.pattern.trim_start_matches('/');
    let pattern = if args.pattern.starts_with('/') { text.to_owned() } else { format!("**/{text}") };
    let glob = GlobBuilder::new(&pattern)
        .literal_separator(true)
        .build()
        .map_err(|e| {
            Error::new(Kind::Usage, "not a pattern")
                .at(&args.pattern)
                .because(e)
                .hint("Put a backslash before a character that is meant as it is: \\[ \\{ \\* \\?")
        })?
        .compile_matcher();
    let selection = Selection::of(literal_root(&pattern));
    // Segments are shared by many backups, so each is read once; of a manifest only the numbers of its segments stay.
    let mut numbers: HashMap<PackKey, u32> = HashMap::new();
    let (mut segments, mut backups) = (Vec::new(), Vec::new());
    catalog
        .visit(Some(&plan), |_, id, m| {
            let m = m?;
            let mut of_backup = Vec::new();
            for artifact in
                m.sources.iter().filter(|s| s.is_complete()).flat_map(|s| &s.artifacts).filter(|a| a.media == "tar")
            {
                for reference in selection.segments(&artifact.segments) {
                    of_backup.push(*numbers.entry(reference.object).or_insert_with(|| {
                        segments.push(reference);
                        segments.len() as u32 - 1
                    }));
                }
            }
            backups.push((id, of_backup));
            Ok(())
        })
        .await?;
    let mut found: Vec<Vec<FileEntry>> = Vec::new();
    let mut read = pin!(catalog.read(segments));
    while let Some((_, segment)) = read.next().await {
        let files = segment?.entries.into_iter().filter_map(|e| e.file);
        found.push(files.filter(|f| glob.is_match(Path::new(OsStr::from_bytes(&f.path.0)))).collect());
    }
    let mut versions: BTreeMap<Version, (FileEntry, Vec<String>)> = BTreeMap::new();
    for (id, of_backup) in backups {
        for f in of_backup.into_iter().flat_map(|n| &found[n as usize]) {
            versions
                .entry((f.path.0.clone(), f.mtime, f.size))
                .or_insert_with(|| (f.clone(), Vec::new()))
                .1
                .push(id.to_string());
        }
    }
    if versions.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("no backup of plan {plan} holds a file like {}", args.pattern))
            .hint("`*` and `?` stay within a name, `**` crosses directories; a pattern that begins with / is a whole path. Each plan is searched by itself: --plan NAME."));
    }
    if context.global.json {
        let all: Vec<_> = versions.values().map(|(f, ids)| serde_json::json!({ "file": f, "backups": ids })).collect();
        json(&all)?;
    } else {
        for (f, ids) in versions.values() {
            let in_which = match &ids[..] {
                [only] => only.clone(),
                [first, .., last] => format!("{first} … {last} ({} backups)", ids.len()),
                [] => String::new(),
            };
            say(&format!("{}  {}", line(f), output::dim(&in_which)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes an artifact or a file to standard output.
pub async fn cat(context: &Context, args: CatArgs) -> Result<ExitCode> {
    let (config, vault) = context.vault(true).await?;
    keyring::require_identity(&vault).await?;
    let catalog = context.catalog(config.as_ref(), vault);
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let source: Name = args.source.parse()?;
    let m = select::backup(&catalog, &plan, &args.backup, None, std::slice::from_ref(&source)).await?;
    let artifact = select::artifact(
        select::source(&m, &source)?,
        args.artifact.as_deref().or(args.path.as_ref().map(|_| "tree")),
    )?;
    let reader = Reader::new(catalog.clone(), context.monitor("cat"))?;
    let Some(path) = &args.path else {
        let mut pieces = reader.stream(artifact, |_| true);
        while let Some(piece) = pieces.recv().await {
            output::raw(&piece?)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mut name = path.trim_start_matches('/').as_bytes().to_vec();
    let mut file = member(reader.catalog(), artifact, &name).await?;
    if let Some(FileEntry { kind: FileType::Hardlink, link: Some(link), .. }) = &file {
        name.clone_from(&link.0);
        file = member(reader.catalog(), artifact, &name).await?;
    }
    let file = file.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("backup {} does not hold that file", m.id))
            .at(path)
            .hint("`backstay find` searches all backups.")
    })?;
    if file.kind != FileType::File {
        let what = match file.kind {
            FileType::Dir => "that is a directory",
            FileType::Symlink => "that is a symbolic link",
            _ => "that is not a regular file",
        };
        let instead = match (file.kind, &file.link) {
            (FileType::Symlink, Some(to)) => {
                format!("It points to {}; give the path of the file itself.", to.display())
            }
            _ => format!(
                "`cat` writes the content of one file; `backstay restore --path {path} --to DIR` brings the rest."
            ),
        };
        return Err(Error::new(Kind::Usage, what).at(path).hint(instead));
    }
    let pieces = reader.members(artifact, &Selection::of(name.clone()), move |e| e.path().is_some_and(|p| p.0 == name));
    let work = tokio::task::spawn_blocking(move || {
        let mut stream = crate::io::BlockingStream::new(pieces);
        let result = write_first(&mut stream);
        result.map_err(|e| stream.take_error().unwrap_or(e))
    });
    work.await.map_err(Error::panicked("reading"))??;
    Ok(ExitCode::SUCCESS)
}

/// The entry of a path, if the tree has one.
async fn member(catalog: &Catalog, tree: &Artifact, path: &[u8]) -> Result<Option<FileEntry>> {
    let mut segments = pin!(catalog.read(Selection::of(path).segments(&tree.segments)));
    while let Some((_, segment)) = segments.next().await {
        let found = segment?.entries.into_iter().filter_map(|e| e.file).find(|f| f.path.0 == path);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The content of the first member of a tar stream.
fn write_first(stream: &mut dyn std::io::Read) -> Result<()> {
    let broken = |e: std::io::Error| Error::new(Kind::Damaged, "the member cannot be read").because(e);
    let mut members = Members::new(stream);
    members.next_member().map_err(broken)?.ok_or_else(|| broken(std::io::ErrorKind::UnexpectedEof.into()))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = std::io::Read::read(&mut members, &mut buffer).map_err(broken)?;
        if n == 0 {
            return Ok(());
        }
        output::raw(&buffer[..n])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pattern_can_match_lies_in_its_literal_root() {
        for (pattern, root, inside) in [
            ("etc/nginx/**", "etc/nginx", "etc/nginx/a/b"),
            ("etc/**/b", "etc", "etc/b"),
            ("etc/ng*", "etc", "etc/nginx"),
            ("etc/{a,b}/c", "etc", "etc/b/c"),
            ("etc/[ab]c", "etc", "etc/bc"),
            ("etc/a\\*", "etc", "etc/a*"),
            ("etc/passwd", "etc/passwd", "etc/passwd"),
            ("**/passwd", ".", "etc/passwd"),
            ("*", ".", "etc"),
        ] {
            assert_eq!(literal_root(pattern), root);
            let glob = GlobBuilder::new(pattern).literal_separator(true).build().unwrap().compile_matcher();
            assert!(glob.is_match(inside) && Selection::of(root).contains(inside.as_bytes()), "{pattern}");
        }
    }
}
