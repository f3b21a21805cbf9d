//! What cannot be switched: said before anything is changed, or put back.

use super::web::Web;
use crate::port::free_port;
use backstay::error::Kind;
use backstay::recovery::maintenance::snippet::{self, State};
use std::net::TcpListener;

fn state(web: &Web) -> State {
    snippet::state_of(&web.snippet()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_block_without_the_include_is_named_with_the_command_that_mends_it() {
    let web = Web::plain();
    for result in [web.maintenance().preflight(&[]).await.map(drop), web.maintenance().on("x").await.map(drop)] {
        let e = result.unwrap_err();
        let text = e.to_string();
        assert_eq!(e.kind, Kind::Refused);
        for word in [
            "shop.example.com *.shop.example.com",
            "sites-enabled/shop:3",
            "secure.example.com",
            "backstay maintenance install",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    assert!(!web.state().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nginx_that_does_not_run_is_told_and_starts_without_the_page_once_it_is_off() {
    let mut web = Web::installed().await;
    web.maintenance().on("x").await.unwrap();
    web.stop();
    let status = web.maintenance().status().await.unwrap();
    assert_eq!((status.down.as_deref(), status.state), (Some("nginx does not run"), Some(State::On("x".into()))));
    for result in [web.maintenance().preflight(&[]).await.map(drop), web.maintenance().on("y").await.map(drop)] {
        let e = result.unwrap_err();
        assert!(e.kind == Kind::Refused && e.to_string().contains("nginx does not run"), "{e}");
    }
    // As after a power cut: it comes up with the page.
    web.start();
    assert_eq!(web.shown().as_deref(), Some("x"));
    web.stop();
    let off = web.maintenance().off(State::Off, None).await.unwrap();
    assert!(!off.reloaded && off.warnings[0].contains("will start without the page"), "{off:?}");
    web.start();
    assert_eq!(web.shown(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_changes_nothing() {
    let web = Web::installed().await;
    web.write("sites-enabled/broken", "server { nonsense; }\n");
    let e = web.maintenance().on("x").await.unwrap_err();
    assert!(e.kind == Kind::Restore && e.to_string().contains("unknown directive \"nonsense\""), "{e}");
    assert_eq!((state(&web), web.shown()), (State::Absent, None));
    // While it is on: it stays on, and the file says what is shown.
    std::fs::remove_file(web.at("sites-enabled/broken")).unwrap();
    web.maintenance().on("x").await.unwrap();
    web.write("sites-enabled/broken", "server { nonsense; }\n");
    assert!(web.maintenance().off(State::Off, None).await.is_err());
    assert_eq!((state(&web), web.shown()), (State::On("x".into()), Some("x".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snippet_that_nginx_refuses_is_put_back() {
    let web = Web::installed().await;
    let include = web.maintenance().include_line().await.unwrap();
    let clash = format!(
        "server {{ {include}\n listen 127.0.0.1:{}; location = /.backstay-maintenance/page {{ return 200; }} }}\n",
        free_port()
    );
    web.add("clash", &clash);
    snippet::put(&web.snippet(), &State::Off, web.maintenance().settings()).unwrap();
    let before = std::fs::read(web.snippet()).unwrap();
    let e = web.maintenance().on("x").await.unwrap_err();
    assert!(e.kind == Kind::Restore && e.to_string().contains("duplicate location"), "{e}");
    assert_eq!((std::fs::read(web.snippet()).unwrap(), web.shown()), (before, None));
    web.nginx(&["-t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_nginx_does_not_carry_out_is_noticed_and_put_back() {
    let web = Web::installed().await;
    // The test of a configuration does not bind its places; a reload does.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let include = web.maintenance().include_line().await.unwrap();
    let port = taken.local_addr().unwrap().port();
    web.write("sites-enabled/taken", &format!("server {{ {include}\n listen 127.0.0.1:{port}; }}\n"));
    web.nginx(&["-t"]);
    let e = web.maintenance().on("x").await.unwrap_err();
    assert!(e.kind == Kind::Restore && e.to_string().contains("did not take up its configuration"), "{e}");
    assert_eq!((state(&web), web.shown()), (State::Absent, None));
    // The place is free now: what it takes up is without the page.
    drop(taken);
    web.reload();
    assert_eq!(web.shown(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_come_out_everywhere_is_taken_back() {
    let web = Web::installed().await;
    // What comes before the include wins.
    let include = web.maintenance().include_line().await.unwrap();
    let port = free_port();
    web.add(
        "before",
        &format!("server {{ listen 127.0.0.1:{port}; server_name rude; return 200 rude;\n {include}\n}}\n"),
    );
    let e = web.maintenance().on("x").await.unwrap_err();
    let text = e.to_string();
    assert!(
        text.contains("not shown everywhere") && text.contains("http://rude") && text.contains("maintenance.names"),
        "{text}"
    );
    assert!(!text.contains("shop.example.com"), "{text}");
    assert_eq!((state(&web), web.shown()), (State::Absent, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_of_a_restore_is_said_by_preflight() {
    let web = Web::installed().await;
    let refused = async |maintenance: backstay::recovery::maintenance::Maintenance, replaced: &[std::path::PathBuf]| {
        let e = maintenance.preflight(replaced).await.unwrap_err();
        assert_eq!(e.kind, Kind::Refused, "{e}");
        e.to_string()
    };
    assert!(web.maintenance().preflight(&[web.path().join("sites-enabled")]).await.unwrap().is_empty());
    let text = refused(web.maintenance(), &[web.state()]).await;
    assert!(text.contains("lies in what is restored") && text.contains("snippet_dir"), "{text}");
    // Whoever takes what nobody has could have this name; without such a block nobody has.
    let nobody = || web.with(|s| s.names = vec!["nobody.example.net".into()]);
    assert!(nobody().preflight(&[]).await.is_ok());
    web.write(
        "sites-available/shop",
        &web.read("sites-available/shop").replace("default_server; server_name _", "; server_name redirect"),
    );
    let text = refused(nobody(), &[]).await;
    assert!(text.contains("no server block has a name") && text.contains("nobody.example.net"), "{text}");
    let text = refused(web.with(|s| s.page = Some("/nowhere/page.html".into())), &[]).await;
    assert!(text.contains("maintenance page cannot be read"), "{text}");
    std::fs::create_dir_all(web.state().join("nginx")).unwrap();
    std::fs::write(web.snippet(), "return 418;\n").unwrap();
    let text = refused(web.maintenance(), &[]).await;
    assert!(text.contains("was not written by Backstay"), "{text}");
    assert!(web.maintenance().on("x").await.unwrap_err().to_string().contains("was not written by Backstay"));
    std::fs::remove_file(web.snippet()).unwrap();
    let text = refused(web.with(|s| s.command = vec!["/nowhere/nginx".into()]), &[]).await;
    assert!(text.contains("cannot be started"), "{text}");
    let text = refused(web.with(|s| s.command = vec!["true".into()]), &[]).await;
    assert!(text.contains("does not tell its configuration"), "{text}");
}
