//! A fake of Cloud Storage in this process: the JSON API and the upload protocols, with checks of preconditions
//! and CRC32C sums, of credentials and permissions if wanted, and faults on demand.

use super::gcs_wire::{crc, multipart, unescape};
use super::trouble::{Counted, Trouble, Troubles};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use backstay::storage::open::StorageOptions;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

pub const BUCKET: &str = "bucket-1";

/// What happens to a request instead of, or after, its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503 without an effect.
    Unavailable,
    /// The effect takes place, then 503.
    CommitThenUnavailable,
    /// No answer.
    Hang,
    /// 403 with the reason of a retention policy.
    Retention,
    /// 403 with the reason of a missing permission.
    Forbidden,
    /// A body that does not have the announced sum.
    WrongSum,
}

/// Says whether the value of an `Authorization` header is accepted; it is empty when there is none.
type Accepts = Box<dyn Fn(&str) -> bool + Send>;

struct Object {
    body: Bytes,
    generation: u64,
    created: jiff::Timestamp,
}

#[derive(Default)]
struct Fake {
    endpoint: String,
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    faults: HashMap<&'static str, VecDeque<Fault>>,
    requests: HashMap<&'static str, usize>,
    troubles: Troubles,
    accepts: Option<Accepts>,
    role: Option<Vec<String>>,
    used: BTreeSet<&'static str>,
    last: u64,
}

struct Upload {
    name: String,
    condition: Option<u64>,
    body: Vec<u8>,
}

type Shared = Arc<Mutex<Fake>>;

pub struct GcsFake {
    pub endpoint: String,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Drop for GcsFake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GcsFake {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared::new(Mutex::new(Fake { endpoint: endpoint.clone(), ..Fake::default() }));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        GcsFake { endpoint, shared, task }
    }

    /// Options for this server, with the repository below `prefix` and quick retries.
    pub fn options(&self, prefix: &str) -> StorageOptions {
        StorageOptions {
            endpoint: Some(self.endpoint.clone()),
            anonymous: true,
            timeout: Duration::from_secs(20),
            retry: super::quick(),
            ..StorageOptions::new(format!("gs://{BUCKET}/{prefix}"))
        }
    }

    /// The next requests of a kind (`upload`, `get`, which is also the metadata, `list`, `delete`) meet these faults.
    pub fn inject(&self, kind: &'static str, faults: &[Fault]) {
        self.shared.lock().unwrap().faults.entry(kind).or_default().extend(faults);
    }

    /// From now on every request must bring credentials that this accepts.
    pub fn accept(&self, accepts: impl Fn(&str) -> bool + Send + 'static) {
        self.shared.lock().unwrap().accepts = Some(Box::new(accepts));
    }

    /// From now on everybody has these permissions only.
    pub fn bind(&self, role: Vec<String>) {
        self.shared.lock().unwrap().role = Some(role);
    }

    /// The permissions that requests needed so far.
    pub fn used(&self) -> BTreeSet<&'static str> {
        self.shared.lock().unwrap().used.clone()
    }

    /// After so many more of these every request meets this.
    pub fn begin_after(&self, number: usize, counted: Counted, trouble: Trouble) {
        self.shared.lock().unwrap().troubles.begin_after(number, counted, trouble);
    }

    /// The trouble is over.
    pub fn end_trouble(&self) {
        self.shared.lock().unwrap().troubles.end();
    }

    /// The names of all objects, in order.
    pub fn names(&self) -> Vec<String> {
        self.shared.lock().unwrap().objects.keys().cloned().collect()
    }

    /// How many requests of a kind came.
    pub fn requests(&self, kind: &'static str) -> usize {
        self.shared.lock().unwrap().requests.get(kind).copied().unwrap_or_default()
    }
}

async fn serve(State(fake): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let Query(query) = Query::<HashMap<String, String>>::try_from_uri(&parts.uri).unwrap();
    let path = parts.uri.path();
    let kind = kind_of(&parts.method, path);
    let (fault, trouble, refusal) = {
        let mut fake = fake.lock().unwrap();
        *fake.requests.entry(kind).or_default() += 1;
        let fault = fake.faults.get_mut(kind).and_then(VecDeque::pop_front);
        let counted = match kind {
            "upload" => Some(Counted::Uploads),
            "get" => Some(Counted::Reads),
            _ => None,
        };
        (fault, fake.troubles.meets(counted), fake.refuses(kind, &parts.headers))
    };
    match trouble {
        Some(Trouble::Silence) => std::future::pending().await,
        Some(Trouble::NoBucket) => return no_bucket(),
        None => {}
    }
    if let Some(refusal) = refusal {
        return refusal;
    }
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Unavailable) => return error(503, "backendError", "Backend Error"),
        Some(Fault::Retention) => {
            let text = "Object is subject to bucket's retention policy or object retention";
            return error(403, "retentionPolicyNotMet", text);
        }
        Some(Fault::Forbidden) => return error(403, "forbidden", "no storage.objects access"),
        _ => {}
    }
    let answer = fake.lock().unwrap().answer(kind, &parts.headers, path, &query, body, fault);
    match fault {
        Some(Fault::CommitThenUnavailable) => error(503, "backendError", "Backend Error"),
        _ => answer,
    }
}

