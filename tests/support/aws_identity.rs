//! Where Amazon's credentials come from, in this process: the agent of a container, the metadata of a machine, and the
//! token service, which takes the token of another provider.

use super::S3Access;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tokio::task::JoinHandle;

/// What a container must show its agent.
pub const CONTAINER_TOKEN: &str = "of-this-container";

/// What the token service takes.
pub const WEB_TOKEN: &str = "token-of-a-cluster";

const SESSION: &str = "a-session-of-the-machine";

pub struct AwsIdentity {
    /// Without a slash at the end. The agent of the container is at `/container`, the token service at the root.
    pub endpoint: String,
    task: JoinHandle<()>,
}

impl Drop for AwsIdentity {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AwsIdentity {
    /// Gives out the credentials for this server.
    pub async fn start(access: &S3Access) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(access.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        AwsIdentity { endpoint, task }
    }
}

async fn serve(State(access): State<S3Access>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8_lossy(&body);
    let sent = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let credentials = || {
        Json(json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
            "AccessKeyId": access.key, "SecretAccessKey": access.secret, "Token": "a-token",
            "Expiration": "2099-01-01T00:00:00Z",
        }))
        .into_response()
    };
    let of_session = sent("x-aws-ec2-metadata-token") == SESSION;
    match parts.uri.path() {
        "/container" if sent("authorization") == CONTAINER_TOKEN => credentials(),
        "/latest/api/token" => {
            let life = sent("x-aws-ec2-metadata-token-ttl-seconds").to_owned();
            ([("x-aws-ec2-metadata-token-ttl-seconds", life)], SESSION).into_response()
        }
        "/latest/meta-data/iam/security-credentials/" if of_session => "role-1".into_response(),
        "/latest/meta-data/iam/security-credentials/role-1" if of_session => credentials(),
        "/" if body.contains("AssumeRoleWithWebIdentity") && body.contains(WEB_TOKEN) => {
            let xml = format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>\
                 <SecretAccessKey>{}</SecretAccessKey><SessionToken>a-token</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>\
                 <Arn>arn:aws:sts::123456789012:assumed-role/backup/session</Arn>\
                 <AssumedRoleId>AROATEST:session</AssumedRoleId></AssumedRoleUser>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
                access.key, access.secret
            );
            ([("content-type", "text/xml")], xml).into_response()
        }
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}
