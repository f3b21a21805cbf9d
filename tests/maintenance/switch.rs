//! On and off: what clients get, what stays as it is, and that nobody sees a 502.

use super::app::Load;
use super::requests::Request;
use super::web::{Web, at, until};
use crate::port::free_port;
use backstay::host::nginx::probe::Answer;
use backstay::recovery::maintenance::snippet::{self, State};
use std::time::{Duration, Instant};

fn on(id: &str) -> State {
    State::On(id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_and_scheme_gets_the_page_and_then_the_application_again() {
    let web = Web::installed().await;
    let maintenance = web.maintenance();
    assert_eq!(web.shown(), None);
    let switched = maintenance.on("first").await.unwrap();
    assert_eq!((switched.before, switched.state, switched.reloaded), (State::Absent, on("first"), true));
    // `_`, two names over http, one over https.
    assert_eq!(switched.asked.len(), 4);
    assert!(switched.asked.iter().all(|a| a.answer == Answer::Page("first".into())), "{:?}", switched.asked);
    assert_eq!(web.shown().as_deref(), Some("first"));
    // Once more: nothing is done, and its name stays.
    let again = maintenance.on("second").await.unwrap();
    assert_eq!((again.state, again.reloaded), (on("first"), false));
    let off = maintenance.off(State::Off, None).await.unwrap();
    assert_eq!((off.before, off.state, off.reloaded), (on("first"), State::Off, true));
    assert_eq!(web.shown(), None);
    assert_eq!(web.shop_gets("/x").body, "app /x");
    assert!(!maintenance.off(State::Off, None).await.unwrap().reloaded);
    // Nothing but the file is left.
    let left: Vec<_> = std::fs::read_dir(web.state().join("nginx")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["maintenance.conf"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_fits_the_client_and_no_location_gets_in_between() {
    let web = Web::installed().await;
    web.maintenance().on("x").await.unwrap();
    let browser = || Request::get("/").header("Accept: text/html,application/xhtml+xml,*/*;q=0.8");
    let page = web.ask(browser());
    assert_eq!(
        (page.status, page.header("Retry-After"), page.header("Cache-Control")),
        (503, Some("120"), Some("no-store"))
    );
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.body.starts_with("<!doctype html>") && page.body.trim_end().ends_with("</html>"), "{}", page.body);
    let json = web.ask(Request::get("/api").header("Accept: application/json"));
    let value: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!((json.status, &value["retry_after"], &value["error"]), (503, &120.into(), &"maintenance".into()));
    assert_eq!(json.header("Content-Type"), Some("application/json"));
    assert!(web.shop_gets("/").body.starts_with("Under maintenance."));
    // Error pages of the server and of the location, passwords, denials, our own locations from outside.
    for path in ["/own", "/private", "/denied", "/status/503", "/.backstay-maintenance/page", "/a?b=$c"] {
        let reply = web.shop_gets(path);
        assert_eq!((reply.status, reply.maintenance()), (503, Some("x")), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        // More than `client_max_body_size` of the server.
        let reply = web.ask(Request::get("/upload").method(method).body(vec![b'x'; 100_000]));
        assert_eq!((reply.status, reply.maintenance()), (503, Some("x")), "{method}");
    }
    let head = web.ask(browser().method("HEAD"));
    assert_eq!((head.status, head.maintenance(), head.body.as_str()), (503, Some("x"), ""));
    // Without it those would be what they are.
    web.maintenance().off(State::Off, None).await.unwrap();
    assert_eq!(web.shop_gets("/status/503").body, "own");
    assert_eq!(web.shop_gets("/private").status, 401);
    assert_eq!(web.shop_gets("/.backstay-maintenance/page").body, "app /.backstay-maintenance/page");
    assert_eq!(web.ask(Request::get("/upload").method("POST").body(vec![b'x'; 100_000])).status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_paths_are_let_through_and_no_way_leads_around_them() {
    let web = Web::installed().await;
    let maintenance = web.with(|s| s.allow = vec!["/healthz".into(), "/a.b/".into()]);
    maintenance.on("x").await.unwrap();
    // It is redirected within nginx, by `try_files`.
    assert_eq!(web.shop_gets("/healthz").body, "app /live");
    assert_eq!(web.shop_gets("/healthz?full=%2e%2e").body, "app /live");
    assert_eq!(web.shop_gets("/a.b/c").body, "app /a.b/c");
    for path in [
        "/",
        "/live",
        "/x/healthz",
        "/axb/c",
        "/healthz/../orders",
        "/healthz/%2e%2e/orders",
        "/healthz/..%2forders",
        "//healthz",
        "/healthz//..//orders",
        "/a.b/../orders",
        "/?/healthz",
    ] {
        let reply = web.shop_gets(path);
        assert_eq!((reply.status, reply.maintenance()), (503, Some("x")), "{path}: {}", reply.body);
    }
    // ACME by default, and nothing at all when nothing is listed.
    maintenance.off(State::Off, None).await.unwrap();
    web.maintenance().on("y").await.unwrap();
    assert_eq!(web.shop_gets("/.well-known/acme-challenge/token").status, 200);
    assert_eq!(web.shop_gets("/healthz").status, 503);
    web.maintenance().off(State::Off, None).await.unwrap();
    web.with(|s| s.allow.clear()).on("z").await.unwrap();
    assert_eq!(web.shop_gets("/.well-known/acme-challenge/token").status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_operators_is_shown_byte_for_byte() {
    let web = Web::installed().await;
    let text =
        format!("<!doctype html><p>\"quoted\" \\n \\ ; {{ }} # costs $5 ü</p>\n{}", "<i>long</i>\n".repeat(3000));
    web.write("page.html", &text);
    let maintenance = web.with(|s| {
        s.page = Some(web.path().join("page.html"));
        s.retry_after = 7;
    });
    maintenance.on("x").await.unwrap();
    let page = web.ask(Request::get("/").header("Accept: text/html"));
    assert_eq!((page.header("Retry-After"), page.body.as_str()), (Some("7"), text.replace('$', "&#36;").as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_all_the_time_sees_no_502_when_the_application_stops_after_the_drain() {
    let mut web = Web::installed().await;
    let maintenance = web.maintenance();
    let load = Load::start(at(web.http), "shop.example.com", &["/", "/slow/3", "/slow/1"]);
    let (address, slow) = (at(web.http), Request::get("/slow/40").host("shop.example.com"));
    let slow = std::thread::spawn(move || slow.send(address).unwrap());
    until("the slow request has begun", || web.app.running().contains(&"/slow/40".into()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    maintenance.on("x").await.unwrap();
    let is_served = |app: &super::app::App| app.running().contains(&"/slow/40".into());
    assert!(is_served(&web.app), "switching took four seconds: the drain has nothing to wait for");
    assert_eq!(maintenance.drain().await.unwrap().left, 0);
    assert!(!is_served(&web.app), "the slow request was not waited for");
    assert_eq!(web.app.running(), Vec::<String>::new());
    assert_eq!(slow.join().unwrap().body, "app /slow/40");
    web.app.stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    web.app.start_again();
    maintenance.off(State::Absent, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut seen = load.end();
    assert!(seen.len() > 100 && seen.iter().all(|s| [200, 503].contains(s)), "{seen:?}");
    assert_eq!((seen[0], seen[seen.len() - 1]), (200, 200));
    seen.dedup();
    // Those that were slow may end between others.
    assert!(seen.contains(&503));
    // Without the drain it would not be so: the test can fail.
    web.app.stop();
    assert_eq!(web.shop_gets("/").status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_takes_too_long_is_told() {
    let web = Web::installed().await;
    let maintenance = web.with(|s| s.drain = Duration::from_secs(1));
    let (address, slow) = (at(web.http), Request::get("/slow/80").host("shop.example.com"));
    let slow = std::thread::spawn(move || slow.send(address).unwrap());
    until("the slow request has begun", || web.app.running().contains(&"/slow/80".into()));
    maintenance.on("x").await.unwrap();
    let started = Instant::now();
    assert_eq!(maintenance.drain().await.unwrap().left, 1);
    // Far less than the request takes.
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(maintenance.status().await.unwrap().leaving, 1);
    assert_eq!(slow.join().unwrap().status, 200);
    until("the old worker has ended", || web.workers().len() == 2);
    assert_eq!(maintenance.status().await.unwrap().leaving, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_between_file_and_reload_is_gone_on_with() {
    let web = Web::installed().await;
    let maintenance = web.maintenance();
    // As a crash leaves it: the file says on, nginx does not know.
    snippet::put(&web.snippet(), &on("crashed"), maintenance.settings()).unwrap();
    assert_eq!(web.shown(), None);
    let status = maintenance.status().await.unwrap();
    assert!(!status.is_consistent() && status.state == Some(on("crashed")));
    let switched = maintenance.on("next").await.unwrap();
    assert_eq!((switched.state, switched.reloaded), (on("crashed"), true));
    assert_eq!(web.shown().as_deref(), Some("crashed"));
    // The other way round.
    for state in [State::Off, State::Absent] {
        maintenance.on("x").await.unwrap();
        snippet::put(&web.snippet(), &state, maintenance.settings()).unwrap();
        assert!(web.shown().is_some() && !maintenance.status().await.unwrap().is_consistent());
        assert!(maintenance.off(state.clone(), None).await.unwrap().reloaded);
        assert_eq!((web.shown(), snippet::state_of(&web.snippet()).unwrap()), (None, state));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_limit_what_it_is_about() {
    let web = Web::installed().await;
    let other = free_port();
    web.add(
        "other",
        &format!("server {{ listen 127.0.0.1:{other}; server_name other.example.org; return 200 other; }}"),
    );
    // All are meant, and this one lacks the include.
    assert!(web.maintenance().on("x").await.unwrap_err().to_string().contains("other.example.org"));
    let maintenance = web.with(|s| s.names = vec!["shop.example.com".into(), "secure.example.com".into()]);
    let switched = maintenance.on("x").await.unwrap();
    assert_eq!(switched.asked.len(), 2);
    assert_eq!(Request::get("/").host("other.example.org").send(at(other)).unwrap().body, "other");
    assert_eq!(web.shop_gets("/").status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_places_are_asked_as_they_want_to_be() {
    let web = Web::installed().await;
    let (proxied, v6, ports) = (free_port(), free_port(), free_port());
    let include = web.maintenance().include_line().await.unwrap();
    web.add(
        "odd",
        &format!(
            "server {{ {include}\n listen 127.0.0.1:{proxied} proxy_protocol; listen [::]:{v6} ipv6only=on; listen unix:{d}/web.sock; return 200 odd; }}\n\
             server {{ {include}\n listen {ports}; server_name .dot.example.com ~^re(?<n>.*)$; return 200 odd; }}\n\
             server {{ {include}\n listen 127.0.0.1:{https} ssl default_server; ssl_reject_handshake on; server_name _; }}\n\
             server {{ {include}\n listen 127.0.0.1:{https} ssl; server_name mutual.example.com; ssl_verify_client on; ssl_client_certificate {d}/cert.pem; ssl_certificate {d}/cert.pem; ssl_certificate_key {d}/key.pem; }}\n",
            d = web.path().display(),
            https = web.https,
        ),
    );
    let switched = web.maintenance().on("x").await.unwrap();
    let asked: Vec<&str> = switched.asked.iter().map(|a| a.target.as_str()).collect();
    for expected in [
        format!("http://(no name) at 127.0.0.1:{proxied}"),
        format!("http://(no name) at [::1]:{v6}"),
        format!("http://(no name) at {}/web.sock", web.path().display()),
        format!("http://dot.example.com at 127.0.0.1:{ports}"),
    ] {
        assert!(asked.contains(&expected.as_str()), "{expected}: {asked:?}");
    }
    let told = switched.warnings.join("\n");
    assert!(told.contains("ends every TLS handshake") && told.contains("asks clients for a certificate"), "{told}");
    // At another place all are asked there, and this one does not have the page.
    web.maintenance().off(State::Off, None).await.unwrap();
    let elsewhere = web.with(|s| s.probe = Some(format!("http://127.0.0.1:{}", web.app.port())));
    let e = elsewhere.on("y").await.unwrap_err().to_string();
    assert!(e.contains("not shown everywhere") && e.contains("200, not the maintenance page"), "{e}");
    assert_eq!((web.shown(), snippet::state_of(&web.snippet()).unwrap()), (None, State::Off));
}
