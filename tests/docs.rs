//! The documents say what is true: paths and links exist, the exit codes are those of the program, every
//! configuration key is described, and the sample configuration is read.

use backstay::config::checks::{RawCheck, RawHook, When, checks_of, hooks_of};
use backstay::config::load;
use backstay::error::Kind;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(relative: &str) -> String {
    fs::read_to_string(root().join(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
}

/// Every document for readers, relative to the project.
fn documents() -> Vec<PathBuf> {
    let mut found = vec!["README.md".into(), "CONTRIBUTING.md".into(), "CHANGELOG.md".into()];
    for folder in ["docs", "docs/runbooks", "config/policies"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Paths of the project that a text names: words that begin with one of its folders.
fn named_paths(text: &str) -> BTreeSet<String> {
    let part_of_a_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    text.split(|c: char| !part_of_a_path(c))
        .filter(|word| {
            ["src/", "tests/", "config/", "docs/", "packaging/"].iter().any(|folder| word.starts_with(folder))
        })
        .map(|word| word.trim_end_matches(['.', '/', '-']).to_owned())
        .collect()
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut missing = Vec::new();
    let mut named = 0;
    for document in documents() {
        for path in named_paths(&read(&document.to_string_lossy())) {
            named += 1;
            if !root().join(&path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "named and not there:\n{}", missing.join("\n"));
    assert!(named > 30, "only {named} paths were found: the search is broken");
}

/// Targets of the Markdown links of a text.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchor that a heading gets: lower case, spaces to hyphens, punctuation dropped.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document.to_string_lossy());
        for link in links(&text).into_iter().filter(|l| !l.contains("://")) {
            let (file, fragment) = link.split_once('#').map_or((link, None), |(file, f)| (file, Some(f)));
            let target = match file {
                "" => root().join(&document),
                file => root().join(&document).parent().unwrap().join(file),
            };
            let reached = match fragment {
                None => target.exists(),
                Some(fragment) => fs::read_to_string(&target).is_ok_and(|text| {
                    text.lines().filter(|l| l.starts_with('#')).any(|l| anchor(l.trim_start_matches('#')) == fragment)
                }),
            };
            if !reached {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// Functions of the tests and of the code, each with the names of its file and of the folders above it.
fn functions() -> BTreeSet<(String, String)> {
    let mut todo = vec![root().join("tests"), root().join("src")];
    let mut found = BTreeSet::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            let relative = path.strip_prefix(root()).unwrap().with_extension("");
            let within: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            found.extend(names.flat_map(|name| within.iter().map(move |w| (w.clone(), name.to_owned()))));
        }
    }
    found
}

#[test]
fn every_test_that_a_table_of_traps_names_exists() {
    let functions = functions();
    let mut missing = Vec::new();
    let documents = [
        ("docs/restore.md", 40),
        ("docs/docker.md", 25),
        ("docs/postgres.md", 15),
        ("docs/repository.md", 30),
        ("docs/recover.md", 10),
        ("docs/foreign.md", 6),
    ];
    for (document, at_least) in documents {
        let text = read(document);
        let rows = text.lines().filter(|l| l.starts_with("| "));
        // `module::the_name` or `module::the_begin…`
        let named: Vec<(&str, &str)> =
            rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter_map(|word| word.split_once("::")).collect();
        assert!(named.len() >= at_least, "{document} names only {} tests: the search is broken", named.len());
        for (module, name) in named {
            let fits = |function: &str| match name.strip_suffix('…') {
                Some(begin) => function.starts_with(begin),
                None => function == name,
            };
            if !functions.iter().any(|(within, function)| within == module && fits(function)) {
                missing.push(format!("{document}: {module}::{name}"));
            }
        }
    }
    assert!(missing.is_empty(), "named and not there:\n{}", missing.join("\n"));
}

/// A page with a word where a figure should be looks finished to whoever does not read it.
#[test]
fn no_page_waits_for_a_figure() {
    for entry in fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let cells = text.lines().filter(|l| l.starts_with("| ")).flat_map(|l| l.split('|').map(str::trim));
        let waits = |cell: &&str| {
            cell.split(' ')
                .next()
                .is_some_and(|w| w.len() > 4 && w.bytes().all(|b| b.is_ascii_uppercase() || b"_,".contains(&b)))
        };
        let waiting: Vec<&str> = cells.filter(waits).collect();
        assert!(waiting.is_empty(), "{}: {waiting:?}", path.display());
    }
}

#[test]
fn the_table_of_exit_codes_is_that_of_the_program() {
    let text = read("docs/exit-codes.md");
    let rows: Vec<&str> = text
        .lines()
        .filter(|l| l.strip_prefix("| ").is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit())))
        .collect();
    let expected: Vec<String> =
        Kind::ALL.iter().map(|(_, code, name, meaning)| format!("| {code} | {name} | {meaning} |")).collect();
    assert_eq!(rows, expected);
}

/// The keys in such a file as `src/config/raw.rs`: fields of its structs, and of the variants of its enums.
fn keys(file: &str) -> BTreeSet<String> {
    let text = read(file);
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut keys = BTreeSet::new();
    let mut in_type = false;
    for line in text.lines() {
        if line.starts_with("pub struct") || line.starts_with("pub enum") {
            in_type = true;
        } else if line == "}" {
            in_type = false;
        } else if in_type && let Some((name, _)) = line.trim().split_once(": ") {
            let name = name.strip_prefix("pub ").unwrap_or(name);
            if is_name(name) {
                keys.insert(name.to_owned());
            }
        }
    }
    keys
}

#[test]
fn every_configuration_key_is_described_and_in_the_sample() {
    let files = [
        "src/config/raw.rs",
        "src/config/raw_foreign.rs",
        "src/config/raw_observe.rs",
        "src/config/raw_source.rs",
        "src/config/restore.rs",
        "src/config/drill.rs",
        "src/host/nginx/config.rs",
    ];
    let keys: BTreeSet<String> = files.into_iter().flat_map(keys).collect();
    for known in ["host", "state_dir", "url", "identity_file", "one_file_system", "count_rows_up_to", "keep", "within"]
    {
        assert!(keys.contains(known), "{known} was not found: the search is broken");
    }
    let described = read("docs/configuration.md");
    let sample = read("config/backstay.toml");
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let in_sample: BTreeSet<&str> = sample.split(|c: char| !word(c)).collect();
    for key in &keys {
        let mentioned = described.contains(&format!("`{key}`")) || described.contains(&format!("## `[{key}"));
        assert!(mentioned, "docs/configuration.md does not mention `{key}`");
        assert!(in_sample.contains(key.as_str()), "config/backstay.toml does not show {key}");
    }
}

#[test]
fn every_key_of_checks_and_hooks_is_described() {
    let keys = keys("src/config/checks/raw.rs");
    for known in ["http", "csrf_header", "before_swap", "maximum", "sql_file", "undo"] {
        assert!(keys.contains(known), "{known} was not found: the search is broken");
    }
    let described = read("docs/checks.md");
    // A secret in a file is told once for all of them.
    for key in keys.iter().map(|key| key.trim_end_matches("_file")) {
        assert!(described.contains(&format!("`{key}`")), "docs/checks.md does not mention `{key}`");
    }
}

/// `[plans.NAME.restore]`, as far as checks and hooks go.
#[derive(Deserialize)]
struct Restore {
    #[serde(default)]
    checks: Vec<RawCheck>,
    #[serde(default)]
    after_stage: Vec<RawHook>,
    #[serde(default)]
    after_swap: Vec<RawHook>,
}

#[test]
fn the_examples_of_checks_and_hooks_are_read() {
    let text = read("docs/checks.md");
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() > 8, "{} examples were found", examples.len());
    let folder = tempfile::tempdir().unwrap();
    for secret in ["smoke-test.password", "edms.password"] {
        fs::write(folder.path().join(secret), "secret\n").unwrap();
    }
    fs::write(
        folder.path().join("backstay.toml"),
        "[repository]\nurl = \"file:///r\"\n[sources.erpdb]\nkind = \"postgres\"\nurl = \"postgresql:///erpdb\"\n",
    )
    .unwrap();
    let sources = load::load_with(&folder.path().join("backstay.toml"), Some(Default::default())).unwrap().sources;
    for example in examples {
        let read = config::Config::builder().add_source(config::File::from_str(example, config::FileFormat::Toml));
        let read: BTreeMap<String, BTreeMap<String, BTreeMap<String, Restore>>> =
            read.build().and_then(|c| c.try_deserialize()).unwrap_or_else(|e| panic!("{e}\n{example}"));
        for Restore { checks, after_stage, after_swap } in
            read.into_values().flat_map(|plans| plans.into_values()).flat_map(|p| p.into_values())
        {
            assert!(checks.len() + after_stage.len() + after_swap.len() > 0, "{example}");
            let fails = |e| panic!("{e}\n{example}");
            checks_of(checks, "checks", folder.path(), &sources).unwrap_or_else(fails);
            for (when, hooks) in [(When::AfterStage, after_stage), (When::AfterSwap, after_swap)] {
                hooks_of(hooks, when, "hooks", folder.path(), &sources).unwrap_or_else(|e| panic!("{e}\n{example}"));
            }
        }
    }
}

#[test]
fn the_sample_configuration_is_read() {
    let config = load::load_with(&root().join("config/backstay.toml"), Some(Default::default()));
    let config = config.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.plans.len(), 1);
    assert_eq!(config.sources.len(), 3);
    // With the keys that are commented out it is read too: they are spelt and typed right.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backstay.toml");
    let all: Vec<String> = read("config/backstay.toml").lines().map(uncommented).collect();
    fs::write(&file, all.join("\n")).unwrap();
    for secret in ["s3.secret", "s3.token", "shopdb.password", "cache.password", "sentry.dsn", "backup.key"] {
        fs::write(folder.path().join(secret), "secret\n").unwrap();
    }
    fs::write(folder.path().join("failure.url"), "https://hc-ping.com/UUID/fail\n").unwrap();
    load::load_with(&file, Some(Default::default())).unwrap_or_else(|e| panic!("{e}\n{}", all.join("\n")));
}

#[test]
fn every_example_configuration_is_read_and_tested() {
    let mut examples = 0;
    for entry in fs::read_dir(root().join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        let folder = tempfile::tempdir().unwrap();
        let there = format!("{}/", folder.path().display());
        let text = fs::read_to_string(&path).unwrap().replace("/etc/backstay/", &there);
        // Secrets in files of their own are the operator's; any will do.
        for secret in text.split('"').filter(|word| word.ends_with(".password") || word.ends_with(".key")) {
            let at = folder.path().join(secret);
            if at.starts_with(folder.path()) {
                fs::write(at, "secret\n").unwrap();
            }
        }
        let file = folder.path().join("backstay.toml");
        fs::write(&file, &text).unwrap();
        let config = load::load_with(&file, Some(Default::default()));
        let config = config.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!config.plans.is_empty(), "{}", path.display());
        assert!(text.contains("tests/"), "{} does not say which test runs it", path.display());
        examples += 1;
    }
    assert!(examples > 2, "only {examples} examples were found");
}

/// `# key = value` and `# [section]` without their mark; prose stays a comment.
fn uncommented(line: &str) -> String {
    let Some(rest) = line.strip_prefix("# ") else { return line.to_owned() };
    let key = rest.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    if key || rest.starts_with('[') { rest.to_owned() } else { line.to_owned() }
}
