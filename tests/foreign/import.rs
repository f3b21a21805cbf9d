//! History moves along: sets become backups with their own times, and the next nightly ships what changed.

use crate::scripts::Site;

#[test]
fn sets_become_backups_of_their_own_time_and_the_next_run_ships_what_changed() {
    let s = Site::new();
    // Enough that what is shipped tells.
    s.cluster.psql(
        "erp",
        "INSERT INTO orders (note) SELECT md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 60000) g",
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
