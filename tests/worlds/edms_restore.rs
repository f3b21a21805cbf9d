//! `config/examples/edms-restore.toml`: dump, archive of two volumes, archive of the project, as a nightly script wrote them. Corruption
//! and deletion on the host that is there, and a fresh host; the five troubles of that restore by hand.

use crate::edms::{Deployment, Edms};
use crate::examples::configure;
use crate::{reconfigure, script, shipped, took};
use std::fs;
use std::path::Path;

const SERVER: Deployment = Deployment { major: 15, superuser: "edms" };
const FIRST: &str = "20260103_020000";
const SECOND: &str = "20260104_020000";

/// Its host, with the example as its configuration.
fn host(edms: &Edms) {
    let w = &edms.world;
    fs::write(w.at("edms.password"), "admin123\n").unwrap();
    configure(
        w,
        "edms-restore.toml",
        &[
            ("edms_prod_db", edms.db.clone()),
            ("edms_prod_backend", edms.backend.clone()),
            ("edms_prod_celery", edms.worker.clone()),
            ("edms-staging_static_files", edms.storage.clone()),
            ("/home/lims/backups", w.at("backups")),
            ("/home/lims/edms-staging", w.at("edms-staging")),
            ("localhost:8001", format!("127.0.0.1:{}", edms.port)),
            ("localhost:3001", format!("127.0.0.1:{}", edms.front)),
        ],
    );
}

/// What the nightly script does: a dump through the container, both volumes by a container of their own, the project.
fn backup(edms: &Edms, time: &str) {
    let (w, db, image) = (&edms.world, &edms.db, edms.boxes.image());
    let (data, storage, backups) = (&edms.data, &edms.storage, w.at("backups"));
    // The data directory changes while it is copied, which tar says by its exit status.
    script(
        w,
        "edms-staging",
        &format!(
            "docker exec {db} pg_dump -U edms -Fc edms > {backups}/db_{time}.dump
             docker run --rm --network none -v /usr:/usr:ro -v {data}:/source/db -v {storage}:/source/static -v {backups}:/backup {image} \
                 tar -czf /backup/storage_{time}.tar.gz -C /source . || [ $? = 1 ]
             tar -czf {backups}/config_{time}.tar.gz docker-compose.prod.yml .env"
        ),
    );
}

