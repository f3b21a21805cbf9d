//! The HTTP of `serve`: a few paths, GET and HEAD only, nothing from the request in any answer.

use super::super::overview::Overview;
use super::super::samples::samples;
use super::{State, page};
use crate::error::{Error, Kind, Result};
use crate::telemetry::metrics::MEDIA;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// How long somebody may take for the head of a request; also how long an idle connection is kept.
const HEAD: Duration = Duration::from_secs(75);
/// After a failed accept (too many open files, say).
const PAUSE: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Accepts connections for ever.
pub async fn accept(listener: TcpListener, state: Arc<State>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(state.clone(), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD);
            // Who goes away in the middle of an answer is no concern of ours.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let (status, media, body) = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned())
    } else {
        // Files are read, and a page is made: not on the threads that keep everything else going.
        let made = tokio::task::spawn_blocking(move || respond(&state, &path)).await;
        let gone = |_| Err(Error::new(Kind::Internal, "the answer could not be made"));
        made.unwrap_or_else(gone).unwrap_or_else(|e| (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{}\n", e.what)))
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let fixed = [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

fn respond(state: &State, path: &str) -> Result<(StatusCode, &'static str, String)> {
    Ok(match path {
        "/" => (StatusCode::OK, HTML, page::page(&Overview::gather(&state.config))),
        "/metrics" => (StatusCode::OK, MEDIA, samples(&Overview::gather(&state.config)).text()?),
        "/healthz" => (StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" if state.ready.load(Ordering::Relaxed) => (StatusCode::OK, TEXT, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "the repository has not been seen yet\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, TEXT, "there are /, /metrics, /healthz and /readyz\n".to_owned()),
    })
}
