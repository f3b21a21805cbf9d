//! What the keys become, and what is refused with which words.

use super::*;
use crate::config::SourceConfig;
use crate::error::Kind;
use crate::model::Name;
use crate::sources::postgres::Databases;
use crate::sources::postgres::address::Address;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

fn list<T: DeserializeOwned>(toml: &str) -> Result<Vec<T>, String> {
    let file = ::config::File::from_str(toml, ::config::FileFormat::Toml);
    let read = ::config::Config::builder().add_source(file).build().map_err(|e| e.to_string())?;
    let mut all: BTreeMap<String, Vec<T>> = read.try_deserialize().map_err(|e| e.to_string())?;
    Ok(all.remove("list").unwrap())
}

fn server(databases: &[&str]) -> SourceConfig {
    SourceConfig::Postgres(Box::new(PostgresSource {
        address: Address::parse("postgresql://postgres@localhost/erp").unwrap(),
        unit: None,
        data_dir: None,
        databases: Databases::Named(databases.iter().map(|d| (*d).to_owned()).collect()),
        exclude: Vec::new(),
        count_rows_up_to: 1,
        big_tables: 1,
        jobs: 1,
    }))
}

fn sources(names: &[(&str, &[&str])]) -> BTreeMap<Name, SourceConfig> {
    names.iter().map(|(name, databases)| (name.parse().unwrap(), server(databases))).collect()
}

fn checks(toml: &str) -> Result<Vec<Check>, String> {
    let one = sources(&[("db", &["erp"])]);
    checks_of(list(toml)?, "plans.p.restore.checks", Path::new("/"), &one).map_err(|e| e.to_string())
}

fn one(keys: &str) -> Check {
    checks(&format!("[[list]]\n{keys}")).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

/// What a wrong check says.
#[track_caller]
fn refused(keys: &str) -> String {
    let e = checks(&format!("[[list]]\n{keys}")).map(|_| ()).unwrap_err();
    assert!(e.contains("plans.p.restore.checks[1]") || e.contains("unknown field"), "{e}");
    e
}

#[test]
fn names_are_made_of_what_is_looked_at_and_never_of_secrets() {
    let checks = checks(
        "[[list]]\nhttp = \"http://localhost:8000/health/?key=hunter2\"\n[[list]]\nsql = \"SELECT 'hunter2'\"\n\
         [[list]]\nsql = \"SELECT 1\"\n[[list]]\ncommand = [\"/usr/bin/psql\", \"hunter2\"]\n[[list]]\ntcp = \"[::1]:6379\"\n\
         [[list]]\ncontainer = \"edms/backend\"\n[[list]]\nunit = \"django\"\n[[list]]\nlog = \"unit:django\"\n\
         [[list]]\nunit = \"x.timer\"\nname = \"sql erp 3\"\n[[list]]\nsql = \"SELECT 3\"\n",
    );
    let checks = checks.unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<&str> = checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "http localhost:8000/health/",
            "sql erp",
            "sql erp 2",
            "command psql",
            "tcp [::1]:6379",
            "container edms/backend",
            "unit django",
            "log unit:django",
            "sql erp 3",
            "sql erp 4",
        ]
    );
    let kinds: Vec<&str> = checks.iter().map(Check::kind).collect();
    assert_eq!(kinds, ["http", "sql", "sql", "command", "tcp", "container", "unit", "log", "unit", "sql"]);
    assert_eq!(checks[1].database(), Some(("db", "erp")));
}

#[test]
fn two_checks_never_have_one_name() {
    let e = checks("[[list]]\ntcp = \"a:1\"\nname = \"x\"\n[[list]]\ntcp = \"b:1\"\nname = \"x\"").unwrap_err();
    assert!(e.contains("two checks have the same name"), "{e}");
}

