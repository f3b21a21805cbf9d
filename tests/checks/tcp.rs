//! Ports: a real Redis, and servers that talk without end or not at all.

use crate::port::free_port;
use crate::{bad, brief, good, run};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

struct Redis(Child, u16);

impl Redis {
    fn start() -> Self {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .expect("install redis-tools (tests/setup.sh test)");
        Redis(child, port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_server_is_spoken_to() {
    let redis = Redis::start();
    let port = format!("tcp = \"localhost:{}\"", redis.1);
    good(&run(&port).await);
    good(&run(&format!("{port}\nsend = \"PING\\r\\n\"\nexpect = \"+PONG\"")).await);
    let outcome = brief(&format!("{port}\nsend = \"GET\\r\\n\"\nexpect = \"+PONG\"")).await;
    bad(&outcome, &["begins with \"+PONG\"", "found \"-ERR\""]);
    // It says nothing of itself.
    bad(&brief(&format!("{port}\nexpect = \"HELLO\"")).await, &["no answer within"]);
    drop(redis);
    bad(&brief(&port).await, &["no connection", "refused"]);
    bad(&brief("tcp = \"no-such-host.invalid:80\"").await, &["no connection"]);
}

#[tokio::test]
async fn a_server_that_never_stops_talking_is_compared_with_what_is_expected_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let talking = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { while stream.write_all(b"220 ready ").await.is_ok() {} });
        }
    });
    good(&run(&format!("tcp = \"{address}\"\nexpect = \"220 \"")).await);
    bad(&brief(&format!("tcp = \"{address}\"\nexpect = \"221 \"")).await, &["220"]);
    talking.abort();
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closing.local_addr().unwrap();
    let task = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    bad(&brief(&format!("tcp = \"{address}\"\nexpect = \"220\"")).await, &["no answer: the connection was closed"]);
    task.abort();
    let mut check = crate::check(&format!("tcp = \"{address}\""));
    check.within = Duration::from_millis(100);
    assert!(!check.run(&crate::now()).await.found.is_empty());
}
