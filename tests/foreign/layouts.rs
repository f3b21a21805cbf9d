//! Which files are one backup, of what time, and what is missing.

use crate::scripts::{files, relayout, script};

const TWO: &str = "files = [ { pattern = \"db_{timestamp}.dump\", is = \"other\" }, { pattern = \"storage_{timestamp}.tar.gz\", is = \"other\" },\n { pattern = \"config_{timestamp}.tar.gz\", is = \"other\", optional = true } ]";

#[test]
fn sets_are_listed_with_their_age_and_what_is_missing() {
    let w = files(TWO);
    script(
        &w,
        "for t in 20260103_020000 20260104_020000; do echo x > db_$t.dump; echo y > storage_$t.tar.gz; done; echo z > config_20260104_020000.tar.gz; echo n > notes.txt; echo x > db_20260105_020000.dump; ln -s db_20260104_020000.dump db_20260109_020000.dump",
    );
    let ran = w.run(&["list", "--foreign"]).code(7);
    assert!(ran.out.lines().count() == 4, "{}", ran.out);
    ran.says(&["20260103_020000", "complete", "missing: storage_20260105_020000.tar.gz"]);
    let all = w.run(&["--json", "list", "--foreign", "old"]).code(7).json();
    assert_eq!(all[1]["time"], "2026-01-04T02:00:00Z");
    assert_eq!(all[1]["parts"].as_array().unwrap().len(), 3);
    assert_eq!((all[1]["complete"].as_bool(), all[2]["complete"].as_bool()), (Some(true), Some(false)));
    assert_eq!(all[2]["problems"][0]["kind"], "missing");
    // The newest that is whole.
    w.run(&["check", "--foreign"]).code(0).says(&["20260104_020000", "read to its end"]);
    w.run(&["check", "--foreign", "old", "20260105"]).code(7).says(&["missing"]);
    w.run(&["check", "--foreign", "old", "2027"]).code(4);
    w.run(&["list", "--foreign", "nothing"]).code(4).says(&["Configured are: old"]);
}

#[test]
fn local_time_is_told_as_what_it_is() {
    let w = files(&format!("timezone = \"Europe/Berlin\"\n{TWO}"));
    let both = "echo x > db_$t.dump; echo y > storage_$t.tar.gz";
    script(&w, &format!("for t in 20260104_020000 20251026_023000 20260329_023000; do {both}; done"));
    let all = w.run(&["--json", "list", "--foreign"]).code(7).json();
    let of = |name: &str| all.as_array().unwrap().iter().find(|s| s["set"] == name).unwrap().clone();
    assert_eq!(of("20260104_020000")["time"], "2026-01-04T01:00:00Z");
    let twice = of("20251026_023000");
    assert_eq!((twice["time"].as_str(), twice["complete"].as_bool()), (Some("2025-10-26T00:30:00Z"), Some(true)));
    assert!(twice["remarks"][0].as_str().unwrap().contains("showed this time twice"));
    assert_eq!(of("20260329_023000")["problems"][0]["kind"], "no-time");
    relayout(&w, &format!("timezone = \"Europe/Nowhere\"\n{TWO}"));
    w.run(&["list", "--foreign"]).code(3).says(&["timezone", "Europe/Nowhere"]);
}

