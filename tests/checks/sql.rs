//! Queries against a real server, over its socket, as another user, and on what was staged.

use crate::cluster::Cluster;
use crate::{Sources, bad, check_in, good, now, once, postgres, source};
use backstay::config::SourceConfig;
use backstay::config::secret::Secret;
use backstay::recovery::checks::Outcome;
use backstay::recovery::checks::context::{Context, Renamed};
use backstay::sources::postgres::address::Address;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const TABLES: &str = "CREATE TABLE users (id int, name text, since date, paid numeric); \
     INSERT INTO users VALUES (1, 'admin', '2026-01-03', 12345678901234567890.12), (2, 'o''b', NULL, 0); \
     CREATE SCHEMA app; CREATE TABLE app.hidden (n int); INSERT INTO app.hidden VALUES (5)";

async fn ask(keys: &str, sources: &Sources, context: &Context) -> Outcome {
    once(check_in(Path::new("/"), keys, sources)).run(context).await
}

#[tokio::test]
async fn answers_are_compared_in_every_form() {
    let cluster = Cluster::start();
    cluster.psql("postgres", TABLES);
    // Our own connection, and psql as another user of the operating system.
    let peer = source_as_user(&cluster);
    for sources in [source(&cluster, "postgres"), peer] {
        let run = async |keys: &str| ask(keys, &sources, &now()).await;
        for (query, wanted) in [
            ("SELECT count(*) FROM users", "expect = 2"),
            ("SELECT count(*) FROM users;", "min = 1\nmax = 2"),
            (
                "SELECT name, id, coalesce(since, date '2026-01-04') FROM users ORDER BY id -- all",
                "expect = [[\"admin\", 1, \"2026-01-03\"], [\"o'b\", 2, \"2026-01-04\"]]",
            ),
            ("SELECT name FROM users ORDER BY id DESC", "expect = [\"o'b\", \"admin\"]"),
            ("SELECT paid FROM users WHERE id = 1", "expect = \"12345678901234567890.12\""),
            ("SELECT count(*), count(*) FROM users", "expect = [[2, 2]]"),
            ("TABLE app.hidden", "expect = 5"),
            ("VALUES (true)", ""),
            ("SELECT 1 FROM users WHERE false", "expect = []"),
        ] {
            good(&run(&format!("sql = \"{query}\"\n{wanted}")).await);
        }
        bad(
            &run("sql = \"SELECT count(*) FROM users\"\nexpect = 3").await,
            &["check sql postgres failed", "expected 3", "found 2"],
        );
        bad(&run("sql = \"SELECT name FROM users ORDER BY 1\"\nexpect = \"admin\"").await, &["2 rows: admin, o'b"]);
        bad(&run("sql = \"SELECT NULL\"").await, &["at least one row", "found NULL"]);
        bad(&run("sql = \"SELECT 1 WHERE false\"").await, &["found no row"]);
        bad(&run("sql = \"SELECT false\"").await, &["found false"]);
        bad(&run("sql = \"SELECT * FROM gone\"").await, &["42P01", "\"gone\" does not exist"]);
        bad(&run("sql = \"SELECT 1\"\ndatabase = \"no_such\"").await, &["no_such"]);
    }
}

/// The cluster through `psql` as the user `postgres`.
fn source_as_user(cluster: &Cluster) -> Sources {
    let url = format!("postgresql://postgres@/postgres?host={}&port={}", cluster.dir.path().display(), cluster.port);
    let address = Address::parse(&url).unwrap().with_password(Some(Secret::new(crate::PASSWORD.into())));
    let address = address.as_os_user(Some("postgres".into()));
    BTreeMap::from([("db".parse().unwrap(), SourceConfig::Postgres(Box::new(postgres(address, "postgres"))))])
}

