//! `config/examples/edms-pretest.toml`: the application's own backups, a ZIP with a fixture and media in a directory that nobody
//! has mounted. Looked at without being restored, restored into a database beside the live one, and only then for real.

use crate::edms::{Deployment, Edms};
use crate::examples::configure;
use crate::{reconfigure, script, shipped, took, world};
use std::fs;

const SERVER: Deployment = Deployment { major: 18, superuser: "edms" };
const OLD: &str = "20260101_130029";

fn host(edms: &Edms) {
    let w = &edms.world;
    fs::write(w.at("edms.password"), "admin123\n").unwrap();
    configure(
        w,
        "edms-pretest.toml",
        &[
            ("edms_prod_db", edms.db.clone()),
            ("edms_prod_backend", edms.backend.clone()),
            ("edms_prod_celery", edms.worker.clone()),
            ("edms-staging_media", edms.storage.clone()),
            ("/home/lims/edms-staging", w.at("edms-staging")),
            ("localhost:8001", format!("127.0.0.1:{}", edms.port)),
        ],
    );
}

/// What the application's backup service does, in its container.
fn backup(edms: &Edms, time: &str) {
    let service = format!(
        "mkdir -p /app/backups /tmp/b; cd /tmp/b; python /app/manage.py dumpdata --natural-foreign -o database_backup.json
         echo '{{\"backup_type\": \"FULL\", \"include_files\": true, \"created_at\": \"{time}\"}}' > metadata.json
         cp -r /app/storage media; zip -qr /app/backups/{time}.zip .; rm -r /tmp/b"
    );
    edms.boxes.stage.docker(&["exec", &edms.backend, "sh", "-ec", &service]);
}

/// Puts a changed copy of the backup beside it.
fn change(edms: &Edms, time: &str, how: &str) {
    let (backend, w) = (&edms.backend, &edms.world);
    script(
        w,
        "backups",
        &format!(
            "rm -rf t; mkdir t; docker cp {backend}:/app/backups/{OLD}.zip old.zip; cd t; python3 -m zipfile -e ../old.zip .; {how}
             [ -e ../{time}.zip ] || zip -qr ../{time}.zip .; docker cp ../{time}.zip {backend}:/app/backups/"
        ),
    );
}

/// Everything as the application itself says it.
fn fixtures(edms: &Edms) -> String {
    edms.manage(&["dumpdata", "--natural-foreign"])
}

#[test]
fn a_backup_in_a_container_is_looked_at_without_being_restored() {
    let edms = Edms::filled(&SERVER);
    let w = &edms.world;
    host(&edms);
    backup(&edms, OLD);
    let before = edms.state();
    // The name has the time of the server; people in Singapore see theirs beside it.
    let listed = world::run(w.command(&["list", "--foreign"]).env("TZ", "Asia/Singapore")).code(0);
    listed.says(&[OLD, "2026-01-01 21:00", "complete", "gone when it is made anew", &edms.backend]);
    let all = w.run(&["--json", "list", "--foreign"]).code(0).json();
    assert_eq!(all[0]["time"], "2026-01-01T13:00:29Z");
    assert!(all[0]["remarks"][0].as_str().unwrap().contains("on no volume"), "{all}");
    // All models, with their numbers, and the files.
    let checked = w.run(&["check", "--foreign"]).code(0);
    checked.says(&[
        "users.user 7",
        "documents.document 40",
        "workflows.workflow 40",
        "audit.audittrail 3,000",
        "40 files",
    ]);
    assert_eq!((edms.state(), edms.databases()), (before, vec!["edms".to_owned()]));
    // What cannot be looked at is told by name.
    reconfigure(w, "file:///app/backups", "file:///app/backup");
    w.run(&["list", "--foreign"]).code(4).says(&[&edms.backend, "has no directory", "docker exec"]);
    reconfigure(w, "file:///app/backup\"", "s3://bucket\"");
    w.run(&["list", "--foreign"]).code(3).says(&["`container` is set", "s3://bucket"]);
    host(&edms);
    edms.boxes.stage.docker(&["stop", &edms.backend]);
    w.run(&["list", "--foreign"]).code(11).says(&[&edms.backend, "does not run", "docker start"]);
}

