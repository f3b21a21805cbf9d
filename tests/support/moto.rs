//! moto: an S3 server in Python with atomic conditional writes and object lock. It checks no signatures.

use super::{S3Access, Server};
use crate::port::free_port;
use std::process::Command;

pub struct Moto {
    pub access: S3Access,
    _server: Server,
}

impl Moto {
    pub async fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("moto.py"), &port.to_string()]);
        let mut server = Server::start(&mut command, "pip install 'moto[server]'");
        server.wait_for(async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        let access = S3Access {
            endpoint: format!("http://127.0.0.1:{port}"),
            region: "us-east-1".into(),
            key: "testing".into(),
            secret: "testing".into(),
            bucket: "bucket-1".into(),
        };
        access.client().create_bucket().bucket(&access.bucket).send().await.unwrap();
        Moto { access, _server: server }
    }
}
