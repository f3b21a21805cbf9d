//! A server, or a proxy, that agrees to everything and remembers what it was asked.

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

type Seen = Arc<Mutex<Vec<Parts>>>;

pub struct Recorder {
    pub endpoint: String,
    seen: Seen,
    task: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&seen));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Recorder { endpoint, seen, task }
    }

    /// The heads of all requests since the last call.
    pub fn take(&self) -> Vec<Parts> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// A header as text; empty when it was not sent.
pub fn header<'a>(parts: &'a Parts, name: &str) -> &'a str {
    parts.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

async fn serve(State(seen): State<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let _ = to_bytes(body, 64 << 20).await;
    seen.lock().unwrap().push(parts);
    [("etag", "\"0\"")].into_response()
}
