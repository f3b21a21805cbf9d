//! garage: a real S3 server that accepts conditions and ignores them.

use super::{S3Access, Server};
use crate::port::free_port;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const INSTALL: &str =
    "tests/setup.sh test, or cargo install garage --version 2.5.0 --locked --root ~/.cache/backstay-tools";

pub struct Garage {
    pub access: S3Access,
    _server: Server,
    _data: TempDir,
}

impl Garage {
    pub async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (rpc, api, admin) = (free_port(), free_port(), free_port());
        let config = data.path().join("garage.toml");
        let at = data.path().display();
        let text = format!(
            "metadata_dir = \"{at}/meta\"\ndata_dir = \"{at}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{api}\"\n\
             [admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
            "5c".repeat(32)
        );
        std::fs::write(&config, text).unwrap();
        let access = S3Access {
            endpoint: format!("http://127.0.0.1:{api}"),
            region: "garage".into(),
            key: format!("GK{}", "31".repeat(12)),
            secret: "7d".repeat(32),
            bucket: "ci-bucket".into(),
        };
        let mut command = Command::new(program());
        command
            .arg("-c")
            .arg(&config)
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", &access.key)
            .env("GARAGE_DEFAULT_SECRET_KEY", &access.secret)
            .env("GARAGE_DEFAULT_BUCKET", &access.bucket);
        let mut server = Server::start(&mut command, INSTALL);
        let health = format!("http://127.0.0.1:{admin}/health");
        server.wait_for(async || reqwest::get(&health).await.is_ok_and(|answer| answer.status().is_success())).await;
        Garage { access, _server: server, _data: data }
    }
}

fn program() -> PathBuf {
    // Where `make test` has it, for whoever runs cargo alone.
    let own = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/backstay-tools/bin/garage"));
    let in_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join("garage")).find(|file| file.is_file()));
    in_path.or(own).unwrap_or_else(|| "garage".into())
}
