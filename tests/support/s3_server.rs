//! An S3 server in this process (s3s), which checks signatures. Its conditional writes race, so writes take turns.

use super::S3Access;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// What a request meets instead of, or after, its effect.
#[derive(Clone, Copy)]
pub struct Fault {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
    /// Whether the request takes effect before its answer is replaced.
    pub commit: bool,
}

impl Fault {
    /// What a policy that forbids a request answers.
    pub const DENIED: Fault = Fault { status: 403, code: "AccessDenied", message: "Access Denied", commit: false };
    pub const SLOW_DOWN: Fault = Fault { status: 503, code: "SlowDown", message: "Slow down", commit: false };

    fn answer(self) -> http::Response<s3s::Body> {
        let Fault { status, code, message, .. } = self;
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
        http::Response::builder().status(status).body(s3s::Body::from(body)).unwrap()
    }
}

type Faults = Arc<std::sync::Mutex<VecDeque<(http::Method, Fault)>>>;

pub struct S3Server {
    pub access: S3Access,
    faults: Faults,
    append_only: Arc<AtomicBool>,
    task: JoinHandle<()>,
    data: TempDir,
}

impl S3Server {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let access = S3Access {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            region: "us-east-1".into(),
            key: "AKIATEST".into(),
            secret: "a-secret-for-tests".into(),
            bucket: "bucket-1".into(),
        };
        std::fs::create_dir(data.path().join(&access.bucket)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(data.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(access.key.clone(), access.secret.clone()));
        let service = builder.build();
        let turns = Arc::new(Mutex::new(()));
        let faults = Faults::default();
        let injected = Arc::clone(&faults);
        let append_only = Arc::new(AtomicBool::new(false));
        let policy = Arc::clone(&append_only);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, turns, faults) = (service.clone(), Arc::clone(&turns), Arc::clone(&injected));
                let policy = Arc::clone(&policy);
                let handler = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (service, turns) = (service.clone(), Arc::clone(&turns));
                    let denied = policy.load(Ordering::Relaxed) && !appends(&request);
                    let fault = if denied { Some(Fault::DENIED) } else { next_fault(&faults, request.method()) };
                    async move {
                        let _turn = match *request.method() {
                            http::Method::PUT => Some(turns.lock().await),
                            _ => None,
                        };
                        match fault {
                            Some(fault) if !fault.commit => Ok(fault.answer()),
                            Some(fault) => {
                                hyper::service::Service::call(&service, request).await.map(|_| fault.answer())
                            }
                            None => hyper::service::Service::call(&service, request).await,
                        }
                    }
                });
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), handler).await;
                });
            }
        });
        S3Server { access, faults, append_only, task, data }
    }

    /// From now on the server allows what `config/policies/s3-append-only.json` allows: reading, listing, and writing
    /// under the condition that nothing is there.
    pub fn make_append_only(&self) {
        self.append_only.store(true, Ordering::Relaxed);
    }

    /// Everything that it keeps, as paths below its root.
    pub fn keys(&self) -> Vec<std::path::PathBuf> {
        let (mut todo, mut found) = (vec![self.data.path().to_owned()], Vec::new());
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                if entry.path().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found.sort();
        found
    }

    /// The next requests with this method meet these faults.
    pub fn inject(&self, method: http::Method, faults: &[Fault]) {
        self.faults.lock().unwrap().extend(faults.iter().map(|fault| (method.clone(), *fault)));
    }
}

fn appends(request: &http::Request<hyper::body::Incoming>) -> bool {
    match *request.method() {
        http::Method::GET | http::Method::HEAD => true,
        http::Method::PUT => request.headers().get("if-none-match").is_some_and(|v| v == "*"),
        _ => false,
    }
}

fn next_fault(faults: &Faults, method: &http::Method) -> Option<Fault> {
    let mut faults = faults.lock().unwrap();
    let at = faults.iter().position(|(wanted, _)| wanted == method)?;
    faults.remove(at).map(|(_, fault)| fault)
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
