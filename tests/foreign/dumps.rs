//! Dumps are proven without being restored: custom archives, plain SQL, dumps of a whole cluster.

use crate::scripts::Site;

const T: &str = "20260104_020000";

#[test]
fn each_format_is_read_to_its_end_and_counted() {
    let s = Site::new();
    s.script(&format!(
        "pg_dump -Fc erp > c_{T}.dump; pg_dump -Fc -Z0 erp > n_{T}.dump; pg_dump erp | gzip > p_{T}.sql.gz; pg_dump -C --clean erp | xz -0 > q_{T}.sql.xz; \
         pg_dumpall | zstd -q > a_{T}.sql.zst; pg_dump --inserts -t lines erp > i_{T}.sql"
    ));
    s.with(
        "files = [ { pattern = \"c_{timestamp}.dump\", is = \"pg-custom\" }, { pattern = \"n_{timestamp}.dump\", is = \"pg-custom\" },\n\
         { pattern = \"p_{timestamp}.sql.gz\", is = \"pg-plain\" }, { pattern = \"q_{timestamp}.sql.xz\", is = \"pg-plain\" },\n\
         { pattern = \"a_{timestamp}.sql.zst\", is = \"pg-dumpall\", database = \"erp\" }, { pattern = \"i_{timestamp}.sql\", is = \"pg-plain\" } ]",
    );
    let said = s.world.run(&["--json", "check", "--foreign"]).code(0).json();
    let holds: Vec<&str> = said["good"].as_array().unwrap().iter().map(|g| g["holds"].as_str().unwrap()).collect();
    // 5,005 orders and as many lines, 500 of the log, 50 shards, 2 odd ones.
    for of in &holds[..5] {
        assert!(of.contains("database erp") || of.contains("a database"), "{of}");
        assert!(of.contains("10,562 rows"), "{of}");
    }
    assert!(holds[5].contains("5,005 rows"), "{}", holds[5]);
}

#[test]
fn what_is_cut_short_is_told_for_each_format() {
    let s = Site::new();
    s.script(&format!(
        "pg_dump -Fc erp > c_{T}.dump; pg_dump erp > p_{T}.sql; pg_dumpall > a_{T}.sql; pg_dump erp | gzip > g_{T}.sql.gz; for f in *; do truncate -s -300 $f; done"
    ));
    for (file, is, says) in [
        ("c_{timestamp}.dump", "pg-custom", "the archive of pg_dump is cut short"),
        ("p_{timestamp}.sql", "pg-plain", "the dump"),
        ("a_{timestamp}.sql", "pg-dumpall", "the dump"),
        ("g_{timestamp}.sql.gz", "pg-plain", "the gzip data is cut short"),
    ] {
        s.with(&format!("files = [ {{ pattern = \"{file}\", is = \"{is}\" }} ]"));
        s.world.run(&["check", "--foreign"]).code(7).says(&[says]);
    }
    // Only the last line is missing: every statement is whole.
    s.script(&format!(
        "pg_dump erp | grep -v 'dump complete' > p_{T}.sql; pg_dumpall | grep -v 'cluster dump complete' > a_{T}.sql"
    ));
    s.with("files = [ { pattern = \"p_{timestamp}.sql\", is = \"pg-plain\" } ]");
    s.world.run(&["check", "--foreign"]).code(7).says(&["its end marker is missing"]);
    s.with("files = [ { pattern = \"a_{timestamp}.sql\", is = \"pg-dumpall\" } ]");
    s.world.run(&["check", "--foreign"]).code(7).says(&["the end marker of a cluster dump is missing"]);
    // A file that is something else.
    s.script(&format!("echo hello > c_{T}.dump"));
    s.with("files = [ { pattern = \"c_{timestamp}.dump\", is = \"pg-custom\" } ]");
    s.world.run(&["check", "--foreign"]).code(7).says(&["the file is no pg-custom", "hello"]);
}
