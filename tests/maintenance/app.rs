//! An application behind nginx, and a client that asks for it all the time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server that answers 200 with the path, `/slow/N` after N tenths of a second, and `/status/N` with N.
pub struct App {
    port: u16,
    stop: Arc<AtomicBool>,
    running: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    pub fn start() -> Self {
        Self::on(0)
    }

    fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ended, served) = (stop.clone(), running.clone());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let served = served.clone();
                        std::thread::spawn(move || serve(stream, &served));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        App { port, stop, running, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The paths that are being served.
    pub fn running(&self) -> Vec<String> {
        self.running.lock().unwrap().clone()
    }

    /// Stops at once: whoever asks is refused.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Starts again at the same port.
    pub fn start_again(&mut self) {
        *self = App::on(self.port);
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut stream: TcpStream, served: &Mutex<Vec<String>>) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    served.lock().unwrap().push(path.clone());
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
    if let Some(tenths) = number("/slow/") {
        std::thread::sleep(Duration::from_millis(tenths * 100));
    }
    let status = number("/status/").unwrap_or(200);
    let body = format!("app {path}");
    // Over before the client has its answer: who has it may count on that.
    let mut all = served.lock().unwrap();
    let at = all.iter().position(|p| *p == path).unwrap();
    all.remove(at);
    drop(all);
    let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
}

/// A client that asks as fast as it can and notes every status; 0 is no answer.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<(Instant, u16)>>>,
}

impl Load {
    pub fn start(address: SocketAddr, host: &str, paths: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = paths.iter().map(|path| {
            let (stop, host, path) = (stop.clone(), host.to_owned(), (*path).to_owned());
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let status = super::requests::Request::get(&path).host(&host).send(address).map_or(0, |r| r.status);
                    seen.push((Instant::now(), status));
                    std::thread::sleep(Duration::from_millis(2));
                }
                seen
            })
        });
        Load { threads: threads.collect(), stop }
    }

    /// Every status in the order of their time.
    pub fn end(self) -> Vec<u16> {
        self.stop.store(true, Ordering::SeqCst);
        let mut seen: Vec<(Instant, u16)> = self.threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        seen.sort();
        seen.into_iter().map(|s| s.1).collect()
    }
}
