//! Archives of files: their members go where the layout says, and a server's data directory goes nowhere.

use crate::scripts::{Site, files, relayout, script};
use std::fs;

const T: &str = "20260104_020000";

#[test]
fn a_server_in_an_archive_is_refused_by_name_until_it_is_left_out() {
    let s = Site::new();
    let d = s.world.path().display().to_string();
    fs::create_dir_all(s.world.at("srv/media")).unwrap();
    fs::write(s.world.at("srv/media/a.pdf"), "new").unwrap();
    s.script(&format!(
        "pg_dump -Fc erp > db_{T}.dump; mkdir -p ../t/db/global ../t/db/base/1 ../t/static; echo 15 > ../t/db/PG_VERSION; echo x > ../t/db/global/pg_control; \
         echo old > ../t/static/a.pdf; ln -s a.pdf ../t/static/b.pdf; tar czf storage_{T}.tar.gz -C ../t ."
    ));
    let site = |members: &str| {
        s.configure(
            &format!("files = [ {{ pattern = \"db_{{timestamp}}.dump\", is = \"pg-custom\", source = \"db\" }}, {{ pattern = \"storage_{{timestamp}}.tar.gz\", is = \"tar\", source = \"media\", members = [ {members} {{ prefix = \"static\", path = \"{d}/srv/media\" }} ] }} ]"),
            &format!("[sources.media]\nkind = \"files\"\npaths = [\"{d}/srv/media\"]"),
            "\"db\", \"media\"",
        );
    };
    site(&format!("{{ prefix = \"db\", path = \"{d}/srv/media/db\" }},"));
    s.world.run(&["check", "--foreign"]).code(10).says(&[
        "the data directory of a PostgreSQL server",
        "PG_VERSION and global/pg_control",
        "prefix = \"db\", ignore = true",
    ]);
    let before = s.erp();
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(10).says(&["data directory"]);
    assert_eq!((s.erp(), fs::read_to_string(s.world.at("srv/media/a.pdf")).unwrap()), (before.clone(), "new".into()));
    // Left out by name, both come back together.
    site("{ prefix = \"db\", ignore = true },");
    s.world.run(&["check", "--foreign"]).code(0).says(&["1 file"]);
    s.spoil();
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    assert_eq!(s.erp(), before);
    assert_eq!(fs::read_to_string(s.world.at("srv/media/a.pdf")).unwrap(), "old\n");
    assert_eq!(fs::read_link(s.world.at("srv/media/b.pdf")).unwrap().to_str(), Some("a.pdf"));
    // And go back together.
    s.world.run(&["rollback", "--yes"]).code(0);
    assert_eq!(fs::read_to_string(s.world.at("srv/media/a.pdf")).unwrap(), "new");
}

#[test]
fn an_archive_rooted_at_the_machine_gives_the_paths_of_its_source() {
    let w = files("files = [ { pattern = \"config_{timestamp}.tar.gz\", is = \"tar\", source = \"tree\" } ]");
    w.file("conf.d/app.conf", "old");
    w.file("deep/er/x", "x");
    fs::create_dir(w.at("elsewhere")).unwrap();
    fs::write(w.at("elsewhere/y"), "y").unwrap();
    script(&w, &format!("tar czf config_{T}.tar.gz {} {} 2>/dev/null", w.at("tree"), w.at("elsewhere")));
    w.file("conf.d/app.conf", "new");
    w.file("conf.d/later.conf", "later");
    let ran = w.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    ran.says(&["belong to no source and are left out"]);
    assert_eq!(fs::read_to_string(w.at("tree/conf.d/app.conf")).unwrap(), "old");
    assert!(!w.path().join("tree/conf.d/later.conf").exists());
    w.run(&["rollback", "--yes"]).code(0);
    // One file of it, to somewhere else.
    let file = w.at("tree/conf.d/app.conf");
    w.run(&["restore", "--foreign", "old", "latest", "--path", &file, "--to", &w.at("out")]).code(0);
    assert_eq!(fs::read_to_string(format!("{}{file}", w.at("out"))).unwrap(), "old");
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    assert!(!w.path().join("state/foreign").exists());
}

#[test]
fn an_archive_that_is_cut_within_a_whole_gzip_is_passed_over_for_the_one_before() {
    let w = files("files = [ { pattern = \"config_{timestamp}.tar.gz\", is = \"tar\", source = \"tree\" } ]");
    let text = "old ".repeat(50_000);
    w.file("large", &text);
    let tree = w.at("tree");
    script(
        &w,
        &format!(
            "tar cf ../all.tar {tree} 2>/dev/null; gzip < ../all.tar > config_20260103_020000.tar.gz; \
             head -c 100000 ../all.tar | gzip > config_{T}.tar.gz; rm ../all.tar"
        ),
    );
    w.file("large", "new");
    w.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(7).says(&["cut short"]);
    assert_eq!(fs::read_to_string(w.at("tree/large")).unwrap(), "new");
    w.run(&["restore", "--foreign", "old", "latest", "--yes", "--fallback", "1"]).code(0);
    assert_eq!(fs::read_to_string(w.at("tree/large")).unwrap(), text);
}

#[test]
fn a_zip_is_read_where_it_lies() {
    let zip = |entry: &str| {
        format!("files = [ {{ pattern = \"{{timestamp}}.zip\", is = \"fixture\", compression = \"zip\"{entry} }} ]")
    };
    let w = files(&zip(", entry = \"database_backup.json\""));
    script(
        &w,
        &format!(
            "mkdir media; echo pdf > media/a.pdf; echo '[{{\"model\": \"a.b\", \"pk\": 1}}, {{\"model\": \"a.b\", \"pk\": 2}}]' > database_backup.json; echo '{{}}' > metadata.json; \
         zip -qr {T}.zip database_backup.json metadata.json media; rm -r media *.json"
        ),
    );
    w.run(&["check", "--foreign"]).code(0).says(&["2 objects"]);
    relayout(&w, &zip(""));
    w.run(&["check", "--foreign"]).code(3).says(&["which one is meant is not said", "database_backup.json"]);
    relayout(&w, &zip(", entry = \"database.json\""));
    w.run(&["check", "--foreign"]).code(7).says(&["the ZIP holds no database.json"]);
    // The same file is also an archive of media.
    let tree = w.at("tree");
    relayout(
        &w,
        &format!(
            "files = [ {{ pattern = \"{{timestamp}}.zip\", is = \"tar\", compression = \"zip\", members = [ {{ prefix = \"media\", source = \"tree\", path = \"{tree}\" }} ] }} ]"
        ),
    );
    w.file("a.pdf", "new");
    w.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    assert_eq!(fs::read_to_string(w.at("tree/a.pdf")).unwrap(), "pdf\n");
    script(&w, &format!("truncate -s -40 {T}.zip"));
    w.run(&["check", "--foreign"]).code(7).says(&["the ZIP is cut short or damaged"]);
}
