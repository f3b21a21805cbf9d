//! A private nginx on loopback ports, with a configuration that has what real ones have.

use super::app::App;
use super::requests::{Reply, Request};
use crate::port::free_port;
use backstay::host::nginx::config::Settings;
use backstay::recovery::maintenance::Maintenance;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub struct Web {
    pub dir: tempfile::TempDir,
    pub app: App,
    /// Without TLS.
    pub http: u16,
    /// With TLS.
    pub https: u16,
    started: bool,
}

impl Web {
    /// nginx with an application behind it, our include in every server block.
    pub async fn installed() -> Self {
        let web = Self::plain();
        web.maintenance().install().await.unwrap();
        web.reload();
        web
    }

    /// The same without the include.
    pub fn plain() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut web = Web { dir, app: App::start(), http: free_port(), https: free_port(), started: false };
        for sub in ["tmp", "sites-available", "sites-enabled"] {
            std::fs::create_dir(web.path().join(sub)).unwrap();
        }
        certificate(web.path());
        web.write("nginx.conf", &web.main());
        web.write("sites-available/shop", &web.shop());
        std::os::unix::fs::symlink("../sites-available/shop", web.path().join("sites-enabled/shop")).unwrap();
        web.write("sites-enabled/secure", &web.secure());
        web.start();
        web
    }

    fn main(&self) -> String {
        format!(
            "user root; worker_processes 2; pid {d}/nginx.pid; error_log {d}/error.log;\n\
             events {{ worker_connections 200; }}\n\
             http {{\n    access_log off;\n    client_body_temp_path {d}/tmp/b; proxy_temp_path {d}/tmp/p; fastcgi_temp_path {d}/tmp/f;\n    \
             uwsgi_temp_path {d}/tmp/u; scgi_temp_path {d}/tmp/s;\n    error_page 500 502 504 /50x.html;\n    \
             upstream app {{ server 127.0.0.1:{app} max_fails=0; }}\n    include sites-enabled/*;\n}}\n",
            d = self.path().display(),
            app = self.app.port(),
        )
    }

    /// What is known to undo a maintenance page: redirects, error pages of servers and of locations, intercepted errors,
    /// access rules, redirects within nginx.
    fn shop(&self) -> String {
        format!(
            "# A redirect for all other names.\nserver {{ listen 127.0.0.1:{p} default_server; server_name _; return 301 https://x$request_uri; }}\n\
             server {{\n    listen 127.0.0.1:{p};\n    server_name shop.example.com *.shop.example.com;\n    error_page 503 =200 /own;\n    \
             proxy_intercept_errors on;\n    client_max_body_size 1k;\n\
             \n    location / {{\n        error_page 503 =200 /own;\n        proxy_pass http://app;\n    }}\n    \
             location /own {{ return 200 own; }}\n    \
             location /private {{ auth_basic private; auth_basic_user_file {d}/none; proxy_pass http://app; }}\n    \
             location /denied {{ deny all; }}\n    \
             location /healthz {{ try_files /none /live; }}\n    \
             location = /live {{ internal; proxy_pass http://app; }}\n}}\n",
            p = self.http,
            d = self.path().display(),
        )
    }

    fn secure(&self) -> String {
        format!(
            "server {{\n\tlisten 127.0.0.1:{p} ssl;\n\tserver_name secure.example.com;\n\tssl_certificate {d}/cert.pem;\n\tssl_certificate_key {d}/key.pem;\n\t\
             location / {{ proxy_pass http://app; }}\n}}\n",
            p = self.https,
            d = self.path().display(),
        )
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn at(&self, rel: &str) -> String {
        self.path().join(rel).display().to_string()
    }

    pub fn write(&self, rel: &str, text: &str) {
        std::fs::write(self.path().join(rel), text).unwrap();
    }

    pub fn read(&self, rel: &str) -> String {
        std::fs::read_to_string(self.path().join(rel)).unwrap()
    }

    /// Adds a file of server blocks, and tells nginx.
    pub fn add(&self, name: &str, text: &str) {
        self.write(&format!("sites-enabled/{name}"), text);
        self.reload();
    }

    pub fn command(&self) -> Vec<String> {
        ["nginx", "-p", &self.at(""), "-c", &self.at("nginx.conf")].iter().map(|w| (*w).to_owned()).collect()
    }

    pub fn nginx(&self, args: &[&str]) {
        let command = self.command();
        let out = Command::new(&command[0]).args(&command[1..]).args(args).output().expect("install nginx");
        assert!(out.status.success(), "nginx {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub fn start(&mut self) {
        self.nginx(&[]);
        self.started = true;
        let http = self.http;
        until("nginx listens", || std::net::TcpStream::connect(at(http)).is_ok());
    }

    /// Reloads, and waits until the workers are new.
    pub fn reload(&self) {
        let before = self.workers();
        self.nginx(&["-s", "reload"]);
        until("workers are new", || {
            let now = self.workers();
            !now.is_empty() && now.iter().all(|w| !before.contains(w))
        });
    }

    /// Numbers of the workers, leaving ones too.
    pub fn workers(&self) -> Vec<String> {
        let pid = self.read("nginx.pid");
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", pid.trim())).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    pub fn stop(&mut self) {
        if std::mem::take(&mut self.started) {
            let pid = self.read("nginx.pid");
            self.nginx(&["-s", "stop"]);
            until("nginx has ended", || !Path::new("/proc").join(pid.trim()).exists());
        }
    }

    pub fn settings(&self) -> Settings {
        Settings { command: self.command(), drain: Duration::from_secs(5), ..Settings::default() }
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub fn snippet(&self) -> PathBuf {
        self.state().join("nginx/maintenance.conf")
    }

    pub fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.settings(), &self.state())
    }

    /// The same with other settings.
    pub fn with(&self, change: impl FnOnce(&mut Settings)) -> Maintenance {
        let mut settings = self.settings();
        change(&mut settings);
        Maintenance::new(settings, &self.state())
    }

    /// What a client of the shop gets.
    #[track_caller]
    pub fn shop_gets(&self, path: &str) -> Reply {
        self.ask(Request::get(path))
    }

    #[track_caller]
    pub fn ask(&self, request: Request) -> Reply {
        request.host("shop.example.com").send(at(self.http)).unwrap()
    }

    #[track_caller]
    pub fn secure_gets(&self, path: &str) -> Reply {
        Request::get(path).host("secure.example.com").tls().send(at(self.https)).unwrap()
    }

    /// The id that every name shows; nothing when none shows one. Fails when they differ.
    #[track_caller]
    pub fn shown(&self) -> Option<String> {
        let redirected = Request::get("/").host("other.example.com").send(at(self.http)).unwrap();
        let all = [self.shop_gets("/"), self.secure_gets("/"), redirected];
        let ids: Vec<Option<String>> = all.iter().map(|r| r.maintenance().map(str::to_owned)).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{all:#?}");
        assert!(all.iter().all(|r| (r.status == 503) == ids[0].is_some()), "{all:#?}");
        ids[0].clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let Ok(pid) = std::fs::read_to_string(self.path().join("nginx.pid")) else { return };
        if self.started {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

/// A certificate of nobody.
pub fn certificate(dir: &Path) {
    let out = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nobody", "-keyout"])
        .arg(dir.join("key.pem"))
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output()
        .expect("install openssl");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(30), "after 30 seconds not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
