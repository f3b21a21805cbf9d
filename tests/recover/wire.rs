//! A wire from a machine, which has a loopback only, to a server here. It can be cut, and it can be slow.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the server is, as the machine sees it.
pub const INSIDE: &str = "127.0.0.1:9000";

#[derive(Clone, Default)]
struct State {
    cut: Arc<AtomicBool>,
    pause_ms: Arc<AtomicU64>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    carried: Arc<AtomicU64>,
}

pub struct Wire(State);

impl Wire {
    /// Lays a wire from the machine with this first process to a server here, `127.0.0.1:PORT`.
    pub fn lay(init: u32, server: &str) -> Self {
        let namespace = File::open(format!("/proc/{init}/ns/net")).unwrap();
        // The name space is one of the thread; the socket stays where it was made.
        let listener = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind(INSIDE).unwrap()
        });
        let (listener, state, server) = (listener.join().unwrap(), State::default(), server.to_owned());
        let shared = state.clone();
        std::thread::spawn(move || {
            for inside in listener.incoming().flatten() {
                if shared.cut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(outside) = TcpStream::connect(&server) else { continue };
                let both = [inside.try_clone().unwrap(), outside.try_clone().unwrap()];
                shared.streams.lock().unwrap().extend(both);
                let (a, b) = (inside.try_clone().unwrap(), outside.try_clone().unwrap());
                let (one, other) = (shared.clone(), shared.clone());
                std::thread::spawn(move || carry(inside, outside, &one));
                std::thread::spawn(move || carry(b, a, &other));
            }
        });
        Wire(state)
    }

    /// Every connection breaks, and none is made, until [`Wire::mend`].
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Relaxed);
        for stream in self.0.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.0.cut.store(false, Ordering::Relaxed);
    }

    /// A pause before each 64 KiB.
    pub fn slow(&self, pause: Duration) {
        self.0.pause_ms.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// Bytes that it has carried.
    pub fn carried(&self) -> u64 {
        self.0.carried.load(Ordering::Relaxed)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let pause = state.pause_ms.load(Ordering::Relaxed);
        if pause > 0 && n > 4096 {
            std::thread::sleep(Duration::from_millis(pause));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
        state.carried.fetch_add(n as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Write);
}