#[test]
fn times_have_defaults_and_must_fit() {
    let check = one("tcp = \"a:1\"");
    let seconds = |d: Duration| d.as_secs();
    assert_eq!((seconds(check.within), seconds(check.every), seconds(check.timeout)), (60, 2, 10));
    let check = one("log = \"file:/x\"\nsettle = \"5m\"");
    assert_eq!(seconds(check.within), 600);
    assert!(refused("tcp = \"a:1\"\nwithin = \"0s\"").contains("no time at all"));
    assert!(refused("tcp = \"a:1\"\nwithin = \"soon\"").contains("\"soon\" is not a duration"));
    assert!(refused("unit = \"a\"\nsettle = \"9s\"\nwithin = \"9s\"").contains("not shorter than `within`"));
}

#[test]
fn what_is_looked_at_is_one_thing_and_other_keys_belong_to_it() {
    assert!(refused("within = \"5s\"").contains("it is not said what the check looks at"));
    assert!(refused("http = \"http://a/\"\ntcp = \"a:1\"").contains("looks at 2 things"));
    assert!(refused("http = \"http://a/\"\nmaximum = 1").contains("`maximum` means nothing to a check of `http`"));
    assert!(refused("unit = \"a\"\ncontains = \"b\"").contains("It belongs to `http`, `command`."));
    assert!(refused("http = \"http://a/\"\nstats = 200").contains("unknown field"));
    assert!(refused("http = \"http://a/\"\nlogin = { url = \"http://a/\", frm = {} }").contains("unknown field"));
    assert!(matches!(one("command = [\"x\"]\ncontainer = \"edms/backend\"").what, What::Command(_)));
}

#[test]
fn requests_are_read() {
    let check = one(
        "http = \"https://erp.acme.test:8443/a?b=c\"\nresolve = \"127.0.0.1\"\nstatus = [200, 204]\ncontains = \"x\"\n\
         json = { \"a.0.b\" = 1, \"/c\" = \"d\", e = true }\nheaders = { Accept = \"text/html\" }",
    );
    let What::Http(http) = check.what else { panic!() };
    assert_eq!((http.method.as_str(), &http.status[..]), ("GET", &[200, 204][..]));
    let paths: Vec<(&str, String)> = http.json.iter().map(|(p, v)| (p.as_str(), v.to_string())).collect();
    assert_eq!(paths, [("/c", "\"d\"".into()), ("a.0.b", "1".into()), ("e", "true".into())]);
    let What::Http(post) = one("http = \"http://a/\"\nbody = \"x\"").what else { panic!() };
    assert_eq!((post.method.as_str(), &post.status[..], post.redirects), ("POST", &[200][..], false));
    for (keys, says) in [
        ("http = \"localhost:8000\"", "is no URL of HTTP"),
        ("http = \"/health\"", "is no URL"),
        ("http = \"http://u:hunter2@a/\"", "holds a user or a password"),
        ("http = \"http://a/\"\nstatus = 7", "names 7"),
        ("http = \"http://a/\"\nstatus = []", "`status` is empty"),
        ("http = \"http://a/\"\njson = { a = [1] }", "with a list or table"),
        ("http = \"http://a/\"\nheaders = { Host = \"b\" }", "Use `host`"),
        ("http = \"http://a/\"\nhost = \"b/c\"", "`host` is"),
        ("http = \"http://a/\"\nresolve = \"b\"", "no address"),
        ("http = \"http://127.0.0.1/\"\nresolve = \"127.0.0.1\"", "has an address already"),
        ("http = \"http://a/\"\nuser = \"b\"", "who the check is"),
        ("http = \"http://a/\"\nca = \"b\"\ninsecure = true", "Keep `ca`"),
        (
            "http = \"http://a/\"\nbearer = \"b\"\nlogin = { url = \"http://a/\", form = { c = \"d\" } }",
            "Keep one of them",
        ),
    ] {
        let e = refused(keys);
        assert!(e.contains(says) && !e.contains("hunter2"), "{keys}: {e}");
    }
}

