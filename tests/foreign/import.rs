//! History moves along: sets become backups with their own times, and the next nightly ships what changed.

use crate::scripts::Site;

#[test]
fn sets_become_backups_of_their_own_time_and_the_next_run_ships_what_changed() {
    let s = Site::new();
    // Enough that what is shipped tells.
    s.cluster.psql(
        "erp",
        "INSERT INTO orders (note) SELECT md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 240000) g",
    );
    s.script("pg_dump -Fc erp > db_20260103_020000.dump");
    let first = s.erp();
    s.cluster.psql("erp", "UPDATE lines SET n = 2 WHERE order_id < 20");
    s.script(
        "pg_dump -Fc erp > db_20260104_020000.dump; head -c 1000 db_20260104_020000.dump > db_20260105_020000.dump",
    );
    s.with("files = [ { pattern = \"db_{timestamp}.dump\", is = \"pg-custom\", source = \"db\" } ]");
    let w = &s.world;
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    let ran = w.run(&["import", "old", "--all"]).code(8);
    ran.says(&["imported 20260103_020000", "imported 20260104_020000", "failed 20260105_020000", "cut short"]);
    let all = w.run(&["--json", "list"]).code(0).json();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["started"], "2026-01-03T02:00:00Z");
    assert_eq!(all[0]["store_time"], "2026-01-03T02:00:00Z");
    assert_eq!(all[0]["imported"]["from"], "old:20260103_020000");
    let shipped = |m: &serde_json::Value| m["stats"]["shipped"].as_u64().unwrap();
    assert!(shipped(&all[1]) * 4 < shipped(&all[0]), "{} after {}", shipped(&all[1]), shipped(&all[0]));
    // The same ones again are there already.
    w.run(&["import", "old", "--set", "20260103"]).code(0).says(&["already"]);
    // The next nightly run has next to nothing to ship.
    let nightly = w.backup();
    assert!(shipped(&nightly) * 4 < shipped(&all[0]), "{} after {}", shipped(&nightly), shipped(&all[0]));
    // An older one that comes later is still older.
    s.script("cp db_20260103_020000.dump db_20251231_020000.dump");
    w.run(&["import", "--set", "20251231"]).code(0);
    let ids = w.run(&["--json", "list"]).code(0).json();
    assert_eq!(ids.as_array().unwrap().len(), 4);
    assert_eq!(ids[0]["started"], "2025-12-31T02:00:00Z");
    w.run(&["check", "--read-data"]).code(0).says(&["4 of 4 backups"]);
    // Any of them is restored like our own.
    s.spoil();
    w.run(&["restore", "--at", "2026-01-03T03:00:00Z", "--yes"]).code(0);
    assert_eq!(s.erp(), first);
    w.run(&["show", all[0]["id"].as_str().unwrap()]).code(0).says(&["imported    from old:20260103_020000"]);
}

#[test]
fn a_set_of_the_future_or_of_another_plan_is_refused() {
    let s = Site::new();
    s.script("pg_dump -Fc erp > db_20990103_020000.dump; pg_dump -Fc erp > db_20260103_020000.dump");
    let layout = "files = [ { pattern = \"db_{timestamp}.dump\", is = \"pg-custom\", source = \"db\" } ]";
    s.with(layout);
    let w = &s.world;
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.run(&["import", "--set", "2099"]).code(10).says(&["a time that has not come"]);
    s.configure(layout, &format!("[sources.t]\nkind = \"files\"\npaths = [\"{}\"]", w.at("tree")), "\"t\"");
    w.run(&["import", "--set", "2026"]).code(3).says(&["source db of the set is not one of plan p"]);
    assert_eq!(w.run(&["--json", "list"]).code(0).json().as_array().unwrap().len(), 0);
}

#[test]
fn whatever_the_format_the_first_backup_of_our_own_ships_what_changed() {
    let s = Site::new();
    // One table that our own backups dump beside the others, and some that they do not.
    s.cluster.psql(
        "erp",
        "INSERT INTO orders (note) SELECT md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 240000) g",
    );
    s.cluster.psql("erp", "SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
    s.script(
        "pg_dump -Fc erp > c_20260104_020000.dump; pg_dump -C --clean erp | gzip > p_20260104_020000.sql.gz; pg_dumpall | gzip > a_20260104_020000.sql.gz",
    );
    let before = s.erp();
    let w = &s.world;
    for (n, (file, is)) in [
        ("c_{timestamp}.dump", "pg-custom"),
        ("p_{timestamp}.sql.gz", "pg-plain"),
        ("a_{timestamp}.sql.gz", "pg-dumpall"),
    ]
    .into_iter()
    .enumerate()
    {
        s.with(&format!("files = [ {{ pattern = \"{file}\", is = \"{is}\", source = \"db\" }} ]"));
        let mut text = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
        for (from, to) in [
            ("/repo\"", format!("/repo-{n}\"")),
            ("/state\"", format!("/state-{n}\"")),
            ("/host.key\"", format!("/host-{n}.key\"")),
            ("\"pg.password\"", "\"pg.password\"\nbig_tables = \"1MiB\"".to_owned()),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, &to);
        }
        w.write_config(&text);
        w.run(&["init", "--recovery-out", &w.at(&format!("recovery-{n}.key"))]).code(0);
        let imported = w.run(&["--json", "import"]).code(0).json()[0].clone();
        s.cluster.psql("erp", "UPDATE lines SET n = n + 1 WHERE order_id < 20");
        let nightly = w.backup();
        let (first, own) =
            (imported["stats"]["shipped"].as_u64().unwrap(), nightly["stats"]["shipped"].as_u64().unwrap());
        assert!(own * 4 < first, "{is}: {own} after {first}");
        // The table is large for our own: what was imported has its bytes all the same.
        assert!(!nightly["sources"][0]["facts"]["databases"][0]["archive"]["blocks"].as_array().unwrap().is_empty());
        let id = imported["id"].as_str().unwrap();
        w.run(&["restore", id, "--yes"]).code(0);
        assert_eq!(s.erp(), before, "{is}");
        // Without owners everything is the application's.
        w.run(&["restore", id, "--yes", "--no-owner", "--no-privileges"]).code(0);
        assert_eq!(
            s.cluster
                .psql("erp", "SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname = 'public'"),
            "app"
        );
        if is != "pg-custom" {
            let parts = w.run(&["restore", id, "--table", "orders", "--to", "beside"]).code(10);
            parts.says(&["tables or sections cannot be picked out of a dump in SQL"]);
        }
        w.run(&["restore", id, "--yes"]).code(0);
        assert_eq!(s.erp(), before, "{is}");
    }
}
