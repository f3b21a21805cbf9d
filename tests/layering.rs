//! Which folder may import which: reads `crate::…` in every source file and compares it with a table. The table
//! is the design; an import that is not in it is either a mistake or a change of the design, to be made here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What everybody may use: plain data, errors, streams for code that blocks, files that are replaced as a whole, and
/// the trait by which work tells what it does.
const FLOOR: &[&str] = &["model", "error", "io", "telemetry"];

/// A folder, what it may import besides the floor and itself, and why just that.
const MAY: &[(&str, &[&str], &str)] = &[
    ("model", &[], "plain data"),
    ("error", &["storage"], "exception, see ONLY"),
    ("io", &[], "bytes between tasks and threads and into files, whoever sends them"),
    ("telemetry", &[], "a trait and its events, and those who listen and need nothing else"),
    ("storage", &[], "knows bytes and keys, not backups"),
    ("host", &[], "knows the machine, not the repository"),
    ("repository", &["storage"], "knows the format, not where data came from"),
    ("sources", &["host", "repository", "config"], "give streams to the writer; exceptions, see ONLY"),
    (
        "config",
        &["storage", "repository", "sources", "host", "foreign"],
        "turns text into the types of those who do the work",
    ),
    (
        "backup",
        &["repository", "sources", "host"],
        "the one place where sources and repository meet on the way out; stops and starts what sources want still",
    ),
    (
        "foreign",
        &["storage", "repository", "sources", "host", "config"],
        "reads what others wrote, by the sources' own parsers, and gives it to the writer",
    ),
    ("recovery", &["repository", "sources", "host", "config"], "the way back"),
    (
        "monitoring",
        &["storage", "repository", "config", "recovery"],
        "puts together what is known: the repository, journals of restores, what is configured",
    ),
    (
        "cli",
        &["storage", "repository", "sources", "config", "backup", "recovery", "host", "monitoring", "foreign"],
        "wires everything",
    ),
];

/// Folders of which another may use these modules only, and why.
const ONLY: &[(&str, &str, &[&str], &str)] = &[
    ("error", "storage", &[""], "one conversion, so that every store error has a kind and a remedy"),
    (
        "sources",
        "repository",
        &["writer", "segment"],
        "a source hands streams to the writer and compares with the index",
    ),
    ("sources", "config", &["secret"], "the type of secrets, which never prints; nothing of the configuration itself"),
    ("config", "repository", &["retention", "writer"], "the types of `keep` and of `[backup]`"),
    ("config", "storage", &["open"], "the options of a store"),
    ("monitoring", "storage", &["open"], "opens the configured store to look at it"),
    (
        "monitoring",
        "repository",
        &["access", "catalog", "damage", "drills", "manifest", "vault", "keyring", "marks", "newest"],
        "looks at the repository and never writes to it",
    ),
    ("monitoring", "recovery", &["journal", "restore", "rollback"], "reads the journals of restores"),
    (
        "config",
        "foreign",
        &["layout", "pattern", "read", "when"],
        "the types of `[foreign]`, and which ciphers there are",
    ),
    ("foreign", "config", &["secret"], "the type of secrets, which never prints; nothing of the configuration itself"),
];

/// Storage does not even use the floor but for itself: its errors are its own, since `error` is made from them.
const WITHOUT_FLOOR: &[&str] = &["storage"];

struct Import {
    file: PathBuf,
    from: String,
    to: String,
    module: String,
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Every `crate::FOLDER[::MODULE]` outside comments.
fn imports() -> Vec<Import> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files.sort();
    let mut imports = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_owned();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let from = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                let to = word(rest);
                assert!(!to.is_empty(), "{}: write one `use` for each folder: {line}", relative.display());
                let module = rest[to.len()..].strip_prefix("::").map_or("", word);
                let (to, module) = (to.to_owned(), module.to_owned());
                imports.push(Import { file: relative.clone(), from: from.clone(), to, module });
            }
        }
    }
    assert!(imports.len() > 100, "only {} imports were found: the search is broken", imports.len());
    imports
}

#[test]
fn folders_import_in_one_direction() {
    let mut wrong = BTreeSet::new();
    for import in imports() {
        let Import { file, from, to, module } = &import;
        if from == to || ["lib", "main"].contains(&from.as_str()) {
            continue;
        }
        let Some((_, may, _)) = MAY.iter().find(|row| row.0 == from) else {
            wrong.insert(format!("{}: the folder {from} is not in the table", file.display()));
            continue;
        };
        let floor = FLOOR.contains(&to.as_str()) && !WITHOUT_FLOOR.contains(&from.as_str());
        let allowed = floor || may.contains(&to.as_str());
        let only = ONLY.iter().find(|row| row.0 == from && row.1 == to);
        if !allowed {
            wrong.insert(format!("{}: {from} must not use {to}", file.display()));
        } else if let Some((_, _, modules, why)) = only
            && !modules.contains(&module.as_str())
        {
            wrong.insert(format!("{}: {from} may use of {to} only {modules:?} ({why})", file.display()));
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nobody_imports_the_command_line() {
    for import in imports() {
        let allowed = ["cli", "main", "lib"].contains(&import.from.as_str());
        assert!(allowed || import.to != "cli", "{} uses cli", import.file.display());
    }
}

#[test]
fn every_exception_is_still_needed() {
    let imports = imports();
    for (from, to, modules, why) in ONLY {
        for module in *modules {
            let used = imports.iter().any(|i| i.from == *from && i.to == *to && i.module == *module);
            assert!(used, "{from} no longer uses {to}::{module} ({why}): take it out of the table");
        }
    }
}

#[test]
fn every_folder_is_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        let known = ["lib", "main"].contains(&name.as_str()) || MAY.iter().any(|row| row.0 == name);
        assert!(known, "the folder {name} has no row");
    }
}
