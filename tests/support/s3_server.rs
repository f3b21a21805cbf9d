//! An S3 server in this process (s3s), which checks signatures. Its conditional writes race, so writes take turns.

use super::S3Access;
use super::gcs_wire::unescape;
use super::policy::{Asked, Policy};
use super::trouble::{Counted, Trouble, Troubles};
use axum::extract::Query;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use std::collections::{HashMap, VecDeque};
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
    const NO_BUCKET: Fault =
        Fault { status: 404, code: "NoSuchBucket", message: "The specified bucket does not exist", commit: false };
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
    policy: Arc<std::sync::Mutex<Option<Policy>>>,
    troubles: Arc<std::sync::Mutex<Troubles>>,
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
        let only_appends = Arc::clone(&append_only);
        let policy: Arc<std::sync::Mutex<Option<Policy>>> = Arc::default();
        let troubles: Arc<std::sync::Mutex<Troubles>> = Arc::default();
        let (rules, befalls) = (Arc::clone(&policy), Arc::clone(&troubles));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, turns, faults) = (service.clone(), Arc::clone(&turns), Arc::clone(&injected));
                let (only_appends, rules, befalls) =
                    (Arc::clone(&only_appends), Arc::clone(&rules), Arc::clone(&befalls));
                let handler = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (service, turns) = (service.clone(), Arc::clone(&turns));
                    let denied = (only_appends.load(Ordering::Relaxed) && !appends(&request))
                        || rules.lock().unwrap().as_ref().is_some_and(|policy| !allows(policy, &request));
                    let trouble = befalls.lock().unwrap().meets(counted(&request));
                    let fault = match trouble {
                        Some(Trouble::NoBucket) => Some(Fault::NO_BUCKET),
                        _ if denied => Some(Fault::DENIED),
                        _ => next_fault(&faults, request.method()),
                    };
                    async move {
                        if trouble == Some(Trouble::Silence) {
                            std::future::pending::<()>().await;
                        }
                        let _turn = match *request.method() {
                            http::Method::PUT => Some(turns.lock().await),
                            _ => None,
                        };
                        match fault {
                            Some(fault) if !fault.commit => {
                                // Taken in first: a client that still sends may not see an answer that comes early.
                                let _ = request.into_body().collect().await;
                                Ok(fault.answer())
                            }
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
        S3Server { access, faults, append_only, policy, troubles, task, data }
    }

    /// From now on the server allows reading, listing, and writing under the condition that nothing is there, wherever
    /// it is. What a policy allows exactly is for [`Self::enforce`].
    pub fn make_append_only(&self) {
        self.append_only.store(true, Ordering::Relaxed);
    }

    /// From now on the server allows what this policy allows; `None` allows everything.
    pub fn enforce(&self, policy: Option<Policy>) {
        *self.policy.lock().unwrap() = policy;
    }

    /// After so many more of these every request meets this.
    pub fn begin_after(&self, number: usize, counted: Counted, trouble: Trouble) {
        self.troubles.lock().unwrap().begin_after(number, counted, trouble);
    }

    /// The trouble is over.
    pub fn end_trouble(&self) {
        self.troubles.lock().unwrap().end();
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

fn counted(request: &http::Request<hyper::body::Incoming>) -> Option<Counted> {
    let names_an_object = request.uri().path().trim_matches('/').contains('/');
    match *request.method() {
        http::Method::PUT if names_an_object => Some(Counted::Uploads),
        http::Method::GET if names_an_object => Some(Counted::Reads),
        _ => None,
    }
}

/// Whether a policy allows a request, which has the bucket in its path. Of what is not named here it allows nothing.
fn allows(policy: &Policy, request: &http::Request<hyper::body::Incoming>) -> bool {
    let path = unescape(request.uri().path().trim_start_matches('/'));
    let path = path.trim_end_matches('/');
    let Query(query) = Query::<HashMap<String, String>>::try_from_uri(request.uri()).unwrap();
    let action = match (request.method().as_str(), path.contains('/')) {
        ("GET" | "HEAD", true) => "s3:GetObject",
        ("PUT", true) => "s3:PutObject",
        ("DELETE", true) => "s3:DeleteObject",
        ("GET", false) if query.contains_key("list-type") => "s3:ListBucket",
        ("HEAD", false) => "s3:ListBucket",
        _ => return false,
    };
    policy.allows(&Asked {
        action,
        resource: path,
        prefix: query.get("prefix").map(String::as_str),
        conditional: request.headers().contains_key("if-none-match"),
    })
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
