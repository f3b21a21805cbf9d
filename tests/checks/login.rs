//! Logging in before the check, by form and for a token.

use crate::app::{App, PASSWORD, SESSION, TOKEN};
use crate::{Sources, bad, check_in, good, now};
use backstay::recovery::checks::Outcome;
use std::time::Duration;

/// Enough for some tries.
const SHORT: Duration = Duration::from_secs(3);

async fn run(keys: &str) -> Outcome {
    run_for(keys, Duration::from_secs(20)).await
}

/// Runs a check whose secrets lie in files.
async fn run_for(keys: &str, within: Duration) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("password", PASSWORD), ("wrong", "wrong-hunter3"), ("token", TOKEN)] {
        std::fs::write(dir.path().join(file), format!("{text}\n")).unwrap();
    }
    let mut check = check_in(dir.path(), keys, &Sources::new());
    check.within = within;
    let outcome = check.run(&now()).await;
    let said = format!("{outcome:?} {}", outcome.error());
    for secret in [PASSWORD, "hunter", TOKEN, SESSION, "p%26ss"] {
        assert!(!said.contains(secret), "{secret} is told: {said}");
    }
    assert!(!format!("{check:?}").contains("hunter"), "{check:?}");
    outcome
}

fn form(app: &App, more: &str) -> String {
    let url = &app.url;
    format!(
        "http = \"{url}/\"\ncontains = [\"Documents\", \"Log out\"]\n\
         login = {{ url = \"{url}/accounts/login/\", form = {{ username = \"admin\" }}, {more} }}"
    )
}

#[tokio::test]
async fn a_form_with_a_hidden_field_and_a_cookie_lets_in() {
    let app = App::start().await;
    good(&run(&form(&app, "password_file = \"password\", csrf = \"csrfmiddlewaretoken\"")).await);
    let more = "password_file = \"password\", csrf = \"csrfmiddlewaretoken\", cookie = \"sessionid\", status = 302";
    good(&run(&form(&app, more)).await);
    // The same token from the cookie, in the field that the framework reads.
    let more = "password_file = \"password\", csrf = \"csrftoken\", csrf_field = \"csrfmiddlewaretoken\", csrf_header = \"X-CSRFToken\"";
    good(&run(&form(&app, more)).await);
    assert_eq!(app.logins(), 3);
}

#[tokio::test]
async fn a_refused_login_is_told_and_not_tried_again() {
    let app = App::start().await;
    let csrf = "csrf = \"csrfmiddlewaretoken\"";
    // Status 200, and the form once more: what a wrong password looks like.
    let outcome = run(&form(&app, &format!("password_file = \"wrong\", {csrf}"))).await;
    bad(&outcome, &["the login failed", "200 OK", "asks for a password again", "a login that succeeds"]);
    assert_eq!((outcome.tries, app.logins()), (1, 1));
    for (more, says) in [
        ("password_file = \"password\"".to_owned(), "403 Forbidden"),
        (format!("password_file = \"wrong\", {csrf}, cookie = \"sessionid\""), "no cookie sessionid"),
        (format!("password_file = \"wrong\", {csrf}, status = [302, 303]"), "200 OK instead of 302 or 303"),
    ] {
        let outcome = run(&form(&app, &more)).await;
        bad(&outcome, &[says]);
        assert_eq!(outcome.tries, 1, "{more}");
    }
    let locked = form(&app, &format!("password_file = \"password\", {csrf}")).replace("accounts/login", "locked/login");
    bad(&run(&locked).await, &["429 Too Many Requests"]);
}

#[tokio::test]
async fn an_application_that_is_not_up_yet_is_asked_again() {
    let app = App::start().await;
    let url = &app.url;
    for (page, says) in [("unwell", "the page of the login answers 500"), ("host", "no field and no cookie csrf")] {
        let keys =
            format!("http = \"{url}/\"\nlogin = {{ url = \"{url}/{page}\", form = {{ a = \"b\" }}, csrf = \"csrf\" }}");
        let outcome = run_for(&keys, SHORT).await;
        bad(&outcome, &[says]);
        assert!(outcome.tries > 1, "{outcome:?}");
    }
    assert_eq!(app.logins(), 0);
}

#[tokio::test]
async fn a_token_is_fetched_and_used() {
    let app = App::start().await;
    let me = format!("http = \"{}/api/me\"\njson = {{ \"user.roles.1\" = \"root\" }}\n", app.url);
    let login = |more: &str| {
        format!("{me}login = {{ url = \"{}/api/login/\", json = {{ username = \"admin\" }}, {more} }}", app.url)
    };
    good(&run(&login("password_file = \"password\", token = \"access\"")).await);
    let key = login("password_file = \"password\", token = \"access\", header = \"X-Api-Key\", scheme = \"\"");
    good(&run(&key).await);
    let outcome = run(&login("password_file = \"wrong\", token = \"access\"")).await;
    bad(&outcome, &["the login failed", "401 Unauthorized", "no account for \"***\""]);
    assert_eq!(outcome.tries, 1);
    // What does hold a token is not told, whatever it looks like.
    let outcome = run(&login("password_file = \"password\", token = \"user.token\"")).await;
    bad(&outcome, &["has no text user.token", "its keys are: access, user"]);
}

#[tokio::test]
async fn tokens_users_and_keys_of_the_configuration_are_sent_and_not_told() {
    let app = App::start().await;
    let me = format!("http = \"{}/api/me\"\n", app.url);
    good(&run(&format!("{me}bearer_file = \"token\"")).await);
    good(&run(&format!("{me}user = \"admin\"\npassword_file = \"password\"")).await);
    good(&run(&format!("{me}secrets_file = {{ X-Api-Key = \"token\" }}")).await);
    // The server repeats what it got.
    let outcome = run_for(&format!("{me}bearer_file = \"wrong\""), SHORT).await;
    bad(&outcome, &["401 Unauthorized", "***"]);
    let echo = format!("http = \"{}/echo\"\nbody = \"x\"\ncontains = \"nothing\"", app.url);
    let outcome = run_for(&format!("{echo}\nsecrets_file = {{ X-Api-Key = \"token\" }}"), SHORT).await;
    bad(&outcome, &["no text \"nothing\""]);
}