fn kind_of(method: &Method, path: &str) -> &'static str {
    match *method {
        _ if path.starts_with("/upload/") => "upload",
        Method::DELETE => "delete",
        _ if path.ends_with("/o") => "list",
        _ if path.contains("/o/") => "get",
        _ => "bucket",
    }
}

fn error(status: u16, reason: &str, message: &str) -> Response {
    let body = json!({"error": {
        "code": status, "message": message,
        "errors": [{"domain": "global", "reason": reason, "message": message}],
    }});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// What a request of a kind needs. An upload over an object needs the right to delete besides.
fn needs(kind: &str) -> &'static str {
    match kind {
        "upload" => "storage.objects.create",
        "delete" => "storage.objects.delete",
        "list" => "storage.objects.list",
        "get" => "storage.objects.get",
        _ => "storage.buckets.get",
    }
}

impl Fake {
    /// 401 for credentials that are not accepted, 403 for what the role does not have.
    fn refuses(&mut self, kind: &str, headers: &HeaderMap) -> Option<Response> {
        let sent = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.accepts.as_ref().is_some_and(|accepts| !accepts(sent)) {
            return Some(error(401, "authError", "Invalid Credentials"));
        }
        self.lacks(needs(kind))
    }

    fn lacks(&mut self, permission: &'static str) -> Option<Response> {
        self.used.insert(permission);
        let lacks = self.role.as_ref().is_some_and(|role| !role.iter().any(|has| has == permission));
        lacks.then(|| error(403, "forbidden", &format!("backup@acme does not have {permission} access.")))
    }

    fn answer(
        &mut self,
        kind: &str,
        headers: &HeaderMap,
        path: &str,
        query: &HashMap<String, String>,
        body: Bytes,
        fault: Option<Fault>,
    ) -> Response {
        let rest = path.trim_start_matches("/upload").strip_prefix("/storage/v1/b/").unwrap();
        let (bucket, object) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket != BUCKET {
            return no_bucket();
        }
        let name = unescape(object.strip_prefix("o/").unwrap_or_default());
        match kind {
            "upload" => self.upload(headers, query, body),
            "list" => self.list(query),
            "bucket" => Json(json!({"name": BUCKET})).into_response(),
            "delete" => match self.objects.remove(&name) {
                Some(_) => StatusCode::NO_CONTENT.into_response(),
                None => no_object(&name),
            },
            _ if query.get("alt").is_some_and(|alt| alt == "media") => self.media(headers, &name, fault),
            _ => match self.objects.get(&name) {
                Some(object) => Json(describe(&name, object)).into_response(),
                None => no_object(&name),
            },
        }
    }

    fn upload(&mut self, headers: &HeaderMap, query: &HashMap<String, String>, body: Bytes) -> Response {
        let condition = query.get("ifGenerationMatch").map(|value| value.parse::<u64>().unwrap());
        if let Some(id) = query.get("upload_id") {
            return self.resume(id, headers, &body);
        }
        let name = query.get("name").cloned();
        if query.get("uploadType").is_some_and(|kind| kind == "resumable") {
            self.last += 1;
            let id = format!("upload-{}", self.last);
            let upload = Upload { name: name.unwrap(), condition, body: Vec::new() };
            self.uploads.insert(id.clone(), upload);
            // From our own address: the client's Host header lacks the port.
            let endpoint = &self.endpoint;
            let location = format!("{endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id={id}");
            return (StatusCode::OK, [("location", location)]).into_response();
        }
        let parts = multipart(headers, &body);
        assert!((2..=3).contains(&parts.len()), "{} parts", parts.len());
        let mut metadata: Value = serde_json::from_slice(&parts[0]).unwrap();
        if let Some(trailer) = parts.get(2) {
            let trailer: Value = serde_json::from_slice(trailer).unwrap();
            metadata["crc32c"] = trailer["crc32c"].clone();
        }
        let content = parts[1].clone();
        let name = name.unwrap_or_else(|| metadata["name"].as_str().unwrap().to_owned());
        match metadata["crc32c"].as_str() {
            Some(sum) if sum != crc(&content) => error(400, "invalid", "Provided CRC32C does not match"),
            _ => self.store(name, condition, content),
        }
    }