#[test]
fn logins_are_read() {
    let login = |keys: &str| format!("http = \"http://a/\"\nlogin = {{ url = \"http://a/login\", {keys} }}");
    let What::Http(http) = one(&login("form = { u = \"x\" }, password = \"hunter2\", csrf = \"t\"")).what else {
        panic!()
    };
    assert!(!format!("{http:?}").contains("hunter2"));
    let csrf = http.login.unwrap().csrf.unwrap();
    assert_eq!((csrf.name.as_str(), csrf.field.as_str()), ("t", "t"));
    let What::Http(http) = one(&login("json = { u = \"x\" }, token = \"a.b\"")).what else { panic!() };
    let token = http.login.unwrap().token.unwrap();
    assert_eq!((token.header.as_str(), token.scheme.as_str()), ("authorization", "Bearer"));
    for (keys, says) in [
        ("status = 302", "sends nothing"),
        ("form = { u = \"x\" }, json = { u = \"x\" }", "has `form` and `json`"),
        ("form = { password = \"x\" }, password = \"y\"", "the field password twice"),
        ("form = { u = \"x\" }, csrf_field = \"t\"", "without `csrf`"),
        ("form = { u = \"x\" }, scheme = \"t\"", "without `token`"),
        ("form = { u = \"x\" }, csrf = \"t\", token = \"t\"", "Keep one of them"),
        ("json = { u = \"x\" }, token = \"t\", scheme = \"a b\"", "Write one word"),
    ] {
        let e = refused(&login(keys));
        assert!(e.contains(says), "{keys}: {e}");
    }
}

#[test]
fn the_database_is_the_only_one_or_is_named() {
    let of = |sources: &BTreeMap<Name, SourceConfig>, keys: &str| {
        let raw = list(&format!("[[list]]\nsql = \"SELECT 1;\"\n{keys}")).unwrap();
        checks_of(raw, "checks", Path::new("/"), sources).map(|mut c| c.remove(0)).map_err(|e| e.to_string())
    };
    let place = |check: Check| match check.what {
        What::Sql(query) => (query.place.source, query.place.database, query.query),
        _ => panic!(),
    };
    let one = sources(&[("db", &["erp"])]);
    let two = sources(&[("db", &["erp"]), ("other", &["a", "b"])]);
    assert_eq!(place(of(&one, "").unwrap()), ("db".into(), "erp".into(), "SELECT 1".into()));
    assert_eq!(place(of(&two, "source = \"other\"\ndatabase = \"b\"").unwrap()).1, "b");
    assert!(of(&two, "").unwrap_err().contains("not said which server"));
    assert!(of(&two, "source = \"other\"").unwrap_err().contains("not said which database"));
    assert!(of(&two, "source = \"none\"").unwrap_err().contains("no configured postgres source"));
    assert!(of(&sources(&[]), "").unwrap_err().contains("there is no postgres source"));
    assert!(of(&sources(&[("db", &["erp*"])]), "").unwrap_err().contains("not said which database"));
}

