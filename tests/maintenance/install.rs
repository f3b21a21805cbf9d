//! The include: written into every server block, taken out without a trace.

use super::web::Web;
use crate::port::free_port;
use backstay::error::Kind;
use backstay::recovery::maintenance::snippet::State;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

/// Every file of the configuration.
fn all(web: &Web) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for dir in ["", "sites-available", "sites-enabled"] {
        for entry in std::fs::read_dir(web.path().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_file() && !name.ends_with(".log") && !name.ends_with(".pid") {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_written_once_and_taken_out_without_a_trace() {
    let web = Web::plain();
    web.write(
        "sites-enabled/odd",
        &format!(
            "server{{listen 127.0.0.1:{};server_name a;}}\r\nserver\r\n{{ # two\r\n  server_name b;\r\n}}",
            free_port()
        ),
    );
    std::fs::set_permissions(web.at("sites-available/shop"), std::fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::chown(web.at("sites-available/shop"), Some(rustix::fs::Uid::from_raw(7)), None).unwrap();
    let (before, maintenance) = (all(&web), web.maintenance());
    let changed = maintenance.install().await.unwrap();
    let counts: Vec<usize> = changed.files.values().copied().collect();
    assert_eq!(counts, [2, 1, 2], "{changed:?}");
    let shop = web.read("sites-available/shop");
    let line = format!("    {} # Backstay: the maintenance page while a restore runs\n    listen", changed.include);
    assert!(shop.contains(&line), "{shop}");
    assert!(web.read("sites-enabled/secure").starts_with(&format!("server {{\n\t{} #", changed.include)));
    assert!(web.read("sites-enabled/odd").starts_with(&format!("server{{ {}listen", changed.include)));
    // The link is still one, owner and mode are those of before, and copies are where no pattern finds them.
    let meta = std::fs::metadata(web.at("sites-available/shop")).unwrap();
    assert!(std::fs::symlink_metadata(web.at("sites-enabled/shop")).unwrap().is_symlink());
    assert_eq!((meta.uid(), meta.mode() & 0o777), (7, 0o640));
    let copies = changed.copies.unwrap();
    let copy = copies.join(web.at("sites-enabled/shop").trim_start_matches('/'));
    assert_eq!(std::fs::read(copy).unwrap(), before[&web.path().join("sites-available/shop")]);
    assert!(!copies.starts_with(web.state().join("nginx")));
    // Again: nothing.
    let with = all(&web);
    assert!(maintenance.install().await.unwrap().files.is_empty());
    assert_eq!(all(&web), with);
    web.reload();
    maintenance.on("x").await.unwrap();
    let e = maintenance.uninstall().await.unwrap_err();
    assert!(e.kind == Kind::Refused && e.to_string().contains("maintenance is on"), "{e}");
    maintenance.off(State::Off, None).await.unwrap();
    assert_eq!(maintenance.uninstall().await.unwrap().files.len(), 3);
    assert_eq!(all(&web), before);
    assert!(maintenance.uninstall().await.unwrap().files.is_empty() && !web.snippet().exists());
    web.nginx(&["-t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nginx_does_not_accept_is_put_back() {
    let web = Web::plain();
    let before = all(&web);
    // Something else in the directory that is included.
    std::fs::create_dir_all(web.state().join("nginx")).unwrap();
    std::fs::write(web.state().join("nginx/other.conf"), "nonsense;\n").unwrap();
    let e = web.maintenance().install().await.unwrap_err();
    assert!(e.kind == Kind::Restore && e.to_string().contains("unknown directive \"nonsense\""), "{e}");
    assert_eq!(all(&web), before);
    // Nothing is written while nginx does not accept what there is.
    std::fs::remove_file(web.state().join("nginx/other.conf")).unwrap();
    web.write("sites-enabled/broken", "server { listen nowhere:99999; }\n");
    let e = web.maintenance().install().await.unwrap_err();
    assert!(e.to_string().contains("refuses its configuration") && e.to_string().contains("broken"), "{e}");
    std::fs::remove_file(web.at("sites-enabled/broken")).unwrap();
    assert_eq!(all(&web), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_somebody_wrote_count_and_one_file_by_two_names_is_written_once() {
    let web = Web::plain();
    let port = free_port();
    let line = web.maintenance().include_line().await.unwrap();
    web.write("common", &format!("{line}\n"));
    web.write(
        "sites-enabled/by-hand",
        &format!("server {{ include common; listen 127.0.0.1:{port}; server_name hand; }}\n"),
    );
    web.write("sites-available/twice", &format!("server {{\n  listen 127.0.0.1:{port};\n  server_name twice;\n}}\n"));
    for name in ["one", "two"] {
        symlink(web.at("sites-available/twice"), web.at(&format!("sites-enabled/{name}"))).unwrap();
    }
    let changed = web.maintenance().install().await.unwrap();
    assert!(!changed.files.contains_key(&web.at("sites-enabled/by-hand")), "{changed:?}");
    assert_eq!(web.read("sites-available/twice").matches("include").count(), 1);
    web.reload();
    web.maintenance().on("x").await.unwrap();
    // Twice in one block: nginx would refuse the page, so it is said before.
    web.maintenance().off(State::Off, None).await.unwrap();
    web.write("sites-enabled/by-hand", &format!("server {{ include common; {line}\n listen 127.0.0.1:{port}; }}\n"));
    let e = web.maintenance().on("x").await.unwrap_err();
    assert!(e.kind == Kind::Refused && e.to_string().contains("more than once"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_names_that_are_meant_are_changed() {
    let web = Web::plain();
    let before = web.read("sites-available/shop");
    let maintenance = web.with(|s| s.names = vec!["secure.example.com".into()]);
    assert_eq!(maintenance.install().await.unwrap().files.len(), 1);
    assert_eq!(web.read("sites-available/shop"), before);
}