#[tokio::test]
async fn nothing_is_ever_written() {
    let cluster = Cluster::start();
    cluster.psql("postgres", TABLES);
    cluster.psql("postgres", "CREATE FUNCTION spoil() RETURNS int LANGUAGE sql AS 'DELETE FROM users; SELECT 1'");
    for sources in [source(&cluster, "postgres"), source_as_user(&cluster)] {
        for query in [
            "SELECT spoil()",
            "WITH gone AS (DELETE FROM users RETURNING 1) SELECT count(*) FROM gone",
            "SELECT 1) AS q; COMMIT; DELETE FROM users; SELECT (1",
            "SELECT 1; DELETE FROM users",
            "DELETE FROM users",
            "SELECT nextval('s')",
        ] {
            let outcome = ask(&format!("sql = \"{query}\""), &sources, &now()).await;
            bad(&outcome, &["the server refuses"]);
            assert_eq!(cluster.psql("postgres", "SELECT count(*) FROM users"), "2", "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_never_ends_is_ended_at_the_server() {
    let cluster = Cluster::start();
    let sources = source(&cluster, "postgres");
    let mut check = check_in(Path::new("/"), "sql = \"SELECT pg_sleep(12345)\"\ntimeout = \"500ms\"", &sources);
    check.within = Duration::from_secs(1);
    let started = Instant::now();
    let outcome = check.run(&now()).await;
    assert!(!outcome.good && started.elapsed() < Duration::from_secs(3), "{outcome:?}");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%12345%' AND pid <> pg_backend_pid()";
    crate::stage::until("the server ended it", || cluster.psql("postgres", sleeping) == "0");
}

#[tokio::test]
async fn what_was_staged_is_asked_under_its_name_with_the_settings_of_the_live_one() {
    let cluster = Cluster::start();
    for name in ["erp", "erp_staged"] {
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        cluster.psql(name, TABLES);
    }
    cluster.psql("erp_staged", "INSERT INTO users VALUES (3, 'restored')");
    cluster.psql("postgres", "ALTER DATABASE erp SET search_path = app, public");
    let sources = source(&cluster, "erp");
    let renamed = Renamed { source: "db".into(), live: "erp".into(), staging: "erp_staged".into() };
    let staged = Context::staged(vec![renamed]);
    let count = "sql = \"SELECT count(*) FROM users\"\nexpect = 3\nbefore_swap = true";
    good(&ask(count, &sources, &staged).await);
    bad(&ask(count, &sources, &now()).await, &["found 2"]);
    good(&ask("sql = \"SELECT n FROM hidden\"\nexpect = 5", &sources, &staged).await);
    // Nobody writes there: asking again would not help.
    let patient = check_in(Path::new("/"), &count.replace('3', "4"), &sources);
    let outcome = patient.run(&staged).await;
    bad(&outcome, &["found 3"]);
    assert_eq!(outcome.tries, 1);
    // Another database is not part of this restore, and its live one is none of this check's business.
    let outcome = ask(&format!("{}\ndatabase = \"postgres\"", count), &sources, &staged).await;
    good(&outcome);
    assert!(outcome.found.contains("database postgres is not restored"), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_comes_up_late_is_waited_for_and_no_message_has_the_password() {
    let cluster = Cluster::start();
    cluster.psql("postgres", TABLES);
    let sources = source(&cluster, "postgres");
    let waiting = async {
        let check = check_in(Path::new("/"), "sql = \"SELECT count(*) FROM users\"\nexpect = 3", &sources);
        check.run(&now()).await
    };
    let arriving = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.psql("postgres", "INSERT INTO users VALUES (3, 'late')");
    };
    let (outcome, ()) = tokio::join!(waiting, arriving);
    good(&outcome);
    assert!(outcome.tries > 1, "{outcome:?}");
    let wrong = Address::parse(&format!("postgresql://postgres@127.0.0.1:{}/postgres", cluster.port)).unwrap();
    let wrong = wrong.with_password(Some(Secret::new("wrong-hunter2".into())));
    let sources =
        BTreeMap::from([("db".parse().unwrap(), SourceConfig::Postgres(Box::new(postgres(wrong, "postgres"))))]);
    let outcome = ask("sql = \"SELECT 1\"", &sources, &now()).await;
    bad(&outcome, &["password authentication failed"]);
    assert!(!format!("{outcome:?}").contains("hunter2"));
}