    fn resume(&mut self, id: &str, headers: &HeaderMap, body: &Bytes) -> Response {
        let Some(upload) = self.uploads.get_mut(id) else {
            return error(404, "notFound", "No such upload");
        };
        let range = headers["content-range"].to_str().unwrap().to_owned();
        upload.body.extend_from_slice(body);
        let total = range.rsplit('/').next().and_then(|total| total.parse::<usize>().ok());
        if total == Some(upload.body.len()) {
            let upload = self.uploads.remove(id).unwrap();
            return self.store(upload.name, upload.condition, upload.body.into());
        }
        let permanent = StatusCode::PERMANENT_REDIRECT;
        match upload.body.len() {
            0 => permanent.into_response(),
            held => (permanent, [("range", format!("bytes=0-{}", held - 1))]).into_response(),
        }
    }

    fn store(&mut self, name: String, condition: Option<u64>, body: Bytes) -> Response {
        let current = self.objects.get(&name).map_or(0, |object| object.generation);
        if condition.is_some_and(|wanted| wanted != current) {
            return error(412, "conditionNotMet", "At least one of the pre-conditions did not hold");
        }
        if current != 0
            && let Some(refusal) = self.lacks("storage.objects.delete")
        {
            return refusal;
        }
        self.last += 1;
        let object = Object { body, generation: self.last, created: jiff::Timestamp::now() };
        let answer = Json(describe(&name, &object)).into_response();
        self.objects.insert(name, object);
        answer
    }

    fn media(&self, headers: &HeaderMap, name: &str, fault: Option<Fault>) -> Response {
        let Some(object) = self.objects.get(name) else {
            return (StatusCode::NOT_FOUND, format!("No such object: {BUCKET}/{name}")).into_response();
        };
        let size = object.body.len();
        let range = headers.get("range").map(|range| {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            match range.split_once('-').unwrap() {
                ("", tail) => (size.saturating_sub(tail.parse().unwrap()), size),
                (from, "") => (from.parse().unwrap(), size),
                (from, to) => (from.parse().unwrap(), size.min(to.parse::<usize>().unwrap() + 1)),
            }
        });
        let sum = if fault == Some(Fault::WrongSum) { crc(b"something else") } else { crc(&object.body) };
        let mut answer = Response::builder()
            .header("x-goog-generation", object.generation)
            .header("x-goog-stored-content-length", size)
            .header("x-goog-hash", format!("crc32c={sum}"));
        let body = match range {
            Some((from, to)) => {
                let content_range = format!("bytes {from}-{}/{size}", to.saturating_sub(1));
                answer = answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", content_range);
                object.body.slice(from..to)
            }
            None => object.body.clone(),
        };
        answer.body(Body::from(body)).unwrap()
    }

    fn list(&self, query: &HashMap<String, String>) -> Response {
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let (prefix, delimiter, token) = (text("prefix"), text("delimiter"), text("pageToken"));
        let most = text("maxResults").parse::<usize>().unwrap_or(1000);
        let mut items = Vec::new();
        let mut prefixes = BTreeSet::new();
        let mut last = String::new();
        let mut more = false;
        for (name, object) in self.objects.range::<String, _>(prefix.to_owned()..) {
            let Some(rest) = name.strip_prefix(prefix) else { break };
            let folder = match (delimiter, rest.split_once('/')) {
                ("/", Some((folder, _))) => Some(format!("{prefix}{folder}/")),
                _ => None,
            };
            let entry = folder.clone().unwrap_or_else(|| name.clone());
            if entry.as_str() <= token || prefixes.contains(&entry) {
                continue;
            }
            if items.len() + prefixes.len() == most {
                more = true;
                break;
            }
            last.clone_from(&entry);
            match folder {
                Some(folder) => drop(prefixes.insert(folder)),
                None => items.push(describe(name, object)),
            }
        }
        let mut answer = json!({"kind": "storage#objects"});
        if !items.is_empty() {
            answer["items"] = items.into();
        }
        if !prefixes.is_empty() {
            answer["prefixes"] = prefixes.into_iter().collect::<Vec<_>>().into();
        }
        if more {
            answer["nextPageToken"] = last.into();
        }
        Json(answer).into_response()
    }
}

fn no_bucket() -> Response {
    error(404, "notFound", "The specified bucket does not exist.")
}

fn no_object(name: &str) -> Response {
    error(404, "notFound", &format!("No such object: {BUCKET}/{name}"))
}

fn describe(name: &str, object: &Object) -> Value {
    json!({
        "kind": "storage#object", "name": name, "bucket": BUCKET,
        "generation": object.generation.to_string(), "metageneration": "1",
        "size": object.body.len().to_string(), "crc32c": crc(&object.body),
        "timeCreated": object.created.to_string(), "updated": object.created.to_string(),
    })
}