#[test]
fn two_of_one_time_are_refused() {
    // Two writings of one moment.
    let w = files("timestamp = \"%Y%m%dT%H%M%S%z\"\nfiles = [ { pattern = \"db_{timestamp}.dump\", is = \"other\" } ]");
    script(
        &w,
        "echo a > db_20260104T020000+0000.dump; echo b > db_20260104T030000+0100.dump; echo c > db_20260105T030000+0100.dump",
    );
    w.run(&["check", "--foreign", "old", "20260104T02"]).code(10).says(&["two sets have the same time"]);
    let all = w.run(&["--json", "list", "--foreign"]).code(7).json();
    assert_eq!(all.as_array().unwrap().iter().filter(|s| s["problems"][0]["kind"] == "same-time").count(), 2);
    w.run(&["check", "--foreign"]).code(0).says(&["20260105T030000+0100"]);
    // Two files that would both be the same source.
    let w = files("files = [ { pattern = \"{timestamp}/*.tar\", is = \"tar\", source = \"tree\" } ]");
    script(
        &w,
        "mkdir 20260104_020000; tar cf 20260104_020000/a.tar -C / etc/hostname; cp 20260104_020000/a.tar 20260104_020000/b.tar",
    );
    w.run(&["check", "--foreign", "old", "2026"]).code(10).says(&["several files of one time"]);
}

#[test]
fn a_manifest_with_bars_is_held_against_the_files() {
    let w = files(
        "timestamp = \"%Y%m%d-%H%M%S\"\nchecksums = { manifest = \"{timestamp}/MANIFEST.txt\", format = \"file|size|sha256\" }\nfiles = [ { pattern = \"{timestamp}/postgres/postgres-{timestamp}.sql\", is = \"other\" }, { pattern = \"{timestamp}/redis/redis-{timestamp}.rdb\", is = \"other\" } ]",
    );
    let id = "20240215-020000";
    let make = "mkdir -p $B/postgres $B/redis; echo 'SELECT 1;' > $B/postgres/postgres-$B.sql; head -c 100000 /dev/urandom > $B/redis/redis-$B.rdb; \
        { echo '=== MANIFEST ==='; echo \"Backup ID: $B\"; echo '================'; (cd $B; for f in postgres/* redis/*; do echo \"$f|$(stat -c%s $f)|$(sha256sum $f | cut -d' ' -f1)\"; done); } > $B/MANIFEST.txt";
    script(
        &w,
        &format!("B={id}; {make}; B=20240216-020000; {make}; B=20240217-020000; {make}; B=20240218-020000; {make}"),
    );
    w.run(&["check", "--foreign", "old", id]).code(0).says(&["checksum compared"]);
    // One byte, the same size.
    script(
        &w,
        "printf 'X' | dd of=20240216-020000/redis/redis-20240216-020000.rdb bs=1 seek=50000 conv=notrunc status=none",
    );
    w.run(&["check", "--foreign", "old", "20240216"])
        .code(7)
        .says(&["the checksum beside the file is of other content", "redis-20240216-020000.rdb"]);
    // Another size shows without reading.
    script(&w, "echo more >> 20240217-020000/postgres/postgres-20240217-020000.sql");
    w.run(&["list", "--foreign"]).code(7).says(&["has 15 bytes, its checksums say 10"]);
    // A file that the manifest names and that is gone.
    script(&w, "rm 20240218-020000/redis/redis-20240218-020000.rdb");
    w.run(&["check", "--foreign", "old", "20240218"])
        .code(7)
        .says(&["missing: 20240218-020000/redis/redis-20240218-020000.rdb"]);
    script(&w, "sed -i 's/|[0-9a-f]*$/|nonsense/' 20240215-020000/MANIFEST.txt");
    w.run(&["check", "--foreign", "old", id]).code(7).says(&["has no SHA-256 checksum"]);
}

#[test]
fn lines_of_sha256sum_over_all_sets_are_read() {
    let w = files(
        "checksums = { manifest = \"SHA256SUMS\", format = \"sha256sum\" }\nfiles = [ { pattern = \"db_{timestamp}.dump\", is = \"other\" } ]",
    );
    script(
        &w,
        "echo a > db_20260103_020000.dump; echo b > db_20260104_020000.dump; sha256sum db_*.dump > SHA256SUMS; echo c > db_20260104_020000.dump",
    );
    w.run(&["check", "--foreign", "old", "20260103"]).code(0).says(&["checksum compared"]);
    w.run(&["check", "--foreign", "old", "20260104"]).code(7).says(&["of other content"]);
}

