//! Status, body, JSON, retries, deadlines.

use crate::app::App;
use crate::port::free_port;
use crate::{bad, brief, good, run};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[tokio::test]
async fn status_texts_and_json_are_compared_and_what_differs_is_told() {
    let app = App::start().await;
    let health = format!("http = \"{}/api/v1/health/\"", app.url);
    good(&run(&health).await);
    let json = "json = { status = \"healthy\", \"checks.0.ok\" = true, \"/checks/0/ms\" = 3 }";
    good(
        &run(&format!("{health}\ncontains = [\"healthy\", \"database\"]\nnot_contains = \"Traceback\"\n{json}")).await,
    );

    let unwell = |more: &str| format!("http = \"{}/unwell\"\n{more}", app.url);
    let outcome = brief(&unwell("json = { status = \"healthy\" }")).await;
    bad(
        &outcome,
        &["check http 127.0.0.1", "status 200", "500 Internal Server Error", "status = \"unhealthy\" in JSON"],
    );
    bad(&outcome, &["body: {\"status\":\"unhealthy\",\"database\":\"down\"}", "after 1 try in"]);
    good(&run(&unwell("status = [500, 503]")).await);
    bad(
        &brief(&unwell("status = 500\ncontains = \"all is well\"\nnot_contains = \"down\"")).await,
        &["no text \"all is well\"", "the text \"down\""],
    );
    bad(&brief(&format!("{health}\njson = {{ \"checks.1.ok\" = true }}")).await, &["nothing at checks.1.ok in JSON"]);
    bad(&brief(&format!("http = \"{}/host\"\njson = {{ a = 1 }}", app.url)).await, &["no JSON"]);
    bad(&brief(&format!("http = \"{}/nowhere\"", app.url)).await, &["404 Not Found", "an empty body"]);
}

#[tokio::test]
async fn an_application_that_comes_up_late_is_waited_for() {
    let app = App::start().await;
    let outcome = run(&format!("http = \"{}/flaps\"\ncontains = \"up\"", app.url)).await;
    good(&outcome);
    assert_eq!((outcome.tries, app.seen.asked.load(Ordering::Relaxed)), (3, 3));
    // Nobody listens at first.
    let port = free_port();
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        axum::serve(listener, axum::Router::new().route("/", axum::routing::get(|| async { "up" }))).await.unwrap();
    });
    let outcome = run(&format!("http = \"http://127.0.0.1:{port}/\"")).await;
    late.abort();
    good(&outcome);
    assert!(outcome.tries > 1, "{outcome:?}");
}

#[tokio::test]
async fn the_deadline_holds_whatever_the_server_does() {
    let app = App::start().await;
    bad(&brief(&format!("http = \"{}/huge\"", app.url)).await, &["larger than 8 MiB"]);
    for page in ["never", "endless"] {
        let started = Instant::now();
        let mut check = crate::check(&format!("http = \"{}/{page}\"\ntimeout = \"300ms\"", app.url));
        check.within = Duration::from_secs(1);
        let outcome = check.run(&crate::now()).await;
        let took = started.elapsed();
        bad(&outcome, &["no answer within 0.3 s"]);
        assert!(took < Duration::from_millis(1700), "{page}: {took:?}");
        assert!(outcome.tries > 1, "{outcome:?}");
    }
    // Closed, and silent from the first byte on.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut check = crate::check(&format!("http = \"http://{}/\"\ntimeout = \"200ms\"", silent.local_addr().unwrap()));
    check.within = Duration::from_millis(700);
    bad(&check.run(&crate::now()).await, &["no answer within"]);
    let address = silent.local_addr().unwrap();
    drop(silent);
    bad(&brief(&format!("http = \"http://{address}/\"")).await, &["Connection refused"]);
}

#[tokio::test]
async fn redirections_are_told_or_followed() {
    let app = App::start().await;
    let keys = format!("http = \"{}/old\"", app.url);
    let outcome = brief(&keys).await;
    bad(&outcome, &["301 Moved Permanently, to http://127.0.0.1", "/api/v1/health/"]);
    // What is behind the question mark may be a secret.
    assert!(!outcome.found.contains("hunter2"), "{outcome:?}");
    good(&run(&format!("{keys}\nredirects = true\ncontains = \"healthy\"")).await);
    good(&run(&format!("{keys}\nstatus = 301")).await);
    let round = brief(&format!("http = \"{}/round\"\nredirects = true", app.url)).await;
    bad(&round, &["more than 10 redirections"]);
}

#[tokio::test]
async fn a_name_can_be_asked_at_this_machine() {
    let app = App::start().await;
    let port = app.url.rsplit_once(':').unwrap().1;
    good(&run(&format!("http = \"{}/host\"\nhost = \"erp.acme.test\"\ncontains = \"erp.acme.test\"", app.url)).await);
    let keys = format!("http = \"http://erp.acme.test:{port}/host\"\nresolve = \"127.0.0.1\"");
    good(&run(&format!("{keys}\ncontains = \"erp.acme.test:{port}\"")).await);
}

#[tokio::test]
async fn methods_headers_and_bodies_are_sent() {
    let app = App::start().await;
    let keys = format!(
        "http = \"{}/echo\"\nbody = \"ping\"\nheaders = {{ X-Test = \"yes\" }}\ncontains = [\"ping\", \"x-test\", \"yes\", \"backstay/\"]",
        app.url
    );
    good(&run(&keys).await);
    bad(&brief(&format!("{keys}\nmethod = \"PUT\"")).await, &["405 Method Not Allowed"]);
}
