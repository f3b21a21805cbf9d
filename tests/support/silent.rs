//! Servers that accept connections and never answer, or always answer the same.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Silent {
    pub endpoint: String,
    task: JoinHandle<()>,
}

impl Silent {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let held: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                held.lock().unwrap().push(socket);
            }
        });
        Silent { endpoint, task }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers each connection's first bytes with a fixed text and closes.
pub struct Canned {
    pub endpoint: String,
    task: JoinHandle<()>,
}

impl Canned {
    /// Closes each connection after the answer.
    pub async fn start(answer: &'static str) -> Self {
        Self::serve(answer, false).await
    }

    /// Keeps each connection open after the answer, and says no more.
    pub async fn stalling(answer: &'static str) -> Self {
        Self::serve(answer, true).await
    }

    async fn serve(answer: &'static str, stall: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 16 * 1024];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
                if stall {
                    held.push(socket);
                } else {
                    let _ = socket.shutdown().await;
                }
            }
        });
        Canned { endpoint, task }
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}