#[test]
fn it_is_restored_beside_the_live_database_first_and_then_for_real() {
    let edms = Edms::filled(&SERVER);
    let w = &edms.world;
    host(&edms);
    backup(&edms, OLD);
    let (counted, good, files) = (edms.counts("edms"), fixtures(&edms), edms.files());
    edms.shell("from apps.users.models import User\nUser.objects.create_user('late', 'late@edms.local', 'x')");
    edms.sql("edms", "UPDATE documents_document SET title = 'wrong'; DELETE FROM audit_audittrail WHERE id > 100");
    script(w, "backups", &format!("rm {}/documents/000*", edms.place()));
    let now = edms.state();

    // First of all what is in the container alone is taken to where it survives it, and then what is live.
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.run(&["import", "application", "--all"]).code(0).says(&["imported 20260101_130029"]);
    let imported = w.run(&["--json", "list"]).code(0).json()[0].clone();
    assert_eq!(imported["started"], "2026-01-01T13:00:29Z");
    let fresh = w.backup();
    crate::figure(&format!(
        "shipped: {} by the import, {} by the first backup of our own",
        shipped(&imported),
        shipped(&fresh)
    ));
    assert!(shipped(&fresh) * 4 < shipped(&imported), "{} after {}", shipped(&fresh), shipped(&imported));

    // Into a database of its own, which can be looked at for as long as one likes.
    let beside = ["restore", "--foreign", "application", OLD, "--source", "fixtures", "--to", "edms_test_restore"];
    w.run(&beside).code(0);
    assert_eq!(edms.databases(), ["edms", "edms_test_restore"]);
    assert_eq!((edms.counts("edms_test_restore"), edms.state()), (counted.clone(), now.clone()));
    w.run(&beside).code(10).says(&["database edms_test_restore exists"]);
    edms.sql("edms", "DROP DATABASE edms_test_restore");

    // For real.
    let told = w.run(&["--json", "restore", "--foreign", "application", OLD, "--yes"]).code(0).json();
    took(w, "EDMS, fixtures");
    assert_eq!((edms.counts("edms"), fixtures(&edms), edms.files()), (counted, good, files));
    assert!(edms.runs());
    let line = |what: &str| told["verified"].as_array().unwrap().iter().find(|l| l["what"] == what).cloned().unwrap();
    let users = line("edms: table public.users_user");
    assert_eq!((users["expected"].as_str(), users["found"].as_str()), (Some("7 rows"), Some("7 rows")));
    // New objects get keys that are free.
    edms.shell("from apps.users.models import User\nUser.objects.create_user('new', 'new@edms.local', 'x')");
    // And back to what was there before, which no restore has thrown away.
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(edms.state(), now);

    // The container is made anew, as with each new version: what was in it is gone, and what was imported is not.
    edms.boxes.stage.docker(&["rm", "-f", &edms.backend]);
    w.run(&["list", "--foreign"]).code(11).says(&[&edms.backend]);
    assert_eq!(w.run(&["--json", "list"]).code(0).json().as_array().unwrap().len(), 2);
    w.run(&["check", "--read-data"]).code(0);
}

#[test]
fn its_known_troubles_are_told_before_anything_is_touched() {
    let edms = Edms::filled(&SERVER);
    let w = &edms.world;
    host(&edms);
    backup(&edms, OLD);
    let before = edms.state();
    let refused = |time: &str, code: i32, says: &[&str]| {
        w.run(&["restore", "--foreign", "application", time, "--yes"]).code(code).says(says);
        assert_eq!((edms.state(), edms.databases()), (before.clone(), vec!["edms".to_owned()]), "{time}");
        assert!(edms.runs(), "{time}");
    };
    let json = |body: &str| {
        format!(
            "python3 -c 'import json; f = \"database_backup.json\"; o = json.load(open(f)); {body}; json.dump(o, open(f, \"w\"))'"
        )
    };
    // Objects that others refer to are missing.
    change(&edms, "20260102_010000", &json("o = [x for x in o if x[\"model\"] != \"documents.document\"]"));
    refused("20260102_010000", 12, &["`load`", "workflows_workflow"]);
    // One object twice: it would be there once.
    change(&edms, "20260102_020000", &json("o += [x for x in o if x[\"model\"] == \"workflows.workflow\"][:1]"));
    refused("20260102_020000", 12, &["workflows.workflow: the fixture has 41 objects, and 40 are there"]);
    // The file was written half way, or is no fixture.
    change(&edms, "20260102_030000", "truncate -s -300 database_backup.json");
    refused("20260102_030000", 7, &["the fixture is cut short", "20260102_030000.zip"]);
    change(&edms, "20260102_040000", "echo '{\"a\": 1}' > database_backup.json");
    refused("20260102_040000", 7, &["no list of objects of Django"]);
    // A ZIP that ends too early, one without metadata, one without a fixture.
    change(&edms, "20260102_050000", "head -c 100000 ../old.zip > ../20260102_050000.zip");
    refused("20260102_050000", 7, &["the ZIP is cut short or damaged"]);
    change(&edms, "20260102_060000", "rm database_backup.json");
    refused("20260102_060000", 7, &["the ZIP holds no database_backup.json"]);
    change(&edms, "20260102_070000", "rm metadata.json");
    w.run(&["check", "--foreign", "application", "20260102_07"]).code(7).says(&["the ZIP holds no metadata.json"]);
    // Media were left out: documents would be there without their files.
    change(&edms, "20260102_080000", "rm -r media");
    w.run(&["check", "--foreign"]).code(7).says(&["20260102_080000", "no member lies in \"media\""]);
    refused("20260102_080000", 7, &["nothing of what is to be restored"]);
    // Unless that is what is wanted: then the database alone comes back.
    reconfigure(
        w,
        "compression = \"zip\", source = \"media\"",
        "compression = \"zip\", optional = true, source = \"media\"",
    );
    w.run(&["check", "--foreign"]).code(0).says(&["it has nothing in \"media\""]);
    let planned = w.run(&["restore", "--foreign", "application", "--dry-run"]).code(0);
    assert!(!planned.out.contains("stage volume"), "{planned:?}");
    planned.says(&["stage database edms of source fixtures", "may be without it"]);
    assert_eq!(edms.state(), before);
}
