//! Where Google's credentials come from, in this process: the metadata server of a machine, the exchange of tokens
//! that workload identity uses, and a service account with its key.

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Verifier;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// The header that comes with a token of the metadata server.
pub const OF_THE_MACHINE: &str = "Bearer token-of-the-machine";
/// The header that comes with an exchanged token.
pub const EXCHANGED: &str = "Bearer exchanged-token";

const ACCOUNT: &str = "backup@acme.iam.gserviceaccount.com";

type Bodies = Arc<Mutex<Vec<String>>>;

/// Metadata server and token exchange.
pub struct Identity {
    /// Host and port.
    pub address: String,
    exchanges: Bodies,
    task: JoinHandle<()>,
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Identity {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let exchanges = Bodies::default();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&exchanges));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Identity { address, exchanges, task }
    }

    /// Writes a file of workload identity whose token of the other provider is in `token`.
    pub fn write_external_account(&self, file: &Path, token: &Path) {
        let text = json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/acme",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("http://{}/v1/token", self.address),
            "credential_source": { "file": token },
        });
        std::fs::write(file, text.to_string()).unwrap();
    }

    /// What was sent to be exchanged.
    pub fn exchanges(&self) -> Vec<String> {
        self.exchanges.lock().unwrap().clone()
    }
}

async fn serve(State(exchanges): State<Bodies>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let of_metadata = parts.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
    match parts.uri.path() {
        "/computeMetadata/v1/universe/universe-domain" if of_metadata => "googleapis.com".into_response(),
        "/computeMetadata/v1/instance/service-accounts/default/token" if of_metadata => {
            Json(json!({ "access_token": token(OF_THE_MACHINE), "expires_in": 3600, "token_type": "Bearer" }))
                .into_response()
        }
        "/v1/token" => {
            exchanges.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
            Json(json!({
                "access_token": token(EXCHANGED), "expires_in": 3600, "token_type": "Bearer",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }))
            .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn token(header: &str) -> &str {
    header.strip_prefix("Bearer ").unwrap()
}

/// A service account: it signs its own tokens, so no server gives them out.
#[derive(Clone)]
pub struct ServiceAccount {
    key: PKey<Private>,
}

impl ServiceAccount {
    /// With a key of its own.
    pub fn make() -> Self {
        ServiceAccount { key: PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap() }
    }

    /// Writes its key file, as the console gives it out.
    pub fn write_key(&self, file: &Path) {
        let key = String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        let text = json!({
            "type": "service_account", "project_id": "acme", "private_key_id": "1", "private_key": key,
            "client_email": ACCOUNT, "token_uri": "https://oauth2.googleapis.com/token",
        });
        std::fs::write(file, text.to_string()).unwrap();
    }

    /// Whether an `Authorization` header has a token that this account signed, for itself and for now.
    pub fn signed(&self, header: &str) -> bool {
        let Some((signed, signature)) = header.strip_prefix("Bearer ").and_then(|token| token.rsplit_once('.')) else {
            return false;
        };
        let Some((_, claims)) = signed.split_once('.') else { return false };
        let claims: Value = serde_json::from_slice(&decoded(claims)).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let mut verifier = Verifier::new(MessageDigest::sha256(), &self.key).unwrap();
        verifier.update(signed.as_bytes()).unwrap();
        verifier.verify(&decoded(signature)).unwrap_or(false)
            && claims["iss"] == ACCOUNT
            && claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
            && claims["exp"].as_i64().is_some_and(|end| end > now)
    }
}

/// The bytes of base64 in the alphabet for URLs, without padding.
fn decoded(text: &str) -> Vec<u8> {
    let mut text = text.replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    openssl::base64::decode_block(&text).unwrap()
}
