//! A small web application with sessions, forms that are guarded as Django's are, an API with tokens, and pages that
//! misbehave.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Who may log in.
pub const PASSWORD: &str = "p&ss=w+rd hunter2";
const CSRF: &str = "csrf-cookie-0123456789";
/// Masked, as Django masks it: not what the cookie holds.
const FIELD: &str = "masked+csrf/token=";
pub const SESSION: &str = "session-0123456789abcdef";
pub const TOKEN: &str = "token-fedcba9876543210";

/// What the application saw and does.
#[derive(Default)]
pub struct Seen {
    /// Requests to pages that count them.
    pub asked: AtomicU32,
    /// Logins that were tried.
    pub logins: AtomicU32,
    /// The last `Host` header.
    pub host: Mutex<String>,
}

pub struct App {
    pub url: String,
    pub seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl App {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let router = Router::new()
            .route("/", get(dashboard))
            .route("/accounts/login/", get(form).post(log_in))
            .route("/locked/login/", get(form).post(|| async { StatusCode::TOO_MANY_REQUESTS }))
            .route("/api/login/", post(api_login))
            .route("/api/me", get(api_me))
            .route(
                "/api/v1/health/",
                get(|| async {
                    json("{\"status\":\"healthy\",\"checks\":[{\"name\":\"database\",\"ok\":true,\"ms\":3}]}")
                }),
            )
            .route(
                "/unwell",
                get(|| async {
                    (StatusCode::INTERNAL_SERVER_ERROR, json("{\"status\":\"unhealthy\",\"database\":\"down\"}"))
                }),
            )
            .route("/flaps", get(flaps))
            .route(
                "/old",
                get(|| async {
                    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, "/api/v1/health/?token=hunter2")])
                }),
            )
            .route("/round", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/round")]) }))
            .route("/never", get(std::future::pending::<String>))
            .route("/endless", get(endless))
            .route("/huge", get(|| async { Body::from_stream(pieces(10)) }))
            .route("/host", get(host))
            .route("/echo", post(|headers: HeaderMap, body: String| async move { format!("{headers:?} {body}") }))
            .with_state(seen.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        App { url, seen, task }
    }

    pub fn logins(&self) -> u32 {
        self.seen.logins.load(Ordering::Relaxed)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn json(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get(header::COOKIE)?.to_str().ok()?;
    let value = all.split("; ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned)
}

async fn dashboard(headers: HeaderMap) -> Response {
    match cookie(&headers, "sessionid").as_deref() {
        Some(SESSION) => format!("<h1>Documents</h1> <a href=/logout>Log out</a> {SESSION}").into_response(),
        _ => (StatusCode::FOUND, [(header::LOCATION, "/accounts/login/?next=/")]).into_response(),
    }
}

fn page(message: &str) -> Response {
    let page = format!(
        "<!-- <input name=\"csrfmiddlewaretoken\" value=\"old\"> --><p>{message}</p><form method=\"post\">\
         <input type=\"hidden\" name=\"csrfmiddlewaretoken\" value=\"masked+csrf/token&#x3D;\">\
         <input name=\"username\"><input type=\"password\" name=\"password\"></form>"
    );
    ([(header::SET_COOKIE, format!("csrftoken={CSRF}; Path=/; SameSite=Lax"))], page).into_response()
}

async fn form() -> Response {
    page("Please log in")
}

/// Fields of a form. %-escapes are undone, plus signs are spaces.
fn field(body: &str, name: &str) -> String {
    let value = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    backstay::sources::url::decode(&value.replace('+', " ")).unwrap_or_default()
}

async fn log_in(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: String) -> Response {
    seen.logins.fetch_add(1, Ordering::Relaxed);
    let token = field(&body, "csrfmiddlewaretoken");
    let guarded = cookie(&headers, "csrftoken").as_deref() == Some(CSRF) && [FIELD, CSRF].contains(&token.as_str());
    if !guarded || !headers.contains_key(header::REFERER) {
        return (StatusCode::FORBIDDEN, "CSRF verification failed").into_response();
    }
    if field(&body, "username") != "admin" || field(&body, "password") != PASSWORD {
        return page("Please enter a correct username and password");
    }
    let cookie = format!("sessionid={SESSION}; HttpOnly; Path=/; Secure");
    (StatusCode::FOUND, [(header::SET_COOKIE, cookie), (header::LOCATION, "/".to_owned())]).into_response()
}

async fn api_login(State(seen): State<Arc<Seen>>, body: Bytes) -> Response {
    seen.logins.fetch_add(1, Ordering::Relaxed);
    let sent: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    if sent["username"] == "admin" && sent["password"] == PASSWORD {
        return format!("{{\"access\":\"{TOKEN}\",\"user\":{{\"id\":7}}}}").into_response();
    }
    (StatusCode::UNAUTHORIZED, format!("{{\"detail\":\"no account for {}\"}}", sent["password"])).into_response()
}

async fn api_me(headers: HeaderMap) -> Response {
    let sent = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let basic = format!("Basic {}", openssl::base64::encode_block(format!("admin:{PASSWORD}").as_bytes()));
    let key = headers.get("x-api-key").and_then(|v| v.to_str().ok()) == Some(TOKEN);
    if key || sent == format!("Bearer {TOKEN}") || sent == basic {
        return json("{\"user\":{\"name\":\"admin\",\"roles\":[\"staff\",\"root\"]}}").into_response();
    }
    (StatusCode::UNAUTHORIZED, format!("who is {sent:?}?")).into_response()
}

async fn flaps(State(seen): State<Arc<Seen>>) -> Response {
    match seen.asked.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => (StatusCode::BAD_GATEWAY, "starting").into_response(),
        _ => "up".into_response(),
    }
}

fn pieces(mebibytes: usize) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures::stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 1 << 20]))).take(mebibytes)
}

/// Headers and a first piece, and then a little more for ever.
async fn endless() -> Body {
    Body::from_stream(futures::stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, std::io::Error>(Bytes::from("more "))
    }))
}

async fn host(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    seen.host.lock().unwrap().clone_from(&host);
    host
}
