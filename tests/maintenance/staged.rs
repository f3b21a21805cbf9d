//! A configuration of nginx that is itself restored.

use super::web::Web;
use backstay::recovery::maintenance::snippet::State;
use std::path::{Path, PathBuf};
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The tree as it is now, beside the live one: first without the include, then with.
fn staged(web: &Web, name: &str) -> (PathBuf, PathBuf) {
    let (live, tree) = (web.path().join("sites-available"), web.path().join(name));
    copy(&live, &tree);
    (live, tree)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_blocks_of_a_backup_from_before_the_install_are_named_and_can_be_completed() {
    let web = Web::plain();
    let old = staged(&web, "staged-old");
    let maintenance = web.maintenance();
    maintenance.install().await.unwrap();
    web.reload();
    let new = staged(&web, "staged-new");
    let live = web.read("sites-available/shop");
    assert!(maintenance.would_lack(std::slice::from_ref(&new)).await.unwrap().is_empty());
    let lacking = maintenance.would_lack(std::slice::from_ref(&old)).await.unwrap();
    // Only what is in the tree; the block over TLS is elsewhere and has it.
    assert_eq!(lacking.len(), 2, "{lacking:?}");
    assert!(lacking[1].contains("shop.example.com") && lacking[1].contains("sites-enabled/shop:3"), "{lacking:?}");
    assert_eq!(maintenance.include_in_staged(std::slice::from_ref(&old)).await.unwrap(), lacking);
    assert!(maintenance.would_lack(std::slice::from_ref(&old)).await.unwrap().is_empty());
    assert_eq!(web.read("staged-old/shop"), live);
    assert_eq!(web.read("sites-available/shop"), live, "the live tree was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_restored_is_applied_behind_the_page_and_what_is_broken_is_refused() {
    let web = Web::installed().await;
    let maintenance = web.maintenance();
    maintenance.on("x").await.unwrap();
    let (live, tree) = staged(&web, "staged");
    let shop =
        web.read("staged/shop").replace("location /own { return 200 own; }", "location /restored { return 200 new; }");
    web.write("staged/shop", &shop);
    // The exchange, as the restore does it.
    let exchange = || {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &live, rustix::fs::CWD, &tree, flags).unwrap();
    };
    exchange();
    maintenance.apply().await.unwrap();
    assert_eq!(web.shown().as_deref(), Some("x"));
    maintenance.off(State::Absent, None).await.unwrap();
    assert_eq!(web.shop_gets("/restored").body, "new");
    // Taken back: the same call.
    exchange();
    maintenance.apply().await.unwrap();
    assert_eq!(web.shop_gets("/own").body, "own");
    web.write("sites-available/shop", "server { nonsense; }\n");
    let e = maintenance.apply().await.unwrap_err().to_string();
    assert!(e.contains("unknown directive \"nonsense\""), "{e}");
    assert_eq!(web.shop_gets("/own").body, "own");
}
