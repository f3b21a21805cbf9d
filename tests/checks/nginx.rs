//! Through a real nginx on the loopback, by name and over TLS.

use crate::port::free_port;
use crate::{bad, brief, good, run};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Nginx {
    child: Child,
    dir: tempfile::TempDir,
    http: u16,
    https: u16,
}

impl Nginx {
    /// Two servers by name, one of them over TLS with a certificate of a CA of its own.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let certificate = format!(
            "cd {d} && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca 2>&1 && \
             openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=erp.acme.test 2>&1 && \
             printf 'subjectAltName=DNS:erp.acme.test' > ext && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext 2>&1"
        );
        let made = Command::new("bash").args(["-c", &certificate]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let (http, https) = (free_port(), free_port());
        let conf = format!(
            "daemon off; pid {d}/pid; error_log {d}/error.log; worker_processes 1; events {{}}\n\
             http {{ access_log off; client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;\n\
             server {{ listen 127.0.0.1:{http} default_server; server_name _; return 503; }}\n\
             server {{ listen 127.0.0.1:{http}; server_name erp.acme.test; return 200 'the erp'; }}\n\
             server {{ listen 127.0.0.1:{https} ssl; server_name erp.acme.test; ssl_certificate {d}/server.pem; ssl_certificate_key {d}/server.key; return 200 'the safe erp'; }}\n}}\n"
        );
        std::fs::write(dir.path().join("nginx.conf"), conf).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("install nginx (tests/setup.sh test)");
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", https)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Nginx { child, dir, http, https }
    }

    fn at(&self, file: &str) -> String {
        self.path().join(file).display().to_string()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, so that it ends its workers too.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_server_is_asked_by_its_name_at_the_loopback() {
    let nginx = Nginx::start();
    let (http, https) = (nginx.http, nginx.https);
    bad(&brief(&format!("http = \"http://127.0.0.1:{http}/\"")).await, &["503 Service Temporarily Unavailable"]);
    good(&run(&format!("http = \"http://127.0.0.1:{http}/\"\nhost = \"erp.acme.test\"\ncontains = \"the erp\"")).await);
    let named =
        format!("http = \"https://erp.acme.test:{https}/\"\nresolve = \"127.0.0.1\"\ncontains = \"the safe erp\"");
    good(&run(&format!("{named}\nca = \"{}\"", nginx.at("ca.pem"))).await);
    good(&run(&format!("{named}\ninsecure = true")).await);
    bad(&brief(&named).await, &["certificate"]);
    // The name is part of what is checked.
    let other = named.replace("erp.acme.test", "www.acme.test");
    bad(&brief(&format!("{other}\nca = \"{}\"", nginx.at("ca.pem"))).await, &["certificate"]);
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_told_before_anything_stops() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let keys = format!("http = \"https://erp.acme.test/\"\nca = \"{}\"", file.display());
    let preflight = async || crate::check(&keys).preflight().await.unwrap_err().to_string();
    assert!(preflight().await.contains("No such file"), "{}", preflight().await);
    std::fs::write(&file, "no certificate\n").unwrap();
    let e = preflight().await;
    assert!(e.contains("cannot work") && e.contains("ca.pem"), "{e}");
}