#[test]
fn corruption_and_deletion_are_taken_back_and_history_moves_along() {
    let edms = Edms::filled(&SERVER);
    let w = &edms.world;
    host(&edms);
    // Enough that a few pieces more or less, which the vault's key decides, do not count.
    edms.sql(
        "edms",
        "INSERT INTO audit_audittrail (user_id, what) \
         SELECT (SELECT min(id) FROM users_user), md5(g::text) || md5((g * 7)::text) FROM generate_series(1, 150000) g",
    );
    backup(&edms, FIRST);
    edms.shell("from apps.users.models import User\nUser.objects.create_user('late', 'late@edms.local', 'x')");
    fs::write(format!("{}/documents/late.pdf", edms.place()), "late").unwrap();
    backup(&edms, SECOND);
    // One night the disk was full.
    script(w, "backups", "cp db_20260104_020000.dump db_20260105_020000.dump");
    let (good, counts) = (edms.state(), edms.counts("edms"));

    w.run(&["list", "--foreign"]).code(7).says(&[FIRST, SECOND, "missing: storage_20260105_020000.tar.gz"]);
    let checked = w.run(&["check", "--foreign"]).code(0);
    checked.says(&[SECOND, "database edms", "11 tables", "41 files", "2 files"]);

    // The application runs on, and its data is wrong.
    edms.sql(
        "edms",
        "DELETE FROM workflows_workflow; UPDATE users_user SET password = 'nobody knows' WHERE username = 'admin'",
    );
    edms.sql("edms", "DROP TABLE audit_audittrail");
    script(
        w,
        "edms-staging",
        &format!("for f in {}/documents/00*; do head -c 20000 /dev/zero > $f; done; echo X=1 >> .env", edms.place()),
    );
    let wrong = edms.state();
    // What would be done, told before anything is.
    w.run(&["restore", "--foreign", "nightly", SECOND, "--dry-run"]).code(0).says(&[
        "stops",
        "login",
        "stage database edms",
    ]);
    assert_eq!(edms.state(), wrong);
    let told = w.run(&["--json", "restore", "--foreign", "nightly", SECOND, "--yes"]).code(0).json();
    took(w, "EDMS, data corruption");
    assert_eq!(edms.state(), good);
    assert_eq!(edms.counts("edms"), counts);
    assert!(edms.runs());
    assert_eq!(fs::read_to_string(w.at("edms-staging/.env")).unwrap(), "POSTGRES_DB=edms\n");
    // Numbers of rows that nobody had to count by hand.
    let line = |what: &str| told["verified"].as_array().unwrap().iter().find(|l| l["what"] == what).cloned().unwrap();
    assert_eq!(line("edms: table public.users_user")["found"], "8 rows");
    assert_eq!(line("edms: table public.audit_audittrail")["found"], "153,000 rows");
    // The server's own files were never touched: it runs on.
    assert_eq!(edms.databases().len(), 2, "{:?}", edms.databases());

    // It goes back as well, and then the older one is taken, with everything left to the connecting role.
    w.run(&["rollback", "--yes"]).code(13).says(&["login failed"]);
    assert_eq!(edms.state(), good);
    w.run(&["rollback", "--yes", "--keep-on-failed-check"]).code(0).says(&["check login failed"]);
    assert_eq!(edms.state(), wrong);
    w.run(&["restore", "--foreign", "nightly", FIRST, "--yes", "--no-owner", "--no-privileges"]).code(0);
    assert_eq!(edms.sql("edms", "SELECT count(*) FROM users_user WHERE username = 'late'"), "0");
    assert!(!Path::new(&format!("{}/documents/late.pdf", edms.place())).exists());

    // Somebody deletes documents; nothing but those comes back.
    w.run(&["restore", "--foreign", "nightly", SECOND, "--yes"]).code(0);
    script(w, "backups", &format!("rm {}/documents/000*", edms.place()));
    w.run(&["restore", "--foreign", "nightly", SECOND, "--source", "storage", "--yes"]).code(0);
    took(w, "EDMS, deleted files");
    assert_eq!(edms.state(), good);
    // Or a copy beside, to pick from.
    let out = w.at("found");
    w.run(&["restore", "--foreign", "nightly", SECOND, "--source", "storage", "--to", &out]).code(0);
    assert_eq!(fs::read_dir(format!("{out}/documents")).unwrap().count(), 41);

    // History moves along, and the first nightly backup ships next to nothing.
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.run(&["import", "nightly", "--all"]).code(8).says(&[
        "imported 20260103_020000",
        "imported 20260104_020000",
        "missing",
    ]);
    let all = w.run(&["--json", "list"]).code(0).json();
    assert_eq!((all[0]["started"].as_str(), all.as_array().unwrap().len()), (Some("2026-01-03T02:00:00Z"), 2));
    let nightly = w.backup();
    crate::figure(&format!(
        "shipped: {} by the first import, {} by the first nightly backup",
        shipped(&all[0]),
        shipped(&nightly)
    ));
    assert!(shipped(&nightly) * 4 < shipped(&all[0]), "{} after {}", shipped(&nightly), shipped(&all[0]));
    w.run(&["check", "--read-data"]).code(0);
}

#[test]
fn on_a_fresh_host_the_application_is_deployed_and_comes_back_with_one_command() {
    let lost = Edms::filled(&SERVER);
    backup(&lost, SECOND);
    let (good, backups) = (lost.state(), lost.world.at("backups"));
    // Somebody has deployed the application on a new machine, on a server whose superuser is another one.
    let edms = Edms::deploy(&Deployment { superuser: "postgres", ..SERVER });
    let w = &edms.world;
    host(&edms);
    reconfigure(w, "postgresql://edms@/edms", "postgresql://postgres@/edms");
    script(w, "backups", &format!("cp {backups}/* ."));
    drop(lost);
    let empty = (edms.files(), edms.databases());
    // The role that owns everything is not there. That is told before anything is loaded.
    let refused = w.run(&["restore", "--foreign", "nightly", "--yes"]).code(10);
    refused.says(&[
        "the server lacks roles that own objects of database edms: edms",
        "CREATE ROLE \"edms\" LOGIN PASSWORD",
    ]);
    assert_eq!((edms.files(), edms.databases()), empty);
    edms.sql("postgres", "CREATE ROLE edms LOGIN");
    edms.boxes.stage.docker(&["start", &edms.backend]);
    w.run(&["restore", "--foreign", "nightly", "--yes"]).code(0);
    took(w, "EDMS, fresh host");
    assert_eq!(edms.state(), good);
    assert_eq!(edms.sql("edms", "SELECT tableowner FROM pg_tables WHERE tablename = 'users_user'"), "edms");
    assert!(edms.get(edms.port, "/health/").ends_with(" 200") && edms.runs());
}