#[test]
fn what_does_not_fit_together_in_a_layout_is_told() {
    let w = files("files = []");
    for (layout, says) in [
        ("files = []", "`files` is empty"),
        ("files = [ { pattern = \"db.dump\", is = \"other\" } ]", "no {timestamp}"),
        ("files = [ { pattern = \"{timestamp}\", is = \"pg-costum\" } ]", "Did you mean `pg-custom`?"),
        (
            "files = [ { pattern = \"{timestamp}\", is = \"other\", compresion = \"gzip\" } ]",
            "Did you mean `compression`?",
        ),
        (
            "files = [ { pattern = \"{app}-{timestamp}\", is = \"other\" }, { pattern = \"{timestamp}.x\", is = \"other\" } ]",
            "the same words",
        ),
        ("files = [ { pattern = \"{timestamp}\", is = \"pg-custom\", source = \"tree\" } ]", "of kind files"),
        ("files = [ { pattern = \"{timestamp}\", is = \"pg-custom\", source = \"tee\" } ]", "Did you mean `tree`?"),
        ("timestamp = \"day\"\nfiles = [ { pattern = \"{timestamp}\", is = \"other\" } ]", "does not name a day"),
        (
            "files = [ { pattern = \"{timestamp}\", is = \"other\", encryption = { kind = \"openssl-enc\" } } ]",
            "no `password`",
        ),
        (
            "files = [ { pattern = \"{timestamp}\", is = \"other\", encryption = { kind = \"openssl-enc\", digest = \"sha257\", password = \"x\" } } ]",
            "sha257",
        ),
        ("files = [ { pattern = \"{timestamp}\", is = \"tar\", members = [ { prefix = \"a\" } ] } ]", "just one of"),
        ("tiemzone = \"UTC\"\nfiles = [ { pattern = \"{timestamp}\", is = \"other\" } ]", "Did you mean `timezone`?"),
        ("regoin = \"x\"\nfiles = [ { pattern = \"{timestamp}\", is = \"other\" } ]", "Did you mean `region`?"),
        ("limit_upload = \"1MiB\"\nfiles = [ { pattern = \"{timestamp}\", is = \"other\" } ]", "never written"),
        (
            "checksums = { manifest = \"X\", format = \"name\" }\nfiles = [ { pattern = \"{timestamp}\", is = \"other\" } ]",
            "checksums.format",
        ),
    ] {
        relayout(&w, layout);
        w.run(&["list", "--foreign"]).code(3).says(&[says]);
    }
}

#[test]
fn an_rdb_is_read_key_by_key_and_a_flipped_byte_is_found() {
    let w = files("files = [ { pattern = \"redis-{timestamp}.rdb.gz\", is = \"rdb\" } ]");
    let name = "redis-20260104_020000.rdb";
    script(
        &w,
        &format!(
            "redis-server --port 0 --unixsocket $PWD/s --dir $PWD --dbfilename {name} --save '' --daemonize yes > /dev/null; \
             for i in 1 2 3 4 5; do redis-cli -s $PWD/s ping > /dev/null 2>&1 && break; sleep 0.3; done; \
             for i in $(seq 20); do redis-cli -s $PWD/s set key$i $(head -c 300 /dev/urandom | base64 -w0) > /dev/null; done; \
             redis-cli -s $PWD/s save > /dev/null; redis-cli -s $PWD/s shutdown nosave; gzip -k {name}"
        ),
    );
    w.run(&["check", "--foreign"]).code(0).says(&["20 keys"]);
    script(&w, &format!("printf 'Z' | dd of={name} bs=1 seek=2000 conv=notrunc status=none; gzip -kf {name}"));
    w.run(&["check", "--foreign"]).code(7).says(&["the RDB is not whole"]);
    script(&w, &format!("truncate -s 1500 {name}; gzip -kf {name}"));
    w.run(&["check", "--foreign"]).code(7).says(&["the RDB is not whole"]);
}
