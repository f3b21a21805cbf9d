//! From files and environment to checked types.

use super::command::command_of;
use super::drill::drill_of;
use super::environment;
use super::explain::{distance, explain, named};
use super::foreign::layout_of;
use super::observe;
use super::raw::{Raw, RawKeep};
use super::raw_source::RawSource;
use super::repository::storage_of;
use super::restore::restore_of;
use super::source::source_of;
use super::{Config, Plan, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::repository::retention::Keep;
use crate::repository::writer::WriterOptions;
use crate::telemetry::hooks;
use config::{File, FileFormat};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/backstay/backstay.toml";
/// Where state is when nobody says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/backstay";

/// Reads the configuration.
///
/// # Errors
/// [`Kind::Config`] with file, key and the nearest known key.
pub fn load(file: &Path) -> Result<Config> {
    load_with(file, None)
}

/// The same with another environment, for tests.
pub fn load_with(file: &Path, environment: Option<HashMap<String, String>>) -> Result<Config> {
    environment::refuse_misspelt(environment.as_ref())?;
    let keys = environment::keys(environment.as_ref());
    match layered(file, environment) {
        Err(e) if e.kind == Kind::Config && !keys.is_empty() => {
            let without = layered(file, Some(HashMap::new())).err();
            Err(environment::blamed(e, without, &keys))
        }
        other => other,
    }
}

fn layered(file: &Path, environment: Option<HashMap<String, String>>) -> Result<Config> {
    let files = files(file)?;
    let mut text = String::new();
    let mut builder = config::Config::builder();
    for path in &files {
        let content = std::fs::read_to_string(path).map_err(|e| {
            Error::io("the configuration cannot be read", path, e)
                .kind(Kind::Config)
                .hint("Give another file with --config, or write one: backstay.toml.sample in /etc/backstay (config/backstay.toml in the sources) is a commented example.")
        })?;
        // Each file by itself first: then a syntax error names its file.
        config::Config::builder()
            .add_source(File::from_str(&content, FileFormat::Toml))
            .build()
            .map_err(|e| explain(e, path))?;
        text.push_str(&content);
        text.push('\n');
        builder = builder.add_source(File::from_str(&content, FileFormat::Toml));
    }
    let raw: Raw = builder
        .add_source(environment::layer(environment))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|e| explain(e, file))?;
    check(raw, file, text).map_err(|e| e.at(file.display()))
}

/// The file and those of `conf.d` beside it, in order.
fn files(file: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![file.to_owned()];
    let dir = file.parent().unwrap_or(Path::new(".")).join("conf.d");
    if let Ok(entries) = std::fs::read_dir(&dir) {
        let mut more: Vec<PathBuf> =
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
        more.sort();
        files.extend(more);
    }
    Ok(files)
}

