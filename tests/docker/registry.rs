//! A registry on the loopback that gives one image out, as far as a daemon asks for it.

use super::stage::Stage;
use openssl::sha::sha256;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What it answers: path, type, content.
type Answers = BTreeMap<String, (&'static str, String, Vec<u8>)>;

pub struct Registry {
    port: u16,
    closed: Arc<AtomicBool>,
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = sha256(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

impl Registry {
    /// Gives an image of the stage out as `shop:1`.
    pub fn of(stage: &Stage, image: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("image.tar");
        stage.docker(&["save", "-o", &tar.display().to_string(), image]);
        let unpacked = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(dir.path()).status().unwrap();
        assert!(unpacked.success());
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let saved: serde_json::Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        let config = read(saved[0]["Config"].as_str().unwrap());
        let mut answers = Answers::new();
        let mut layers = Vec::new();
        for layer in saved[0]["Layers"].as_array().unwrap() {
            let file = std::fs::File::open(dir.path().join(layer.as_str().unwrap())).unwrap();
            let packed = Command::new("gzip").arg("-nc").stdin(file).stdout(Stdio::piped()).output().unwrap().stdout;
            layers.push(serde_json::json!({
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": packed.len(), "digest": digest(&packed),
            }));
            blob(&mut answers, packed);
        }
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config) },
            "layers": layers,
        }));
        blob(&mut answers, config);
        let manifest = manifest.unwrap();
        let name = digest(&manifest);
        for path in [format!("/v2/shop/manifests/{name}"), "/v2/shop/manifests/1".to_owned()] {
            let kind = "application/vnd.docker.distribution.manifest.v2+json";
            answers.insert(path, (kind, name.clone(), manifest.clone()));
        }
        answers.insert("/v2/".to_owned(), ("application/json", String::new(), b"{}".to_vec()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, closed) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let until = closed.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                // A daemon tries TLS first, which is none of these words.
                let _ = answer(stream, &answers);
            }
        });
        Registry { port, closed }
    }

    /// Its image.
    pub fn image(&self) -> String {
        format!("127.0.0.1:{}/shop:1", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn blob(answers: &mut Answers, bytes: Vec<u8>) {
    let name = digest(&bytes);
    answers.insert(format!("/v2/shop/blobs/{name}"), ("application/octet-stream", name, bytes));
}

fn answer(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|l| !l.is_empty()) {}
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some((kind, name, body)) = answers.get(path) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let of = if name.is_empty() { String::new() } else { format!("Docker-Content-Digest: {name}\r\n") };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: {kind}\r\n{of}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method == "GET" { stream.write_all(body) } else { Ok(()) }
}
