//! A vault on S3 with credentials that are not in the configuration: each place of the standard chain.

use crate::recover::support::aws_identity::{AwsIdentity, CONTAINER_TOKEN, WEB_TOKEN};
use crate::recover::support::s3_server::S3Server;
use crate::world::{Ran, World, run};
use std::fs;

/// A host whose configuration says where the repository is, and not who we are.
fn world(server: &S3Server) -> World {
    let w = World::bare();
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let a = &server.access;
    let url = format!("url = \"s3://{}/p\"\nendpoint = \"{}\"\npath_style = true", a.bucket, a.endpoint);
    w.write_config(&text.replace(&format!("url = \"file://{}\"", w.at("repo")), &url));
    w
}

/// A command with nothing of Amazon's in its environment but this.
fn with(w: &World, environment: &[(&'static str, String)], args: &[&str]) -> Ran {
    let mut command = w.command(args);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_") && name != "AWS_CA_BUNDLE") {
            command.env_remove(name);
        }
    }
    // Where the profiles of a person are, and the metadata of the machine unless a test has its own.
    command.env("HOME", w.path()).env("AWS_EC2_METADATA_DISABLED", "true").envs(environment.iter().cloned());
    run(&mut command)
}

/// Of the host's own directory a test makes the variables that say who we are.
fn everything_works(server: &S3Server, environment: impl Fn(&World) -> Vec<(&'static str, String)>) {
    let w = world(server);
    let environment = environment(&w);
    // Without it there is nobody, and that is said.
    with(&w, &[], &["init", "--recovery-out", &w.at("recovery.key")])
        .code(6)
        .says(&["does not accept the credentials", "do:"]);
    with(&w, &environment, &["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.file("f", "content");
    with(&w, &environment, &["backup"]).code(0);
    with(&w, &environment, &["check", "--read-data"]).code(0).says(&["1 of 1"]);
    with(&w, &environment, &["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree/f").trim_start_matches('/'));
    assert_eq!(fs::read(restored).unwrap(), b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_default_profile_and_from_a_named_one() {
    let (server, another) = (S3Server::start().await, S3Server::start().await);
    // Both know the same key.
    let a = server.access.clone();
    let profile = format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", a.key, a.secret);
    let other = "[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n";
    everything_works(&server, |w| {
        fs::write(w.path().join("credentials"), format!("[default]\n{profile}")).unwrap();
        vec![("AWS_SHARED_CREDENTIALS_FILE", w.at("credentials"))]
    });
    everything_works(&another, |w| {
        fs::write(w.path().join("credentials"), format!("{other}[backup]\n{profile}")).unwrap();
        fs::write(w.path().join("config"), "[profile backup]\nregion = eu-central-1\n").unwrap();
        vec![
            ("AWS_PROFILE", "backup".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", w.at("credentials")),
            ("AWS_CONFIG_FILE", w.at("config")),
        ]
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_environment() {
    let server = S3Server::start().await;
    let a = server.access.clone();
    everything_works(&server, |_| {
        vec![
            ("AWS_ACCESS_KEY_ID", a.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", a.secret.clone()),
            ("AWS_SESSION_TOKEN", "a-token".to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
        ]
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_agent_of_a_container() {
    let server = S3Server::start().await;
    let agent = AwsIdentity::start(&server.access).await;
    everything_works(&server, |_| {
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/container", agent.endpoint)),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_TOKEN.to_owned()),
        ]
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_metadata_of_a_machine() {
    let server = S3Server::start().await;
    let machine = AwsIdentity::start(&server.access).await;
    everything_works(&server, |_| {
        vec![
            ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.endpoint.clone()),
        ]
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_token_of_another_provider() {
    let server = S3Server::start().await;
    let service = AwsIdentity::start(&server.access).await;
    everything_works(&server, |w| {
        fs::write(w.path().join("token"), WEB_TOKEN).unwrap();
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", w.at("token")),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL_STS", service.endpoint.clone()),
        ]
    });
}