#[test]
fn answers_units_ports_and_logs_are_read() {
    for (keys, says) in [
        ("sql = \" ; \"", "`sql` is empty"),
        ("sql = \"SELECT 1\"\nexpect = 1\nmin = 1", "Keep one of them"),
        ("sql = \"SELECT 1\"\nmin = 2\nmax = 1", "`min` is 2 and `max` is 1"),
        ("sql = \"SELECT 1\"\nexpect = { a = 1 }", "neither a value nor a list of rows"),
        ("command = []", "names no program"),
        ("command = [\"x\"]\nexpect = [1]", "a program prints text"),
        ("command = [\"x\"]\nenv = { A = \"1\" }\nsecrets = { A = \"2\" }", "in `env` and in `secrets`"),
        ("tcp = \"localhost\"", "Write HOST:PORT"),
        ("tcp = \"localhost:0\"", "Write HOST:PORT"),
        ("tcp = \"localhost:1\"\nexpect = 7", "no text"),
        ("container = \"a b\"", "Write one word"),
        ("unit = \"a b\"", "not the name of a unit"),
        ("unit = \"--now\"", "not the name of a unit"),
        ("log = \"django\"", "Write unit:NAME"),
        ("log = \"file:relative\"", "Write unit:NAME"),
        ("log = \"unit:x\"\npattern = \"(\"", "no regular expression"),
        ("unit = \"x\"\nname = \"a\\nb\"", "Write some words"),
    ] {
        let e = refused(keys);
        assert!(e.contains(says), "{keys}: {e}");
    }
    let What::Unit(unit) = one("unit = \"gunicorn@a.b\"").what else { panic!() };
    assert_eq!(unit.unit, "gunicorn@a.b.service");
    let What::Log(log) = one("log = \"container:edms/backend\"").what else { panic!() };
    assert_eq!((log.of, log.maximum), (LogOf::Container("edms/backend".into()), 0));
    assert!(
        log.pattern.is_match("2026 ERROR x") && log.pattern.is_match("Traceback (most") && !log.pattern.is_match("ok")
    );
}

#[test]
fn hooks_are_read() {
    let of = |when, toml: &str| {
        let raw = list(toml)?;
        let dir = Path::new("/etc/backstay");
        hooks_of(raw, when, "plans.p.restore.hooks", dir, &sources(&[("db", &["erp"])])).map_err(|e| e.to_string())
    };
    let good = of(
        When::AfterSwap,
        "[[list]]\nsql = \"SELECT 1\"\n[[list]]\nsql_file = \"a.sql\"\nrole = \"app\"\n\
         [[list]]\ncommand = [\"x\"]\nundo = [\"y\"]\nname = \"cache\"\ntimeout = \"1h\"",
    );
    let good = good.unwrap_or_else(|e| panic!("{e}"));
    let steps: Vec<String> = good.iter().map(Hook::step).collect();
    assert_eq!(steps, ["after_swap 1", "after_swap 2", "after_swap cache"]);
    assert!(matches!(&good[1].task, Task::Sql { text: Text::File(f), .. } if f == Path::new("/etc/backstay/a.sql")));
    assert!(good[2].place().is_none() && good[0].place().is_some());
    for (keys, says) in [
        ("name = \"x\"", "it is not clear what the hook does"),
        ("sql = \"SELECT 1\"\ncommand = [\"x\"]", "it is not clear what the hook does"),
        ("sql = \" \"", "`sql` is empty"),
        ("sql = \"SELECT 1\"\nundo = [\"x\"]", "`undo` means nothing without `command`"),
        ("sql = \"SELECT 1\"\ncontainer = \"x\"", "`container` means nothing without `command`"),
        ("command = [\"x\"]\nrole = \"app\"", "without `source` or `database`"),
        ("command = [\"x\"]\nundo = [\"y\"]", "dropped when the restore is taken back"),
        ("command = [\"\"]", "names no program"),
        ("sql = \"SELECT 1\"\nsource = \"none\"", "no configured postgres source"),
    ] {
        let e = of(When::AfterStage, &format!("[[list]]\n{keys}")).map(|_| ()).unwrap_err();
        assert!(e.contains(says) && e.contains("plans.p.restore.hooks[1]"), "{keys}: {e}");
    }
    let twice = "[[list]]\nsql = \"SELECT 1\"\nname = \"2\"\n[[list]]\nsql = \"SELECT 1\"";
    assert!(of(When::AfterStage, twice).map(|_| ()).unwrap_err().contains("two hooks have the name 2"));
    let raw = list("[[list]]\nsql = \"\"").unwrap();
    let e = hooks_of(raw, When::AfterStage, "k", Path::new("/"), &BTreeMap::new()).unwrap_err();
    assert_eq!(e.kind, Kind::Config);
}