fn check(raw: Raw, file: &Path, text: String) -> Result<Config> {
    let dir = file.parent().unwrap_or(Path::new(".")).to_owned();
    let host = match raw.host {
        Some(host) => host,
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let host: Name = host.parse().map_err(|e: Error| e.hint("Set `host` in the configuration."))?;
    let state_dir = raw.state_dir.unwrap_or_else(|| DEFAULT_STATE.into());
    let storage = storage_of(raw.repository, &dir)?;
    let never = [Some(state_dir.clone()), storage.url.strip_prefix("file://").map(PathBuf::from)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    let (mut sources, mut groups) = (BTreeMap::new(), BTreeMap::new());
    // Commands may be bound to a source that comes behind them.
    let (commands, others): (Vec<_>, Vec<_>) =
        raw.sources.into_iter().partition(|(_, source)| matches!(source, RawSource::Command(_)));
    for (name, source) in others.into_iter().chain(commands) {
        let key = format!("sources.{name}");
        if let Some(group) = source.group() {
            groups.insert(name.parse::<Name>()?, group.clone());
        }
        let source = match source {
            RawSource::Command(raw) => {
                command_of(*raw, &key, &dir, &sources).map(|c| SourceConfig::Command(Box::new(c)))
            }
            other => source_of(other, &key, &dir, &never),
        };
        sources.insert(name.parse::<Name>()?, source.map_err(|e| named(e, &key))?);
    }
    let maintenance = raw.maintenance.map(|settings| settings.of_file_in(&dir)).transpose()?;
    let mut hooks =
        hooks::Options { all: observe::urls_of(raw.webhooks, "webhooks", &dir)?, ..hooks::Options::default() };
    let mut plans = BTreeMap::new();
    for (name, plan) in raw.plans {
        let name: Name = name.parse()?;
        let mut listed: Vec<Name> = Vec::new();
        for source in plan.sources {
            let source: Name = source.parse()?;
            if !sources.contains_key(&source) {
                let nearest = sources.keys().min_by_key(|k| distance(k.as_str(), source.as_str()));
                return Err(Error::new(
                    Kind::Config,
                    format!("plan {name} names the source {source}, which is not configured"),
                )
                .hint(nearest.map_or("Add a section for it.".to_owned(), |n| {
                    format!("Did you mean `{n}`? Otherwise add [sources.{source}].")
                })));
            }
            if listed.contains(&source) {
                return Err(Error::new(Kind::Config, format!("plan {name} names the source {source} twice"))
                    .hint("Remove one of them."));
            }
            listed.push(source);
        }
        if listed.is_empty() {
            return Err(Error::new(Kind::Config, format!("plan {name} has no sources"))
                .hint(format!("List some: sources = [\"…\"] below [plans.{name}].")));
        }
        let keep = keep_of(plan.keep).map_err(|e| named(e, &format!("plans.{name}.keep")))?;
        let key = format!("plans.{name}.restore");
        let section = plan.restore.unwrap_or_default();
        let restore =
            restore_of(section, &key, &dir, &listed, &sources, maintenance.as_ref()).map_err(|e| named(e, &key))?;
        let drill = drill_of(plan.drill.unwrap_or_default(), &restore.checks)
            .map_err(|e| named(e, &format!("plans.{name}.drill")))?;
        let at = |e| named(e, &format!("plans.{name}"));
        let (due, max_age) =
            observe::due_of(&plan.schedule, &plan.schedule_margin, &plan.max_runtime, &plan.max_age).map_err(at)?;
        let urls = observe::urls_of(plan.webhooks, &format!("plans.{name}.webhooks"), &dir)?;
        hooks.plans.insert(name.clone(), urls);
        plans.insert(name.clone(), Plan { name, sources: listed, keep, restore, drill, due, max_age });
    }
    let mut foreign = BTreeMap::new();
    for (name, raw) in raw.foreign {
        let layout = layout_of(&name, raw, &dir, &sources).map_err(|e| named(e, &format!("foreign.{name}")))?;
        foreign.insert(layout.name.clone(), layout);
    }
    let defaults = WriterOptions::default();
    let b = raw.backup;
    let level = b.compression_level.unwrap_or(defaults.level);
    if !(1..=19).contains(&level) {
        return Err(Error::new(Kind::Config, format!("`backup.compression_level` is {level}"))
            .hint("Use 1 (fast) to 19 (small)."));
    }
    let writer = WriterOptions {
        level,
        verify: b.verify_before_upload.unwrap_or(true),
        threads: b.threads.unwrap_or(defaults.threads).clamp(1, 64),
        uploads: b.uploads.unwrap_or(defaults.uploads).clamp(1, 64),
        ..defaults
    };
    Ok(Config {
        file: file.to_owned(),
        text,
        metrics: observe::metrics_of(raw.metrics)?,
        sentry: observe::sentry_of(raw.sentry, &host, &dir)?,
        hooks,
        serve: observe::serve_of(raw.serve)?,
        host,
        state_dir,
        storage,
        identity_file: raw.keys.identity_file.map(|f| super::secret::resolve(&f, &dir)),
        sources,
        groups,
        plans,
        maintenance,
        foreign,
        writer,
    })
}

fn keep_of(raw: RawKeep) -> Result<Keep> {
    Ok(Keep {
        last: raw.last.unwrap_or(0),
        hourly: raw.hourly.unwrap_or(0),
        daily: raw.daily.unwrap_or(0),
        weekly: raw.weekly.unwrap_or(0),
        monthly: raw.monthly.unwrap_or(0),
        yearly: raw.yearly.unwrap_or(0),
        within: raw.within.map(|t| time::parse_duration(&t)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::postgres::Databases;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backstay.toml");
        std::fs::write(&file, text).unwrap();
        load_with(&file, Some(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()))
    }

    const GOOD: &str = r#"
host = "erp-1"
[repository]
url = "file:///srv/repo"
[sources.etc]
kind = "files"
paths = ["/etc"]
[sources.db]
kind = "postgres"
url = "postgresql://postgres@localhost/erp"
password = "0123"
[plans.erp]
sources = ["db", "etc"]
keep = { last = 3, daily = 7, within = "14d" }
[plans.erp.restore]
stop = ["unit:app"]
"#;

    #[test]
    fn a_good_file_becomes_checked_types() {
        let c = parse(GOOD, &[]).unwrap();
        assert_eq!(c.host.as_str(), "erp-1");
        let plan = &c.plans[&"erp".parse::<Name>().unwrap()];
        assert_eq!((plan.keep.last, plan.keep.daily, plan.restore.stop.len()), (3, 7, 1));
        let SourceConfig::Postgres(db) = &c.sources[&"db".parse::<Name>().unwrap()] else { panic!() };
        assert_eq!(db.address.password().unwrap().expose(), "0123");
        assert_eq!(db.databases, Databases::Named(vec!["erp".into()]));
        assert!(!format!("{c:?}").contains("\"0123\""));
    }

    #[test]
    fn the_backup_section_says_how_packs_are_made_and_each_is_compared_unless_that_is_off() {
        let options = |section: &str| parse(&format!("{GOOD}[backup]\n{section}\n"), &[]).map(|c| c.writer);
        let plain = options("").unwrap();
        assert!(plain.verify);
        let set = "verify_before_upload = false\ncompression_level = 9\nthreads = 3\nuploads = 5";
        let set = options(set).unwrap();
        assert_eq!((set.verify, set.level, set.threads, set.uploads, set.memory), (false, 9, 3, 5, plain.memory));
        assert_eq!(options("compression_level = 20").unwrap_err().kind, Kind::Config);
    }

    #[test]
    fn the_environment_wins_and_stays_text() {
        let c = parse(GOOD, &[("BACKSTAY__REPOSITORY__URL", "s3://b/p"), ("BACKSTAY__SOURCES__DB__PASSWORD", "0042")])
            .unwrap();
        assert_eq!(c.storage.url, "s3://b/p");
        let SourceConfig::Postgres(db) = &c.sources[&"db".parse::<Name>().unwrap()] else { panic!() };
        assert_eq!(db.address.password().unwrap().expose(), "0042");
    }

    #[test]
    fn booleans_and_numbers_come_from_the_environment_too_and_texts_stay_texts() {
        let set = |value: &str| {
            let variables = [
                ("BACKSTAY__SOURCES__ETC__ONE_FILE_SYSTEM", value),
                ("BACKSTAY__SOURCES__DB__PASSWORD", "true"),
                ("BACKSTAY__PLANS__ERP__KEEP__LAST", "5"),
                ("BACKSTAY__REPOSITORY__PATH_STYLE", "true"),
            ];
            parse(GOOD, &variables)
        };
        for (text, expected) in [("true", true), ("false", false)] {
            let c = set(text).unwrap();
            let SourceConfig::Files(etc) = &c.sources[&"etc".parse::<Name>().unwrap()] else { panic!() };
            assert_eq!(etc.one_file_system, expected);
            let SourceConfig::Postgres(db) = &c.sources[&"db".parse::<Name>().unwrap()] else { panic!() };
            assert_eq!(db.address.password().unwrap().expose(), "true");
            assert_eq!((c.plans[&"erp".parse::<Name>().unwrap()].keep.last, c.storage.path_style), (5, true));
        }
        let e = set("maybe").unwrap_err();
        assert!(e.kind == Kind::Config && e.to_string().contains("maybe"), "{e}");
        let c = parse(&GOOD.replace("paths =", "one_file_system = true\npaths ="), &[]).unwrap();
        let SourceConfig::Files(etc) = &c.sources[&"etc".parse::<Name>().unwrap()] else { panic!() };
        assert!(etc.one_file_system);
    }

    #[test]
    fn they_come_so_into_sections_that_have_a_kind_too() {
        let text = format!(
            "{GOOD}[sources.cache]\nkind = \"redis\"\nurl = \"redis://localhost\"\n[maintenance]\n\
             [foreign.nightly]\nurl = \"file:///old\"\n\
             files = [{{ pattern = \"db_{{timestamp}}.enc\", is = \"pg-plain\" }}]\n\
             encryption = {{ kind = \"openssl-enc\", password = \"x\" }}\n"
        );
        let name = |n: &str| n.parse::<Name>().unwrap();
        let plain = parse(&text, &[]).unwrap();
        assert!(plain.plans[&name("erp")].restore.maintenance.is_some());
        let variables = [
            ("BACKSTAY__SOURCES__CACHE__INCLUDE_AOF", "true"),
            ("BACKSTAY__SOURCES__DB__JOBS", "7"),
            ("BACKSTAY__FOREIGN__NIGHTLY__ENCRYPTION__PBKDF2", "true"),
            ("BACKSTAY__FOREIGN__NIGHTLY__ENCRYPTION__ITER", "1234"),
            ("BACKSTAY__PLANS__ERP__RESTORE__MAINTENANCE", "false"),
        ];
        let c = parse(&text, &variables).unwrap();
        let SourceConfig::Redis(cache) = &c.sources[&name("cache")] else { panic!() };
        let SourceConfig::Postgres(db) = &c.sources[&name("db")] else { panic!() };
        assert!(cache.include_aof);
        assert_eq!(db.jobs, 7);
        let crate::foreign::layout::Encryption::Openssl(openssl) = &c.foreign[&name("nightly")].files[0].encryption
        else {
            panic!()
        };
        assert_eq!((openssl.pbkdf2, openssl.iterations), (true, 1234));
        assert!(c.plans[&name("erp")].restore.maintenance.is_none());
        // What it says of a page of the plan's own is converted, and a mistyped key of it is named.
        let own = [("BACKSTAY__PLANS__ERP__RESTORE__MAINTENANCE__RETRY_AFTER", "60")];
        let c = parse(&text, &own).unwrap();
        assert_eq!(c.plans[&name("erp")].restore.maintenance.as_ref().map(|m| m.retry_after), Some(60));
        let e = parse(&format!("{GOOD}maintenance = {{ retry = 60 }}\n"), &[]).unwrap_err();
        assert!(e.to_string().contains("unknown key or value `retry`"), "{e}");
        let e = parse(&text, &[("BACKSTAY__PLANS__ERP__RESTORE__MAINTENANCE", "maybe")]).unwrap_err();
        assert!(e.kind == Kind::Config && e.to_string().contains("maybe"), "{e}");
    }

    #[test]
    fn a_typo_is_named_with_the_nearest_key() {
        for (from, to, expected) in [
            ("state_dir", "stat_dir", "Did you mean `state_dir`?"),
            ("paths = ", "pahts = ", "Did you mean `paths`?"),
            ("kind = \"files\"", "kind = \"file\"", "Did you mean `files`?"),
            ("daily = 7", "dayly = 7", "Did you mean `daily`?"),
            ("sources = [\"db\", \"etc\"]", "sources = [\"dc\", \"etc\"]", "Did you mean `db`?"),
        ] {
            let text = if from == "state_dir" { format!("stat_dir = \"/x\"\n{GOOD}") } else { GOOD.replace(from, to) };
            let e = parse(&text, &[]).unwrap_err();
            assert_eq!(e.kind, Kind::Config);
            assert!(e.to_string().contains(expected), "{from}: {e}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_environment_is_said_to_be_there() {
        for (name, value, what, hint) in [
            ("BACKSTAY__REPOSITORY__ULR", "s3://b", "unknown key or value `ulr`", "Did you mean `url`?"),
            (
                "BACKSTAY__KEYS__IDENTITY_FLE",
                "/x",
                "unknown key or value `identity_fle`",
                "Did you mean `identity_file`?",
            ),
            ("BACKSTAY__REPOSITORY__LIMIT_UPLOAD", "abc", "limit_upload", "do:"),
        ] {
            let e = parse(GOOD, &[(name, value), ("BACKSTAY__SOURCES__DB__PASSWORD", "x")]).unwrap_err();
            let text = e.to_string();
            assert!(e.kind == Kind::Config && text.contains(what) && text.contains(hint), "{text}");
            assert_eq!(e.place.as_deref(), Some(format!("the environment: {name}").as_str()), "{text}");
        }
        // What is wrong in the file stays there, also when the file needs the environment to be whole.
        let needs = GOOD.replace("url = \"file:///srv/repo\"\n", "");
        let twice = needs.replace("[\"db\", \"etc\"]", "[\"db\", \"db\"]");
        for (text, variable) in [
            (&GOOD.replace("paths =", "pahts ="), ("BACKSTAY__SOURCES__DB__PASSWORD", "x")),
            (&twice, ("BACKSTAY__REPOSITORY__URL", "s3://b")),
        ] {
            let e = parse(text, &[variable]).unwrap_err();
            assert!(e.place.as_deref().is_some_and(|place| place.ends_with("backstay.toml")), "{e}");
        }
    }

    #[test]
    fn a_variable_with_too_few_underscores_is_refused_and_those_of_others_are_not() {
        for name in [
            "BACKSTAY_KEYS__IDENTITY_FILE",
            "BACKSTAY_REPOSITORY_URL",
            "BACKSTAY_BACKUP_THREADS",
            "BACKSTAY__REPOSITORY_ENDPOINT",
        ] {
            let e = parse(GOOD, &[(name, "x"), ("BACKSTAY__SOURCES__DB__PASSWORD", "x")]).unwrap_err();
            assert!(e.kind == Kind::Config && e.what.contains(name), "{e}");
            assert_eq!(e.place.as_deref(), Some(format!("the environment: {name}").as_str()));
        }
        for name in ["CONFIG", "BACKUP_ID", "PATH_1", "SOURCE", "SERVE_PORT_9000_TCP"] {
            let name = format!("BACKSTAY_{name}");
            parse(GOOD, &[(&name, "x"), ("BACKSTAY__SOURCES__DB__PASSWORD", "x")]).unwrap();
        }
        parse(GOOD, &[("BACKSTAY_REPOSITORY_URL", ""), ("BACKSTAY__SOURCES__DB__PASSWORD", "x")]).unwrap();
    }

    #[test]
    fn own_state_and_repository_cannot_be_a_source() {
        let e = parse(&GOOD.replace("[\"/etc\"]", "[\"/srv/repo/x\"]"), &[]).unwrap_err();
        assert!(e.to_string().contains("own state and repository"), "{e}");
    }
}