#[test]
fn the_troubles_of_the_restore_by_hand_do_not_arise() {
    let edms = Edms::filled(&SERVER);
    let w = &edms.world;
    host(&edms);
    backup(&edms, SECOND);
    edms.sql("edms", "DELETE FROM workflows_workflow WHERE id % 2 = 0");
    let before = edms.state();
    let as_it_was = |why: &str| {
        assert_eq!(edms.state(), before, "{why}");
        edms.until_healthy();
        assert!(edms.runs(), "{why}");
    };
    // Copied files of the running server, which would be unpacked under it, are refused by name.
    let ignored = "{ prefix = \"db\", ignore = true },";
    reconfigure(w, ignored, "");
    reconfigure(w, "{ prefix = \"static\", volume", "{ prefix = \".\", volume");
    w.run(&["check", "--foreign"]).code(10).says(&["the data directory of a PostgreSQL server", "ignore = true"]);
    w.run(&["restore", "--foreign", "nightly", "--yes"]).code(10);
    as_it_was("a data directory in the archive");
    host(&edms);

    // Foreign keys: a dump that is half there is told as such, and is not loaded over what is there.
    script(w, "backups", "mkdir ../aside; cp db_* ../aside; truncate -s -2000 db_20260104_020000.dump");
    w.run(&["restore", "--foreign", "nightly", "--yes"])
        .code(7)
        .says(&["the archive of pg_dump is cut short", "db_20260104"]);
    as_it_was("a dump that is cut");
    script(
        w,
        "backups",
        "cp ../aside/* .; cp storage_* ../aside; head -c 5000 ../aside/storage_* > storage_20260104_020000.tar.gz",
    );
    w.run(&["restore", "--foreign", "nightly", "--yes"])
        .code(7)
        .says(&["the gzip data is cut short", "storage_20260104"]);
    as_it_was("an archive that is cut");
    // An archive of something else altogether: told before anything is touched.
    script(w, "backups", "mkdir -p ../u/other; tar czf storage_20260104_020000.tar.gz -C ../u .");
    w.run(&["check", "--foreign"]).code(7).says(&["nothing of what is to be restored", "static"]);
    w.run(&["restore", "--foreign", "nightly", "--yes"]).code(7).says(&["nothing of what is to be restored"]);
    as_it_was("an archive of something else");
    assert_eq!(edms.databases(), ["edms"]);

    // Documents without their files: an archive that lacks some. The check sees it, and everything goes back.
    let lacking = "mkdir ../t; tar xzf ../aside/storage_*.gz -C ../t ./static; rm ../t/static/documents/000*; tar czf storage_20260104_020000.tar.gz -C ../t .";
    script(w, "backups", lacking);
    reconfigure(w, "expect = 0", "expect = 0\nwithin = \"20s\"");
    w.run(&["restore", "--foreign", "nightly", "--yes"]).code(13).says(&["documents without their file", "10"]);
    as_it_was("files that are missing");

    // The application does not come up on what was restored: its own words are told, and everything goes back.
    script(
        w,
        "backups",
        "cp ../aside/storage_*.gz .; rm -r ../t; mkdir ../t; tar xzf storage_*.gz -C ../t ./static; touch ../t/static/.broken; tar czf storage_20260104_020000.tar.gz -C ../t .",
    );
    let ran = w.run(&["restore", "--foreign", "nightly", "--yes"]);
    assert_ne!(ran.code, 0);
    ran.says(&["cannot open the store"]);
    as_it_was("an application that does not start");

    // With the right archive it is one command; owners and modes of the files are those of the backup.
    script(w, "backups", "cp ../aside/storage_*.gz .");
    script(w, "backups", &format!("chown -R 12345 {}/documents; chmod -R go-rwx {0}/documents", edms.place()));
    w.run(&["restore", "--foreign", "nightly", "--yes"]).code(0);
    assert_eq!(edms.files().lines().filter(|l| l.ends_with("|f|640|0|0")).count(), 40);
    assert_eq!(edms.sql("edms", "SELECT count(*) FROM workflows_workflow"), "40");
}
